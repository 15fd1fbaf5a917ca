"""From a search and a program to what an evaluator is asked."""

from __future__ import annotations

from ..model import REQUEST_OPTIONS, EvaluationRequest
from ..ports import SearchSpec


def evaluation_request(spec: SearchSpec, code: str, best_ms: float | None = None) -> EvaluationRequest:
    """*code* under the rules of *spec*. *best_ms*: the time to beat."""
    options = spec.options
    settings = {key: options[key] for key in REQUEST_OPTIONS if key in options}
    return EvaluationRequest(
        spec.instance, code, precision=spec.precision, tolerance=spec.tolerance, best_ms=best_ms, **settings
    )
