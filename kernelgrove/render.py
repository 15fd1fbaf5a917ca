"""Documents as people read them: figures, tables, the tree, the BENCHMARK RESULTS block.

Everything here takes the documents that ``--json`` prints (design: docs/cli.md) or the model's own types and returns
text or a Rich renderable; nothing reads a store or a device. A figure is always shown with its basis.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .model import EvaluationResult, Outcome, Stage

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.tree import Tree

#: Colour of an outcome in tables and trees.
COLOURS = {
    "ok": "green",
    "wrong_result": "red",
    "rejected": "red",
    "compile_error": "yellow",
    "runtime_error": "yellow",
    "timeout": "magenta",
    "out_of_memory": "magenta",
    "worker_died": "magenta",
}
#: Stages that end before there is a compiled kernel.
_BEFORE_COMPILED = (Stage.PARSE, Stage.LOAD, Stage.COMPILE)
_RULE = "=" * 60


def console(*, stderr: bool = False) -> Console:
    """A Rich console that never breaks long lines of piped output at 80 columns."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not made.is_terminal:
        made = Console(stderr=stderr, highlight=False, width=160)
    return made


def put(renderable: RenderableType, **style: Any) -> None:
    """Print to standard output; piped, without the spaces that pad a table's last column."""
    to = console()
    if to.is_terminal:
        to.print(renderable, markup=False, **style)
        return
    with to.capture() as captured:
        to.print(renderable, markup=False, **style)
    for line in captured.get().splitlines():
        print(line.rstrip())


def milliseconds(value: float | None) -> str:
    """``0.2290 ms``; three significant digits below 0.01 ms; ``-`` for none."""
    if value is None:
        return "-"
    return f"{value:.4f} ms" if value >= 0.01 else f"{value:.3g} ms"


