"""A round of timed calls: the judge's side for real, on the CPU, with a worker that is put in by hand."""

from __future__ import annotations

import gc
import json
import time
import weakref
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kernelgrove.engine.evaluator.checking.judged_reference import JudgedReference
from kernelgrove.engine.evaluator.checking.variants import CENTRED
from kernelgrove.engine.evaluator.sittings.sitting import Rejected, Wrong
from kernelgrove.engine.evaluator.timing import sealing
from kernelgrove.engine.evaluator.timing.pending import Held, Pending
from kernelgrove.engine.evaluator.timing.rounds import Round, _compare, _variants
from kernelgrove.engine.evaluator.timing.sealing import Ground, Sealed
from kernelgrove.engine.evaluator.timing.slots import Slots
from kernelgrove.engine.evaluator.wire.arena import CpuArena, Slot
from kernelgrove.engine.evaluator.wire.kernels import Image
from kernelgrove.engine.evaluator.wire.protocol import ProtocolBreak, Reply
from kernelgrove.engine.evaluator.wire.structure import fingerprint
from kernelgrove.model import Instance

CALLS = 4
PROBLEM = """
import torch


class Model(torch.nn.Module):
    def forward(self, x):
        return {output}


def get_inputs():
    return [torch.randn(40, 300)]


def get_init_inputs():
    return []
"""


Call = Callable[[torch.Tensor, list[torch.Tensor]], object]


class Worker:
    """*call* gets the input of a call and the places of its outputs."""

    def __init__(self, arena: CpuArena, call: Call) -> None:
        self.arena, self.call = arena, call
        self.told_s = 0.0  # what an answer to "claims" takes
        self.said: list[Any] = [[] for _ in range(CALLS)]
        self.finished: list[Any] | None = None  # what else it says while the clock runs
        self.watched = 0  # how often the judge looked without a pause

    def send(self, op: str, fields: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        if op == "queue":
            self.plan = json.loads(blobs[0])

    def answer(self, expected: Reply, timeout_s: float, keep: bool = False) -> dict[str, Any]:
        if expected is Reply.FINISHED:
            for number in range(len(self.plan["packed"])):
                (x,), places = (self._views(slots, number) for slots in (self.plan["inputs"], self._outputs))
                self.call(x, places)
        return {"said": fingerprint(self.said if self.finished is None else self.finished).hex()}

    def watch(self, limit_s: float) -> None:
        self.watched += 1

    @property
    def _outputs(self) -> list[Any]:
        return [slot for _, slot in self.plan["outputs"] if slot is not None]

    def _views(self, slots: Sequence[Any], number: int) -> list[torch.Tensor]:
        move = number * self.plan["stride"]
        return [self.arena.view(Slot.from_json(slot).moved(move)) for slot in slots]

    def ask(self, op: str, expected: Reply, timeout_s: float, fields: Any, blobs: Any = ()) -> dict[str, Any]:
        if op == "claims":
            time.sleep(self.told_s)
        return {"claims": [0.1] * CALLS, "said": self.said}


class Scene:
    def __init__(self, output: str, call: Call) -> None:
        source = PROBLEM.format(output=output)
        instance = Instance("twice", "d", "full", source, "full", source)
        self.reference = JudgedReference(instance, "cpu", "default", 1 << 30)
        self.case = self.reference.case(0)
        self.arena = CpuArena.create(1 << 20)
        self.ground = Ground(self.case, CALLS, 0, self.arena)  # type: ignore[arg-type]
        self.worker, self.pending = Worker(self.arena, call), Pending(Held(1 << 30))
        self.sealed = Sealed(self.worker, self.ground, 1.0)  # type: ignore[arg-type]
        self.ground.slots.prime(self.reference.fresh_inputs(), CALLS)
        self.sitting: Any = SimpleNamespace(
            reference=self.reference,
            draw=0,
            bench=SimpleNamespace(device="cpu"),
            current=lambda number: self.case,
            delivered=lambda reply, case: None,
        )

    def run(self) -> float:
        made = Round(self.sealed, self.sitting, CALLS, 2, None, self.pending)
        return made.together(True, 0.0).wall_ms


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scene]:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    images = [Image(name, 128, 0, b"code") for name in ("mask", "digest")]
    monkeypatch.setattr(sealing, "kernels", lambda device: SimpleNamespace(images=images))
    return Scene


def twice(x: torch.Tensor, places: list[torch.Tensor]) -> None:
    places[0].copy_(2 * x)


def test_right_outputs_are_right(scene: Callable[..., Scene]):
    made = scene("2 * x", twice)
    assert made.run() > 0
    made.pending.settle()


def test_wrong_outputs_are_told_once_they_are_compared(scene: Callable[..., Scene]):
    made = scene("2 * x", lambda x, places: places[0].copy_(2.1 * x))
    made.run()
    with pytest.raises(Wrong, match="in a timed call"):
        made.pending.settle()


def test_a_call_that_was_rehearsed_is_always_compared(scene: Callable[..., Scene]):
    """Its answer to the wrong inputs of the rehearsal is there when the clock starts."""
    made = scene("2 * x", twice)

    def watched(rehearsed: bool) -> list[set[int]]:
        given = (made.sealed, made.sitting, CALLS, 1, None, made.pending)
        return [Round(*given, rehearsed=rehearsed).watched for _ in range(40)]  # type: ignore[arg-type]

    assert all(0 in each for each in watched(True)) and any(len(each) == 2 for each in watched(True))
    assert any(0 not in each for each in watched(False))


