"""Faster than memory allows: a time under which a figure is not believed, whatever the clocks say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..checking.judged_reference import JudgedReference

#: Of the time that the compulsory bytes take at the data sheet's bandwidth. FLOPs set no floor: honest algebra
#: removes them.
SHARE = 0.9
_PROBES = 6  # elements of an input that must all matter before the input counts


@dataclass(frozen=True)
class Floor:
    """*ms*: no less can be true; *why* says so in words."""

    ms: float
    why: str


def physical_floor(reference: JudgedReference, facts: Mapping[str, Any], l2_bytes: int) -> Floor | None:
    """The floor of one call of *reference*, or None where inputs and outputs fit twice into L2, or nothing is known."""
    bandwidth = float(facts.get("bandwidth_gbs") or 0) * 1e9
    if not bandwidth:
        return None
    moved = compulsory(reference)
    if moved <= 2 * l2_bytes:
        return None
    ms = SHARE * moved / bandwidth * 1e3
    size = f"{moved / 1e9:.3g} GB" if moved >= 1e9 else f"{moved / 1e6:.3g} MB"
    why = f"{SHARE:g} of what moving {size} once takes at {bandwidth / 1e12:.3g} TB/s: it cannot have read its inputs"
    return Floor(ms, f"{why} and written its outputs")


def compulsory(reference: JudgedReference) -> int:
    """Bytes that every implementation must move: outputs, and each input of which any element changes an output.

    An input is only counted where all of a few elements tried matter, so that a table that is gathered from is not.
    """
    if reference.moved is None:
        case = reference.case(0)
        outputs = sum(e.spec.storage_bytes for e in case.expected if e.spec is not None)
        inputs = 0
        for number, master in enumerate(case.masters):
            if master.dtype.is_floating_point and master.numel() and _matters(reference, number):
                inputs += min(master.numel() * master.element_size(), master.untyped_storage().nbytes())
        reference.moved = outputs + inputs
    return reference.moved


def _matters(reference: JudgedReference, number: int) -> bool:
    """Whether NaN in an element of input *number* shows in the outputs, for each of a few elements spread over it."""
    count = reference.case(0).masters[number].numel()
    for probe in range(_PROBES):
        at = min(count - 1, int((probe + 0.37) * count / _PROBES))
        if not reference.shows(number, at):
            return False
    return True
