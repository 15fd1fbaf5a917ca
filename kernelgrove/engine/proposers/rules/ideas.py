"""The catalogue: what an engineer would try next on a kernel, as sentences and as changes of its plan.

An idea is relative to its base. Its sentence names what changes from what, so that the same step from another base is
another idea, and one already tried is found by its words.
"""

from __future__ import annotations

from .facts import Facts
from .moves import Move
from .plan import Plan
from .point_ideas import mixed_moves, point_moves
from .row_ideas import row_moves


def catalogue(facts: Facts, base: Plan) -> list[Move]:
    """Every idea that applies to *base*: what concerns library calls, then the kernels that move the most bytes."""
    rows = list(row_moves(facts, base)) if facts.rows is not None else []
    points = list(point_moves(facts, facts.points, base)) if facts.points is not None else []
    return [*mixed_moves(facts, base), *(rows + points if facts.rows_matter_most else points + rows)]
