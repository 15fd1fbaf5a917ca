"""One worker with its memory, held against a reference: constructing, calling, and comparing what came out.

Runs in the judge. What differs between devices is the ``Bench``'s.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Protocol

import torch

from kernelgrove.errors import EvaluatorError
from kernelgrove.model import Basis, EvaluationRequest, Stage

from .. import sandbox
from ..checking.correctness import Expected, Verdict, compare, describe_mismatch
from ..checking.judged_reference import Case, JudgedReference
from ..checking.randomness import real
from ..checking.running import Weights
from ..checking.tensors import identical
from ..checking.values import compare_value
from ..checking.variants import gaps
from ..turns.locks import Turns
from ..turns.tenancy import Tenancy
from ..wire.arena import Arena, Slot, Spec, lay_out
from ..wire.protocol import ProtocolBreak, Reply
from ..wire.structure import DESCRIBED
from ..workers.handle import Order, Prepared, Worker
from ..workers.queues import one_is_enough
from .laps import Laps

#: A case of so many bytes makes the judge give back what it can before the worker goes on.
_MUCH = 1 << 30


class Rejected(Exception):
    """The candidate broke a rule."""


class Restless(Rejected):
    """The GPU was busy when it should have been idle, for its doing as far as one can tell."""


#: What a worker is told that is ended because some candidate, nobody knows which, keeps the GPU busy.
EXPELLED = "a candidate kept the GPU busy while all stood still"


class Again(Exception):
    """Something that is not the candidate's doing disturbed its evaluation: it is to be judged once more."""


class Expelled(Exception):
    """All candidates were ended because of one of them: each is to be judged once more, alone (``company.py``)."""


@dataclass(frozen=True)
class Figures:
    """What a bench found about speed. Without ``time_ms``, ``note`` says why there is none."""

    time_ms: float | None
    baselines: dict[str, float | None]
    stats: dict[str, float] | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    interval: tuple[float, float] | None = None
    timing: str | None = None


class Rank(IntEnum):
    """Who gets a worker first where several wait for one: whom the most others wait for."""

    CALIBRATION, BASELINE, CANDIDATE, SPARE = range(4)


class Bench(Protocol):
    """What differs between a GPU and the CPU: memory, workers, and how a time is found."""

    device: str
    basis: Basis
    turns: Turns
    tenancy: Tenancy

    def enter(self) -> None:
        """Have the thread that calls use the device, and no other, from now on."""

    def compile_ahead(self, request: EvaluationRequest) -> Prepared | None:
        """Compile what can be compiled before the device is asked for. The caller removes its folder."""

    def begin(self, reference: JudgedReference, request: EvaluationRequest) -> None:
        """Start in the background what the figures of *reference*'s candidates will need."""

    def recover(self, least: int | None = None) -> None:
        """Give memory back: the judge ran out of it, or a worker needs some. *least*: as long as not so many bytes are
        free."""

    def fork(self, order: Order, rank: Rank = Rank.CANDIDATE) -> Worker:
        """A worker that was never used."""

    def arena(self, size: int) -> Arena: ...

    def figures(self, sitting: Sitting, request: EvaluationRequest, laps: Laps, advise: Callable[[], None]) -> Figures:
        """What there is to say about speed; calls *advise* when the worker has nothing more to lose."""


