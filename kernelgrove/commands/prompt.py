"""``prompt``: what would be sent to a model, exactly, and how long it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from . import options, parse

if TYPE_CHECKING:
    from ..model import Problem
    from ..ports import Attempt, ProposalRequest

#: Kinds of prompt, as the templates are called.
PURPOSES = ("zero-shot", "ideate", "implement", "repair", "refine", "rate")

#: Said where a search would say what a judge did.
_NO_MESSAGE = "(the message of the judge stands here: give one with --message FILE)"


def prompt(
    problem: Annotated[str, typer.Argument(metavar="PROBLEM", help="A library problem's name or a problem file.")],
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="zero-shot, ideate, implement, repair, refine or rate.")
    ] = "implement",
    target: Annotated[str, typer.Option("--target", metavar="GPU", help="GPU to write for.")] = "H100",
    backend: options.BackendOption = None,
    precision: options.PrecisionOption = None,
    require: options.Require = None,
    size: options.Size = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many ideas to ask for, or to have rated.")] = 3,
    idea: Annotated[str | None, typer.Option("--idea", metavar="TEXT", help="The idea to carry out.")] = None,
    base: Annotated[str | None, typer.Option("--base", metavar="FILE", help="The program to build on.")] = None,
    failed: Annotated[str | None, typer.Option("--failed", metavar="FILE", help="The program to repair.")] = None,
    outcome: Annotated[
        str, typer.Option("--outcome", metavar="OUTCOME", help="How it failed: compile_error, wrong_result, …")
    ] = "compile_error",
    message: Annotated[
        str | None, typer.Option("--message", metavar="FILE", help="The message it failed with.")
    ] = None,
    part: options.Parts = None,
    prompt_tokens: options.PromptTokens = None,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Print exactly what would be sent for PROBLEM, and how many tokens it is (estimated).

    What is not given is filled in with what the built-in rules would propose: a program to build on, an idea. `tasks
    show` and `tasks next` print the prompts of a search.
    """
    from ..config import SearchConfig
    from ..engine import prompts
    from ..problems.problem import load

    flags: dict[str, Any] = {
        "backend": backend and backend.value,
        "precision": precision and precision.value,
        "require": require,
        "parts": parse.assignments(part, "--part") or None,
        "prompt_tokens": prompt_tokens,
    }
    settings = SearchConfig.load(flags, config)
    wanted = kind.strip().casefold().replace("_", "-")
    if wanted not in PURPOSES:
        raise UsageError(f"There is no kind of prompt {kind!r}.", f"There is {', '.join(PURPOSES)}.")
    with options.output(json) as out:
        filled = _Filled(load(problem), target, settings, size)
        request = filled.request(wanted, count, idea, base, failed, outcome, message)
        made = prompts.build(request)
        if json:
            document = {
                "purpose": made.purpose,
                "target": request.target,
                "backend": request.backend,
                "system": made.system,
                "shared": made.shared,
                "specific": made.specific,
                "tokens": made.tokens,
                "dropped": list(made.dropped),
            }
            out.emit(document)
            return
        print(made.text)
        print(f"\n--- {made.purpose} for {request.target}: about {made.tokens} tokens", end="")
        print(f"; left out: {'; '.join(made.dropped)}" if made.dropped else "")


class _Filled:
    """A request for a problem that is in no search, filled in by the rules where the user gave nothing."""

    def __init__(self, problem: Problem, target: str, settings: Any, size: str | None) -> None:
        from ..engine.gpus import specs
        from ..model import Instance
        from ..problems.sizes import size_name, sized_source

        full, source = size_name(problem, size), sized_source(problem, size)
        small = "small" if "small" in problem.sizes else full
        checked = sized_source(problem, small) if small == "small" else source
        self.problem = problem
        self.instance = Instance(problem.name, problem.digest, full, source, small, checked, problem.mode)
        self.target = specs.find(target).name
        self.backend = settings.backend
        self.options = {
            **{k: v for k, v in settings.search_options.items() if k in ("parts", "prompt_tokens", "require") and v},
            "precision": settings.precision,
        }

    def request(
        self,
        kind: str,
        count: int,
        idea: str | None,
        base: str | None,
        failed: str | None,
        outcome: str,
        message: str | None,
    ) -> ProposalRequest:
        from ..model import Idea, JobKind, Outcome

        if outcome not in set(Outcome) or outcome == "ok":
            raise UsageError(f"--outcome {outcome} is no failure.", f"It is one of {', '.join(Outcome)}, but not ok.")
        kinds = {"ideate": JobKind.IDEATE, "rate": JobKind.RATE, "repair": JobKind.REPAIR, "refine": JobKind.REPAIR}
        request = self._request(kinds.get(kind, JobKind.IMPLEMENT), count=count)
        if kind == "zero-shot":
            return request
        on = self._attempt(parse.read_text(base, "program") if base else self._program(), "ok")
        said = parse.read_text(message, "message") if message else _NO_MESSAGE
        words = Idea(idea) if idea else None
        if kind == "ideate":
            return self._request(JobKind.IDEATE, count=count, base=on)
        if kind == "rate":
            return self._request(JobKind.RATE, base=on, tried=tuple(self._bare(i) for i in self._ideas(count)))
        if kind == "refine":
            return self._request(JobKind.REPAIR, failed=on)
        words = words or next(iter(self._ideas(1)), Idea("(the idea stands here: give one with --idea TEXT)"))
        if kind == "implement":
            return self._request(JobKind.IMPLEMENT, idea=words, base=on)
        code = parse.read_text(failed, "program") if failed else on.code
        return self._request(JobKind.REPAIR, idea=words, failed=self._attempt(code or "", outcome, said))

    def _request(self, kind: Any, **more: Any) -> ProposalRequest:
        from ..ports import ProposalRequest

        return ProposalRequest(
            kind, "prompt", self.problem, self.instance, self.target, self.backend, 0, options=self.options, **more
        )

    def _attempt(self, code: str, outcome: str, message: str = "") -> Attempt:
        from ..engine.context import ROOT_IDEA
        from ..ports import Attempt

        return Attempt(ROOT_IDEA, code, outcome, message, None, None, None)

    def _bare(self, idea: Any) -> Attempt:
        from ..ports import Attempt

        return Attempt(idea, None, None, "", None, None, None)

    def _program(self) -> str:
        from ..model import JobKind

        found = self._rules().propose(self._rules_request(JobKind.IMPLEMENT)).code
        return found or "# (the program to build on stands here: give one with --base FILE)"

    def _ideas(self, count: int) -> Any:
        from ..model import Idea, JobKind

        found = self._rules().propose(self._rules_request(JobKind.IDEATE, count=count)).ideas
        return found or tuple(Idea(f"(idea {number} stands here)") for number in range(1, count + 1))

    def _rules_request(self, kind: Any, **more: Any) -> ProposalRequest:
        from dataclasses import replace

        return replace(self._request(kind, **more), backend="triton")

    def _rules(self) -> Any:
        from ..engine.proposers.base import make

        return make("rules")
