"""The words of KernelGrove as frozen types. Imports nothing of ours; see docs/design/001-layout.md.

A *problem* is a reference ``Model``; a *search* grows a tree of *nodes* (ideas); an *implementation* is one
program (``ModelNew``) for a node's idea; an *evaluation* is one measurement of one program on one device.
Times are milliseconds, money is US dollars, ids are positive integers shown as ``s1 n2 i3 e4 t5``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from heapq import nsmallest
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Key = TypeVar("_Key")


class Outcome(StrEnum):
    """How an evaluation ended."""

    OK = "ok"
    COMPILE_ERROR = "compile_error"
    RUNTIME_ERROR = "runtime_error"
    WRONG_RESULT = "wrong_result"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    WORKER_DIED = "worker_died"
    REJECTED = "rejected"


#: Outcomes that the same program gives again on the same device, so that a search may reuse them.
DETERMINISTIC = frozenset({Outcome.OK, Outcome.COMPILE_ERROR, Outcome.WRONG_RESULT, Outcome.RUNTIME_ERROR})


class Stage(StrEnum):
    """Where an evaluation ended, cheapest first."""

    PARSE = "parse"
    LOAD = "load"
    COMPILE = "compile"
    RUN = "run"
    CHECK = "check"
    TIME = "time"


class Basis(StrEnum):
    """Where a figure comes from. Figures of different bases are never compared or mixed."""

    MEASURED = "measured"
    PROJECTED = "projected"
    IMPORTED = "imported"


class SearchStatus(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    FAILED = "failed"


class StoppedBy(StrEnum):
    STRATEGY = "strategy"
    EVALUATIONS = "evaluations"
    DOLLARS = "dollars"
    TOKENS = "tokens"
    TIME = "time"
    PATIENCE = "patience"
    USER = "user"
    WAITING = "waiting"


class JobKind(StrEnum):
    IDEATE = "ideate"
    IMPLEMENT = "implement"
    REPAIR = "repair"
    RATE = "rate"
    EVALUATE = "evaluate"


#: Kinds that a proposer answers (the rest is the evaluator's).
PROPOSER_KINDS = (JobKind.IDEATE, JobKind.IMPLEMENT, JobKind.REPAIR, JobKind.RATE)


class JobState(StrEnum):
    QUEUED = "queued"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"
    DEAD = "dead"


class CompletionState(StrEnum):
    """``planned`` was free after a crash; ``sent`` may have been billed and is charged at its reservation."""

    PLANNED = "planned"
    SENT = "sent"
    OK = "ok"
    ERROR = "error"
    UNKNOWN = "unknown"
    ABANDONED = "abandoned"


class NodeState(StrEnum):
    OPEN = "open"
    PRUNED = "pruned"


class Precision(StrEnum):
    """What lower-precision arithmetic both sides may use (``default``: as PyTorch is installed)."""

    DEFAULT = "default"
    STRICT = "strict"
    TF32 = "tf32"
    ANY = "any"


class Backend(StrEnum):
    TRITON = "triton"
    CUDA = "cuda"
    TORCH = "torch"


class Provenance(StrEnum):
    """What a candidate launched: its own kernels, library operators, or both."""

    CUSTOM = "custom"
    MIXED = "mixed"
    LIBRARY = "library"


#: What a candidate may be compared with. Eager is always there; the others are ``torch.compile`` and its modes.
BASELINES = ("eager", "compile", "max-autotune")


def digest(text: str) -> str:
    """SHA-256 of *text* with normalised line ends, as 64 hex digits."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


# --------------------------------------------------------------------------------------------- problems


@dataclass(frozen=True)
class Problem:
    """A problem file as loaded. ``sizes`` maps a size name (``full``, ``small``) to module constants."""

    name: str
    source: str
    path: str | None = None
    sizes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    precision: str | None = None
    mode: str = "train"

    @property
    def digest(self) -> str:
        return digest(self.source)


@dataclass(frozen=True)
class Instance:
    """A problem at the sizes to evaluate: all that an evaluator needs, and all that a store keeps of it.

    ``source`` is the problem's text at the size that is timed (or projected); ``check_source`` the text at the
    size that is checked for correctness: the same on a GPU, a smaller one on ``cpu``.
    """

    name: str
    digest: str
    size: str
    source: str
    check_size: str
    check_source: str
    mode: str = "train"

    @property
    def key(self) -> str:
        """``full`` where the size checked is the size timed, else ``full/small``."""
        return self.size if self.size == self.check_size else f"{self.size}/{self.check_size}"


# ------------------------------------------------------------------------------------- ideas and programs