def times(value: float | None) -> str:
    """A speedup: ``2.24x``; ``-`` for none."""
    return "-" if value is None else f"{value:.2f}x"


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def number_of(number: int, word: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{number} {word}{'s' * (number != 1)}"


def counts(evaluations: Mapping[str, int]) -> str:
    """``12 ok, 3 wrong_result``: outcomes with how many, most frequent first."""
    some = sorted(((n, name) for name, n in evaluations.items() if n), key=lambda pair: (-pair[0], pair[1]))
    return ", ".join(f"{n} {name}" for n, name in some) or "none"


def money(cost: float | None) -> str:
    return "unknown" if cost is None else f"${cost:.4f}" if cost else "$0"


def shorten(text: str, width: int) -> str:
    """One line of at most *width* characters."""
    return textwrap.shorten(" ".join(text.split()), width=max(width, 8), placeholder=" …")


# ---------------------------------------------------------------------------------- BENCHMARK RESULTS


def benchmark_block(
    result: EvaluationResult, problem: str, candidate: str, device: str, *, verbose: bool = False
) -> str:
    """The BENCHMARK RESULTS block for one candidate; *device* names what the figures are for."""
    ok = result.outcome is Outcome.OK
    compiled = ok or result.stage not in _BEFORE_COMPILED
    lines = [_RULE, "BENCHMARK RESULTS", _RULE, f"Problem:     {problem}", f"Candidate:   {candidate}"]
    lines += [f"Compiled:    {compiled}", f"Correctness: {ok} ({result.trials_passed} / {result.trials_of})"]
    if not ok:
        lines += [f"Outcome:     {result.outcome} (stage: {result.stage})", *_message(result.message)]
    elif result.message:
        lines += _message(result.message)
    if ok and result.time_ms is not None:
        lines += ["", f"Performance Comparison ({result.basis} for {device}):", *_figures(result)]
    elif ok:
        lines += ["", "Performance Comparison: not timed"]
    if weaknesses := result.detail.get("degenerate"):
        lines += ["", "The problem says little about a kernel:", *(f"  - {line}" for line in weaknesses)]
    if result.advice:
        lines += ["", "Advice:", *(f"  - {line}" for line in result.advice)]
    if verbose:
        lines += _details(result)
    return "\n".join([*lines, _RULE])


def _message(message: str) -> list[str]:
    first, *rest = message.strip().splitlines() or [""]
    return [f"Message:     {first}", *(f"             {line}" for line in rest)]


def _figures(result: EvaluationResult) -> list[str]:
    how = "projected" if result.basis == "projected" else "interquartile mean"
    eager = result.baselines.get("eager")
    lines = []
    if eager is not None:
        lines.append(f"  Reference PyTorch: {milliseconds(eager)} ({how}, eager)")
    shown = f"{how}, {result.timing}" if result.timing else how
    if result.time_interval is not None:
        shown += f"; 95 % within {milliseconds(result.time_interval[0])} to {milliseconds(result.time_interval[1])}"
    lines.append(f"  Custom kernel:     {milliseconds(result.time_ms)} ({shown})")
    if result.speedup.get("eager") is not None:
        lines.append(f"  Speedup:           {times(result.speedup['eager'])} over eager")
    for name, shown in (("compile", "torch.compile:"), ("max-autotune", "max-autotune:")):
        compiled = result.baselines.get(name)
        if compiled is not None:
            over = times(result.speedup.get(name))
            lines.append(f"  {shown:18} {milliseconds(compiled)} ({how}); speedup over it: {over}")
        elif name in result.baselines and result.basis == "projected":
            lines.append(f"  {shown:18} not projected")
    return lines


def _details(result: EvaluationResult) -> list[str]:
    lines = ["", "Details:", f"  judged in {result.wall_s:.1f} s"]
    if result.max_error is not None:
        lines.append(f"  largest error: {result.max_error:.3g}")
    if result.provenance:
        lines.append(f"  provenance: {result.provenance}")
    if result.time_stats:
        lines.append("  time: " + ", ".join(f"{k} {v:.4g}" for k, v in result.time_stats.items()))
    for key, value in result.detail.items():
        lines.append(f"  {key}: {sandbox_line(value) if key == 'sandbox' else shorten(str(value), 400)}")
    return lines


def sandbox_line(layers: Any) -> str:
    """``12 layers active, missing: seccomp (why)``."""
    if not isinstance(layers, list | tuple) or not all(isinstance(layer, Mapping) for layer in layers):
        return str(layers)
    missing = [f"{layer['name']} ({layer['why']})" for layer in layers if not layer["active"]]
    return f"{len(layers) - len(missing)} layers active" + (f", missing: {', '.join(missing)}" if missing else "")


def evaluation_document(result: EvaluationResult, problem: str, candidate: str) -> dict[str, Any]:
    """One object of ``eval --json``."""
    ok = result.outcome is Outcome.OK
    return {
        "problem": problem,
        "candidate": candidate,
        "outcome": str(result.outcome),
        "stage": str(result.stage),
        "message": result.message,
        "trials": {"passed": result.trials_passed, "of": result.trials_of},
        "max_error": result.max_error,
        "basis": str(result.basis),
        "time_ms": result.time_ms if ok else None,
        "time_interval": list(result.time_interval) if ok and result.time_interval else None,
        "timing": result.timing if ok else None,
        "time_stats": dict(result.time_stats) if ok and result.time_stats else None,
        "baselines": dict(result.baselines),
        "speedup": dict(result.speedup) if ok else {},
        "provenance": result.provenance,
        "advice": list(result.advice),
        "wall_s": round(result.wall_s, 3),
        "detail": dict(result.detail),
    }


# ------------------------------------------------------------------------------------------------ tables


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = (), headings: bool = True
) -> Table:
    """A plain Rich table; columns named in *right* are aligned to the right; None shows as ``-``."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold", show_header=headings)
    for heading in columns:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text("-" if cell is None else str(cell)) for cell in row))
    return made


def search_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What ``ls`` shows."""
    shown = [
        (
            row["search"],
            row["problem"] + (" (reference not attached)" if row.get("reference") == "not attached" else ""),
            row["status"],
            row["strategy"],
            ", ".join(row["models"]),
            row["device"],
            row["nodes"],
            counts(row["evaluations"]),
            _speedup_text(row.get("best_speedup"), row.get("basis")),
            money(row.get("cost_usd")),
            row["created"],
        )
        for row in rows
    ]
    headings = "search problem status strategy models device nodes evaluations best cost created".split()
    return table(headings, shown, right=("nodes", "cost"))


