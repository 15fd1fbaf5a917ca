"""TritonLLM's ``search_results_*.json``: its ideas become nodes, its kernels implementations with claimed figures.

An idea hangs below the idea of its first parent kernel and builds on that kernel; one without parents hangs below the
root. A runtime is in milliseconds, a speedup over eager PyTorch, as that program has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ...model import Basis, EvaluationResult, Idea, Outcome, Problem, Stage
from .described import ROOT, Described, DescribedImplementation, DescribedNode
from .entries import BrokenFile, entry_of, field, figure, key_of, optional, without_secrets
from .placeholder import placeholder

STRATEGY = "tritonllm"

#: Where versions of that program keep these, in ``metadata`` or ``config``, the first that holds text.
_PROBLEM = ("problem_name", "problem", "ref_arch_name", "reference", "reference_name", "kernel_name", "task", "name")
_DEVICE = ("gpu_name", "gpu", "device_name", "device", "hardware")
_MODEL = ("model_name", "model", "llm", "llm_model")


def recognise(value: Any) -> bool:
    """Whether *value*, parsed from a file, claims to be such a result."""
    return isinstance(value, dict) and ("all_kernels" in value or "all_ideas" in value)


def problem_name(value: Mapping[str, Any], file: str) -> str:
    """The reference's name, which is all that such a file says of it."""
    stem = PurePath(file).stem.removeprefix("search_results").strip("_-")
    return _named(value, _PROBLEM) or stem or PurePath(file).stem


def describe(value: Mapping[str, Any], file: str, problem: Problem | None) -> Described:
    """The search in *value*; *file* is its name for messages. Raises BrokenFile, which names the entry."""
    for key in ("metadata", "config", "statistics"):
        optional(value, key, dict, file)
    ideas = _ideas(field(value, "all_ideas", list, file), file)
    kernels = _kernels(field(value, "all_kernels", list, file), file, ideas)
    for key, idea in ideas.items():
        for parent in idea["parent_kernel_ids"]:
            if parent not in kernels:
                raise BrokenFile(f"{file}, idea {key}", f"its parent kernel {parent!r} is not in all_kernels")
    model = _named(value, _MODEL)
    origin = {key: value[key] for key in ("metadata", "config", "statistics", "round_summaries") if key in value}
    best = value.get("best_kernel")
    return Described(
        problem=problem or placeholder(problem_name(value, file)),
        name=None,
        strategy=STRATEGY,
        models=(model,) if model else ("unknown",),
        device=_named(value, _DEVICE),
        steps=_in_order(ideas, kernels, file),
        origin={
            "format": STRATEGY,
            "entry": "",
            **without_secrets(origin),
            "best_kernel": best.get("kernel_id") if isinstance(best, dict) else None,
            "ideas": {key: idea["metadata"] for key, idea in ideas.items() if idea["metadata"]},
        },
    )


