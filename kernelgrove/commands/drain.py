"""``drain``: the evaluations that wait in a grove, run on this machine."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options

if TYPE_CHECKING:
    from ..engine.drain import Drained
    from ..model import Device
    from ..storage import SqliteStore


def drain(
    search: Annotated[
        str | None, typer.Argument(metavar="S", help="A search: s1 or its name; all on this device when left out.")
    ] = None,
    device: options.Device = None,
    parallel: Annotated[int | None, typer.Option("--parallel", min=1, help="Candidates judged at once.")] = None,
    allow_unsafe: options.AllowUnsafe = False,
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Run the evaluations that are queued for this device, until none is left.

    For a machine with a GPU and no network, or beside a search that was started with --evaluator queue. Ctrl-C finishes
    what runs; the rest stays queued. `kernelgrove resume` then advances the search.
    """
    from ..engine import drain as engine
    from ..engine.interrupt import guard
    from ..storage import open_store
    from ..storage.documents import find_search, list_document
    from .cases import open_pool

    with options.output(json) as out, open_store(db) as store:
        numbers = [find_search(store, search)] if search else [int(row["search"][1:]) for row in list_document(store)]
        numbers = [number for number in numbers if engine.queued(store, number)]
        if not numbers:
            _end(out, json, [], {}, 0, stopped=False)
            return
        wanted = [store.search(number).spec.device for number in numbers]
        with closing(_pool(open_pool, device, wanted, parallel, allow_unsafe)) as pool:
            fitting = engine.fitting(store, numbers, pool)
            if not fitting:
                _refuse(store, numbers, pool.device())
            outcomes: dict[str, int] = {}

            def tell(drained: Drained) -> None:
                name = "lost" if drained.result is None else str(drained.result.outcome)
                outcomes[name] = outcomes.get(name, 0) + 1
                print(_line(drained), file=out.progress, flush=True)

            work = engine.Drain(store, pool, fitting, tell)
            with guard(work):
                done = work.run()
            left = sum(engine.queued(store, number) for number in fitting)
        _end(out, json, fitting, outcomes, done, stopped=work.stopped, left=left)
    if work.stopped:
        raise typer.Exit(130)


def _pool(open_pool: Any, device: str | None, wanted: list[Device], parallel: int | None, allow_unsafe: bool) -> Any:
    """The device that was named; else the GPU that is here, or the CPU where the searches are for it."""
    only_cpu = all(one.name == "cpu" for one in wanted)
    name = device or ("cpu" if only_cpu else "auto")
    targets = {one.gpu for one in wanted if (one.name == "cpu") == (name == "cpu")}
    target = targets.pop() if name == "cpu" and len(targets) == 1 else None
    return open_pool(name, target, parallel=parallel, allow_unsafe=allow_unsafe)


def _refuse(store: SqliteStore, numbers: list[int], here: Device) -> None:
    from ..errors import EnvironmentLacks

    wanted = {f"s{number} for {store.search(number).spec.device.gpu}" for number in numbers}
    where = {store.search(number).spec.device.name.partition(":")[0] for number in numbers}
    raise EnvironmentLacks(
        f"The evaluations that wait ({', '.join(sorted(wanted))}, on {' and '.join(sorted(where))}) cannot be run on "
        f"{here.key} for {here.gpu}.",
        "Drain on the device that the search was started for.",
    )


def _line(drained: Drained) -> str:
    from ..render import milliseconds, shorten, times

    name = f"i{drained.job.implementation}"
    found = drained.result
    if found is None:
        return f"  {name} not judged: {shorten(drained.error or '', 160)}"
    if found.time_ms is None:
        return f"  {name} {found.outcome}: {shorten(found.message, 160)}"
    over = f", {times(found.speedup.get('eager'))} over eager" if found.speedup.get("eager") else ""
    return f"  {name} ok: {milliseconds(found.time_ms)}{over} ({found.basis})"


def _end(
    out: options.Output,
    json: bool,
    searches: list[int],
    outcomes: dict[str, int],
    done: int,
    *,
    stopped: bool,
    left: int = 0,
) -> None:
    names = [f"s{number}" for number in searches]
    if json:
        document = {"searches": names, "evaluations": outcomes, "committed": done, "left": left, "stopped": stopped}
        out.emit(document)
        return
    if not searches:
        print("no evaluation is queued")
        return
    from ..render import counts, number_of

    print(f"{number_of(done, 'evaluation')} ({counts(outcomes)}) of {', '.join(names)}; {left} left")
    print(f"`kernelgrove resume {names[0]}` goes on with the search")
