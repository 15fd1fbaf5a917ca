"""``run`` and ``resume``: a search from a problem to its best kernel."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from ..model import Device, EvaluationRequest, EvaluationResult, Instance, Problem
from . import options, pages, parse

if TYPE_CHECKING:
    from ..ports import Evaluator, SearchSpec
    from ..storage import SqliteStore

_Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="PROVIDER:MODEL[=WEIGHT]",
        help="Who proposes; repeatable, in shares by weight.  [default: rules]",
    ),
]
_Strategy = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        metavar="NAME",
        help="branch, evolve, mcts, refine, tree_of_thought, zero_shot, or module:Class of your own."
        "  [default: tree_of_thought]",
    ),
]
_Rounds = Annotated[int | None, typer.Option("--rounds", help="Rounds, the baseline's included.")]
_Width = Annotated[str | None, typer.Option("--width", metavar="3,4,4,5", help="Ideas a round.")]
_Depth = Annotated[str | None, typer.Option("--depth", metavar="2,3,3,3", help="Implementations an idea, by round.")]
_TopK = Annotated[int | None, typer.Option("--top-k", help="How many of the best ideas build on.")]
_More = Annotated[
    list[str] | None, typer.Option("-o", "--option", metavar="KEY=VALUE", help="An option of the strategy; repeatable.")
]
_NoPrune = Annotated[bool, typer.Option("--no-prune", help="Give no idea up, however it does: -o prune=false.")]
_Usd = Annotated[float | None, typer.Option("--budget-usd", help="Stop when proposers have cost this much.")]
_Tokens = Annotated[int | None, typer.Option("--budget-tokens", help="Stop after this many tokens.")]
_Evals = Annotated[int | None, typer.Option("--budget-evals", help="Stop after this many evaluations.")]
_Time = Annotated[str | None, typer.Option("--budget-time", metavar="TIME", help="Stop after 90s, 15m, 2h, 1d.")]
_Patience = Annotated[int | None, typer.Option("--patience", help="Stop after so many evaluations with no new best.")]
_Temperature = Annotated[float | None, typer.Option("--temperature", help="Of a language model.")]
_MaxTokens = Annotated[int | None, typer.Option("--max-output-tokens", help="Of one answer of a language model.")]
_Effort = Annotated[
    str | None,
    typer.Option(
        "--effort", metavar="EFFORT", help="How much it reasons: none, minimal, low, medium, high, xhigh or max."
    ),
]
_Policy = Annotated[
    str | None,
    typer.Option(
        "--model-policy",
        metavar="weights|bandit",
        help="How one of several models is chosen: by weight, or by improvement per dollar.  [default: weights]",
    ),
]
_EvaluatorOption = Annotated[
    str | None,
    typer.Option(
        "--evaluator", metavar="here|queue", help="queue: leave evaluations to `kernelgrove drain`.  [default: here]"
    ),
]
_UntilIdle = Annotated[
    bool,
    typer.Option("--until-idle", help="Stop, paused, when all that is left waits for others: tasks, or drain."),
]
_Parallel = Annotated[int | None, typer.Option("--parallel", help="Proposer calls, and candidates judged, at once.")]


def run(
    problem: Annotated[str, typer.Argument(metavar="PROBLEM", help="A library problem's name or a problem file.")],
    model: _Models = None,
    strategy: _Strategy = None,
    rounds: _Rounds = None,
    width: _Width = None,
    depth: _Depth = None,
    top_k: _TopK = None,
    option: _More = None,
    no_prune: _NoPrune = False,
    device: options.Device = None,
    target: options.Target = None,
    size: options.Size = None,
    backend: options.BackendOption = None,
    precision: options.PrecisionOption = None,
    tolerance: options.Tolerance = None,
    require: options.Require = None,
    baselines: options.Baselines = None,
    budget_usd: _Usd = None,
    budget_tokens: _Tokens = None,
    budget_evals: _Evals = None,
    budget_time: _Time = None,
    patience: _Patience = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the search: same seed, same tree.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="A name to find the search by.")] = None,
    temperature: _Temperature = None,
    max_output_tokens: _MaxTokens = None,
    effort: _Effort = None,
    model_policy: _Policy = None,
    part: options.Parts = None,
    prompt_tokens: options.PromptTokens = None,
    evaluator: _EvaluatorOption = None,
    until_idle: _UntilIdle = False,
    timeout: options.Timeout = None,
    parallel: _Parallel = None,
    trials: options.Trials = None,
    samples: options.Samples = None,
    config: options.Config = None,
    allow_unsafe: options.AllowUnsafe = False,
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Search for a faster kernel for PROBLEM.

    Grows a tree of ideas, judges every implementation, stores all of it, and ends with the best kernel: measured on
    a GPU, projected on cpu. Ctrl-C once finishes what runs and saves (exit code 130); twice stops now. A search goes
    on with `kernelgrove resume`. Exit code 1 when it is finished and nothing has passed.
    """
    flags = {
        **_strategy_flags(model, strategy, rounds, width, depth, top_k, option, no_prune),
        **_budget_flags(budget_usd, budget_tokens, budget_evals, budget_time, patience),
        **_model_flags(temperature, max_output_tokens, effort, model_policy, part, prompt_tokens, evaluator),
        "device": device,
        "target": target,
        "size": size,
        "backend": backend and backend.value,
        "precision": precision and precision.value,
        "tolerance": tolerance,
        "require": require,
        "baselines": baselines,
        "seed": seed,
        "name": name,
        "timeout": timeout,
        "parallel": parallel,
        "trials": trials,
        "samples": samples,
    }
    from .. import strategies
    from ..config import SearchConfig
    from ..engine import search as engine
    from ..live import watch
    from ..problems.problem import load
    from ..storage import open_store
    from .cases import open_pool

    settings = SearchConfig.load(flags, config)
    strategies.make(settings.strategy, settings.strategy_options)
    engine.proposers_of(settings.model, settings.search_options)
    reference = load(problem)
    _check_database(db)
    away = settings.evaluator == "queue"
    with (
        options.output(json) as out,
        closing(
            _elsewhere(settings.device, settings.target, allow_unsafe)
            if away
            else open_pool(settings.device, settings.target, parallel=parallel, allow_unsafe=allow_unsafe)
        ) as pool,
    ):
        where = pool.device()
        instance = pool.prepare(reference, settings.size)
        title = f"{reference.name} on {where.name} for {where.gpu} ({where.basis})"
        if not json:
            print(title, file=out.progress, flush=True)
        with open_store(db, create=True) as store:
            ready = _Prepared(pool, instance, pool.parallel, int(getattr(pool, "protocol", 1)))
            with watch(out.progress, title) as view:
                found = engine.start(settings, reference, store, ready, events=view, patient=not until_idle)
            code = _conclude(out, store, found, db, json)
    if code:
        raise typer.Exit(code)


