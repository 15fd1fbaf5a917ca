"""Ideas for kernels over elements, and for what follows a library call."""

from __future__ import annotations

from collections.abc import Iterator

from .facts import Facts, can_overwrite, has_planes
from .moves import Move, hints, move, near, near_warps
from .plan import Plan
from .space import Segment


def point_moves(facts: Facts, segment: Segment | None, base: Plan) -> Iterator[Move]:
    assert segment is not None
    gpu, threads = facts.gpu, 32 * base.point_warps
    each = base.block // threads
    if has_planes(segment) and not base.planes:
        yield from move(
            "Walk the tensor by rows, so that an operand broadcast along them is read once a row and needs no division",
            "The flat index costs an integer division and a remainder for every element.",
            "memory",
            [base.change(planes=True, point_warps=w) for w in (4, 8, 2)],
        )
    if not base.planes:
        yield from _blocks(segment, base, each)
    if base.per_program == 1 and not base.point_persistent and not base.planes:
        yield from move(
            f"Let each program do several blocks of {base.block}, unrolled",
            "Independent blocks in one program put more loads in flight before the first one is needed.",
            "tiling",
            [base.change(per_program=k) for k in (4, 2, 8)],
        )
    if not base.point_persistent:
        yield from move(
            f"Launch a persistent grid for {gpu.sms} SMs that strides over blocks of {base.block}",
            "One wave of resident programs has no tail and pays the start of a program once.",
            "launch",
            [base.change(point_persistent=k, per_program=1) for k in (8, 4, 16, 2)],
        )
    yield from move(
        f"Use more warps for each pointwise program than {base.point_warps}",
        f"{each} elements a thread now; with fewer each the scheduler has more warps to choose from.",
        "occupancy",
        [base.change(point_warps=w) for w in (base.point_warps * 2, base.point_warps * 4) if w <= 32],
    )
    yield from move(
        f"Use fewer warps for each pointwise program than {base.point_warps}",
        "Smaller programs spread more evenly over the SMs at the end of the grid.",
        "occupancy",
        [base.change(point_warps=w) for w in (base.point_warps // 2, base.point_warps // 4) if w >= 1],
    )
    if not base.hints:
        yield from hints(base, f" (blocks of {base.block})")
    if not base.even and segment.numel % base.block == 0:
        yield from move(
            f"Drop the masks where the block of {base.block} divides the tensor",
            "Unmasked loads are plain 128-bit vectors, with no comparison for each element.",
            "memory",
            [base.change(even=True), base.change(even=True, block=near(base.block * 2))],
        )
    if not base.constants and any(len(segment.atoms(v)) < len(segment.sizes) for v in segment.inputs):
        yield from move(
            "Make the extents of broadcast operands compile-time constants",
            "Division by a constant is a multiplication and a shift.",
            "launch",
            [base.change(constants=True), base.change(constants=True, block=near(base.block * 2))],
        )


def _blocks(segment: Segment, base: Plan, each: int) -> Iterator[Move]:
    yield from move(
        f"Use blocks larger than {base.block} elements",
        f"{each} elements a thread now; four 128-bit loads in flight a thread come closer to the memory's bandwidth.",
        "tiling",
        [base.change(block=b) for b in (base.block * 2, base.block * 4, base.block * 8) if b <= 16384],
    )
    yield from move(
        f"Use blocks smaller than {base.block} elements",
        "More and smaller programs balance better and keep registers low.",
        "tiling",
        [base.change(block=b) for b in (base.block // 2, base.block // 4) if b >= 128],
    )
    yield from move(
        f"Grow the block of {base.block} and the warps together",
        "Wider programs at the same work a thread mean fewer of them to launch.",
        "tiling",
        [
            base.change(block=base.block * k, point_warps=near_warps(base.point_warps * k))
            for k in (2, 4)
            if base.block * k <= 16384
        ],
    )


def mixed_moves(facts: Facts, base: Plan) -> Iterator[Move]:
    if facts.analysis.folded is not None and not base.fold_bias:
        yield from move(
            "Take the convolution's own bias into the fused kernel after it",
            "cuDNN adds the bias in a pass of its own over the output, which the fused kernel reads anyway.",
            "fusion",
            [
                base.change(fold_bias=True, in_place=i, block=b)
                for i, b in ((False, base.block), (True, base.block), (True, 2048))
            ],
        )
    if not base.in_place and can_overwrite(facts.analysis):
        yield from move(
            "Write the fused kernel's result over the library call's own output",
            "That buffer is read by nobody else; reusing it spares an allocation and keeps its lines in L2.",
            "memory",
            [base.change(in_place=True), base.change(in_place=True, block=near(base.block * 2))],
        )