@dataclass(frozen=True, slots=True)
class Idea:
    """One optimisation idea in words an engineer would use."""

    text: str
    rationale: str = ""
    category: str = "other"


@dataclass(frozen=True)
class Usage:
    """What one proposer call cost. ``cost_usd`` is None where the price is unknown.

    Cached tokens (read from the provider's prompt cache, or written to it) are among the input tokens, reasoning
    tokens among the output tokens. ``estimated``: the provider did not say, so they were counted here.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


# --------------------------------------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class Device:
    """A device evaluations ran on. ``key`` groups evaluations that may be compared."""

    name: str  # "cuda:0", "cpu"
    gpu: str  # the target in specs.toml that figures are for: "H200"
    key: str  # e.g. "NVIDIA H200" or "cpu->H100"
    basis: Basis
    software: Mapping[str, str] = field(default_factory=dict)  # torch, triton, driver, python, ...


@dataclass(frozen=True)
class EvaluationRequest:
    """One program to judge on one instance. ``timeout_s`` bounds each stage of the candidate."""

    instance: Instance
    code: str
    backend: str = "triton"
    precision: str = "default"
    trials: int = 5
    samples: int = 100
    timeout_s: float = 60.0
    timing: bool = True
    tolerance: float | None = None  # None: the fp64-referenced rule; else KernelBench's allclose(atol=rtol)
    require: str | None = None  # a provenance that is demanded ("custom"); else the candidate is rejected
    baselines: tuple[str, ...] = ("eager", "compile")  # of BASELINES
    best_ms: float | None = None  # a screened time that cannot beat this is left at that; None: always timed sealed


#: What of a search's options is handed on to its evaluations, under the same names.
REQUEST_OPTIONS = ("backend", "trials", "samples", "timeout_s", "require", "baselines")


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluator found. No time, no speedup unless ``ok`` (and then only if timing was asked for)."""

    outcome: Outcome
    stage: Stage
    message: str = ""
    trials_passed: int = 0
    trials_of: int = 0
    max_error: float | None = None
    basis: Basis = Basis.MEASURED
    time_ms: float | None = None
    time_stats: Mapping[str, float] | None = None  # mean std min max median n
    time_interval: tuple[float, float] | None = None  # 95 % interval of time_ms; None where it was not timed
    timing: str | None = None  # "screened" (CUDA events alone) or "sealed" (under the judge's clock); None: not timed
    baselines: Mapping[str, float | None] = field(default_factory=dict)  # eager, compile: ms
    speedup: Mapping[str, float | None] = field(default_factory=dict)
    provenance: str | None = None
    advice: tuple[str, ...] = ()
    wall_s: float = 0.0
    detail: Mapping[str, Any] = field(default_factory=dict)  # JSON: kernels, counts, sandbox layers, ...


# ------------------------------------------------------------------------------------------------ the tree


@dataclass(frozen=True, slots=True)
class EvaluationView:
    id: int
    outcome: Outcome
    stage: Stage
    message: str
    basis: Basis
    time_ms: float | None
    baselines: Mapping[str, float | None]
    speedup: Mapping[str, float | None]
    time_interval: tuple[float, float] | None = None
    timing: str | None = None


