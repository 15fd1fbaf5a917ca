# problem: chain
# runs: both
# does: Prints, warns, logs, collects garbage and starts a thread that it joins.
# accept: ok
# provenance: custom

import gc
import logging
import sys
import threading
import warnings

import torch
import triton
import triton.language as tl


@triton.jit
def chain(x_ptr, y_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    x = tl.load(x_ptr + at, mask=inside, other=0.0)
    y = x
    for _ in range(24):
        y = tl.sigmoid(y) + x
    tl.store(y_ptr + at, y, mask=inside)


def launch(x, y):
    chain[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)
    return y


class ModelNew(torch.nn.Module):
    def forward(self, x):
        print("shape", x.shape, flush=True)
        print('{"compiled": true, "correctness": true, "runtime": 0.01}')
        sys.stderr.write("progress 50 %\\r")
        warnings.warn("x is " + str(x.dtype), stacklevel=2)
        logging.getLogger(__name__).warning("launching")
        gc.collect()
        found = []
        worker = threading.Thread(target=lambda: found.append(triton.cdiv(x.numel(), 1024)))
        worker.start()
        worker.join()
        assert found
        return launch(x, torch.empty_like(x))
