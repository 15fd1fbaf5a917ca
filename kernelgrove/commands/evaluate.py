"""``kernelgrove eval``: judge candidate files with no search."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Annotated, Any

import typer

from ..errors import KernelGroveError, UsageError
from ..model import Device, EvaluationResult
from . import options, parse


def evaluate(
    problem: Annotated[
        str | None, typer.Argument(metavar="PROBLEM", help="A library problem's name or a problem file.")
    ] = None,
    files: Annotated[list[str] | None, typer.Argument(metavar="FILE...", help="Candidates: ModelNew.")] = None,
    manifest: Annotated[
        str | None,
        typer.Option("--manifest", metavar="F.jsonl", help='Judge the {"problem": …, "candidate": …} of each line.'),
    ] = None,
    trials: options.Trials = None,
    samples: options.Samples = None,
    backend: options.BackendOption = None,
    precision: options.PrecisionOption = None,
    tolerance: options.Tolerance = None,
    require: options.Require = None,
    baselines: options.Baselines = None,
    timing: Annotated[bool, typer.Option("--timing/--no-timing", help="Time (or project) what is right.")] = True,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show kernels, counts and spread.")] = False,
    device: options.Device = None,
    target: options.Target = None,
    size: options.Size = None,
    timeout: options.Timeout = None,
    parallel: Annotated[int | None, typer.Option("--parallel", help="Candidates judged at once.")] = None,
    config: options.Config = None,
    allow_unsafe: options.AllowUnsafe = False,
    json: options.Json = False,
) -> None:
    """Judge candidate files and print BENCHMARK RESULTS.

    Results come in the order given, though several candidates are judged at once. Exit code 1 when any candidate is
    not ok. With --manifest and --json, one object a line, as they come.
    """
    from ..config import SearchConfig
    from ..model import EvaluationRequest, Instance
    from .cases import judge, open_pool

    given = {
        "trials": trials,
        "samples": samples,
        "backend": backend and backend.value,
        "precision": precision and precision.value,
        "tolerance": tolerance,
        "require": require,
        "baselines": baselines,
        "device": device,
        "target": target,
        "size": size,
        "timeout": timeout,
        "parallel": parallel,
    }
    chosen = SearchConfig.load(given, config)
    cases = _cases(problem, files, manifest, chosen.size)
    settings = EvaluationRequest(
        instance=Instance("", "", "", "", "", ""),  # each case brings its own
        code="",
        backend=chosen.backend,
        precision=chosen.precision,
        trials=chosen.trials,
        samples=chosen.samples,
        timeout_s=chosen.timeout,
        timing=timing,
        tolerance=chosen.tolerance,
        require=chosen.require,
        baselines=chosen.baselines,
    )
    documents: list[dict[str, Any]] = []
    code = 0
    streamed = json and manifest is not None
    with (
        options.output(json) as out,
        closing(open_pool(chosen.device, chosen.target, parallel=parallel, allow_unsafe=allow_unsafe)) as evaluator,
    ):
        for number, (case, found) in enumerate(zip(cases, judge(evaluator, cases, settings), strict=True), 1):
            if isinstance(found, KernelGroveError):
                if manifest is None:
                    raise found
                code = 2
                document = _unusable(case.problem.name, case.candidate, found)
            else:
                code = max(code, 0 if found.outcome == "ok" else 1)
                document = _document(found, case.problem.name, case.candidate)
            if streamed:
                out.emit(document, indent=None)
            elif json:
                documents.append(document)
                print(f"{number}/{len(cases)} {case.candidate}: {document['outcome']}", file=out.progress)
            else:
                _print(found, case.problem.name, case.candidate, evaluator.device(), verbose)
        if json and not streamed:
            out.emit(documents)
    if code:
        raise typer.Exit(code)


def _cases(problem: str | None, files: list[str] | None, manifest: str | None, size: str | None) -> list[Any]:
    """Everything to judge, each file read and each problem loaded, before anything slow is started."""
    from ..problems.problem import load
    from .cases import Case

    if manifest is not None:
        if problem is not None:
            raise UsageError("--manifest names problems and candidates itself.", "Leave PROBLEM and FILE out.")
        rows = parse.manifest(manifest)
        loaded = {row["problem"]: load(row["problem"]) for row in rows}
        return [
            Case(
                loaded[r["problem"]], r["candidate"], parse.read_text(r["candidate"], "candidate"), r.get("size", size)
            )
            for r in rows
        ]
    if problem is None or not files:
        raise UsageError("eval needs a problem and a candidate.", "Write kernelgrove eval PROBLEM FILE, or --manifest.")
    sources = [(file, parse.read_text(file, "candidate")) for file in files]
    reference = load(problem)
    return [Case(reference, file, code, size) for file, code in sources]


def _document(found: EvaluationResult, problem: str, candidate: str) -> dict[str, Any]:
    from ..render import evaluation_document

    return evaluation_document(found, problem, candidate)


def _unusable(problem: str, candidate: str, error: KernelGroveError) -> dict[str, Any]:
    """A manifest's line whose problem cannot be used: no outcome, and why."""
    return {"problem": problem, "candidate": candidate, "outcome": None, "stage": None, "message": str(error)}


def _print(
    found: EvaluationResult | KernelGroveError, problem: str, candidate: str, device: Device, verbose: bool
) -> None:
    from ..render import benchmark_block

    if isinstance(found, KernelGroveError):
        print(f"error: {candidate} was not judged: {found}", file=sys.stderr)
        return
    gpu = device.key if found.basis == "measured" else device.gpu
    print(benchmark_block(found, problem, candidate, gpu, verbose=verbose), flush=True)
