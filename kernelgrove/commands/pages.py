"""What ``show``, ``best`` and the end of ``run`` print for people, from the documents of ``--json``."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import render
from .options import DEFAULT_DB

_Document = Mapping[str, Any]
_Fields = list[tuple[str, object]]


def figure(document: _Document) -> str:
    """``0.0123 ms, 3.10x over eager (projected for H100)``."""
    if document.get("time_ms") is None:
        return "not timed"
    speedup = document.get("speedup") or {}
    over = [
        f"{render.times(value)} over {'torch.compile' if name == 'compile' else name}"
        for name, value in speedup.items()
        if value is not None
    ]
    measured = document.get("basis") == "measured"
    where = document.get("device_key") if measured else document.get("target")
    return ", ".join([render.milliseconds(document["time_ms"]), *over]) + (
        f" ({document['basis']} {'on' if measured else 'for'} {where})"
    )


def best(document: _Document) -> None:
    """The best implementation: what it is, its figures, its code."""
    print(f"{document['implementation']}: {document['idea']}\n{figure(document)}\n")
    _code(document["code"])


# ---------------------------------------------------------------------------------------------------- show


def show(document: _Document) -> None:
    """One search, node, implementation, evaluation or job: its fields, then its longer texts."""
    if "code" in document:
        _implementation(document)
    elif "trials" in document:
        render.put(render.table(("", ""), _evaluation(document), headings=False))
        _message(document)
    elif "children" in document:
        _node(document)
    else:
        fields: _Fields = []
        for name, value in document.items():
            if name == "best" and value:
                fields.append((name, f"{value['implementation']}, {figure(value)}"))
            elif name != "source" and _some(value):
                fields.append((name, _short(value)))
        render.put(render.table(("", ""), fields, headings=False))
        if document.get("source"):
            _titled("problem", document["source"], code=True)


def _implementation(document: _Document) -> None:
    fields: _Fields = [
        ("implementation", f"{document['implementation']} of {document['node']} in {document['search']}"),
        ("proposed by", document["model"]),
        *_idea(document),
    ]
    fields += [(name.replace("_", " "), document[name]) for name in ("repair_of", "duplicate_of", "note")]
    fields += [("repaired by", ", ".join(document["repairs"]))]
    found = document["evaluation"]
    fields += _evaluation(found) if found else [("outcome", "not judged yet")]
    fields += _history(document)
    render.put(render.table(("", ""), [row for row in fields if _some(row[1])], headings=False))
    if found:
        _message(found)
    _titled("code", document["code"], code=True)


def _history(document: _Document) -> _Fields:
    """All evaluations of the program, where there are more than its own: a replay's, or another search's."""
    lines = document["history"] if len(document["history"]) > 1 else []
    return [
        (
            "evaluations" if index == 0 else "",
            f"{line['evaluation']}  {line['created']}  {line['outcome']}"
            + (f"  {figure(line)}" if line["time_ms"] is not None else f"  on {line['device_key']}"),
        )
        for index, line in enumerate(lines)
    ]


def _evaluation(document: _Document) -> _Fields:
    trials = document["trials"]
    fields: _Fields = [
        ("outcome", f"{document['outcome']} (stage {document['stage']}, {document['evaluation']})"),
        ("correctness", f"{trials['passed']} / {trials['of']} trials" + _error(document)),
        ("judged", f"{document['created']} on {document['device']} for {document['target']} at {document['size']}"),
        ("rule", f"precision {document['precision']}, tolerance {document['tolerance'] or 'from fp64'}"),
    ]
    if document["outcome"] == "ok":
        baselines = {name: value for name, value in document["baselines"].items() if value is not None}
        fields += [("time", figure(document))]
        fields += [("baselines", ", ".join(f"{name} {render.milliseconds(ms)}" for name, ms in baselines.items()))]
        fields += [("spread", _short(document["time_stats"])), ("launches", document["provenance"])]
    fields += [("advice", line) for line in document["advice"]]
    for name, value in document["detail"].items():
        fields += [(name, render.sandbox_line(value))] if name == "sandbox" else _rows(name, value)
    return [row for row in fields if _some(row[1])]


def _error(document: _Document) -> str:
    return "" if document["max_error"] is None else f", largest error {document['max_error']:.3g}"


def _node(document: _Document) -> None:
    state = document["state"] + (f": {document['pruned_because']}" if document["pruned_because"] else "")
    fields: _Fields = [
        ("node", f"{document['node']} in {document['search']}, round {document['round']}"),
        ("proposed by", document["model"]),
        *_idea(document),
        ("builds on", document["base"]),
        ("state", state),
        *(("implementation", _brief(made)) for made in document["implementations"]),
        *(("child", f"{child['node']}  {child['idea']}") for child in document["children"]),
    ]
    render.put(render.table(("", ""), [row for row in fields if _some(row[1])], headings=False))


def _idea(document: _Document) -> _Fields:
    path = " > ".join(step["node"] for step in document["lineage"])
    return [
        ("idea", document["idea"]),
        ("why", document["rationale"]),
        ("category", document["category"]),
        ("lineage", path),
    ]


def _brief(made: _Document) -> str:
    shown = f"{made['implementation']}  {made['outcome'] or 'not judged yet'}"
    if made["outcome"] == "ok":
        return f"{shown}  {render.milliseconds(made['time_ms'])} {made['basis']}"
    return f"{shown}  {render.shorten(made['message'] or '', 160)}"


def _message(evaluation: _Document) -> None:
    if evaluation["message"]:
        _titled("message", evaluation["message"])


def _titled(title: str, text: str, *, code: bool = False) -> None:
    print(f"\n{title}:")
    if code:
        _code(text)
    else:
        print(text)


def _some(value: object) -> bool:
    return value is not None and value != "" and value != [] and value != {}


def _rows(name: str, value: Any) -> _Fields:
    """*value* under *name*, a row for each launch, kernel or other object in a list."""
    if isinstance(value, Mapping):
        lists = {key: inner for key, inner in value.items() if _objects(inner)}
        rows = _rows(name, _short({key: inner for key, inner in value.items() if key not in lists}))
        return rows + [row for key, inner in lists.items() for row in _rows(f"{name} {key}", inner)]
    if _objects(value):
        return [(name if index == 0 else "", _short(item)) for index, item in enumerate(value)]
    return [(name, _short(value))]


def _objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _short(value: Any) -> object:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(inner)}" for key, inner in value.items() if _some(inner))
    if isinstance(value, list):
        return ", ".join(str(_short(item)) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else value


def _code(text: str) -> None:
    """Coloured on a terminal; exactly as it is anywhere else."""
    if render.console().is_terminal:
        from rich.syntax import Syntax

        render.put(Syntax(text, "python", background_color="default"))
    else:
        print(text, end="" if text.endswith("\n") else "\n")


# ------------------------------------------------------------------------------------------ the end of a search


def conclusion(document: _Document, tree: _Document, found: _Document | None, problem: str, db: str) -> None:
    """The end of a search: its tree, its best kernel, and what to type next. *problem* is how to name it again."""
    print()
    render.put(render.idea_tree(tree, width=render.console().width))
    print()
    render.put(_ended(document))
    if found is None:
        render.put("best: none; no implementation has passed", style="yellow")
    else:
        render.put(f"best: {found['implementation']}, {figure(found)}", style="bold green")
        render.put(f"      {found['idea']}")
    render.put("\nnext:", style="bold")
    rows = _next(document, found, problem, "" if db == DEFAULT_DB else f" --db {shlex.quote(db)}")
    width = max(len(command) for command, _ in rows)
    for command, says in rows:
        print(f"  {command:<{width}}   {says}")


def _ended(document: _Document) -> str:
    by = f" by {document['stopped_by']}" if document["stopped_by"] else ""
    why = f" ({document['note']})" if document["note"] else ""
    evaluations = document["evaluations"]
    return (
        f"{document['search']} {document['status']}{by}{why} after {render.duration(document['elapsed_s'])}: "
        f"{render.number_of(document['nodes'], 'node')}, "
        f"{render.number_of(document['implementations'], 'implementation')}, "
        f"{sum(evaluations.values())} judged ({render.counts(evaluations)}), cost {render.money(document['cost_usd'])}"
    )


def _next(document: _Document, found: _Document | None, problem: str, where: str) -> list[tuple[str, str]]:
    name, program = document["search"], _program()
    rows: list[tuple[str, str]] = []
    if document["stopped_by"] == "waiting":
        if "evaluate" in document["note"]:
            rows.append((f"{program} drain {name}{where}", "run the evaluations that wait, on their device"))
        if any(kind in document["note"] for kind in ("ideate", "implement", "repair", "rate")):
            rows.append((f"{program} tasks next {name}{where}", "take a task: its prompt, and what to answer"))
        rows.append((f"{program} resume {name}{where} --until-idle", "go on with what came back"))
    elif document["status"] != "finished":
        rows.append((f"{program} resume {name}{where}", "go on from here"))
    elif document["stopped_by"] == "evaluations":
        more = 2 * sum(document["evaluations"].values())
        rows.append((f"{program} resume {name}{where} --budget-evals {more}", "go on with a larger budget"))
    elif document["stopped_by"] == "time":
        rows.append((f"{program} resume {name}{where} --budget-time 1h", "go on with a larger budget"))
    if found is None:
        rows.append((f"{program} show {name}{where}", "its options, and the problem's text"))
        return rows
    rows.append((f"{program} best {name}{where} -o kernel.py", "write the best kernel to a file"))
    rows.append((f"{program} show {found['implementation']}{where}", "its code, lineage and figures"))
    rows.append((f"{program} eval {shlex.quote(problem)} kernel.py", "judge it again, alone"))
    return rows


def _program() -> str:
    """How this program was called, as it may be typed again: a virtual environment's is often not on the path."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m kernelgrove"
    found = shutil.which("kernelgrove")
    if called.name != "kernelgrove" or (found is not None and Path(found).resolve() == called.resolve()):
        return "kernelgrove"
    return shlex.quote(os.path.relpath(called) if called.is_absolute() else str(called))
