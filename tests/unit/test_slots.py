"""Many calls in one arena: inputs that are wrong until they are completed, and outputs that are looked at twice."""

from __future__ import annotations

import pytest
import torch

from kernelgrove.engine.evaluator.arena import CpuArena
from kernelgrove.engine.evaluator.correctness import expect
from kernelgrove.engine.evaluator.references import Case
from kernelgrove.engine.evaluator.slots import STALE, Layout, Slots
from kernelgrove.engine.evaluator.tensors import identical

CALLS = 5


def slots_for(inputs: list[torch.Tensor], output: torch.Tensor) -> Slots:
    expected = [expect("", output, output.double(), 1, "none", False)]
    layout = Layout.of(Case(None, 0, inputs, b"", frozenset(), expected, 0, True))  # type: ignore[arg-type]
    return Slots(CpuArena.create(layout.size(CALLS)), layout)


def draw(number: int) -> list[torch.Tensor]:
    torch.manual_seed(number)
    return [torch.randn(64, 200), torch.randint(0, 9, (7,)), torch.randn(30, 40).t()]


@pytest.fixture
def slots() -> Slots:
    return slots_for(draw(0), torch.zeros(64, 200))


def test_inputs_are_wrong_until_they_are_completed(slots: Slots):
    draws = [draw(number) for number in range(CALLS + 1)]
    filled = slots.fill(draws, watched={2})
    assert len(filled.packed) == CALLS and filled.watched == {2: draws[2]}

    def there(call: int, number: int) -> torch.Tensor:
        return slots.arena.view(slots.layout.inputs[number].moved(call * slots.layout.stride))

    for call in range(CALLS):
        wrong = [int((there(call, n) != draws[call][n]).sum()) for n in range(3)]
        assert wrong[0] >= 64 * 200 // STALE - 1 and wrong[2] >= 1, "nothing is withheld"
    for completion in filled.completions:
        completion.complete()
    for call in range(CALLS):
        assert all(identical(there(call, n), draws[call][n]) for n in range(3))


def test_where_elements_are_stale_is_drawn_anew_each_time(slots: Slots):
    def places() -> list[int]:
        draws = [draw(number) for number in range(CALLS + 1)]
        slots.fill(draws, set())
        return (slots.arena.view(slots.layout.inputs[0]) != draws[0][0]).flatten().nonzero().flatten().tolist()

    assert len({tuple(places()) for _ in range(8)}) > 1


def test_outputs_are_poisoned_and_sampled_twice_at_the_same_places(slots: Slots):
    slots.poison(CALLS)
    (first,) = slots.sample(CALLS)
    assert first.shape[0] == CALLS and bool(first.isnan().all())
    (again,) = slots.sample_again(CALLS)
    assert identical(first, again)
    output = slots.layout.outputs[0][1]
    assert output is not None
    slots.arena.view(output.moved(3 * slots.layout.stride)).fill_(1.0)
    (later,) = slots.sample_again(CALLS)
    assert not identical(first, later) and bool((later[3] == 1).all()) and bool(later[2].isnan().all())