def _named(value: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    for part in ("metadata", "config"):
        found = value.get(part)
        for key in keys:
            text = found.get(key) if isinstance(found, dict) else None
            if isinstance(text, str) and text.strip():
                return PurePath(text).stem if text.endswith(".py") else text.strip()
    return None


def _ideas(entries: list[Any], file: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for index, value in enumerate(entries):
        where = f"{file}, all_ideas[{index}]"
        entry = entry_of(value, where)
        key = key_of(entry, "idea_id", where)
        if key in found:
            raise BrokenFile(where, f"a second idea {key!r}")
        metadata = optional(entry, "metadata", dict, where) or {}
        parents = optional(entry, "parent_kernel_ids", list, where) or []
        found[key] = {
            "idea": Idea(
                field(entry, "idea_text", str, where),
                rationale=_text(metadata, "rationale"),
                category=_text(metadata, "category") or "other",
            ),
            "round": field(entry, "round_number", int, where),
            "metadata": metadata,
            "parent_kernel_ids": [
                key_of({"parent_kernel_ids": parent}, "parent_kernel_ids", where) for parent in parents
            ],
        }
    return found


def _kernels(entries: list[Any], file: str, ideas: Mapping[str, Any]) -> dict[str, DescribedImplementation]:
    found: dict[str, DescribedImplementation] = {}
    for index, value in enumerate(entries):
        where = f"{file}, all_kernels[{index}]"
        entry = entry_of(value, where)
        key = key_of(entry, "kernel_id", where)
        where = f"{where} (kernel_id {key})"
        if key in found:
            raise BrokenFile(where, "a second kernel of this id")
        idea = ROOT if entry.get("idea_id", "") is None else key_of(entry, "idea_id", where)
        if idea is not ROOT and idea not in ideas:
            raise BrokenFile(where, f"its idea {idea!r} is not in all_ideas")
        claimed = optional(entry, "eval_result", dict, where)
        if "eval_result" not in entry:
            raise BrokenFile(where, "the key 'eval_result' is missing")
        found[key] = DescribedImplementation(
            key=key,
            node=idea if idea is ROOT else _node(idea),
            code=field(entry, "code", str, where),
            claim=None if claimed is None else _claim(claimed, entry, f"{where}, eval_result"),
            note=f"kernel {key}, round {field(entry, 'round_number', int, where)}",
        )
    return found


def _node(idea: str) -> str:
    return f"idea {idea}"


def _claim(claimed: Mapping[str, Any], kernel: Mapping[str, Any], where: str) -> EvaluationResult:
    compiled = optional(claimed, "compiled", bool, where)
    correct = optional(claimed, "correctness", bool, where)
    error = optional(claimed, "error", str, where) or ""
    if compiled is None and correct is None and not error:
        raise BrokenFile(where, "the keys 'compiled', 'correctness' and 'error' say nothing")
    if compiled is False:
        outcome, stage = Outcome.COMPILE_ERROR, Stage.COMPILE
    elif correct is False:
        outcome, stage = Outcome.WRONG_RESULT, Stage.CHECK
    elif error:
        outcome, stage = Outcome.RUNTIME_ERROR, Stage.RUN
    else:
        outcome, stage = Outcome.OK, Stage.TIME
    ok = outcome is Outcome.OK
    if correct is None and ok:
        raise BrokenFile(where, "the key 'correctness' is missing")
    speedup = figure(claimed, "speedup", where) if ok else None
    rest = {key: item for key, item in claimed.items() if key not in _TAKEN}
    detail = {
        "code_hash": kernel.get("code_hash"),
        "metadata": kernel.get("metadata"),
        "round": kernel.get("round_number"),
        **({"eval_result": rest} if rest else {}),
    }
    return EvaluationResult(
        outcome,
        stage,
        message=error,
        basis=Basis.IMPORTED,
        time_ms=figure(claimed, "runtime", where) if ok else None,
        speedup={} if speedup is None else {"eager": speedup},
        detail={key: item for key, item in detail.items() if item not in (None, {}, "")},
    )


_TAKEN = {"compiled", "correctness", "runtime", "speedup", "error"}


def _text(metadata: Mapping[str, Any], key: str) -> str:
    value = metadata.get(key)
    return value if isinstance(value, str) else ""


def _in_order(
    ideas: Mapping[str, dict[str, Any]], kernels: Mapping[str, DescribedImplementation], file: str
) -> list[DescribedNode | DescribedImplementation]:
    """Ideas and kernels, each after what it builds on, else as the file has them. Raises BrokenFile for a circle."""
    of_idea: dict[str, list[DescribedImplementation]] = {}
    for kernel in kernels.values():
        of_idea.setdefault(kernel.node, []).append(kernel)
    steps: list[DescribedNode | DescribedImplementation] = list(of_idea.get(ROOT, ()))
    placed = {ROOT}
    waiting = dict(ideas)
    while waiting:
        ready = [
            key
            for key, idea in waiting.items()
            if not idea["parent_kernel_ids"] or kernels[idea["parent_kernel_ids"][0]].node in placed
        ]
        if not ready:
            raise BrokenFile(f"{file}, idea {next(iter(waiting))}", "it builds on itself, through its parent kernels")
        for key in ready:
            idea = waiting.pop(key)
            base = next(iter(idea["parent_kernel_ids"]), None)
            parent = ROOT if base is None else kernels[base].node
            more = idea["parent_kernel_ids"][1:]
            text: Idea = idea["idea"]
            if more:
                also = f"Builds on kernels {', '.join(more)} too."
                text = Idea(text.text, f"{text.rationale} {also}".strip(), text.category)
            steps.append(DescribedNode(_node(key), text, idea["round"], parent, base))
            steps += of_idea.get(_node(key), ())
            placed.add(_node(key))
    return steps
