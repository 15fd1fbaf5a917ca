"""A mix of candidates as a search makes them: right, wrong, not parsing, not compiling, raising, slow, large inputs.

The right ones are written by the built-in proposer; the others are the right ones, broken.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

from kernelgrove.engine.proposers.rules.proposer import RulesProposer
from kernelgrove.model import Instance, JobKind
from kernelgrove.ports import ProposalRequest
from kernelgrove.problems.problem import load
from kernelgrove.problems.sizes import size_name, sized_source

PROBLEMS = ("rms_norm", "softmax", "layer_norm", "gelu_scale_add", "row_sum", "log_softmax")


@dataclass(frozen=True)
class Candidate:
    """One file: its problem, what it is, and the outcomes that are right for it."""

    problem: str
    kind: str
    code: str
    outcomes: tuple[str, ...]


def right(name: str, target: str = "H200") -> str:
    """The built-in proposer's direct translation of a library problem."""
    problem = load(name)
    source = sized_source(problem, None)
    size = size_name(problem, None)
    instance = Instance(problem.name, problem.digest, size, source, size, source, problem.mode)
    request = ProposalRequest(JobKind.IMPLEMENT, "r/0", problem, instance, target, "triton", seed=1)
    code = RulesProposer().propose(request).code
    assert code is not None, f"the rules have nothing for {name}"
    return code


def _broken(code: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """*code*, broken in the ways of the mix: text and right outcomes by kind."""
    forward = re.search(r"( +)def forward\(self[^\n]*\n", code)
    store = re.search(r"tl\.store\(([^,]+), ", code)
    assert forward is not None and store is not None, code
    indent = forward.group(1) + "    "
    inside = forward.end()
    slow = f"{indent}import torch\n{indent}torch.cuda._sleep(4_000_000)  # two milliseconds\n"
    return {
        "wrong": (code.replace(store.group(0), f"tl.store({store.group(1)}, 1.001 * ", 1), ("wrong_result",)),
        "does not parse": (code.replace("def forward(self", "def forward((self", 1), ("compile_error",)),
        "does not compile": (code.replace("tl.store(", "tl.stor(", 1), ("compile_error", "runtime_error")),
        "raises": (f'{code[:inside]}{indent}raise RuntimeError("no")\n{code[inside:]}', ("runtime_error",)),
        "slow": (code[:inside] + slow + code[inside:], ("ok",)),
    }


def mix(repeat: int = 1, seed: int = 7) -> list[Candidate]:
    """36 candidates over six problems (times *repeat*), shuffled; a third of them is right."""
    found: list[Candidate] = []
    for name in PROBLEMS:
        code = right(name)
        found.append(Candidate(name, "right", code, ("ok",)))
        found += [Candidate(name, kind, text, outcomes) for kind, (text, outcomes) in _broken(code).items()]
    shuffled = [candidate for _ in range(repeat) for candidate in found]
    random.Random(seed).shuffle(shuffled)
    return shuffled


def write(folder: Path, candidates: list[Candidate]) -> list[tuple[Path, Path]]:
    """Problem and candidate files for a judge of another make."""
    pairs = []
    for number, candidate in enumerate(candidates):
        problem = folder / f"{candidate.problem}.py"
        problem.write_text(sized_source(load(candidate.problem), None))
        file = folder / f"{number:03d}.py"
        file.write_text(candidate.code)
        pairs.append((problem, file))
    return pairs
