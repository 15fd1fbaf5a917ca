"""How many hardware queues a worker's CUDA context gets: what its streams may run at the same time.

The driver makes eight by default (``CUDA_DEVICE_MAX_CONNECTIONS``), one context after another, and they are most of
what making and ending a context takes: with four made at once, 176 ms each with eight queues and 72 ms with one (H200,
driver 580.159). Kernels on one stream run one after the other whatever there is, so one is enough for a file that has
no second stream. Whoever hides one from this text has its streams run in turn, which is nobody's loss but its own.
"""

from __future__ import annotations

import re

#: What streams are made with, and what may make some out of sight: graphs, compilers, extensions, recurrent layers.
_MAY_MAKE_STREAMS = re.compile(
    r"stream|graph|compile|load_inline|extension|ctypes|cffi|cuda\.bindings|cupy|rnn|lstm|gru", re.I
)


def one_is_enough(code: str) -> bool:
    """Whether nothing in *code* hints at a second stream."""
    return _MAY_MAKE_STREAMS.search(code) is None
