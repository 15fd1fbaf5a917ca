"""The untrusted process that runs one candidate. Forked from a nursery, sandboxed, killed afterwards.

Imports only the standard library, torch, triton and its siblings, so that a bare GPU image can run it. It answers
one request at a time (``load``, ``call``; ``arm``, ``go``, ``deliver`` to screen; ``seal``, ``queue``, ``finish``,
``claims``, ``pace``, ``unseal`` under seal; ``count``, ``compile`` without a device) and decides nothing: what it says
is a claim.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .. import sandbox
from ..wire.arena import Arena, CpuArena, CudaArena, Slot, Spec, torch_dtype
from ..wire.kernels import Image
from ..wire.page import Page
from ..wire.protocol import PeerGone, Reply, fitting, receive_with_fds, send_reply, shorten
from ..wire.structure import flatten, unpack
from . import candidate, handover, provenance
from .chunks import Chunks
from .pace import pace
from .parity import Parity, memset
from .turnstile import Turnstile


@dataclass(frozen=True)
class Assignment:
    """What a nursery is told about the worker it forks; plain JSON on the wire."""

    mode: str  # "cuda" | "interpret" | "compile"
    device: str  # "cuda:0" | "cpu" | "meta"
    policy: sandbox.Policy
    facts: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "default"
    one_queue: bool = False  # for all CUDA streams (workers/queues.py)


def serve(sock: socket.socket, assignment: Assignment) -> None:
    """Enter the sandbox and answer until the judge hangs up. Never returns normally to the nursery's code."""
    os.environ.update(sandbox.clean_environment(assignment.policy.scratch))
    if assignment.one_queue:
        os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"  # read when the context is made
    tempfile.tempdir = None  # the nursery may have looked it up
    worker = Worker(assignment)  # before the sandbox: what fails here is ours, and is read in the nursery's log
    layers = sandbox.enter(assignment.policy, keep_fds=(sock.fileno(),))
    if assignment.device.startswith("cuda"):
        _warm_up(assignment.device)
    send_reply(sock, Reply.READY, 0, {"layers": [layer.to_json() for layer in layers]})
    while True:
        try:
            request, fds = receive_with_fds(sock)
        except PeerGone:
            return
        kind, reply = worker.answer(request, fds)
        send_reply(sock, kind, request["number"], reply)


def _warm_up(device: str) -> None:
    """What every candidate needs first, before anybody waits for this worker: CUDA, PyTorch's commonest kernels, which
    it loads at first use, and Triton's driver."""
    from triton.runtime import driver

    torch.cuda.set_device(device)  # what a candidate calls "cuda", and no context on another GPU
    values = torch.randn(64, device=device)
    values.clone().copy_(values[::2].repeat(2)).fill_(0.0).sum().item()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    torch.cuda.synchronize()
    driver.active.get_current_target()


