"""The report: from outcomes to docs/benchmarks/strategies.md. Every figure in it is computed, none is written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean

from kernelgrove.strategies import DEFAULT

from . import suite
from .contenders import BASELINES, OURS
from .curves import chart
from .peers import PEERS
from .runs import EVALUATIONS, PRICES, Outcome
from .statistic import Estimate, overall, ratio

#: landscape -> outcomes in the order of the seeds
Landscapes = Mapping[str, Sequence[Outcome]]
#: by contender
Found = Mapping[str, Landscapes]

HELD_OUT = [family.name for family in suite.FAMILIES if family.held_out]
SEEN = [family.name for family in suite.FAMILIES if not family.held_out]
#: The contender that the default strategy, as it is shipped, is.
STANDARD = {"mcts": "mcts (uct)"}.get(DEFAULT, DEFAULT)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def at(evaluations: int) -> Callable[[Outcome], float]:
    index = EVALUATIONS.index(evaluations)
    return lambda outcome: outcome.regret[index]


def paid(units: int) -> Callable[[Outcome], float]:
    index = PRICES.index(units)
    return lambda outcome: outcome.spent[index]


def values(
    by_landscape: Landscapes, figure: Callable[[Outcome], float], of: Sequence[str] | None = None
) -> dict[str, list[float]]:
    return {name: [figure(o) for o in by_landscape[name]] for name in of or by_landscape}


def figure(by_landscape: Landscapes, of: Callable[[Outcome], float]) -> float:
    return mean(mean(of(o) for o in outcomes) for outcomes in by_landscape.values())


def best_peer(found: Found, evaluations: int) -> str | None:
    peers = [name for name in PEERS if name in found]
    return min(peers, key=lambda name: overall(values(found[name], at(evaluations))).mean, default=None)


def main_table(found: Found) -> str:
    rows = []
    for name, by_landscape in found.items():
        regrets = [overall(values(by_landscape, at(budget))) for budget in suite.BUDGETS]
        rows.append(
            [
                f"**{name}** (default)" if name == STANDARD else name,
                *regrets,
                f"{figure(by_landscape, lambda o: o.usd):.1f}",
                f"{figure(by_landscape, lambda o: o.calls):.0f}",
                f"{figure(by_landscape, lambda o: o.hours):.1f}",
            ]
        )
    rows.sort(key=lambda row: _mean(row[3]))
    head = ["", *(f"after {budget}" for budget in suite.BUDGETS), "dollars", "calls", "virtual hours"]
    return table(head, rows)


def _mean(cell: object) -> float:
    assert isinstance(cell, Estimate)
    return cell.mean


def against_peers(found: Found) -> str:
    rows = []
    best = {budget: best_peer(found, budget) for budget in suite.BUDGETS}
    for name in [*OURS, *BASELINES]:
        if name not in found:
            continue
        cells: list[object] = []
        for budget in suite.BUDGETS:
            peer = best[budget]
            if peer is None:
                cells.append("no peer")
                continue
            cells.append(ratio(values(found[name], at(budget)), values(found[peer], at(budget))))
        rows.append([f"**{name}** (default)" if name == STANDARD else name, *cells])
    named = [f"after {budget}, ÷ {best[budget]}" for budget in suite.BUDGETS]
    return table(["regret ÷ best peer's", *named], rows)


def losses_to_best_of_n(found: Found) -> str:
    """Where a strategy is worse than best-of-n, with an interval that says so."""
    said = []
    for name in found:
        if name == "zero_shot":
            continue
        for budget in suite.BUDGETS:
            for land in found[name]:
                mine, its = ({land: [at(budget)(o) for o in found[who][land]]} for who in (name, "zero_shot"))
                found_ratio = ratio(mine, its)
                if found_ratio.low > 1:
                    said.append(f"- {name} on {land} after {budget}: {found_ratio} times best-of-n's regret")
    return "\n".join(said) + "\n" if said else "Nowhere with an interval that says so.\n"


def by_landscape(found: Found, evaluations: int) -> str:
    names = [*SEEN, *HELD_OUT]
    rows = [[name, *(f"{mean(at(evaluations)(o) for o in found[name][land]):.3f}" for land in names)] for name in found]
    return table(["", *(f"{land}{'*' if land in HELD_OUT else ''}" for land in names)], rows)


def held_out(found: Found) -> str:
    rows = []
    for name, outcomes in found.items():
        cells: list[object] = []
        for budget in suite.BUDGETS:
            cells += [overall(values(outcomes, at(budget), names)) for names in (SEEN, HELD_OUT)]
        rows.append([name, *cells])
    head = [f"{kind} {budget}" for budget in suite.BUDGETS for kind in ("developed with,", "held out,")]
    return table(["", *head], rows)


def at_equal_dollars(found: Found) -> str:
    units = (50, 100, 300)
    rows = [[name, *(overall(values(outcomes, paid(u))) for u in units)] for name, outcomes in found.items()]
    rows.sort(key=lambda row: _mean(row[3]))
    return table(["", *(f"the price of {u} implementations" for u in units)], rows)


def plain(found: Found, budgets: Sequence[int] = suite.BUDGETS) -> str:
    """Overall regrets alone."""
    rows = [[name, *(overall(values(outcomes, at(b))) for b in budgets)] for name, outcomes in found.items()]
    return table(["", *(f"after {b}" for b in budgets)], rows)


def groves(found: Found, budgets: Sequence[int] = (5, 10, 20, 50)) -> str:
    """Regret on recorded groves."""
    names = list(next(iter(found.values())))
    rows = [
        [name, *(f"{mean(at(b)(o) for o in found[name][land]):.4f}" for land in names for b in budgets)]
        for name in found
    ]
    return table(["", *(f"{land}, {b}" for land in names for b in budgets)], rows)


def decisions(measured: Mapping[str, Mapping[int, tuple[float, float]]]) -> str:
    sizes = list(next(iter(measured.values())))
    rows = [[name, *(f"{by[s][0]:.1f} ({by[s][1]:.1f})" for s in sizes)] for name, by in measured.items()]
    return table(["ms of CPU a decision: median (least)", *(f"{size:,} nodes" for size in sizes)], rows)


def evaluation_curves(found: Found) -> str:
    lines = {name: [overall_mean(outcomes, at(n)) for n in EVALUATIONS] for name, outcomes in found.items()}
    return chart("Simple regret, mean over eight landscapes", "evaluations", EVALUATIONS, lines)


def dollar_curves(found: Found) -> str:
    lines = {name: [overall_mean(outcomes, paid(u)) for u in PRICES] for name, outcomes in found.items()}
    return chart("Simple regret against what was paid", "dollars, in prices of one implementation", PRICES, lines)


def overall_mean(outcomes: Landscapes, of: Callable[[Outcome], float]) -> float:
    return figure(outcomes, of)
