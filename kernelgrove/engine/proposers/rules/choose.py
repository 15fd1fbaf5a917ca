"""From an idea and a variant to one plan, and from a failed plan to a safer one. All of it deterministic."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from .moves import Move
from .plan import Plan

#: A plan's program without its header: two plans with the same body are the same program.
Body = Callable[[Plan], str]

#: Outcomes that come of asking too much of the machine; the others come of what the program computes.
_TOO_MUCH = ("compile_error", "timeout", "out_of_memory", "worker_died")


def matching(moves: list[Move], text: str) -> Move | None:
    """The move whose sentence is *text*, or shares the most words with it (a third at least)."""
    exact = next((move for move in moves if move.idea.text == text), None)
    if exact is not None:
        return exact
    wanted = _words(text)
    scored = [(len(wanted & _words(move.idea.text)) / max(1, len(wanted)), -i) for i, move in enumerate(moves)]
    score, index = max(scored, default=(0.0, 0))
    return moves[-index] if score >= 1 / 3 else None


def _words(text: str) -> set[str]:
    small = {"the", "a", "an", "of", "and", "in", "to", "with", "each", "so", "that", "it", "for", "by", "on", "one"}
    return set(re.findall(r"[a-z]+", text.lower())) - small


def variant(plans: tuple[Plan, ...], number: int, body: Body, besides: set[str]) -> Plan:
    """Plan *number* among the distinct programs that *plans* and small changes of them give, those in *besides* left
    out; the last one there is where there are fewer."""
    found: dict[str, Plan] = {}
    for plan in _widened(plans):
        text = body(plan)
        if text not in besides and text not in found:
            found[text] = plan
            if len(found) > number:
                break
    return list(found.values())[min(number, len(found) - 1)] if found else plans[0]


def _widened(plans: tuple[Plan, ...]) -> Iterator[Plan]:
    """*plans*, then each of them with other warps, stages, tiles and blocks."""
    yield from plans
    for warps, stages in ((8, 0), (4, 0), (16, 0), (2, 0), (8, 4), (4, 2)):
        for plan in plans:
            yield plan.change(warps=warps, point_warps=warps, stages=stages)
    for factor in (2.0, 0.5, 4.0):
        for plan in plans:
            tile, block = int(plan.tile * factor), int(plan.block * factor)
            yield plan.change(tile=min(max(tile, 64), 16384), block=min(max(block, 128), 16384))


def safer(plan: Plan, outcome: str, body: Body, failed: str) -> Plan | None:
    """A plan that asks less than one that failed with *outcome*, None where nothing less is left."""
    for candidate in _smaller(plan) if outcome in _TOO_MUCH else _plainer(plan):
        if body(candidate) != failed:
            return candidate
    return None


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Less held at once: fewer rows, smaller blocks, tiles instead of whole rows, fewer stages."""
    if plan.rows > 1:
        yield plan.change(rows=plan.rows // 2)
    if plan.style == "whole":
        yield plan.change(style="loop", rows=1, tile=min(plan.tile, 2048), warps=0)
    if plan.tile > 256:
        yield plan.change(tile=plan.tile // 2, warps=0)
    if plan.stages > 2:
        yield plan.change(stages=2)
    if plan.block > 256:
        yield plan.change(block=plan.block // 2)
    if plan.splits > 16:
        yield plan.change(splits=plan.splits // 2)
    smallest = Plan(style="loop", tile=256, block=256)
    yield from (plainer for plainer in _plainer(plan, smallest) if plainer.style != "whole")


def _plainer(plan: Plan, last: Plan | None = None) -> Iterator[Plan]:
    """Fewer liberties, the boldest given up first; at the end *last*, or the direct translation."""
    plain = Plan()
    for name in ("one_pass", "in_place", "fold_bias", "backwards", "even", "planes", "persistent", "point_persistent"):
        if getattr(plan, name) != getattr(plain, name):
            yield plan.change(**{name: getattr(plain, name)})
    if plan.style == "split":
        yield plan.change(style="loop")
    yield last or plain
