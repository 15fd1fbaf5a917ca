"""The built-in proposer: reads the reference, writes ideas in words and Triton for them. No key, no network."""

from __future__ import annotations

import re
import threading
from collections import Counter
from typing import TYPE_CHECKING

from kernelgrove.errors import KernelGroveError, ProposerError
from kernelgrove.model import JobKind
from kernelgrove.ports import Attempt, Proposal, ProposalRequest

from .plan import HEADER, Plan, parse

if TYPE_CHECKING:
    from .facts import Facts
    from .moves import Move

NEEDS_A_MODEL = "a model would be needed: --model openai:…, google:…, anthropic:…"


class RulesProposer:
    """Pointwise chains, row reductions and norms, softmax, scans and what follows a library call, as Triton.

    Thread-safe; the same request gets the same answer. A request about a module in which nothing is recognised gets
    a note that says so. Raises ProposerError where a rating is asked for, or where the rules themselves fail.
    """

    name = "rules"

    #: The work holds the GIL anyway, and CPython 3.11 fails at times where two threads build syntax trees at once.
    _lock = threading.Lock()

    def propose(self, request: ProposalRequest) -> Proposal:
        if request.backend != "triton":
            return Proposal(note=f"rules writes Triton, not {request.backend}; {NEEDS_A_MODEL}")
        if request.kind is JobKind.RATE:
            raise ProposerError("The proposer rules does not rate ideas:", "the search goes on without ratings.")
        try:
            with self._lock:
                return self._answer(request)
        except KernelGroveError:
            raise
        except Exception as error:  # a reference may hold anything: the search goes on without this answer
            cause = f"The proposer rules failed on {request.problem.name}: {type(error).__name__}: {error}."
            raise ProposerError(cause, "Please report it with the problem file.") from error

    def _answer(self, request: ProposalRequest) -> Proposal:
        from .analysis import analyse  # imports torch
        from .facts import facts

        analysis = analyse(request.instance)
        if analysis.problem:
            return Proposal(note=f"rules recognises nothing here to fuse ({analysis.problem}); {NEEDS_A_MODEL}")
        known = facts(analysis, request.target)
        writer = _Writer(known)
        if request.kind is JobKind.IDEATE:
            return _ideate(request, known, writer)
        if request.kind is JobKind.REPAIR:
            return _repair(request, writer)
        return _implement(request, known, writer)


class _Writer:
    """Programs of one problem by plan."""

    def __init__(self, known: Facts) -> None:
        self._facts = known
        self._programs: dict[Plan, str] = {}

    def program(self, plan: Plan) -> str:
        from .emit.module import program

        if plan not in self._programs:
            recognised = self._facts.analysis.recognised(plan.fold_bias)
            assert recognised is not None
            self._programs[plan] = program(recognised, self._facts.analysis.source, plan, self._facts.gpu.sms)
        return self._programs[plan]

    def body(self, plan: Plan) -> str:
        return _body(self.program(plan))


def _body(code: str) -> str:
    """A program without its header."""
    return "\n".join(line for line in code.splitlines() if not line.startswith(HEADER))


def _plan_of(attempt: Attempt | None) -> Plan:
    """The plan of an attempt's program; the direct translation's where it is somebody else's."""
    return (parse(attempt.code) if attempt is not None else None) or Plan()


def _ideate(request: ProposalRequest, known: Facts, writer: _Writer) -> Proposal:
    from .ideas import catalogue

    base = _plan_of(request.base)
    known_bodies = {writer.body(base), writer.body(Plan())}
    moves = _freshest(catalogue(known, base), [attempt.idea.text for attempt in request.tried])
    ideas = [move.idea for move in moves if any(writer.body(plan) not in known_bodies for plan in move.plans)]
    ideas = ideas[: request.count]
    left = f"{len(ideas) or 'no'} more idea{'s' if len(ideas) != 1 else ''} for this program"
    note = "" if len(ideas) == request.count else left
    return Proposal(ideas=tuple(ideas), note=note)


def _freshest(moves: list[Move], tried: list[str]) -> list[Move]:
    """Moves whose words were not tried, those of kinds tried least first: numbers aside, a kind is a sentence."""
    times = Counter(_kind(text) for text in tried)
    fresh = {move.idea.text: move for move in moves if move.idea.text not in set(tried)}
    return sorted(fresh.values(), key=lambda move: times[_kind(move.idea.text)])


def _kind(text: str) -> str:
    return re.sub(r"\d+", "#", text)


def _implement(request: ProposalRequest, known: Facts, writer: _Writer) -> Proposal:
    from .choose import matching, variant
    from .ideas import catalogue

    if request.idea is None:
        return Proposal(code=writer.program(variant((Plan(),), request.variant, writer.body, set())))
    base = _plan_of(request.base)
    move = matching(catalogue(known, base), request.idea.text)
    if move is None:
        return Proposal(note=f"no program for an idea that is not its own: {request.idea.text}")
    besides = {writer.body(base), writer.body(Plan())}
    return Proposal(code=writer.program(variant(move.plans, request.variant, writer.body, besides)))


def _repair(request: ProposalRequest, writer: _Writer) -> Proposal:
    from .choose import safer

    failed = request.failed
    if failed is None or failed.code is None:
        return Proposal(code=writer.program(Plan()))
    plan = parse(failed.code)
    if plan is None:  # not of the rules: the direct translation is the safest there is
        code = writer.program(Plan())
        return Proposal(code=code) if _body(code) != _body(failed.code) else Proposal(note=_EXHAUSTED)
    less = safer(plan, failed.outcome or "", writer.body, _body(failed.code))
    return Proposal(code=writer.program(less)) if less is not None else Proposal(note=_EXHAUSTED)


_EXHAUSTED = "nothing simpler than the program that failed"
