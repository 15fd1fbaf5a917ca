"""The names that KernelBench gives its files, and what they say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

_RUN = re.compile(r"^level_(?P<level>\d+)_problem_(?P<number>\d+)(?:_sample_(?P<sample>\d+))?(?:_(?P<name>\w+))?$")
_FILE = re.compile(r"^(?P<number>\d{1,3})_(?P<name>\w+)$")
_FOLDER = re.compile(r"^level[_-]?(?P<level>\d+)$", re.IGNORECASE)


@dataclass(frozen=True)
class Identity:
    """Which KernelBench problem a file is. ``sample`` tells generated kernels of one problem apart."""

    number: int
    level: int | None = None
    name: str | None = None
    sample: int | None = None


def identify(path: str) -> Identity | None:
    """What *path* says, or None where it is not a KernelBench name.

    Problems are ``level1/23_Softmax.py``, generated kernels ``level_1_problem_23_sample_0_kernel.py``.
    """
    pure = PurePath(path)
    stem = pure.stem if pure.suffix == ".py" else pure.name
    if run := _RUN.match(stem):
        name, sample = run["name"], run["sample"]
        return Identity(
            number=int(run["number"]),
            level=int(run["level"]),
            name=None if name in (None, "kernel") else name,
            sample=None if sample is None else int(sample),
        )
    if file := _FILE.match(stem):
        folder = _FOLDER.match(pure.parent.name)
        return Identity(number=int(file["number"]), level=int(folder["level"]) if folder else None, name=file["name"])
    return None
