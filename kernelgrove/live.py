"""What a running search shows: a live view on a terminal, plain lines anywhere else. Both read the engine's events.

``watch`` picks one. A view is called with each event, from the controller's thread, and never raises: a search does
not end because the pager that watched it was closed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from .engine import events
from .engine.budget import Budget, Spent
from .model import JobKind, Outcome
from .render import COLOURS, counts, duration, how_timed, milliseconds, shorten, times

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_LEADERS = 5
_LAST_LINES = 6
_VERBS = {
    JobKind.IDEATE: "thinking of ideas",
    JobKind.IMPLEMENT: "writing",
    JobKind.REPAIR: "repairing",
    JobKind.RATE: "rating ideas",
    JobKind.EVALUATE: "judging",
}


@dataclass(frozen=True)
class Leader:
    implementation: int
    time_ms: float
    speedup: float | None
    basis: str
    idea: str


@dataclass
class Seen:
    """What the events have told so far."""

    search: int | None = None
    round: int | None = None
    nodes: int = 0
    running: dict[int, tuple[events.JobStarted, float]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    leaders: list[Leader] = field(default_factory=list)
    budget: Budget = field(default_factory=Budget)
    spent: Spent = field(default_factory=Spent)
    stopping: bool = False

    def fold(self, event: events.Event) -> None:
        match event:
            case events.SearchStarted():
                self.search = event.search
            case events.RoundStarted():
                self.round = event.round
            case events.NodeAdded():
                self.nodes += 1
            case events.JobStarted():
                self.running[event.job] = (event, time.monotonic())
            case events.JobFinished():
                self.running.pop(event.job, None)
                self._judged(event)
            case events.NewBest():
                self._lead(Leader(event.implementation, event.time_ms, event.speedup, event.basis.value, event.idea))
            case events.BudgetTick():
                self.budget, self.spent = event.budget, event.spent
            case events.Stopping():
                self.stopping = True
            case _:
                pass

    def _judged(self, event: events.JobFinished) -> None:
        if event.outcome is None:
            return
        self.outcomes[event.outcome.value] += 1
        if event.outcome is Outcome.OK and event.time_ms is not None and event.implementation is not None:
            basis = event.basis.value if event.basis else ""
            idea = event.idea or "the reference, translated as it stands"
            self._lead(Leader(event.implementation, event.time_ms, event.speedup, basis, idea))

    def _lead(self, leader: Leader) -> None:
        """A best may be told that was judged elsewhere: in an earlier session, or known from another search."""
        others = [other for other in self.leaders if other.implementation != leader.implementation]
        self.leaders = sorted([*others, leader], key=lambda one: (one.time_ms, one.implementation))[:_LEADERS]


def line(event: events.Event) -> str | None:
    """*event* as one plain line, or None where it is not worth one."""
    match event:
        case events.SearchStarted():
            back = f", {event.recovered} jobs taken back from a controller that died" if event.recovered else ""
            return f"search s{event.search} {'resumed' if event.resumed else 'started'}{back}"
        case events.RoundStarted():
            return f"round {event.round}"
        case events.NodeAdded():
            return f"  n{event.node} idea: {shorten(event.idea, 140)}"
        case events.NodePruned():
            return f"  n{event.node} pruned: {event.because}"
        case events.JobFinished():
            return _finished(event)
        case events.NewBest():
            figure = _figure(event.time_ms, event.speedup, event.basis.value)
            return f"  best so far: i{event.implementation}, {figure}"
        case events.Note():
            return f"  {event.source}: {event.text}"
        case events.Stopping():
            return f"stopping: {event.running} running jobs finish first (Ctrl-C again stops now)"
        case events.Stopped():
            return f"stopped by {event.by.value}: {event.because}"
        case _:
            return None


def _finished(event: events.JobFinished) -> str | None:
    if event.error is not None:
        if event.kind is JobKind.RATE and not event.again:
            return f"  no ratings: {event.error}"  # no failure of the search: it goes on without
        return f"  {event.kind.value} failed{', to be tried again' if event.again else ''}: {event.error}"
    if event.outcome is None:
        return None
    what = f"  i{event.implementation} {event.outcome.value}"
    if event.outcome is not Outcome.OK:
        return f"{what}: {shorten(event.message, 200)}"
    if event.time_ms is None:
        return what
    basis = event.basis.value if event.basis else ""
    return f"{what}: {_figure(event.time_ms, event.speedup, how_timed(basis, event.timing))}"


def _figure(time_ms: float, speedup: float | None, basis: str) -> str:
    over = "" if speedup is None else f", {times(speedup)} over eager"
    return f"{milliseconds(time_ms)}{over} ({basis})"


class Lines:
    """Plain lines, for pipes and logs."""

    def __init__(self, to: IO[str]) -> None:
        self._to: IO[str] | None = to

    def __call__(self, event: events.Event) -> None:
        text = line(event)
        if text is None or self._to is None:
            return
        try:
            print(text, file=self._to, flush=True)
        except OSError:  # the reader has left, or the disk with the log is full
            self._to = None


class Live:
    """Rounds, budget, leaderboard and what runs now, redrawn in place; what happened scrolls above it."""

    def __init__(self, console: Console, title: str) -> None:
        from rich.live import Live as RichLive

        self._console = console
        self._title = title
        self._seen = Seen()
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._lock = threading.Lock()
        self._live = RichLive(console=console, get_renderable=self._draw, refresh_per_second=4, transient=True)

    def __enter__(self) -> Live:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def __call__(self, event: events.Event) -> None:
        text = line(event)
        with self._lock:
            self._seen.fold(event)
            if text is not None:
                self._last.append(text)

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        with self._lock:
            seen = self._seen
            name = "" if seen.search is None else f"s{seen.search}  "
            where = "" if seen.round is None else f"  round {seen.round}"
            head = Text.assemble((f"{name}{self._title}", "bold"), where, f"  {seen.nodes} ideas")
            if seen.stopping:
                head.append("  stopping: what runs is finished first; Ctrl-C again stops now", style="bold yellow")
            parts: list[RenderableType] = [head, Text(budget_line(seen.budget, seen.spent, seen.outcomes))]
            if seen.leaders:
                parts += [Text(), _leaderboard(seen.leaders)]
            if seen.running:
                parts += [Text(), *(_running(job, since, self._console.width) for job, since in seen.running.values())]
            if self._last:
                parts += [Text(), *(_dim(text, self._console.width) for text in self._last)]
            return Group(*parts)


def budget_line(budget: Budget, spent: Spent, outcomes: Counter[str]) -> str:
    """What is used of what may be: ``12 of 40 evaluations (now: 10 ok, 2 timeout), 1 min 05 s of 10 min 00 s``.

    *outcomes* are those of this session: what was judged before, or known already, is in the sum alone."""
    judged = f" (now: {counts(outcomes)})" if outcomes else ""
    parts = [f"{spent.evaluations}{_of(budget.evaluations)} evaluations{judged}"]
    parts.append(duration(spent.seconds) + ("" if budget.seconds is None else f" of {duration(budget.seconds)}"))
    if spent.dollars or budget.dollars is not None:
        parts.append(f"${spent.dollars:.4f}" + ("" if budget.dollars is None else f" of ${budget.dollars:g}"))
    if spent.tokens or budget.tokens is not None:
        parts.append(f"{spent.tokens}{_of(budget.tokens)} tokens")
    return ", ".join(parts)


def _of(cap: int | None) -> str:
    return "" if cap is None else f" of {cap}"


def _leaderboard(leaders: list[Leader]) -> Table:
    from .render import table

    rows = [
        (f"i{leader.implementation}", milliseconds(leader.time_ms), times(leader.speedup), leader.basis, leader.idea)
        for leader in leaders
    ]
    made = table(("best", "time", "over eager", "basis", "idea"), rows, right=("time", "over eager"))
    for column in made.columns:
        column.no_wrap = True
        column.overflow = "ellipsis"
    return made


def _running(job: events.JobStarted, since: float, width: int) -> RenderableType:
    from rich.text import Text

    shown = f"{_VERBS[job.kind]:17} {time.monotonic() - since:5.1f} s  {job.what}"
    return Text(shorten_line(shown, width), style="cyan")


def _dim(text: str, width: int) -> RenderableType:
    from rich.text import Text

    outcome = next((word.rstrip(":") for word in text.split()[1:2]), "")
    return Text(shorten_line(text, width), style=COLOURS.get(outcome, "dim"))


def shorten_line(text: str, width: int) -> str:
    """*text* cut at *width* columns, its leading spaces kept."""
    return text if len(text) <= width else text[: max(1, width - 1)] + "…"


@contextlib.contextmanager
def watch(to: IO[str], title: str) -> Iterator[Lines | Live]:
    """A live view where *to* is a terminal, else plain lines."""
    from rich.console import Console

    console = Console(file=to, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        with Live(console, title) as view:
            yield view
    else:
        yield Lines(to)
