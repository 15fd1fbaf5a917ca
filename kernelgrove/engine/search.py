"""Searches from the outside: create one, run it, go on with one. What the command line calls.

Everything a search needs is in its stored SearchSpec; what is given anew on ``resume`` is kept there too, in
``options``, so that the next resume goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from typing import Any

from .. import strategies
from ..config import SearchConfig
from ..errors import UsageError
from ..model import Problem, SearchStatus, StoppedBy
from ..ports import Evaluator, Proposer, SearchRecord, SearchSpec
from ..storage import SqliteStore
from . import replay
from .budget import Budget, Ledger
from .calls import Policy
from .choice import Panel
from .context import ROOT_IDEA
from .controller import Controller
from .events import Event
from .interrupt import guard
from .proposers import base as proposers_by_name

#: Wraps the run of a controller, to hand it the signals.
Guard = Callable[[Controller], AbstractContextManager[None]]
Listener = Callable[[Event], None]

#: Settings that a resumed search may be given anew: they change no figure's meaning.
RENEWABLE = frozenset(
    {
        *("model", "strategy", "options", "rounds", "width", "depth", "top_k", "prune"),
        *("budget_usd", "budget_tokens", "budget_evals", "budget_time", "patience"),
        *("temperature", "max_output_tokens", "effort", "model_policy", "parts", "prompt_tokens", "providers"),
        *("timeout", "parallel", "evaluator"),
    }
)

#: The model of a search whose proposer jobs wait for answers from outside (``kernelgrove tasks``).
QUEUE = "queue"


def proposers_of(models: Sequence[str], options: Mapping[str, Any]) -> Panel:
    """The proposers that *models* name, with their weights; none where the jobs wait for answers from outside.

    Raises UsageError for a model that is not there, one named twice, ``queue`` beside others, or a cap in dollars on a
    model whose price is not known; EnvironmentLacks for a key or a package that is missing.
    """
    wanted = [proposers_by_name.weighted(model) for model in models]
    names = [one.spec for one in wanted]
    if QUEUE in names:
        if len(names) > 1:
            raise UsageError(
                "--model queue leaves every answer to others, and cannot stand beside other models.",
                "Name queue alone, or leave it out.",
            )
        return Panel(())
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--model {twice} is named twice.", f"Give it a weight instead: {twice}=2.")
    made = tuple(proposers_by_name.make(name, options) for name in names)
    for proposer in made:
        if options.get("budget_usd") is not None and not getattr(proposer, "priced", True):
            raise UsageError(
                f"--budget-usd cannot hold for {proposer.name}: its price is not known.",
                "Add it to ~/.config/kernelgrove/prices.toml (docs/money.md), or use --budget-tokens.",
            )
    return Panel(made, tuple(one.weight for one in wanted), str(options.get("model_policy", "weights")))


def create(config: SearchConfig, problem: Problem, store: Ledger, evaluator: Evaluator) -> int:
    """Store a new search and return its id; nothing is written unless all of it holds. Its proposers are the
    caller's to make first, as ``start`` does.

    Raises UsageError for a strategy or option that is not there, ProblemError when the reference is at fault,
    EnvironmentLacks when the device is not there.
    """
    options = config.strategy_options
    strategies.make(config.strategy, options)
    device = evaluator.device()
    spec = SearchSpec(
        problem=problem,
        instance=evaluator.prepare(problem, config.size),
        device=device,
        strategy=config.strategy,
        strategy_options=options,
        models=config.model,
        seed=config.seed,
        name=config.name,
        precision=config.precision,
        tolerance=config.tolerance,
        protocol=int(getattr(evaluator, "protocol", 1)),
        options=config.search_options,
    )
    return store.create_search(spec, ROOT_IDEA)


def start(
    config: SearchConfig,
    problem: Problem,
    store: Ledger,
    evaluator: Evaluator,
    proposers: Panel | Sequence[Proposer] | None = None,
    events: Listener = lambda event: None,
    guarded: Guard = guard,
    *,
    patient: bool = False,
    policy: Policy = Policy(),  # noqa: B008 (frozen)
) -> int:
    """Create a search and run it to its end; returns its id (how it ended is in the store and the last event).

    *proposers* are those that ``config.model`` names unless given. *patient*: wait for answers from outside rather than
    stop when nothing else is left to do. Raises what ``create`` and ``Controller.run`` do.
    """
    strategies.make(config.strategy, config.strategy_options)
    if proposers is None:
        proposers = proposers_of(config.model, config.search_options)
    search = create(config, problem, store, evaluator)
    here = None if config.evaluator == "queue" else evaluator
    _run(store, store.search(search), here, proposers, events, guarded, patient, policy)
    return search


def resume(
    store: Ledger,
    search_id: int,
    open_evaluator: Callable[[SearchSpec], Evaluator],
    overrides: Mapping[str, Any] | None = None,
    proposers: Panel | Sequence[Proposer] | None = None,
    events: Listener = lambda event: None,
    guarded: Guard = guard,
    *,
    patient: bool = False,
    policy: Policy = Policy(),  # noqa: B008 (frozen)
) -> StoppedBy | None:
    """Go on with a search; returns what ended it. One that is finished is left as it is, unless a budget ended it
    and *overrides* raise that budget.

    *overrides* are settings by name (as in SearchConfig; None: not given), see ``RENEWABLE``. *open_evaluator* is
    called only if evaluations are to be run here, and what it gives is closed. *patient* as in ``start``. Raises
    UsageError for a setting that cannot change or an evaluator for another device, and what ``Controller.run`` raises.
    """
    record = store.search(search_id)
    options = renewed(record.spec, overrides or {})
    if not goes_on(record, options):
        return record.stopped_by
    _strategy_of(record.spec, options)
    if proposers is None:
        proposers = proposers_of(options.get("models") or record.spec.models, options)
    if options.get("evaluator") == "queue":
        store.set_options(search_id, options)
        return _run(store, store.search(search_id), None, proposers, events, guarded, patient, policy)
    with closing(open_evaluator(record.spec)) as evaluator:
        _same_device(record, evaluator)
        if options != dict(record.spec.options):
            store.set_options(search_id, options)
        return _run(store, store.search(search_id), evaluator, proposers, events, guarded, patient, policy)


def resume_from_replay(
    store: SqliteStore,
    search_id: int,
    evaluator: Evaluator,
    overrides: Mapping[str, Any] | None = None,
    proposers: Panel | Sequence[Proposer] | None = None,
    events: Listener = lambda event: None,
    guarded: Guard = guard,
    *,
    patient: bool = False,
    policy: Policy = Policy(),  # noqa: B008 (frozen)
) -> int:
    """Start a new search on *evaluator*'s device from what of *search_id* passed a replay there, and run it; its id.

    It has the settings of the one before, *overrides* over them. Raises UsageError where nothing has passed a replay
    here by these rules, ProblemError for a reference that is missing, and what ``Controller.run`` raises.
    """
    before = store.search(search_id).spec
    options = {**renewed(before, overrides or {}), "from_replay": f"s{search_id}"}
    request = replay.request_for(before, evaluator, {})
    protocol, device = int(getattr(evaluator, "protocol", 1)), evaluator.device()
    seeds = store.survivors(search_id, request, protocol, device)
    if not seeds:
        raise UsageError(
            f"Nothing of s{search_id} has passed a replay on {device.key} for {device.gpu}, by the search's own rules.",
            f"Run `kernelgrove replay s{search_id}` there first.",
        )
    spec = replace(
        before,
        instance=request.instance,
        device=device,
        protocol=protocol,
        models=tuple(options.get("models") or before.models),
        options=options,
    )
    _strategy_of(spec, options)
    search = store.create_from_survivors(spec, ROOT_IDEA, seeds)
    here = None if options.get("evaluator") == "queue" else evaluator
    _run(store, store.search(search), here, proposers, events, guarded, patient, policy)
    return search


def renewed(spec: SearchSpec, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The stored options with *overrides* over them, checked. Raises UsageError."""
    given = {name: value for name, value in overrides.items() if value is not None}
    config = SearchConfig.load(given, alone=True)
    fixed = sorted(set(given) - RENEWABLE)
    if fixed:
        raise UsageError(
            f"--{fixed[0].replace('_', '-')} of a search cannot change once it has started.",
            "Start a new one with `kernelgrove run`.",
        )
    options = dict(spec.options)
    names = {"timeout": "timeout_s"}
    fresh = config.search_options
    for name in given:
        key = names.get(name, name)
        if key in fresh:
            options[key] = fresh[key]
        elif key in ("evaluator", "model_policy"):  # the default, which is not stored
            options.pop(key, None)
    if "model" in given:
        options["models"] = list(config.model)
    if "strategy" in given:
        options["strategy"] = config.strategy
        options["strategy_options"] = config.strategy_options
    elif config.strategy_options:
        name, before = _strategy_as_stored(spec, spec.options)
        kept = strategies.canonical(name, before)
        options["strategy_options"] = {**kept, **strategies.canonical(name, config.strategy_options)}
    return options


