"""The environment that a nursery starts with, and the check that a worker's holds nothing else.

It has to be clean when the nursery is executed: a variable that is unset later stays in ``/proc/<pid>/environ``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

#: Where a worker looks for programs: beside its interpreter first, where pip puts ninja.
SEARCH_PATH = f"{sys.prefix}/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Passed through from the caller's environment where set: without them some machines' CUDA is not found.
_PASSED_ON = ("LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_VISIBLE_DEVICES")

_NAMES = frozenset(
    "PATH HOME TMPDIR USER LOGNAME LANG LANGUAGE TZ LD_LIBRARY_PATH XDG_CACHE_HOME CC MAX_JOBS "
    "GOTO_NUM_THREADS VECLIB_MAXIMUM_THREADS NUMEXPR_MAX_THREADS".split()
)
_FAMILIES = (
    *("LC_", "PYTHON", "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "TRITON_", "TORCH_", "TORCHINDUCTOR_", "PYTORCH_"),
    *("OMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "KMP_", "GOMP_"),
)
_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSW", "CREDENTIAL", "AUTH")


def is_allowed(name: str) -> bool:
    """Whether a worker may have an environment variable of this name. ``NVIDIA_API_KEY`` and its like may not."""
    known = name in _NAMES or name.startswith(_FAMILIES)
    return known and not any(word in name.upper() for word in _SECRET_WORDS)


def forbidden(names: Iterable[str]) -> tuple[str, ...]:
    """Those of *names* that a worker may not have, sorted."""
    return tuple(sorted({name for name in names if not is_allowed(name)}))


def inherited_names() -> tuple[str, ...]:
    """The names this process was executed with, from ``/proc/self/environ``. Raises OSError."""
    block = Path("/proc/self/environ").read_bytes()
    return tuple(os.fsdecode(entry.partition(b"=")[0]) for entry in block.split(b"\0") if entry)


def clean_environment(scratch: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a nursery: everything private points into folder *scratch*, nothing else is taken
    over but where CUDA lies and which devices are visible. *extra* adds names that ``is_allowed`` (thread counts,
    ``TRITON_INTERPRET``); raises ValueError for any other."""
    wrong = forbidden(extra or ())
    if wrong:
        raise ValueError(f"a worker's environment must not hold {', '.join(wrong)}")
    environment = {
        "PATH": SEARCH_PATH,
        "HOME": scratch,
        "TMPDIR": scratch,
        "XDG_CACHE_HOME": f"{scratch}/cache",
        "TRITON_CACHE_DIR": f"{scratch}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{scratch}/inductor",
        "TORCH_EXTENSIONS_DIR": f"{scratch}/extensions",
        "USER": "worker",  # getpass asks the password file otherwise, where a private uid has no line
        "LOGNAME": "worker",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
    }
    environment.update({name: os.environ[name] for name in _PASSED_ON if os.environ.get(name)})
    environment.update(extra or {})
    return environment
