"""Whether an idea says what another said, in other words. Local: rapidfuzz compares words, whatever their order.

Ideas whose numbers differ are different ideas, however alike their words are: "4 warps" is not "8 warps".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import EnvironmentLacks

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def available() -> None:
    """Raises EnvironmentLacks where rapidfuzz is not installed."""
    try:
        import rapidfuzz  # noqa: F401
    except ImportError:
        raise EnvironmentLacks(
            "Strategy 'evolve' tells ideas apart with rapidfuzz, which is not installed:",
            "pip install 'kernelgrove[novelty]', or do without it: -o novelty=1",
        ) from None


def near(text: str, others: Sequence[str], least: float) -> tuple[str, float] | None:
    """The one of *others* most like *text*, and how alike (0 to 1), if that is *least* or more."""
    from rapidfuzz import fuzz, process, utils

    same = [other for other in others if _numbers(other) == _numbers(text)]
    found = process.extractOne(
        text, same, scorer=fuzz.token_sort_ratio, processor=utils.default_process, score_cutoff=100 * least
    )
    return None if found is None else (str(found[0]), float(found[1]) / 100)


def _numbers(text: str) -> list[str]:
    return sorted(_NUMBER.findall(text))
