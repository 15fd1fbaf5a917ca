"""The controller's side of judges: one process for one device, asked over a socket. Imports no torch."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kernelgrove import errors
from kernelgrove.engine.gpus import detect, specs
from kernelgrove.errors import EnvironmentLacks, EvaluatorError, KernelGroveError
from kernelgrove.model import (
    Basis,
    Device,
    EvaluationRequest,
    EvaluationResult,
    Instance,
    Outcome,
    Problem,
    Stage,
)

from .wire.protocol import PROTOCOL_VERSION, PeerGone, receive_stream, send_stream

#: What a judge's environment keeps: where programs and libraries are, never a key.
_KEPT = frozenset("PATH HOME TMPDIR LANG LC_ALL LD_LIBRARY_PATH CUDA_HOME CUDA_VISIBLE_DEVICES USER LOGNAME".split())

#: Of a judge's PyTorch: what it keeps of a freed tensor is cut up only where it is smaller. Else a chunk's inputs, ten
#: gigabytes, would come back as twenty small tensors with gaps between them that no other chunk's fit into.
_ALLOCATOR = "max_split_size_mb:1024"


class Pool:
    """An evaluator over one local judge. Thread-safe; the judge starts with the first question.

    ``device`` is ``auto``, ``cpu`` or ``cuda:N``; ``target`` names the GPU that a ``cpu`` device projects for.
    Raises EnvironmentLacks when the device is not there, UsageError for an unknown target.
    """

    protocol = PROTOCOL_VERSION

    def __init__(
        self,
        device: str = "auto",
        target: str | None = None,
        parallel: int | None = None,
        allow_unsafe: bool = False,
    ) -> None:
        self._name, self._spec, self._capability = _choose(device, target)
        cores = len(os.sched_getaffinity(0))
        most = min(cores, 8)
        if self._name != "cpu":  # each compiles, and has a context and tensors: some gigabytes
            most = min(max(2, 3 * cores // 4), 12, int(self._spec.memory_gb) // 11)
        self.parallel = parallel or max(1, most)
        self._allow_unsafe = allow_unsafe
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._sock: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._device: Device | None = None
        self._closed = False

    # ------------------------------------------------------------------------------------------- the port

    def device(self) -> Device:
        self._start()
        assert self._device is not None
        return self._device

    def prepare(self, problem: Problem, size: str | None = None) -> Instance:
        fields = {**vars(problem), "sizes": {name: dict(values) for name, values in problem.sizes.items()}}
        return Instance(**self._ask({"op": "prepare", "problem": fields, "size": size}))

    def evaluate(self, request: EvaluationRequest) -> EvaluationResult:
        fields = self._ask({"op": "evaluate", "request": asdict(request)})
        fields["outcome"], fields["stage"] = Outcome(fields["outcome"]), Stage(fields["stage"])
        fields["basis"], fields["advice"] = Basis(fields["basis"]), tuple(fields["advice"])
        fields["time_interval"] = tuple(fields["time_interval"]) if fields["time_interval"] else None
        return EvaluationResult(**fields)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._stop()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ----------------------------------------------------------------------------------------- the process

    def _start(self) -> None:
        with self._lock:
            if self._closed:
                raise EvaluatorError("the evaluator was closed.")
            if self._sock is not None and self._process is not None and self._process.poll() is None:
                return
            self._stop()
            ours, theirs = socket.socketpair()
            root = str(Path(__file__).resolve().parents[3])
            paths = [root, *(path for path in sys.path if path and Path(path).is_absolute())]
            environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
            environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi and the workers count GPUs
            environment["PYTORCH_CUDA_ALLOC_CONF"] = _ALLOCATOR
            environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "kernelgrove.engine.evaluator.judge", str(theirs.fileno())],
                    env=environment,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=None if os.environ.get("KERNELGROVE_DEBUG") else subprocess.DEVNULL,
                    cwd="/",
                    start_new_session=True,  # Ctrl-C is for the controller, which then decides
                )
            opening = {
                "device": self._name,
                "target": self._spec.name,
                "facts": self._spec.facts(),
                "parallel": self.parallel,
                "allow_unsafe": self._allow_unsafe,
                "cache": str(cache_folder()),
                "capability": self._capability,
            }
            try:
                send_stream(ours, opening)
                fields = _answer(receive_stream(ours))
            except (PeerGone, OSError) as gone:
                ours.close()
                code = self._process.wait()
                raise EvaluatorError(
                    f"the judge for {self._name} did not start (exit code {code}): {gone}.", "Run `kernelgrove doctor`."
                ) from gone
            except KernelGroveError:
                ours.close()
                self._process.wait()
                raise
            self._device = Device(**{**fields, "basis": Basis(fields["basis"])})
            self._sock = ours
            threading.Thread(target=self._listen, args=(ours,), name="pool", daemon=True).start()

    def _ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        self._start()
        number = next(self._numbers)
        answer: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        with self._lock:
            sock = self._sock
            if sock is None:
                raise EvaluatorError("the judge died before it was asked.")
            self._waiting[number] = answer
        try:
            with self._sending:
                send_stream(sock, {**message, "id": number})
        except OSError:
            self._waiting.pop(number, None)
            raise EvaluatorError("the judge died before it was asked.") from None
        return _answer(answer.get())

    def _listen(self, sock: socket.socket) -> None:
        try:
            while True:
                message = receive_stream(sock)
                waiting = self._waiting.pop(message["id"], None)
                if waiting is not None:
                    waiting.put(message)
        except (PeerGone, OSError, ValueError):  # ValueError: a judge that sends anything but JSON is no judge
            with self._lock:
                if self._sock is sock:
                    self._stop()
                waiting_now, self._waiting = list(self._waiting.values()), {}
            lost = {"error": "EvaluatorError", "cause": "the judge died while it was asked.", "cure": ""}
            for waiting in waiting_now:
                waiting.put(lost)

    def _stop(self) -> None:
        """Hang up; the judge then ends its nurseries and workers itself. A later question starts a new one."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._sock.close()
            self._sock = None
        if self._process is not None:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


