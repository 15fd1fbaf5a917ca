"""The live view and the plain lines of a running search."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace

from rich.console import Console

from kernelgrove import live
from kernelgrove.engine import events
from kernelgrove.engine.budget import Budget, Spent
from kernelgrove.model import Basis, JobKind, Outcome, StoppedBy

JUDGED = events.JobFinished(
    7, JobKind.EVALUATE, "evaluate:r/0", 1.5, "Use 4 rows", 2, 3, Outcome.OK, "", 0.25, 4.0, Basis.PROJECTED
)
WRONG = events.JobFinished(
    8, JobKind.EVALUATE, "evaluate:r/1", 1.5, "Use 8 rows", 2, 4, Outcome.WRONG_RESULT, "off by 1\nat [0]"
)
STORY = [
    events.SearchStarted(1, resumed=True, recovered=2),
    events.RoundStarted(1),
    events.NodeAdded(2, 1, "r.0-0", 1, "Use 4 rows", "tiling"),
    events.JobStarted(7, JobKind.EVALUATE, "evaluate:r/0", "Use 4 rows", 1),
    events.JobStarted(8, JobKind.EVALUATE, "evaluate:r/1", "Use 8 rows", 1),
    JUDGED,
    WRONG,
    events.NewBest(9, "Use 16 rows", 0.125, 8.0, Basis.PROJECTED),
    events.JobFinished(9, JobKind.IMPLEMENT, "implement:r", 0.1, error="no key", again=True),
    events.NodePruned(2, "Use 4 rows", "hopeless"),
    events.Note("rules", "nothing recognised"),
    events.BudgetTick(Budget(evaluations=40, seconds=600), Spent(evaluations=12, seconds=65)),
]


def test_every_event_worth_a_line_has_one() -> None:
    to = io.StringIO()
    view = live.Lines(to)
    for event in [*STORY, events.Stopping(2), events.Stopped(StoppedBy.USER, "stopped by the user")]:
        view(event)
    assert to.getvalue().splitlines() == [
        "search s1 resumed, 2 jobs taken back from a controller that died",
        "round 1",
        "  n2 idea: Use 4 rows",
        "  i3 ok: 0.2500 ms, 4.00x over eager (projected)",
        "  i4 wrong_result: off by 1 at [0]",
        "  best so far: i9, 0.1250 ms, 8.00x over eager (projected)",
        "  implement failed, to be tried again: no key",
        "  n2 pruned: hopeless",
        "  rules: nothing recognised",
        "stopping: 2 running jobs finish first (Ctrl-C again stops now)",
        "stopped by user: stopped by the user",
    ]


def test_a_time_that_was_screened_alone_says_so() -> None:
    judged = replace(JUDGED, basis=Basis.MEASURED, timing="screened")
    assert live.line(judged) == "  i3 ok: 0.2500 ms, 4.00x over eager (measured, screened)"
    assert live.line(replace(judged, timing="sealed")) == "  i3 ok: 0.2500 ms, 4.00x over eager (measured)"


def test_what_nobody_rates_is_no_failure() -> None:
    rate = events.JobFinished(9, JobKind.RATE, "rate:r.0-0:0", 0.1, error="rules does not rate ideas")
    assert live.line(rate) == "  no ratings: rules does not rate ideas"


def test_lines_survive_a_reader_that_leaves() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    view = live.Lines(Gone())
    view(STORY[0])
    view(STORY[1])


def test_a_live_view_shows_budget_leaders_and_what_runs() -> None:
    to = io.StringIO()
    console = Console(file=to, force_terminal=True, width=100, height=40, color_system=None)
    view = live.Live(console, "rms_norm on cpu")
    for event in [*STORY[:4], events.JobStarted(10, JobKind.IMPLEMENT, "implement:r", "rules: an idea", 1), *STORY[5:]]:
        view(event)
    console.print(view._draw())
    text = to.getvalue()
    assert "s1  rms_norm on cpu  round 1  1 ideas" in text
    assert "12 of 40 evaluations (now: 1 ok, 1 wrong_result), 1 min 05 s of 10 min 00 s" in text
    assert text.index("i9") < text.index("i3")  # the leaderboard, fastest first
    assert "writing" in text
    assert "judging" not in text  # both evaluations have finished
    assert "rules: nothing recognised" in text


def test_the_leaderboard_keeps_the_five_fastest_once_each() -> None:
    seen = live.Seen()
    for number in range(8, 0, -1):
        seen.fold(events.NewBest(number, "idea", float(number), None, Basis.MEASURED))
        seen.fold(events.NewBest(number, "idea", float(number), None, Basis.MEASURED))
    assert [leader.implementation for leader in seen.leaders] == [1, 2, 3, 4, 5]


def test_money_and_tokens_show_where_they_are_spent() -> None:
    assert live.budget_line(Budget(dollars=2.0), Spent(dollars=0.5, tokens=10), Counter()) == (
        "0 evaluations, 0 s, $0.5000 of $2, 10 tokens"
    )


def test_watch_writes_lines_where_there_is_no_terminal() -> None:
    to = io.StringIO()
    with live.watch(to, "title") as view:
        view(events.RoundStarted(3))
    assert to.getvalue() == "round 3\n"