def resume(
    search: Annotated[
        str | None, typer.Argument(metavar="S", help="A search: s1 or its name; the latest when left out.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="PROVIDER:MODEL", help="Who proposes from here; repeatable.")
    ] = None,
    strategy: Annotated[str | None, typer.Option("--strategy", metavar="NAME", help="Another one from here.")] = None,
    rounds: _Rounds = None,
    width: _Width = None,
    depth: _Depth = None,
    top_k: _TopK = None,
    option: _More = None,
    no_prune: _NoPrune = False,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="auto|cuda:N|cpu", help="Must be the one it was started on, but with --from-replay."
        ),
    ] = None,
    from_replay: Annotated[
        bool,
        typer.Option("--from-replay", help="Start a new search on this device from what passed `replay` there."),
    ] = False,
    target: Annotated[
        str | None, typer.Option("--target", metavar="GPU", help="With --from-replay on cpu.  [default: the search's]")
    ] = None,
    budget_usd: _Usd = None,
    budget_tokens: _Tokens = None,
    budget_evals: _Evals = None,
    budget_time: _Time = None,
    patience: _Patience = None,
    temperature: _Temperature = None,
    max_output_tokens: _MaxTokens = None,
    effort: _Effort = None,
    model_policy: _Policy = None,
    part: options.Parts = None,
    prompt_tokens: options.PromptTokens = None,
    evaluator: _EvaluatorOption = None,
    until_idle: _UntilIdle = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="For each stage of a candidate from here.")
    ] = None,
    parallel: _Parallel = None,
    allow_unsafe: options.AllowUnsafe = False,
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Go on with a search, with its own options unless given anew.

    A search that a budget ended goes on when that budget is raised; one that is finished prints its document. A search
    stays on its device; --from-replay begins a new one here with the programs of S that passed a replay here.
    """
    if target is not None and not from_replay:
        raise UsageError("--target of a search cannot change once it has started.", "Add --from-replay.")
    overrides = {
        **_strategy_flags(model, strategy, rounds, width, depth, top_k, option, no_prune),
        **_budget_flags(budget_usd, budget_tokens, budget_evals, budget_time, patience),
        **_model_flags(temperature, max_output_tokens, effort, model_policy, part, prompt_tokens, evaluator),
        "timeout": timeout,
        "parallel": parallel,
    }
    from ..engine import search as engine
    from ..live import watch
    from ..storage import open_store
    from ..storage.documents import find_search
    from .cases import open_pool
    from .places import target_for

    def evaluator_for(spec: SearchSpec) -> Evaluator:
        here = spec.device.name if device in (None, "auto") else str(device)
        return open_pool(here, spec.device.gpu, parallel=parallel, allow_unsafe=allow_unsafe)

    with options.output(json) as out, open_store(db) as store:
        number = find_search(store, search)
        spec = store.search(number).spec
        if from_replay:
            place = device or "auto"
            there = target_for(spec, place, target)
            with closing(open_pool(place, there, parallel=parallel, allow_unsafe=allow_unsafe)) as pool:
                where = pool.device()
                title = f"{spec.problem.name} on {where.name} for {where.gpu} ({where.basis}), from s{number}'s replay"
                with watch(out.progress, title) as view:
                    number = engine.resume_from_replay(
                        store, number, pool, overrides, events=view, patient=not until_idle
                    )
            code = _conclude(out, store, number, db, json)
            if code:
                raise typer.Exit(code)
            return
        title = f"{spec.problem.name} on {spec.device.name} for {spec.device.gpu} ({spec.device.basis})"
        with watch(out.progress, title) as view:
            engine.resume(store, number, evaluator_for, overrides, events=view, patient=not until_idle)
        code = _conclude(out, store, number, db, json)
    if code:
        raise typer.Exit(code)


def _strategy_flags(
    model: list[str] | None,
    strategy: str | None,
    rounds: int | None,
    width: str | None,
    depth: str | None,
    top_k: int | None,
    option: list[str] | None,
    no_prune: bool,
) -> dict[str, Any]:
    more = parse.assignments(option)
    return {
        "model": tuple(model) if model else None,
        "strategy": strategy,
        "rounds": rounds,
        "width": width,
        "depth": depth,
        "top_k": top_k,
        "prune": False if no_prune else None,
        "options": more or None,
    }


def _model_flags(
    temperature: float | None,
    max_output_tokens: int | None,
    effort: str | None,
    model_policy: str | None,
    part: list[str] | None,
    prompt_tokens: int | None,
    evaluator: str | None,
) -> dict[str, Any]:
    return {
        "temperature": temperature,
        "max_output_tokens": max_output_tokens,
        "effort": effort,
        "model_policy": model_policy,
        "parts": parse.assignments(part, "--part") or None,
        "prompt_tokens": prompt_tokens,
        "evaluator": evaluator,
    }


def _elsewhere(device: str, target: str | None, allow_unsafe: bool) -> Evaluator:
    """An evaluator that is not here: this machine's CPU tries the problem."""
    from ..engine.elsewhere import Elsewhere
    from .cases import check_device, open_pool

    name = check_device(device)
    return Elsewhere(name, target, open_pool("cpu", target, parallel=1, allow_unsafe=allow_unsafe))


