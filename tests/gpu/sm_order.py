"""Kernels that tests launch themselves."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def where(sm_ptr):
    """The number of the SM that each block runs on."""
    sm = tl.inline_asm_elementwise(
        "mov.u32 $0, %smid; // $1", "=r,r", [tl.program_id(0)], dtype=tl.int32, is_pure=False, pack=1
    )
    tl.store(sm_ptr + tl.program_id(0), sm)
