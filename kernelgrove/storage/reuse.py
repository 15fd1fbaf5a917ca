"""Whether a stored evaluation may stand for one that is asked for now.

An index finds those of the same program, problem, size, device, precision, tolerance and protocol version. The rest of
what was asked (``ASKED``) is in the options of the search that judged, or, of a replay, which may change it, in the
evaluation's own detail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model import EvaluationRequest, Outcome

ASKED = ("backend", "trials", "samples", "require", "baselines")

#: Under this name a replay's evaluation has what was asked of it.
UNDER = "asked"


def asked(request: EvaluationRequest) -> dict[str, Any]:
    """What of *request* the columns of an evaluation do not say, as JSON."""
    found = {name: getattr(request, name) for name in ASKED}
    return {**found, "baselines": list(request.baselines)}


def serves(wanted: Mapping[str, Any], made: Mapping[str, Any], outcome: str, provenance: str | None) -> bool:
    """Whether an evaluation asked for by *made* is as good as one asked for by *wanted* (options by the names of
    ``ASKED``; what is left out is the default).

    A failure would come again however often one looks, but not where the program is built another way. What passed
    must have been looked at as often, next to the same baselines, and have the provenance that is demanded.
    """
    if _of(wanted, "backend") != _of(made, "backend"):
        return False
    if outcome != Outcome.OK:
        return True
    demanded = _of(wanted, "require")
    return (
        demanded in (None, provenance)
        and _of(made, "trials") >= _of(wanted, "trials")
        and _of(made, "samples") >= _of(wanted, "samples")
        and set(_of(wanted, "baselines")) <= set(_of(made, "baselines"))
    )


def _of(options: Mapping[str, Any], name: str) -> Any:
    """The option, or the default of an ``EvaluationRequest``."""
    return options.get(name, getattr(EvaluationRequest, name))