def _budget_flags(
    usd: float | None, tokens: int | None, evals: int | None, time: str | None, patience: int | None
) -> dict[str, Any]:
    return {
        "budget_usd": usd,
        "budget_tokens": tokens,
        "budget_evals": evals,
        "budget_time": time,
        "patience": patience,
    }


@dataclass
class _Prepared:
    """An evaluator whose instance is known: a problem is tried before the database is made, and tried once."""

    evaluator: Evaluator
    instance: Instance
    parallel: int
    protocol: int

    def device(self) -> Device:
        return self.evaluator.device()

    def prepare(self, problem: Problem, size: str | None = None) -> Instance:
        return self.instance

    def evaluate(self, request: EvaluationRequest) -> EvaluationResult:
        return self.evaluator.evaluate(request)

    def close(self) -> None:
        self.evaluator.close()


def _check_database(url: str) -> None:
    """Refuse a database that cannot be used before anything slow; make none. Raises StoreError."""
    from ..errors import NotFound
    from ..storage import open_store

    try:
        open_store(url).close()
    except NotFound:
        pass  # made when there is something to store


#: Nodes of a tree that is drawn whole at the end of a search; a larger one is folded, as `tree --depth 2` does.
_MOST_DRAWN = 200


def _conclude(out: options.Output, store: SqliteStore, search: int, db: str, json: bool) -> int:
    """Print how a search ended; the exit code."""
    from ..storage.documents import best, search_document, tree_document

    document = search_document(store, search)
    if json:
        out.emit(document)
    else:
        problem = store.search(search).spec.problem
        again = problem.path or problem.name
        folded = None if document["nodes"] <= _MOST_DRAWN else 2
        pages.conclusion(document, tree_document(store, search, depth=folded), best(store, search), again, db)
    if document["stopped_by"] == "user":
        return 130
    return 1 if document["status"] == "finished" and document["best"] is None else 0
