"""Compiling a candidate before it gets the GPU: a dry launch in a worker without one fills a Triton cache for it.

What the dry worker wrote is copied, its own plain files only, into the cache of the worker that runs the same
candidate, and of no other. What the compiler refuses there it would refuse at the first call too: such a candidate
never gets the GPU. Where a dry launch fails otherwise, nothing is lost: the candidate compiles at its first call, as it
always could.
"""

from __future__ import annotations

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kernelgrove.errors import EvaluatorError
from kernelgrove.model import Backend, EvaluationRequest

from .. import sandbox
from ..wire.protocol import ProtocolBreak, Reply
from .dry import Dry
from .handle import CACHES, Order, Prepared, WorkerDied, WorkerFailed, WorkerTimeout
from .standby import Standby

#: A dry launch takes some 0.6 s. One that takes so long hangs, or compiles very much: the candidate's own first call,
#: which has its whole limit yet, will tell.
_LIMIT_S = 15.0
_EXTENSION_LIMIT_S = 300.0  # nvcc with PyTorch's headers takes from 20 s to minutes
_MOST_BYTES, _MOST_FILES = 256 << 20, 4000
_KEPT_PROBLEMS = 32


class Ahead:
    """Thread-safe. *nursery* is one of dry workers, and ends with this; *facts* tell what to compile for."""

    def __init__(self, nursery: Standby, facts: Mapping[str, Any]) -> None:
        self._facts, self._nursery = facts, nursery
        self._home = sandbox.Home()
        self._lock = threading.Lock()
        self._dry: OrderedDict[str, Dry | None] = OrderedDict()

    def compile(self, request: EvaluationRequest) -> Prepared | None:
        """What to start the candidate's worker with, or None. The caller removes its folder."""
        dry = self._arguments(request)
        if dry is None:
            return None
        extension = request.backend == Backend.CUDA
        limit = _EXTENSION_LIMIT_S if extension else min(_LIMIT_S, request.timeout_s)
        try:
            with self._nursery.fork("meta", self._facts, Order(request.precision)) as worker:
                note, refused = "", False
                try:
                    fields, blobs = dry.request(request.code)
                    worker.ask("compile", Reply.COMPILED, limit, {**fields, "launchers": True}, blobs)
                except (
                    WorkerFailed
                ) as failed:  # what fails after its kernels were compiled has compiled them all the same
                    note = failed.message
                    refused = (failed.outcome, failed.stage) == ("compile_error", "compile")
                if not worker.stop():
                    return None
                kept = Path(tempfile.mkdtemp(dir=self._home.path))
                if not refused:
                    # Both caches keep a folder a program; what lies beside those is none of theirs.
                    copier = sandbox.Copier(worker.uid, _MOST_BYTES, _MOST_FILES, shallowest=2)
                    copier.copy(worker.scratch, CACHES, kept)
            return Prepared(kept, worker.scratch if extension else None, note, refused)
        except (WorkerDied, WorkerTimeout, ProtocolBreak, EvaluatorError):
            return None

    def close(self) -> None:
        self._nursery.close()
        self._home.remove()

    def _arguments(self, request: EvaluationRequest) -> Dry | None:
        key = f"{request.instance.digest}:{request.instance.key}"
        with self._lock:
            if key not in self._dry:
                try:
                    self._dry[key] = Dry(request.instance)
                except Exception:  # whatever a reference does on meta tensors: then nothing is compiled ahead
                    self._dry[key] = None
                while len(self._dry) > _KEPT_PROBLEMS:
                    self._dry.popitem(last=False)
            return self._dry[key]