def how_timed(basis: str, timing: str | None) -> str:
    """*basis*, and that a time was screened alone: it is up to 8 % off a sealed one (docs/evaluation.md)."""
    return f"{basis}, {timing}" if timing == "screened" else basis


def _speedup_text(speedup: Any, basis: Any) -> str:
    value = speedup.get("eager") if isinstance(speedup, Mapping) else speedup
    return "-" if value is None else f"{times(value)} {basis or ''}".strip()


# -------------------------------------------------------------------------------------------------- tree


#: Columns that an idea's text gets at the least, and a pruned node's reason at the most.
_LEAST_IDEA, _MOST_REASON = 32, 40


def idea_tree(document: Mapping[str, Any], *, width: int = 160) -> Tree:
    """The tree document of a search as a Rich tree: an idea a branch, its implementations below it.

    Ideas are shortened so that a line fits *width* columns where that leaves enough of them to read.
    """
    from rich.text import Text
    from rich.tree import Tree

    nodes = {node["id"]: node for node in document["nodes"]}
    children: dict[str | None, list[Mapping[str, Any]]] = {}
    for node in document["nodes"]:
        children.setdefault(node.get("parent"), []).append(node)
    basis = document.get("basis")

    def label(node: Mapping[str, Any], depth: int) -> Text:
        pruned = node.get("state") == "pruned"
        after = Text()
        best = _best_of(node) if depth else None  # beside the root, a figure would look like the reference's own
        if best is not None:
            after.append(f"  {milliseconds(best['time_ms'])}", style="green")
            how = how_timed(str(best.get("basis") or basis or ""), best.get("timing"))
            after.append(f"  {_speedup_text(best.get('speedup'), how)}", style="bold green")
        if pruned:
            reason = (node.get("pruned_because") or "").partition(":")[0]  # `show` has the rest
            after.append(f"  pruned: {shorten(reason, _MOST_REASON)}", style="dim italic")
        if node.get("folded"):
            after.append(f"  {_folded(node['folded'])}", style="dim italic")
        room = width - 4 * depth - len(node["id"]) - 2 - len(after)
        idea = (f"  {shorten(node['idea'], max(room, _LEAST_IDEA))}", "dim" if pruned else "")
        return Text.assemble((node["id"], "dim"), idea, after)

    def grow(branch: Tree, node: Mapping[str, Any], depth: int) -> None:
        for implementation in node["implementations"]:
            branch.add(_implementation_label(implementation, basis))
        for child in children.get(node["id"], ()):
            grow(branch.add(label(child, depth + 1)), child, depth + 1)

    root = nodes[document["root"]]
    drawn = Tree(label(root, 0), guide_style="dim")
    grow(drawn, root, 0)
    return drawn


def _best_of(node: Mapping[str, Any]) -> Mapping[str, Any] | None:
    passed = [i for i in node["implementations"] if i.get("outcome") == "ok" and i.get("time_ms") is not None]
    return min(passed, key=lambda i: float(i["time_ms"])) if passed else None


def _folded(count: Mapping[str, int]) -> str:
    """What is below a node and not shown: ``(+3 ideas, 7 implementations)``."""
    ideas, made = count["nodes"], count["implementations"]
    return f"(+{number_of(ideas, 'idea')}, {number_of(made, 'implementation')})"


def _implementation_label(implementation: Mapping[str, Any], basis: Any) -> Any:
    from rich.text import Text

    outcome = implementation.get("outcome")
    text = Text()
    text.append(implementation["id"], style="dim")
    if implementation.get("repair_of"):
        text.append(f" repairs {implementation['repair_of']}", style="dim")
    if implementation.get("duplicate_of"):
        text.append(f" same program as {implementation['duplicate_of']}", style="dim")
    text.append(f"  {outcome or 'not judged'}", style=COLOURS.get(str(outcome), "dim"))
    if outcome == "ok" and implementation.get("time_ms") is not None:
        text.append(f"  {milliseconds(implementation['time_ms'])}")
        how = how_timed(str(implementation.get("basis") or basis or ""), implementation.get("timing"))
        text.append(f"  {_speedup_text(implementation.get('speedup'), how)}")
    return text
