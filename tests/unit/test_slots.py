"""Many calls in one arena: inputs that are not there until they are completed, and outputs that are looked at twice."""

from __future__ import annotations

import pytest
import torch

from kernelgrove.engine.evaluator.checking.correctness import expect
from kernelgrove.engine.evaluator.checking.judged_reference import Case
from kernelgrove.engine.evaluator.checking.tensors import identical
from kernelgrove.engine.evaluator.timing.slots import Layout, Slots
from kernelgrove.engine.evaluator.wire.arena import CpuArena

CALLS = 5


def slots_for(inputs: list[torch.Tensor], output: torch.Tensor) -> Slots:
    exact = output.double() if output.dtype.is_floating_point else None
    expected = [expect("", output, exact, 1, "none", False)]
    layout = Layout.of(Case(None, 0, inputs, b"", frozenset(), expected, 0, True))  # type: ignore[arg-type]
    return Slots(CpuArena.create(layout.size(CALLS)), layout)


def draw(number: int) -> list[torch.Tensor]:
    torch.manual_seed(number)
    return [torch.randn(64, 200), torch.randint(0, 9, (70,)), torch.randn(30, 40).t()]


@pytest.fixture
def slots() -> Slots:
    return slots_for(draw(0), torch.zeros(64, 200))


def there(slots: Slots, call: int, number: int) -> torch.Tensor:
    return slots.arena.view(slots.layout.inputs[number].moved(call * slots.layout.stride))


def test_no_input_is_in_the_arena_before_it_is_completed(slots: Slots):
    slots.prime(draw(99), CALLS)
    draws = [draw(number) for number in range(CALLS)]
    filled = slots.fill(draws, CALLS, watched={2})
    assert len(filled.packed) == CALLS and filled.watched == {2: draws[2]}
    for call in range(CALLS):
        for number in range(3):
            assert not any(identical(there(slots, call, number), other[number]) for other in draws)
    slots.complete(filled, CALLS)
    for call in range(CALLS):
        assert all(identical(there(slots, call, n), draws[call][n]) for n in range(3))


def test_the_first_calls_can_be_completed_alone(slots: Slots):
    slots.prime(draw(99), CALLS)
    draws = [draw(number) for number in range(CALLS)]
    filled = slots.fill(draws, CALLS, set())
    slots.complete(filled, 2)
    assert identical(there(slots, 0, 0), draws[0][0]) and identical(there(slots, 1, 0), draws[1][0])
    assert not identical(there(slots, 2, 0), draws[2][0])


def test_all_inputs_and_all_outputs_of_a_call_are_whole_vectors_and_words_apart(slots: Slots):
    (start, size), (output, words) = slots.layout.masked, slots.layout.digested
    last = slots.layout.inputs[-1]
    assert start == slots.layout.inputs[0].offset and size % 16 == 0
    assert last.offset + last.storage_bytes <= start + size <= output
    assert words == 64 * 200 * 4 and output + words <= start + slots.layout.stride


def test_outputs_are_poisoned_and_sampled_twice_at_the_same_places(slots: Slots):
    slots.poison(CALLS)
    slots.aim()
    (first,) = slots.sample(CALLS)
    assert first.shape[0] == CALLS and bool(first.isnan().all())
    (again,) = slots.sample(CALLS)
    assert identical(first, again)
    output = slots.layout.outputs[0][1]
    assert output is not None
    slots.arena.view(output.moved(3 * slots.layout.stride)).fill_(1.0)
    (later,) = slots.sample(CALLS)
    assert not identical(first, later) and bool((later[3] == 1).all()) and bool(later[2].isnan().all())
    (alone,) = slots.sample(1)
    assert identical(alone[0], later[0])


def test_a_share_of_all_outputs_that_comes_later_is_seen_whatever_its_pattern(slots: Slots):
    """One element in so many at one distance would be beside it nine times in ten."""
    (_, slot), step = slots.layout.outputs[0], 200
    assert slot is not None
    missed = 0
    for _ in range(20):
        slots.poison(1)
        slots.arena.view(slot).fill_(1.0)
        slots.arena.view(slot).view(-1).view(-1, step)[:, 10:30] = float("nan")  # a tenth of each group
        slots.aim()
        (taken,) = slots.sample(1)
        assert taken.shape[1] == 64
        missed += not bool(taken.isnan().any())
    assert missed <= 1


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.uint16, torch.bool, torch.complex64, torch.bfloat16])
def test_outputs_of_any_type_are_sampled(dtype: torch.dtype):
    slots = slots_for([torch.zeros(8)], torch.zeros(64, 200, dtype=dtype))
    _, slot = slots.layout.outputs[0]
    assert slot is not None
    slots.arena.view(slot).view(torch.uint8).copy_(torch.randint(0, 2, (1,), dtype=torch.uint8))
    slots.aim()
    (taken,) = slots.sample(2)
    assert taken.dtype == dtype and taken.shape == (2, 64)
    (again,) = slots.sample_of(slots.copy_outputs(0, 1)[0])
    assert torch.equal(again.view(torch.uint8), taken[0].view(torch.uint8))
