"""The worker's side of sealed timing: a chunk of calls queued behind a stalled stream, then waited for.

The judge says where inputs and outputs of each call lie, lets the calls be queued, completes the inputs, starts the
stream, and stops its clock when the outputs are there (``timing/sealing.py``). Standard library and torch only.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch

from ..wire.arena import CudaArena, Slot
from ..wire.structure import fingerprint, flatten, unpack
from . import handover
from .pace import staying
from .parity import Parity, memset
from .turnstile import Turnstile


@dataclass(frozen=True)
class Call:
    """One call: its arguments, what is wanted of it, and where its outputs go."""

    inputs: Any
    wanted: handover.Forms
    targets: list[torch.Tensor | None]


class Loop(Protocol):
    """Makes *calls* one after the other, each through the *turnstile* where there is one."""

    def __call__(self, calls: Sequence[Call], turnstile: Turnstile | None = None) -> None: ...


class Chunks:
    """Chunks over one arena, which the judge made for them."""

    def __init__(self, arena: CudaArena, turnstile: Turnstile) -> None:
        self.arena, self._turnstile = arena, turnstile
        self._parity = Parity(memset())
        self._calls: list[Call] = []
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._report: dict[str, Any] = {}
        self._said: list[handover.Said] = []  # of each call so far, where something of it is no tensor
        self._loop: Callable[[], None] | None = None
        self._core: int | None = None  # where it is run

    def queue(self, plan: Mapping[str, Any], packed: bytes, forward: Callable[[Any], Any] | None) -> None:
        """Make the calls of *plan* ready. Where it says ``stall``, launch them all behind a stalled stream; where
        ``singly``, each behind a turnstile; else rehearse.

        *forward* None is the empty worker: its outputs are there before it is asked.
        """
        self._calls = self._planned(plan, packed)
        while len(self._events) < len(self._calls):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record(), end.record()  # an event is made at its first record: not while the clock runs
            self._events.append((start, end))
        if forward is None:
            loop = self._looping(_idle(self._calls[0], waits=plan["waits"]))
        else:
            loop = self._looping(lambda inputs: flatten(forward(inputs), ordered=True))
        gc.collect()
        singly, stall = plan["singly"] is not None, plan["stall"]
        if singly:
            self._turnstile.begin(plan["singly"], plan["stride"])
        elif not stall:
            self._rehearse(loop)
        self._parity.begin()
        torch.cuda.synchronize()
        if not singly and not stall:
            self._loop, self._core = partial(loop, self._calls), plan["core"]
            return
        if stall:
            self.arena.stall(torch.cuda.current_stream().cuda_stream, plan["flag"], plan["token"])
        else:
            self._turnstile.open()
        with staying(plan["core"] if singly else None):
            loop(self._calls, self._turnstile if singly else None)

    def finish(self) -> dict[str, Any]:
        """Launch what is not yet launched, wait for all of it, and say what no longer changes of what will be said."""
        loop, self._loop = self._loop, None
        if loop is not None:
            with staying(self._core):
                loop()
        torch.cuda.synchronize()
        return {"said": fingerprint(self._said).hex() if self._said else ""}

    def claims(self) -> dict[str, Any]:
        """What the last output was, what the events say of each call, in ms, and what of its output is no tensor."""
        pairs = self._events[: len(self._calls)] if self._report["copied"] else []
        claims = [round(start.elapsed_time(end), 6) for start, end in pairs]
        self._calls = []
        return {**self._report, "claims": claims, "said": self._said}

    def close(self) -> None:
        """Let go of its memory."""
        self._turnstile.close()  # first: a thread of the candidate's that goes on in the arena ends the context
        self.arena.close()  # once nothing runs any more

    def _planned(self, plan: Mapping[str, Any], packed: bytes) -> list[Call]:
        inputs = [Slot.from_json(slot) for slot in plan["inputs"]]
        outputs = [(path, Slot.from_json(slot) if slot is not None else None) for path, slot in plan["outputs"]]
        wanted = handover.forms([[path, slot.to_json() if slot is not None else None] for path, slot in outputs])
        calls, at = [], 0
        for number, length in enumerate(plan["packed"]):
            move = number * plan["stride"]
            tensors = [self.arena.view(slot.moved(move)) for slot in inputs]
            targets = [self.arena.view(slot.moved(move)) if slot is not None else None for _, slot in outputs]
            calls.append(Call(unpack(packed[at : at + length], tensors), wanted, targets))
            at += length
        return calls

    def _rehearse(self, loop: Loop) -> None:
        """Make the first call on the wrong inputs that lie in its places, and hand it over to nowhere. The clock will
        see this host's work, which after a wait and a collection takes two to three times as long as in a loop: the
        more of it a call has, the more that is, and the empty worker cannot tell."""
        first = self._calls[0]
        aside = [None if target is None else torch.empty_like(target) for target in first.targets]
        loop([replace(first, targets=aside)])

    def _looping(self, leaves_of: Callable[[Any], handover.Leaves]) -> Loop:
        events, parity = self._events, self._parity

        def loop(calls: Sequence[Call], turnstile: Turnstile | None = None) -> None:
            leaves: handover.Leaves = []
            self._said = []
            talks = any(target is None for target in calls[0].targets)
            gc.disable()
            try:
                for number, (call, (start, end)) in enumerate(zip(calls, events, strict=False)):
                    parity.before_call()
                    if turnstile is not None:
                        turnstile.enter(number)
                    start.record()
                    leaves = leaves_of(call.inputs)
                    end.record()
                    if not handover.fits(leaves, call.wanted):
                        self._report = handover.report(leaves, copied=False)
                        if turnstile is not None:
                            turnstile.give_up(len(calls))
                        return
                    handover.copy(leaves, call.targets)
                    if talks:
                        self._said.append(handover.said(leaves, call.targets))
                    if turnstile is not None:
                        turnstile.leave(number, self._said[-1] if talks else None)
            finally:
                gc.enable()
            self._report = handover.report(leaves, copied=True)

        return loop


def _idle(call: Call, waits: bool) -> Callable[[Any], handover.Leaves]:
    """What computes nothing: its outputs are there before it is asked. *waits*: it waits for its stream meanwhile."""
    pairs = zip(call.wanted, call.targets, strict=True)
    # A number takes as long to tell as a candidate's does.
    ready = [(path, 1 / 3 if target is None else torch.empty_like(target)) for (path, *_), target in pairs]

    def leaves_of(inputs: Any) -> handover.Leaves:
        if waits:
            torch.cuda.current_stream().synchronize()
        return ready

    return leaves_of