def goes_on(record: SearchRecord, options: Mapping[str, Any]) -> bool:
    """Whether resuming *record* with these *options* has anything to do."""
    if record.status is not SearchStatus.FINISHED:
        return True
    if record.stopped_by is None:
        return True
    if record.stopped_by is StoppedBy.STRATEGY:
        return _strategy_as_stored(record.spec, options) != _strategy_as_stored(record.spec, record.spec.options)
    return Budget.of(options).raised_over(Budget.of(record.spec.options), record.stopped_by)


def _run(
    store: Ledger,
    record: SearchRecord,
    evaluator: Evaluator | None,
    proposers: Panel | Sequence[Proposer] | None,
    events: Listener,
    guarded: Guard,
    patient: bool,
    policy: Policy,
) -> StoppedBy:
    spec = record.spec
    if proposers is None:
        proposers = proposers_of(spec.options.get("models") or spec.models, spec.options)
    controller = Controller(
        store,
        record.id,
        _strategy_of(spec, spec.options),
        proposers,
        evaluator,
        Budget.of(spec.options),
        events,
        patient=patient,
        policy=policy,
        parallel=int(spec.options.get("parallel", 4)),
    )
    with guarded(controller):
        return controller.run()


def _strategy_as_stored(spec: SearchSpec, options: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Name and options: those given anew, else those of the start."""
    name = options.get("strategy", spec.strategy)
    fallback = spec.strategy_options if name == spec.strategy else {}
    return name, dict(options.get("strategy_options", fallback))


def _strategy_of(spec: SearchSpec, options: Mapping[str, Any]) -> Any:
    return strategies.make(*_strategy_as_stored(spec, options))


def _same_device(record: SearchRecord, evaluator: Evaluator) -> None:
    protocol = int(getattr(evaluator, "protocol", record.spec.protocol))
    if protocol != record.spec.protocol:
        raise UsageError(
            f"Search s{record.id} measures by protocol {record.spec.protocol}, and this program by {protocol}:",
            "figures of the two are not compared. Replay it here, then `kernelgrove resume --from-replay`.",
        )
    here, there = evaluator.device(), record.spec.device
    if not there.software and (here.gpu, here.basis) == (there.gpu, there.basis):
        return  # it was started where the device is not: any card of that kind is meant
    if (here.key, here.gpu, here.basis) != (there.key, there.gpu, there.basis):
        raise UsageError(
            f"Search s{record.id} ran on {there.key} for {there.gpu}, and this is {here.key} for {here.gpu}:",
            "a search stays on its device; start a new one here.",
        )
