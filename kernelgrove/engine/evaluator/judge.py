"""The trusted process that decides, one a device. It holds the reference and the secret seeds; it never runs a
candidate's code and never sees an API key.

``python -m kernelgrove.engine.evaluator.judge FD`` serves one pool over the socket with that number: JSON
documents in, JSON documents out, several at once. It ends when the socket closes.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from kernelgrove.errors import KernelGroveError
from kernelgrove.model import Basis, Device, EvaluationRequest, Instance, Problem

from . import sandbox
from .wire.protocol import PeerGone, clean, receive_stream, send_stream


class Judge:
    def __init__(
        self,
        device: str,
        target: str,
        facts: Mapping[str, Any],
        parallel: int,
        allow_unsafe: bool,
        cache: str | None = None,
        capability: Sequence[int] | None = None,
    ) -> None:
        from .company import Company

        self.target = target
        self.bench: Any
        if device == "cpu":
            from .cpu_bench import CpuBench

            self.bench = CpuBench(facts, parallel, allow_unsafe)
            budget = 512 << 20
        else:
            from .workers import gpu_nurseries

            nurseries = gpu_nurseries.start(capability, allow_unsafe)
            import torch

            from .cuda_bench import CudaBench

            self.bench = CudaBench(device, facts, parallel, nurseries, Path(cache) if cache else None)
            budget = torch.cuda.get_device_properties(device).total_memory // 8
        from .checking.references import References

        self.references = References(device, budget)
        self.company = Company(self.bench.recover)

    def device(self) -> Device:
        software = self.bench.software()
        if self.bench.basis is Basis.MEASURED:
            name = str(self.bench.properties.name)
            return Device(self.bench.device, self.target, name, Basis.MEASURED, software)
        return Device("cpu", self.target, f"cpu->{self.target}", Basis.PROJECTED, software)

    def prepare(self, problem: Problem, size: str | None) -> Instance:
        """The instance to judge on: as given on a GPU; also a smaller one, for checking, on the CPU."""
        from kernelgrove.problems.reference import Reference, validate
        from kernelgrove.problems.scale import shrink
        from kernelgrove.problems.sizes import size_name, sized_source

        full, source = size_name(problem, size), sized_source(problem, size)
        check, check_source = full, source
        if self.bench.device == "cpu":
            if "small" in problem.sizes:
                check, check_source = "small", sized_source(problem, "small")
            else:
                check, check_source = shrink(problem, size)
        instance = Instance(problem.name, problem.digest, full, source, check, check_source, problem.mode)
        with self.bench.tenancy.stay():
            validate(Reference(check_source, problem.name, problem.mode), self.bench.device)
        return instance

    def evaluate(self, request: EvaluationRequest) -> dict[str, Any]:
        from .judging import judge

        reference = partial(self.references.get, request.instance, request.precision)
        with self.bench.tenancy.stay() as waited_s:
            found = asdict(self.company.judge(partial(judge, self.bench, reference, request)))
        if waited_s > 0.1:
            found["detail"]["seconds"]["another evaluator's turn"] = round(waited_s, 3)
        return found

    def close(self) -> None:
        self.bench.close()


def serve(fd: int) -> None:
    """Answer one pool until it hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(0.001)  # the thread that holds the clock waits for no other's 5 ms
    sock = socket.socket(fileno=fd)
    sending = threading.Lock()
    opening = receive_stream(sock)
    judge: Judge | None = None

    def reply(number: int, work: Callable[[], dict[str, Any]]) -> None:
        """Whatever happens, the pool gets an answer: it waits for one."""
        try:
            answer = {"id": number, "ok": work()}
        except KernelGroveError as error:
            answer = {"id": number, "error": type(error).__name__, "cause": error.cause, "cure": error.cure}
        except BaseException as error:  # a reference may raise SystemExit
            answer = _failure(number, error)
        with sending, contextlib.suppress(OSError):  # a pool that is gone is noticed by the loop below
            try:
                send_stream(sock, answer)
            except (ValueError, TypeError, RecursionError) as error:  # not JSON: nothing of it has been sent
                send_stream(sock, _failure(number, error))

    sandbox.become_subreaper()  # what outlives a nursery comes here, and is killed
    sandbox.sweep()
    home = sandbox.Home()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(home.path / "inductor")  # else folders that stay for good
    os.environ["TRITON_CACHE_DIR"] = str(home.path / "triton")

    def open_device() -> dict[str, Any]:
        nonlocal judge
        judge = Judge(**opening)
        gc.freeze()  # else a collection looks at all that PyTorch is made of, 100 ms, and a clock may be running
        return asdict(judge.device())

    def enter() -> None:
        if judge is not None:
            judge.bench.enter()

    threads = ThreadPoolExecutor(opening["parallel"] + 1, thread_name_prefix="judge", initializer=enter)
    try:
        reply(0, open_device)
        while judge is not None:
            message = receive_stream(sock)
            threads.submit(reply, message["id"], partial(_work, judge, message))
    except (PeerGone, OSError):
        pass
    finally:
        if judge is not None:
            judge.close()
        home.remove()
        os._exit(0)  # threads may still be waiting for workers, which are gone now


def _failure(number: int, error: BaseException) -> dict[str, Any]:
    trace = "".join(traceback.format_exception(error, limit=-6))
    cause = f"the judge failed on {type(error).__name__}: {clean(str(error))}"
    return {"id": number, "error": "EvaluatorError", "cause": cause, "cure": "", "trace": trace}


def _work(judge: Judge, message: Mapping[str, Any]) -> dict[str, Any]:
    if message["op"] == "prepare":
        return asdict(judge.prepare(Problem(**message["problem"]), message["size"]))
    if message["op"] == "evaluate":
        fields = dict(message["request"])
        return judge.evaluate(EvaluationRequest(**{**fields, "instance": Instance(**fields["instance"])}))
    raise ValueError(f"the judge knows no operation {message['op']!r}")


if __name__ == "__main__":
    serve(int(sys.argv[1]))