class Sitting:
    """One worker with its arena and the reference it is held against."""

    def __init__(
        self,
        bench: Bench,
        reference: JudgedReference,
        code: str,
        timeout_s: float,
        prepared: Prepared | None = None,
        budget_s: float = math.inf,
    ) -> None:
        """*timeout_s* for each answer of the worker, *budget_s* for all of them."""
        self.bench = bench
        self.budget_s = budget_s
        self.prepared = prepared
        self.trusted = False  # whether the code is the reference's own, of a baseline
        self.reference = reference
        self.code = code
        self.one_queue = one_is_enough(code)
        self.timeout_s = timeout_s
        self.worker: Worker | None = None
        self.arena: Arena | None = None
        self.doing = "starting"
        self.stage = Stage.LOAD
        self.provenance: str | None = None
        self.operators: list[str] = []  # what ATen computed in an observed call
        self.launches = 1  # that one call makes, as far as was seen
        self.by_name = False  # whether ModelNew took the weights by name
        self.draw = 0  # of the weights that ModelNew was last constructed with
        self.said: list[Any] = []  # what the worker said of the outputs that were last delivered
        self.drawn: list[tuple[Expected, torch.Tensor]] = []  # the random outputs that were judged last, copied
        self.on = ""  # the variant of the inputs that a message is about

    def __enter__(self) -> Sitting:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker, give its memory back."""
        if self.worker is not None:
            self.worker.close()
        if self.arena is not None:
            self.arena.close()
        if self.prepared is not None:
            sandbox.remove(self.prepared.folder)

    def start(self, precision: str, laps: Laps) -> None:
        """Get a worker. Not in a turn: making one takes a turn of its own."""
        with laps.lap("loading: worker"):
            rank = Rank.BASELINE if self.trusted else Rank.CANDIDATE
            self.worker = self.bench.fork(Order(precision, self.prepared, self.one_queue), rank)
        self.worker.left_s = self.budget_s

    def load(self, case: Case, precision: str, laps: Laps) -> None:
        """Give the worker, which is started where there is none yet, the code, and construct ModelNew under the case's
        weights."""
        self.stage, self.doing = Stage.LOAD, "loading the file and constructing ModelNew"
        if self.worker is None:
            self.start(precision, laps)
        with laps.lap("loading: memory"):
            self.arena = self.bench.arena(self._size(case) + sum(map(gaps, case.masters)))
        self._construct(case.weights)

    def reload(self, draw: int) -> None:
        """Construct ModelNew again under other weights."""
        self.stage, self.doing = Stage.LOAD, "constructing ModelNew again with other weights"
        self.draw = draw
        self._construct(self.reference.weights(draw))

    def _construct(self, weights: Weights) -> None:
        assert self.worker is not None and self.arena is not None
        if not self.trusted:
            self.worker.distrust()
        slots, free = lay_out([Spec.of(value) for _, value in weights.state])
        init_slots, _ = lay_out([Spec.of(tensor) for tensor in self.reference.init_tensors], free)
        for slot, (_, value) in zip(slots, weights.state, strict=True):
            self.arena.view(slot).copy_(value)
        for slot, tensor in zip(init_slots, self.reference.init_tensors, strict=True):
            self.arena.view(slot).copy_(tensor)
        self._synchronise()
        fields = {
            "weights": [[name, slot.to_json()] for slot, (name, _) in zip(slots, weights.state, strict=True)],
            "init": [slot.to_json() for slot in init_slots],
            "seed": weights.seed,
            "mode": self.reference.instance.mode,
            "arena_bytes": self.arena.size,
        }
        blobs: list[bytes | int] = [self.code.encode(), self.reference.init_packed, self.arena.fd]
        reply = self.worker.ask("load", Reply.LOADED, self.timeout_s, fields, blobs)
        self.by_name = reply["weights"] == "by name"

    def current(self, number: int) -> Case:
        """Case *number* under the weights that the worker has now."""
        return self.reference.case(number, self.draw)

    def call(self, case: Case, first: bool, observe: bool = False) -> None:
        """One forward on *case*; raises unless the outputs are there. ``verdict`` then compares them.

        *observe* tells what it launched. Not in a first call: ``torch.compile`` compiles nothing that is observed.
        """
        self.stage, self.doing = Stage.RUN, "the first call of forward" if first else "forward"
        assert self.worker is not None
        inputs, outputs = self.place(case)
        fields = {
            "seed": case.forward_seed,
            "inputs": _json(inputs),
            "outputs": self.wanted(case, outputs),
            "observe": observe,
        }
        reply = self.worker.ask("call", Reply.CALLED, self.timeout_s, fields, [case.packed])
        if observe and reply["provenance"]:
            self.provenance = reply["provenance"]
            self.operators = reply.get("operators", [])
            self.launches = max(1, reply.get("launches", 1))
        self.stage = Stage.CHECK
        self.delivered(reply, case)
        if reply["unwritten"]:
            tensors = [expected.path for expected in case.expected if expected.spec is not None]
            if reply["unwritten"][0] >= len(tensors):
                raise ProtocolBreak("the worker says that an output was not written which forward does not have")
            path = tensors[reply["unwritten"][0]]
            raise Rejected(
                f"output{path} was written by no Triton kernel and no ATen operator: NumPy or Python code is no kernel"
            )

    def place(self, case: Case) -> tuple[list[Slot], list[Slot | None]]:
        """Put the case's inputs into the arena and poison the output slots; returns both."""
        assert self.arena is not None
        if case.bytes > _MUCH:
            self.bench.recover(4 * case.bytes)  # what the judge's PyTorch keeps of freed tensors, the worker may need
        start = self._weight_bytes(case)
        inputs, free = lay_out([Spec.of(master) for master in case.masters], start)
        outputs: list[Slot | None] = []
        for expected in case.expected:
            if expected.spec is None:
                outputs.append(None)
                continue
            (slot,), free = lay_out([expected.spec], free)
            outputs.append(slot)
        if free > self.arena.size:
            raise EvaluatorError(f"outputs of {self.reference.instance.name} grow too large under other seeds.")
        for slot, master in zip(inputs, case.masters, strict=True):
            self.arena.view(slot).copy_(master)
        for poisoned in outputs:
            if poisoned is not None:
                view = self.arena.view(poisoned)
                view.fill_(
                    float("nan") if view.dtype.is_floating_point or view.dtype.is_complex else POISON.get(view.dtype, 1)
                )
        self._synchronise()
        return inputs, outputs

    def wanted(self, case: Case, outputs: list[Slot | None]) -> list[Any]:
        """The outputs' paths and slots as a worker is told of them."""
        pairs = zip(case.expected, outputs, strict=True)
        return [[expected.path, slot.to_json() if slot is not None else None] for expected, slot in pairs]

    def delivered(self, reply: dict[str, Any], case: Case) -> None:
        """Raise Wrong unless the worker says that outputs of the right form came out and were copied."""
        leaves = reply["leaves"]
        if len(leaves) != min(reply["count"], DESCRIBED):
            raise ProtocolBreak("the worker does not say what forward returned")
        problem = describe_mismatch(leaves, reply["count"], case.expected, self.reference.place)
        if not reply["copied"]:
            problem = problem or "the output has another form than the reference's"
        if problem:
            raise Wrong(Verdict(None, problem))
        self.said = leaves

    def verdict(self, case: Case, allclose: float | None) -> float | None:
        """The largest error over all outputs of the last call. Raises Rejected or Wrong."""
        assert self.arena is not None
        self.stage, self.doing = Stage.CHECK, "checking"
        inputs, outputs = self._slots(case)
        for number, (slot, master) in enumerate(zip(inputs, case.masters, strict=True)):
            view = self.arena.view(slot)
            if number not in case.mutable and not identical(view, master):
                raise Rejected(f"forward changed input {number}, which the reference leaves alone; work on a copy")
        worst: float | None = None
        drawn: list[tuple[Expected, torch.Tensor]] = []
        for number, (expected, output) in enumerate(zip(case.expected, outputs, strict=True)):
            if output is None:
                _path, _shape, kind, shown = self.said[number]
                found = compare_value(kind, shown, expected, allclose)
            else:
                got = self.arena.view(output).clone()
                found = compare(got, expected, allclose)
                if not found.message and expected.draws is not None:
                    drawn.append((expected, real(got)))
            if found.message:
                raise Wrong(found)
            if found.error is not None:
                worst = max(worst or 0.0, found.error)
        self.drawn = drawn
        return worst

    def repeat(self, case: Case, allclose: float | None) -> None:
        """Call a second time on *case*, which has random outputs and was the last one judged, under another seed.
        Raises Wrong where the outputs are wrong this time, or have more in common than two draws of the reference."""
        before = self.drawn
        self.call(replace(case, forward_seed=secrets.randbits(31)), first=False)
        self.verdict(case, allclose)
        for (expected, first), (_, second) in zip(before, self.drawn, strict=True):
            assert expected.draws is not None
            if same := expected.draws.repeated(first, second):
                raise Wrong(Verdict(None, f"output{expected.path}: the reference is random, and of two calls {same}"))

    def hold_against(self, earlier: list[tuple[Expected, torch.Tensor]]) -> None:
        """The random outputs judged last against those of a case with other inputs. Raises Wrong."""
        for (expected, second), (other, first) in zip(self.drawn, earlier, strict=False):
            assert expected.draws is not None and other.draws is not None
            if same := expected.draws.frozen(second, other.draws, first):
                raise Wrong(Verdict(None, f"output{expected.path}: the reference is random, and of two calls {same}"))

    def _slots(self, case: Case) -> tuple[list[Slot], list[Slot | None]]:
        inputs, free = lay_out([Spec.of(master) for master in case.masters], self._weight_bytes(case))
        outputs: list[Slot | None] = []
        for expected in case.expected:
            if expected.spec is None:
                outputs.append(None)
            else:
                (slot,), free = lay_out([expected.spec], free)
                outputs.append(slot)
        return inputs, outputs

    def _weight_bytes(self, case: Case) -> int:
        specs = [Spec.of(value) for _, value in case.weights.state]
        specs += [Spec.of(tensor) for tensor in self.reference.init_tensors]
        return lay_out(specs)[1]

    def _size(self, case: Case) -> int:
        specs = [Spec.of(master) for master in case.masters]
        specs += [expected.spec for expected in case.expected if expected.spec is not None]
        size = lay_out(specs, self._weight_bytes(case))[1] + 512
        if self.reference.resizes:
            size += 2 * lay_out(specs)[1]  # others may be larger
        return size

    def _synchronise(self) -> None:
        if self.bench.device.startswith("cuda"):
            torch.cuda.synchronize()


class Wrong(Exception):
    """An output is not what it should be."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


POISON = {
    torch.bool: True,
    torch.uint8: 0xA5,
    torch.int8: -91,
    torch.int16: -23131,
    torch.int32: -1515870811,
    torch.int64: -6510615555426900571,
}


def _json(slots: list[Slot]) -> list[Any]:
    return [slot.to_json() for slot in slots]