def cache_folder() -> Path:
    """Where compiled baselines' ratios are kept: ``KERNELGROVE_CACHE``, else the user's cache folder."""
    named = os.environ.get("KERNELGROVE_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "kernelgrove")


def _choose(device: str, target: str | None) -> tuple[str, specs.GpuSpec, tuple[int, int] | None]:
    """The device to open, the GPU its figures are for, and its compute capability as far as it is known."""
    wanted = specs.find(target) if target else None
    found = detect.detect()
    if device == "auto":
        device = "cuda:0" if found.gpus else "cpu"
    if device == "cuda":
        device = "cuda:0"
    if device == "cpu":
        return device, wanted or specs.find("H100"), None
    if not device.startswith("cuda:") or not device[5:].isdigit():
        raise errors.UsageError(f"no device {device!r}:", "give auto, cpu, or cuda:N.")
    here = {gpu.index: gpu for gpu in found.gpus}
    index = int(device[5:])
    if index not in here:
        have = ", ".join(f"cuda:{gpu.index} ({gpu.name})" for gpu in found.gpus)
        why = f"it has {have}" if have else (found.reason or "No NVIDIA driver is loaded").rstrip(".")
        raise EnvironmentLacks(
            f"there is no device {device} on this machine: {why}.",
            "Use --device cpu to check in the interpreter and project.",
        )
    name = here[index].spec
    spec = specs.find(name) if name else wanted
    if spec is None:
        raise EnvironmentLacks(f"{here[index].name} is not in the GPU table.", "Name the nearest with --target.")
    return device, spec, here[index].capability


def _answer(message: Mapping[str, Any]) -> dict[str, Any]:
    if "error" in message:
        kind = getattr(errors, message["error"], EvaluatorError)
        error = kind(message["cause"], message["cure"])
        if message.get("trace") and os.environ.get("KERNELGROVE_DEBUG"):
            print(message["trace"], file=sys.stderr)
        raise error
    result: dict[str, Any] = message["ok"]
    return result
