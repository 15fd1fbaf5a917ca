"""Makes the grove whose answers docs/queries.md shows: real searches and real judging, on a machine without a GPU.

    python docs/make_query_grove.py queries.db           makes it
    python docs/make_query_grove.py queries.db --page    asks the page's questions again and writes the answers there

Nine searches by the built-in rules (three row reductions, for an L4, an A100 and an H100), and one whose two models are
recordings written below: a *hasty* one that is cheap and often wrong, a *careful* one that costs ten times as much. The
prices are those of the recordings; what their programs do is judged here. Takes three minutes on two cores.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kernelgrove.problems.problem import load

PROGRAM = """import torch
import triton
import triton.language as tl
from torch import nn


@triton.jit
def row_max_kernel(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    for start in range(0, {until}, BLOCK):
        inside = start + at < columns
        best = {combine}(best, tl.load(x_ptr + row * columns + start + at, mask=inside, other=float("-inf")))
    tl.store(y_ptr + row, {reduce}(best, axis=0))


class ModelNew(nn.Module):
    def forward(self, x):
        y = torch.empty(x.shape[0], device=x.device, dtype=x.dtype)
        row_max_kernel[(x.shape[0],)](x, y, x.shape[1], BLOCK={block}, num_warps={warps})
        return y
"""

IDEAS = (
    (
        "Let one program walk a row in tiles and keep a running maximum",
        "one pass, no reduction between tiles",
        "tiling",
    ),
    ("Use wider tiles so that each load instruction moves more of the row", "fewer loop trips", "memory"),
    ("Use more warps a program, to have more loads in flight", "latency is hidden by parallel loads", "occupancy"),
    ("Keep the running maximum as a vector and reduce it once at the end", "one reduction a row", "fusion"),
)


def program(
    chance: random.Random, *, until: str = "columns", combine: str = "tl.maximum", reduce: str = "tl.max"
) -> str:
    block, warps = chance.choice([512, 1024, 2048, 4096, 8192, 16384]), chance.choice([2, 4, 8, 16])
    return PROGRAM.format(until=until, combine=combine, reduce=reduce, block=block, warps=warps)


def hasty(chance: random.Random) -> str:
    match chance.randrange(5):
        case 0:
            return program(chance, reduce="tl.reduce_max")  # there is no such function
        case 1:
            return program(chance, until="BLOCK")  # only the first tile of a row
        case 2:
            return program(chance, combine="tl.max")  # reduces where it should compare
        case _:
            return program(chance)


def answers(model: str, problem: str) -> Iterator[dict[str, object]]:
    price = {"hasty": 0.002, "careful": 0.02}[model]
    usage = {"input_tokens": 1800, "output_tokens": 700, "cost_usd": price}

    def answer(key: str, **said: object) -> dict[str, object]:
        return {"problem": problem, "key": key, "usage": usage, **said}

    first = [f"r.{j}-{k}" for j in range(5) for k in range(4)]
    second = [f"{place}.{j}-{k}" for place in first for j in range(3) for k in range(2)]
    for number, place in enumerate(["r", *first, *second]):
        for v, base in enumerate([*(f"{place}/{v}" for v in range(4)), *(["-"] if place == "r" else [])]):
            for n in range(3):
                text, why, category = IDEAS[(number + v + n) % len(IDEAS)]
                ideas = [{"text": text, "rationale": why, "category": category}]
                yield answer(f"ideate:{place}:{base}:{n}", ideas=ideas)
        for v in range(4):
            chance = random.Random(f"{model} {place} {v}")
            yield answer(f"implement:{place}:{v}", code=hasty(chance) if model == "hasty" else program(chance))
            yield answer(f"repair:{place}/{v}:0", code=program(chance))


def run(*arguments: str, cwd: Path | None = None) -> None:
    print("kernelgrove run", *arguments, flush=True)
    command = [sys.executable, "-m", "kernelgrove", "run", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=cwd)


def main(db: Path) -> None:
    here = ["--strategy", "branch", "-o", "together=true", "--seed", "1", "--device", "cpu", "--db", str(db.absolute())]
    for problems in (("rms_norm", "softmax"), ("row_sum",)):
        for target in ("L4", "A100", "H100"):
            for problem in problems:
                tree = ["--rounds", "3", "--width", "3", "--depth", "2", "--target", target]
                run(problem, "--model", "rules", *tree, *here, "--name", f"{problem}-{target}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in ("hasty", "careful"):
            lines = [json.dumps(one) + "\n" for one in answers(model, load("row_max").digest)]
            (folder / f"{model}.jsonl").write_text("".join(lines))
        models = ["--model", "recorded:hasty.jsonl", "--model", "recorded:careful.jsonl"]
        tree = ["--rounds", "4", "--width", "4", "--depth", "3", "--target", "H100"]
        run("row_max", *models, *tree, *here, "--name", "two-models", cwd=folder)


PAGE = Path(__file__).with_name("queries.md")


def answered(db: Path, page: str) -> str:
    """*page* with what each of its ``$ kernelgrove query`` commands prints now."""

    def answer(match: re.Match[str]) -> str:
        words = shlex.split(match["command"])
        words[words.index("--db") + 1] = str(db.absolute())
        environment = {**os.environ, "COLUMNS": "200"}
        done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, env=environment)
        return f"```console\n$ {match['command']}\n{done.stdout}{done.stderr}```"

    return re.sub(r"```console\n\$ (?P<command>kernelgrove query .*)\n(?s:.*?)```", answer, page)


if __name__ == "__main__":
    if "--page" in sys.argv:
        PAGE.write_text(answered(Path(sys.argv[1]), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        main(Path(sys.argv[1]))
