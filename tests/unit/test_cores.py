"""The processor on which hosts work while the judge's clock sees them."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import pytest

from kernelgrove.engine.evaluator.inside.pace import leaving, pace, staying
from kernelgrove.engine.evaluator.timing.cores import Cores


class Machine:
    """*ms*: what work takes on each processor; None where it cannot be done. *looked*: at how many each time."""

    def __init__(self, patch: pytest.MonkeyPatch, ms: list[float | None]) -> None:
        self.ms, self.looked = ms, list[int]()
        patch.setattr(os, "sched_getaffinity", lambda _: set(range(len(self.ms))))
        self.cores = Cores(self.pace)

    def pace(self, cores: Sequence[int]) -> list[float | None]:
        self.looked.append(len(cores))
        return [self.ms[core] for core in cores]


def test_hosts_stay_where_they_are_fast_and_leave_where_they_are_not(monkeypatch: pytest.MonkeyPatch):
    machine = Machine(monkeypatch, [1.6, 1.0, 1.3, 1.0])
    first = machine.cores.fastest()
    assert first in (1, 3) and machine.cores.fastest() == first and machine.looked == [4, 1]
    machine.ms[first] = 1.18
    assert machine.cores.fastest() == first, "the others are hardly faster"
    machine.ms[first] = 1.6
    assert machine.cores.fastest() == 4 - first and machine.looked == [4, 1, 1, 1, 4]
    machine.ms[:] = [2.0, 2.0, 1.5, 2.0]
    assert machine.cores.fastest() == 2 and machine.cores.fastest() == 2
    assert machine.looked[-2:] == [1, 4], "where all are slow another may be fast again at any moment"


def test_of_many_processors_a_few_are_looked_at(monkeypatch: pytest.MonkeyPatch):
    machine = Machine(monkeypatch, [1.0] * 192)
    assert {Cores(machine.pace).fastest() for _ in range(40)} != {0} and set(machine.looked) == {16}


def test_where_there_is_no_choice_none_is_made(monkeypatch: pytest.MonkeyPatch):
    alone = Machine(monkeypatch, [1.0])
    assert alone.cores.fastest() is None and not alone.looked
    assert Machine(monkeypatch, [None, 1.0]).cores.fastest() == 1
    forbidden = Machine(monkeypatch, [None, None])
    assert forbidden.cores.fastest() is None
    fewer = Machine(monkeypatch, [2.0, 1.0, 3.0])
    assert fewer.cores.fastest() == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    assert fewer.cores.fastest() == 0, "it was taken from us"


def test_the_pace_is_that_of_each_processor():
    before = os.sched_getaffinity(0)
    there, missing, again = pace([min(before), 4095, min(before)])
    assert missing is None and os.sched_getaffinity(0) == before
    assert there is not None and again is not None and 0.02 < there < 20


def test_work_stays_on_one_processor_and_then_runs_wherever_there_is_room():
    before, seen = os.sched_getaffinity(0), list[set[int]]()
    with pytest.raises(ValueError, match="odd"), staying(max(before)):
        thread = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()
        seen.append(os.sched_getaffinity(0))
        raise ValueError("odd")
    assert seen == [{max(before)}] * 2 and os.sched_getaffinity(0) == before
    for nowhere in (None, 4095):
        with staying(nowhere):
            assert os.sched_getaffinity(0) == before
        with leaving(nowhere):
            assert os.sched_getaffinity(0) == before


def test_where_nobody_may_choose_a_processor_work_goes_on(monkeypatch: pytest.MonkeyPatch):
    def forbidden(pid: int, cores: set[int]) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    before, entered = sorted(os.sched_getaffinity(0)), []
    assert pace(before) == [None] * len(before)
    with staying(before[0]), leaving(before[0]):
        entered.append(True)
    assert entered and Cores(pace).fastest() is None


def test_who_looks_without_a_pause_makes_room():
    before = os.sched_getaffinity(0)
    core = max(before)
    with leaving(core):
        assert os.sched_getaffinity(0) == (before - {core} or before)
    with staying(core), leaving(core):
        assert os.sched_getaffinity(0) == {core}, "there is nowhere else"
    assert os.sched_getaffinity(0) == before