def test_what_is_compared_is_what_was_there_when_the_clock_stopped(
    scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
):
    """Whoever knew the moment at which copies are taken could have right outputs there just then."""

    def lazy(x: torch.Tensor, places: list[torch.Tensor]) -> None:
        places[0].fill_(1.0)

    made = scene("2 * x", lazy)
    copied = Slots.copy_outputs

    def just_then(slots: Slots, number: int, calls: int, **_: object) -> torch.Tensor:
        move, (_, slot) = number * slots.layout.stride, slots.layout.outputs[0]
        assert slot is not None
        x, places = slots.arena.view(slots.layout.inputs[0].moved(move)), [slots.arena.view(slot.moved(move))]
        twice(x, places)
        found = copied(slots, number, calls)
        lazy(x, places)
        return found

    monkeypatch.setattr(Slots, "copy_outputs", just_then)
    with pytest.raises(Rejected, match="outputs changed"):
        made.run()
        made.pending.settle()


def test_an_output_that_is_no_tensor_is_known_while_the_clock_runs(scene: Callable[..., Scene]):
    """It comes with the claims, when the clock stands still: who says that he is finished must not compute it then."""
    made = scene("2 * x, int(x.numel())", twice)
    made.worker.said = [[["int", "12000"]]] * CALLS
    made.worker.told_s = 0.5
    assert made.run() < 450
    made.pending.settle()
    made.worker.finished = [[["int", "0"]]] * CALLS
    with pytest.raises(Rejected, match="outputs changed"):
        made.run()


def test_the_end_of_a_chunk_is_looked_for_alike_in_an_empty_one(scene: Callable[..., Scene]):
    """The empty worker is always queued beside calls that could be: whoever sleeps sees the end later. Where a host is
    at work on a processor of its own, no other is kept busy."""
    made = scene("2 * x", twice)
    chunk = Round(made.sealed, made.sitting, CALLS, 2, None, made.pending)
    for stall, core, watched in ((True, None, 1), (False, None, 2), (False, 1, 2)):
        chunk.together(stall, 0.0, core)
        assert made.worker.watched == watched


def test_what_is_no_tensor_is_compared_of_each_call_that_is_looked_at(scene: Callable[..., Scene]):
    """Of the last one alone, it would pay to leave the others out."""
    right = [["int", "12000"]]
    for wrong in range(CALLS):
        made = scene("2 * x, int(x.numel())", twice)
        made.worker.said = [[["int", "0"]] if number == wrong else right for number in range(CALLS)]
        Round(made.sealed, made.sitting, CALLS, CALLS, None, made.pending).together(True, 0.0)
        with pytest.raises(Wrong, match=r"in a timed call: output\[1\] is 0, expected 12000"):
            made.pending.settle()


def test_one_in_four_of_the_calls_that_go_through_alone_is_on_changed_inputs(scene: Callable[..., Scene]):
    """Whoever knows that he is timed could compute less exactly there: inputs of one sign would hide it."""
    made = scene("2 * x", twice)
    assert not _variants(made.sitting, CALLS), "nobody was judged on any yet"
    assert [variant.name for variant, _ in made.reference.variants(0)][3:5] == [
        "inputs centred on zero",
        "inputs of zeros",
    ]
    assert [variant.name for variant in made.reference.fitting] == [
        "inputs times 1e-3",
        "inputs times 1e3",
        "negated inputs",
        "inputs centred on zero",
    ]
    seen = set()
    for _ in range(40):
        found = _variants(made.sitting, 8)
        assert len(found) == 2 and CENTRED in found.values()
        seen |= {(at, variant.name) for at, variant in found.items()}
    assert {at for at, _ in seen} == set(range(8)) and len({name for _, name in seen}) == 4
    assert {len(_variants(made.sitting, 1)) for _ in range(60)} == {0, 1}
    alone = Round(made.sealed, made.sitting, CALLS, CALLS, None, made.pending, singly=True)
    means = alone.filled.right[0].mean(dim=1).abs()
    assert [bool(mean < 1e-6) for mean in means] == [number in alone._variants for number in range(CALLS)]
    assert all(torch.equal(alone.filled.right[0][at], alone.filled.watched[at][0].flatten()) for at in range(CALLS))
    assert not Round(made.sealed, made.sitting, CALLS, 2, None, made.pending)._variants, (
        "in a chunk most are not looked at"
    )


def test_who_is_right_on_ordinary_inputs_alone_is_wrong(scene: Callable[..., Scene]):
    made = scene("x.abs() + 0 * x", twice)
    x = torch.rand(40, 300)
    given = (made.sitting, [CENTRED.change(x)], CENTRED, set())
    _compare(*given, [CENTRED.change(x).abs()], [], None)
    with pytest.raises(Wrong, match="in a timed call on inputs centred on zero: output"):
        _compare(*given, [CENTRED.change(x)], [], None)
    infinite = scene("x.log()", twice)
    _compare(infinite.sitting, *given[1:], [x], [], None)  # nobody can be held to that


@pytest.mark.parametrize("said", [[], [[]] * CALLS, [[["int", "12000"]] * 2] * CALLS])
def test_who_leaves_words_out_breaks_the_protocol(scene: Callable[..., Scene], said: list[Any]):
    made = scene("2 * x, int(x.numel())", twice)
    made.worker.said = said
    with pytest.raises(ProtocolBreak, match="what each call gave"):
        made.run()


def test_what_waits_to_be_compared_holds_no_round(scene: Callable[..., Scene]):
    """A round has all inputs of its chunk: gigabytes, which the next one needs."""
    made = scene("2 * x", twice)
    timed = Round(made.sealed, made.sitting, CALLS, 2, None, made.pending)
    timed.together(True, 0.0)
    gone = weakref.ref(timed)
    del timed
    gc.collect()
    assert gone() is None
    made.pending.settle()
