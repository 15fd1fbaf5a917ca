"""Requests to the rules, and a small search with them: what strategy ``branch`` would ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kernelgrove.engine.proposers.rules.proposer import RulesProposer
from kernelgrove.model import Idea, Instance, JobKind, Problem
from kernelgrove.ports import Attempt, Proposal, ProposalRequest
from kernelgrove.problems.problem import load, sized_source

RULES = RulesProposer()


def of_library(name: str) -> tuple[Problem, Instance]:
    """A library problem, timed at full size and checked at the small one."""
    problem = load(name)
    full, small = sized_source(problem, "full"), sized_source(problem, "small")
    return problem, Instance(problem.name, problem.digest, "full", full, "small", small, problem.mode)


def of_text(name: str, source: str, mode: str = "train") -> tuple[Problem, Instance]:
    """A file of one size."""
    problem = Problem(name, source, mode=mode)
    return problem, Instance(name, problem.digest, "full", source, "full", source, mode)


def attempt(idea: Idea, code: str | None = None, outcome: str = "ok", message: str = "") -> Attempt:
    return Attempt(idea, code, outcome, message, 1.0, 1.0, "measured")


@dataclass
class Asker:
    """Asks the rules about one problem."""

    pair: tuple[Problem, Instance]
    target: str = "H100"
    tried: list[Attempt] = field(default_factory=list)

    def request(self, kind: JobKind, **details: Any) -> ProposalRequest:
        problem, instance = self.pair
        common: dict[str, Any] = {"key": "k", "target": self.target, "backend": "triton", "seed": 0}
        return ProposalRequest(kind=kind, problem=problem, instance=instance, **{**common, **details})

    def ask(self, kind: JobKind, **details: Any) -> Proposal:
        return RULES.propose(self.request(kind, **details))

    def code(self, **details: Any) -> str:
        answer = self.ask(JobKind.IMPLEMENT, **details)
        assert answer.code is not None, answer.note
        return answer.code

    def ideas(self, count: int, base: str | None = None) -> tuple[Idea, ...]:
        given = None if base is None else attempt(Idea("the base"), base)
        return self.ask(JobKind.IDEATE, count=count, base=given, tried=tuple(self.tried)).ideas


def body(code: str) -> str:
    """A program without its header line."""
    return code.split("\n", 1)[1]


def search(asker: Asker, widths: tuple[int, ...] = (3, 4, 4, 5), depths: tuple[int, ...] = (2, 3, 3, 3)) -> list[str]:
    """The programs of a branch search in which everything works and the bank takes one program an idea."""
    programs = [asker.code()]
    bank = list(programs)
    for width, depth in zip(widths, depths, strict=True):
        new = []
        for turn in range(width):
            base = bank[turn % len(bank)]
            for idea in asker.ideas(1, base):
                asker.tried.append(attempt(idea))
                given = attempt(Idea("the base"), base)
                made = [asker.code(idea=idea, base=given, variant=variant) for variant in range(depth)]
                programs += made
                new.append(made[0])
        bank = (new + bank)[:5]
    return programs