def speaking(evaluations: Sequence[EvaluationView]) -> EvaluationView:
    """Which of several evaluations of one program speaks for it: a failure if there is any that the program gives
    again; else the middle one of those timed most carefully (the slower one of two), so that a lucky measurement does
    not stand. *evaluations* are in the order in which they were made, and there is at least one."""
    failed = [e for e in evaluations if e.outcome is not Outcome.OK and e.outcome in DETERMINISTIC]
    if failed:
        return failed[0]
    timed = [e for e in evaluations if e.outcome is Outcome.OK and e.time_ms is not None]
    careful = [e for e in timed if e.timing == "sealed"] or timed
    ranked = sorted(careful, key=lambda e: (e.time_ms or 0.0, e.id))
    return ranked[len(ranked) // 2] if ranked else evaluations[0]


@dataclass(frozen=True, slots=True)
class ImplementationView:
    """One program of a node. ``evaluation`` is the one that speaks for it in this search (see ``speaking``), None
    while it is not judged; ``remeasured`` are the others, where it was measured again. Both are of jobs of this search,
    or of an earlier search whose verdict this one reused; never a replay's."""

    id: int
    node: int
    address: str
    repair_of: int | None
    program: str  # the program's hash
    duplicate_of: int | None  # an earlier implementation in this search with the same program
    model: str
    evaluation: EvaluationView | None
    remeasured: tuple[EvaluationView, ...] = ()

    @property
    def ok(self) -> bool:
        return self.evaluation is not None and self.evaluation.outcome is Outcome.OK

    @property
    def time_ms(self) -> float | None:
        return self.evaluation.time_ms if self.evaluation else None


@dataclass(frozen=True, slots=True)
class NodeView:
    """One idea. ``address`` is its stable place in the tree (``r``, ``r.0``, ``r.0.2``): the same whatever the
    order in which independent jobs finished, so that a recorded search replays to the same tree."""

    id: int
    parent: int | None
    base: int | None  # the implementation it builds on
    address: str
    round: int
    idea: Idea
    state: NodeState
    pruned_because: str | None
    model: str
    rating: float | None = None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as strategies see it: in flight (queued, leased), or over without a result (failed, dead)."""

    id: int
    kind: JobKind
    state: JobState
    node: int | None
    implementation: int | None
    key: str
    payload: Mapping[str, Any]
    reason: str | None = None

    @property
    def in_flight(self) -> bool:
        return self.state in (JobState.QUEUED, JobState.LEASED)


@dataclass(frozen=True)
class TreeView:
    """An immutable snapshot of one search. ``jobs`` holds every job of the search that is not ``evaluate`` or
    that is unfinished; ``step`` counts the decisions recorded so far."""

    search: int
    seed: int
    step: int
    root: int
    nodes: Mapping[int, NodeView]
    implementations: Mapping[int, ImplementationView]
    jobs: tuple[JobView, ...] = ()

    def children(self, node: int) -> tuple[NodeView, ...]:
        return self._children.get(node, ())

    def implementations_of(self, node: int) -> tuple[ImplementationView, ...]:
        return self._implementations_of.get(node, ())

    @cached_property
    def _children(self) -> Mapping[int | None, tuple[NodeView, ...]]:
        return _grouped(self.nodes.values(), lambda n: n.parent)

    @cached_property
    def _implementations_of(self) -> Mapping[int, tuple[ImplementationView, ...]]:
        return _grouped(self.implementations.values(), lambda i: i.node)

    def in_flight(self, *kinds: JobKind) -> tuple[JobView, ...]:
        return tuple(j for j in self._in_flight if j.kind in kinds) if kinds else self._in_flight

    @cached_property
    def _in_flight(self) -> tuple[JobView, ...]:
        return tuple(j for j in self.jobs if j.in_flight)

    def judged(self) -> Iterator[ImplementationView]:
        return (i for i in self.implementations.values() if i.evaluation is not None)

    def best(self, k: int) -> tuple[ImplementationView, ...]:
        """The *k* fastest implementations that passed, fastest first; of equal ones the one nearer the root."""
        passed = [
            (e.time_ms, len(i.address), i.address, i.id)
            for i in self.implementations.values()
            if (e := i.evaluation) is not None
            and e.time_ms is not None
            and e.outcome is Outcome.OK
            and i.duplicate_of is None
        ]
        return tuple(self.implementations[id_] for *_, id_ in nsmallest(k, passed))

    def lineage(self, node: int) -> tuple[NodeView, ...]:
        """From the root to *node*, both included."""
        path: list[NodeView] = []
        at: int | None = node
        while at is not None:
            path.append(self.nodes[at])
            at = self.nodes[at].parent
        return tuple(reversed(path))


def _grouped(items: Iterable[_Item], key: Callable[[_Item], _Key]) -> Mapping[_Key, tuple[_Item, ...]]:
    groups: dict[_Key, list[_Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return {of: tuple(group) for of, group in groups.items()}


# ------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class Ideate:
    """Ask for up to *count* ideas under *parent*, building on implementation *base* (None: the reference).

    *others* are further implementations to draw on: crossover."""

    parent: int
    base: int | None
    count: int
    round: int
    others: tuple[int, ...] = ()


@dataclass(frozen=True)
class Implement:
    """Write one program for *node*; *variant* counts from 0 and tells its implementations apart."""

    node: int
    variant: int = 0


@dataclass(frozen=True)
class Repair:
    """Write a program from a failed one, for the same node."""

    implementation: int


@dataclass(frozen=True)
class Rate:
    nodes: tuple[int, ...]


@dataclass(frozen=True)
class Remeasure:
    """Evaluate the program of *implementation*, which passed, once more: timed under seal, in a fresh process."""

    implementation: int


@dataclass(frozen=True)
class Prune:
    node: int
    because: str


@dataclass(frozen=True)
class Stop:
    because: str


Action = Ideate | Implement | Repair | Rate | Remeasure | Prune | Stop