class Worker:
    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.scratch = assignment.policy.scratch
        self.device = assignment.device
        self.arena: Arena | None = None
        self.program: candidate.Candidate | None = None
        self._flush: torch.Tensor | None = None
        self._armed: tuple[Callable[[], Any], torch.Tensor, list[tuple[Any, Any]]] | None = None
        self._parity: Parity | None = None
        self._frozen = False  # whether what was there before anything was timed is looked at no more
        self._output: Any = None
        self.chunks: Chunks | None = None
        #: Where the candidate believes to be. A stand-in maps it to the real device.
        self.logical = assignment.device
        self._adopt: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor
        if assignment.mode != "cuda":
            from ..interpreter import devices

            devices.pretend(assignment.facts, assignment.device)
            self.logical, self._adopt = "cuda", devices.adopt
        candidate.set_precision(assignment.precision)

    def answer(self, request: Mapping[str, Any], fds: Sequence[int]) -> tuple[Reply, dict[str, Any]]:
        operations: dict[str, tuple[Reply, Callable[..., dict[str, Any]]]] = {
            "load": (Reply.LOADED, self.load),
            "call": (Reply.CALLED, self.call),
            "arm": (Reply.ARMED, self.arm),
            "go": (Reply.TIMED, self.go),
            "deliver": (Reply.DELIVERED, self.deliver),
            "seal": (Reply.SEALED, self.seal),
            "unseal": (Reply.SEALED, self.unseal),
            "queue": (Reply.QUEUED, self.queue),
            "finish": (Reply.FINISHED, self.finish),
            "claims": (Reply.CLAIMED, self.claims),
            "pace": (Reply.PACED, self.pace),
            "count": (Reply.COUNTED, self.count),
            "compile": (Reply.COMPILED, self.compile),
        }
        kind, operation = operations[request["op"]]
        try:
            return kind, operation(request, fds)
        except candidate.CandidateFailed as failed:
            return Reply.FAILED, failed.to_json()
        except BaseException as error:
            where = "load" if request["op"] == "load" else "run"
            return Reply.FAILED, candidate.explain(error, where, self.scratch).to_json()

    # ------------------------------------------------------------------------------------ on a device

    def load(self, request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        """Map the arena, run the candidate's file (first time) and construct ModelNew with the given weights."""
        code, arguments = _read(fds[0]), _read(fds[1])
        if self.arena is None:
            size = request["arena_bytes"]
            if self.device.startswith("cuda"):
                self.arena = CudaArena.open(fds[2], size, torch.device(self.device).index or 0)
            else:
                self.arena = CpuArena(fds[2], size)
            if b"cpp_extension" in code:  # importing it initialises CUDA: not before the sandbox
                provenance.watch_extensions()
            self.program = candidate.Candidate.from_text(code.decode(), self.scratch)
        assert self.program is not None
        weights = [(name, self._view(slot)) for name, slot in request["weights"]]
        init = unpack(arguments, self._views(request["init"]))
        taken = self.program.construct(init, request["seed"], self.logical, weights, request["mode"])
        self._synchronise()
        return {"weights": taken}

    def call(self, request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        """One forward on the slots given; outputs are copied into their slots where they have the right form."""
        assert self.arena is not None and self.program is not None
        inputs = unpack(_read(fds[0]), self._views(request["inputs"]))
        if self.assignment.mode == "interpret":
            from ..interpreter.watching import watch

            with watch(leaf for _, leaf in flatten(inputs) if isinstance(leaf, torch.Tensor)) as seen:
                output = self.program.forward(inputs, request["seed"])
            leaves = flatten(output, ordered=True)
            tensors = [leaf for _, leaf in leaves if isinstance(leaf, torch.Tensor)]
            observed = {"unwritten": seen.unwritten(tensors), "provenance": seen.provenance()}
        elif not request["observe"]:
            leaves = flatten(self.program.forward(inputs, request["seed"]), ordered=True)
            observed = {"unwritten": [], "provenance": ""}
        else:
            with provenance.Observer() as observer:
                output = self.program.forward(inputs, request["seed"])
            leaves = flatten(output, ordered=True)
            observed = {"unwritten": [], **observer.to_json()}
        self._synchronise()
        return {**self._deliver(leaves, request["outputs"]), **observed}

    def arm(self, request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        """Make ready for ``go``: all that a loop needs besides the calls themselves."""
        assert self.program is not None
        inputs = unpack(_read(fds[0]), self._views(request["inputs"]))
        if self._flush is None or self._flush.numel() != request["flush_bytes"]:
            self._flush = torch.empty(request["flush_bytes"], dtype=torch.uint8, device=self.device)
        events = [
            (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(request["n"])
        ]
        bare = self.program.bare()
        self._armed = (lambda: bare(inputs), self._flush, events)
        self._parity = self._parity or Parity(memset())
        self._parity.begin()
        self._output = None
        gc.collect()
        if not self._frozen:
            # What is there by now stays: torch.compile brings so many objects that each look at them takes 100 ms, and
            # there is one before every loop and every chunk.
            gc.freeze()
            self._frozen = True
        torch.cuda.synchronize()
        return {}

    def go(self, request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        """The timed calls, each between CUDA events after an L2 flush. The judge's clock runs around this."""
        assert self._armed is not None and self._parity is not None
        forward, flush, events = self._armed
        before_call = self._parity.before_call
        output = None
        gc.disable()
        try:
            for start, end in events:
                before_call()
                flush.zero_()
                start.record()
                output = forward()
                end.record()
            torch.cuda.synchronize()
        finally:
            gc.enable()
        self._output = output
        return {}

    def deliver(self, request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        """The outputs of the last timed call, and what the events say of every call, in ms."""
        assert self._armed is not None
        delivered = self._deliver(flatten(self._output, ordered=True), request["outputs"])
        claims = [round(start.elapsed_time(end), 6) for start, end in self._armed[2]]
        self._armed, self._output = None, None
        return {**delivered, "claims": claims}

    def _deliver(self, leaves: list[tuple[str, Any]], wanted: Sequence[Any]) -> dict[str, Any]:
        """Say what came out; copy it into the judge's slots if paths, shapes and dtypes are as *wanted*."""
        fitting = handover.fits(leaves, handover.forms(wanted))
        if fitting:
            handover.copy(leaves, [self._view(slot) if slot is not None else None for _, slot in wanted])
            self._synchronise()
        return handover.report(leaves, fitting)

    # ------------------------------------------------------------------------------------------ sealed timing

    def seal(self, request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        """Map the arena of the chunks to come, in the place of an earlier one."""
        self.unseal({}, [])
        arena = CudaArena.open(fds[0], request["arena_bytes"], torch.device(self.device).index or 0)
        images = [Image(**said, code=_read(fd)) for said, fd in zip(request["kernels"], fds[2:], strict=True)]
        turnstile = Turnstile(Page.open(fds[1]), arena, images)
        self.chunks = Chunks(arena, turnstile)
        turnstile.prepare()
        return {}

    def unseal(self, request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        """Let go of that arena's memory."""
        if self.chunks is not None:
            self.chunks.close()
        self.chunks = None
        return {}

    def queue(self, request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        """Queue a chunk of calls (``chunks.Chunks.queue``). The host time that took is for the judge's patience."""
        assert self.chunks is not None
        plan, packed = json.loads(_read(fds[0])), _read(fds[1])
        forward = None
        if not plan["empty"]:
            assert self.program is not None
            forward = self.program.restored if plan["restore"] else self.program.bare()
        self.chunks.queue(plan, packed, forward)
        return {}

    def finish(self, request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        assert self.chunks is not None
        return self.chunks.finish()

    def claims(self, request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        assert self.chunks is not None
        return self.chunks.claims()

    def pace(self, request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        return {"pace": pace(request["cores"])}

    # ---------------------------------------------------------------------------------- without a device

    def count(self, request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        """What one forward at full size does, counted on meta tensors in the interpreter."""
        from ..interpreter.counting import counting
        from ..projection.aten import AtenCounter
        from ..wire.work import Work

        works: list[Work] = []
        construct, forward = self._dry(request, fds)
        with counting(works.append):
            construct()
            works.clear()
            with AtenCounter(works.append, self.assignment.precision, "meta"):
                for leaf in [leaf for _, leaf in flatten(forward()) if isinstance(leaf, torch.Tensor)]:
                    handed_over = leaf.detach()  # what is computed only when somebody looks is computed here
                    if type(handed_over) is not torch.Tensor:
                        torch.empty(leaf.shape, dtype=leaf.dtype, device=self.logical).copy_(handed_over)
        return {"works": fitting([work.to_json() for work in works]), "launches": len(works)}

    def compile(self, request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        """Compile for the target what one forward at full size would launch."""
        from ..projection.compiling import CompileFailed, compile_launches

        construct, forward = self._dry(request, fds)
        torch.cuda._sleep = lambda cycles: None  # it would end a dry launch, and compiles nothing
        started = time.perf_counter()
        try:
            compiled = compile_launches(forward, self.assignment.facts, request.get("launchers", False), construct)
        except CompileFailed as failed:
            raise candidate.CandidateFailed("compile_error", "compile", shorten(str(failed))) from failed
        return {"compiled": fitting([made.to_json() for made in compiled]), "seconds": time.perf_counter() - started}

    def _dry(self, request: Mapping[str, Any], fds: Sequence[int]) -> tuple[Callable[[], None], Callable[[], Any]]:
        """Two calls on meta tensors: load the file and construct ModelNew; one forward of it."""
        code, init_packed, inputs_packed = map(_read, fds)

        def construct() -> None:
            self.program = candidate.Candidate.from_text(code.decode(), self.scratch)
            init = unpack(init_packed, [self._adopt(_meta(spec)) for spec in request["init"]])
            self.program.construct(init, request["seed"], self.logical, [], request["mode"])

        def forward() -> Any:
            assert self.program is not None
            inputs = unpack(inputs_packed, [self._adopt(_meta(spec)) for spec in request["inputs"]])
            return self.program.forward(inputs, 0)

        return construct, forward

    # --------------------------------------------------------------------------------------------- small

    def _view(self, slot: Sequence[Any]) -> torch.Tensor:
        assert self.arena is not None
        return self._adopt(self.arena.view(Slot.from_json(slot)))

    def _views(self, slots: Sequence[Any]) -> list[torch.Tensor]:
        return [self._view(slot) for slot in slots]

    def _synchronise(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


def _meta(spec: Sequence[Any]) -> torch.Tensor:
    shape, strides, dtype = spec
    described = Spec(tuple(shape), tuple(strides), dtype)
    return torch.empty_strided(described.shape, described.strides, dtype=torch_dtype(dtype), device="meta")


def _read(fd: int) -> bytes:
    """All of a memfd, which is then closed."""
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()
