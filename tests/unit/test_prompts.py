"""Prompts: what each holds, what is shared between them, and what goes first where they would be too long."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

import pytest

from kernelgrove.engine.gpus import specs
from kernelgrove.engine.money.tokens import at_most, estimate
from kernelgrove.engine.prompts import PARTS, Prompt, build, purpose
from kernelgrove.engine.prompts import parts as switches
from kernelgrove.engine.prompts.target import advice
from kernelgrove.engine.prompts.words import example, fenced, message
from kernelgrove.errors import UsageError
from kernelgrove.model import Idea, Instance, JobKind
from kernelgrove.ports import Attempt, ProposalRequest
from kernelgrove.problems.problem import load, sized_source

PROBLEM = load("rms_norm")
SOURCE = sized_source(PROBLEM, "full")
INSTANCE = Instance(PROBLEM.name, PROBLEM.digest, "full", SOURCE, "full", SOURCE)
PROFILE = {
    "baselines": {"eager": 0.633, "compile": None},
    "advice": ["the mean is computed in one pass"],
    "provenance": "mixed",
    "detail": {
        "compiled": [
            {"name": "rows", "registers": 62, "shared_bytes": 256, "spills": 8, "num_warps": 16, "num_stages": 3,
             "grid": [4096, 1, 1], "constants": {"ROWS": "4"}}
        ],
        "projection": {"launches": [{"name": "rows", "ms": 0.178, "bound": "dram", "dram_ms": 0.178, "l2_ms": 0.09}]},
    },
}  # fmt: skip
IDEA = Idea("Take four rows a program", "more loads in flight", "tiling")
BASE = Attempt(IDEA, "import torch\n# BASE CODE\n", "ok", "", 0.179, 3.54, "projected", PROFILE)
FAILED = Attempt(IDEA, "# FAILED CODE\n", "compile_error", "line 3: cannot add block and pointer", None, None, None)
TRIED = (
    Attempt(Idea("Walk rows in tiles", "", "memory"), None, "ok", "", 0.2231, 2.84, "projected"),
    Attempt(Idea("Use a persistent grid", "", "launch"), None, "wrong_result", "element 7 differs", None, None, None),
    Attempt(Idea("Fuse the weight", "", "fusion"), None, None, "", None, None, None),
)


def request(kind: JobKind, target: str = "H100", backend: str = "triton", **more: Any) -> ProposalRequest:
    return replace(ProposalRequest(kind, "key", PROBLEM, INSTANCE, target, backend, 1), **more)


KINDS = {
    "zero_shot": request(JobKind.IMPLEMENT),
    "ideate": request(JobKind.IDEATE, count=3, base=BASE, tried=TRIED, lineage=(Idea("Walk rows in tiles"), IDEA)),
    "implement": request(JobKind.IMPLEMENT, idea=IDEA, base=BASE, tried=TRIED),
    "repair": request(JobKind.REPAIR, idea=IDEA, base=BASE, failed=FAILED, earlier=(FAILED,)),
    "refine": request(JobKind.REPAIR, idea=IDEA, failed=BASE),
    "rate": request(JobKind.RATE, base=BASE, tried=TRIED),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_has_its_template_and_its_contract(name: str) -> None:
    asked = KINDS[name]
    prompt = build(asked)
    assert purpose(asked) == prompt.purpose == name
    wanted = {"ideate": '{"ideas": [', "rate": '{"ratings": [numbers]}'}.get(name, "class ModelNew")
    assert wanted in prompt.specific
    assert "undefined" not in prompt.text.casefold() and "None" not in prompt.specific
    assert prompt.tokens == estimate(f"{prompt.system}\n\n{prompt.shared}\n\n{prompt.specific}")
    assert SOURCE.split("class Model")[1].split("\n")[3] in prompt.shared


def test_code_metrics_lineage_errors_and_history_are_told() -> None:
    ideate = build(KINDS["ideate"]).specific
    assert "# BASE CODE" in ideate and "0.179 ms, 3.54x over eager (projected)" in ideate
    assert "1. Walk rows in tiles → 0.2231 ms, 2.84x over eager (projected)\n2. Take four rows" in ideate
    assert "[launch] Use a persistent grid → wrong_result: element 7 differs" in ideate
    assert "[fusion] Fuse the weight → not judged yet" in ideate and "Name 3 ideas" in ideate
    assert "62 registers a thread" in ideate and "8 bytes spilled" in ideate and "bound by dram" in ideate
    assert "advice: the mean is computed" in ideate and "library kernels too" in ideate and "eager 0.633 ms" in ideate
    told = replace(KINDS["ideate"], translation=replace(BASE, code=None), tried=())
    assert "- the reference, translated as it stands → 0.179 ms" in build(told).specific
    repair = build(KINDS["repair"]).specific
    assert "# FAILED CODE" in repair and "cannot add block and pointer" in repair and "compiler's own" in repair
    assert "Before it, in this order" in repair
    refine = build(KINDS["refine"]).specific
    assert "# BASE CODE" in refine and "it is right" in refine


def test_further_parents_are_shown_and_asked_to_be_combined() -> None:
    other = replace(BASE, code="# OTHER CODE\n", idea=Idea("Split long rows"))
    text = build(replace(KINDS["ideate"], others=(other,))).specific
    assert "# OTHER CODE" in text and "Split long rows" in text and "combine" in text


@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_what_is_shared_is_the_same_for_every_kind(backend: str) -> None:
    """A provider's cache of prefixes then finds it again, whatever is asked next."""
    prompts = [build(replace(asked, backend=backend)) for asked in KINDS.values()]
    assert len({(p.system, p.shared) for p in prompts}) == 1
    assert len({p.specific for p in prompts}) == len(prompts)


def test_variants_of_an_idea_are_asked_differently() -> None:
    first, second = (build(replace(KINDS["implement"], variant=n)) for n in (0, 1))
    assert first.specific != second.specific and "second best" in second.specific


GPUS = sorted(specs.load())


def test_every_gpu_has_a_prompt_of_its_own() -> None:
    prompts = {name: build(request(JobKind.IMPLEMENT, name)) for name in GPUS}
    assert len({p.text for p in prompts.values()}) == len(GPUS)
    for name, prompt in prompts.items():
        gpu = specs.find(name)
        assert gpu.vendor_name in prompt.shared and f"{gpu.bandwidth_gbs:g} GB/s" in prompt.shared
        assert f"{gpu.sms} " in prompt.shared and gpu.arch in prompt.shared
        assert advice(gpu).both, f"{gpu.arch} has no table in architectures.toml"
    assert (
        "no TF32 and no bf16" in prompts["T4"].shared
        and "bf16 " not in prompts["T4"].shared.split("Arithmetic")[1].split("\n")[0]
    )
    assert "wavefronts of 64" in prompts["MI300X"].shared and "LDS" in prompts["MI300X"].shared


def test_the_cuda_backend_is_asked_for_cuda_and_hip_where_that_is_the_chip() -> None:
    cuda = build(request(JobKind.IMPLEMENT, backend="cuda"))
    assert "load_inline" in cuda.system and "tl.load" not in cuda.text and "__shfl_down_sync" in cuda.shared
    assert "HIP C++" in build(request(JobKind.IMPLEMENT, "MI300X", "cuda")).system


def test_advice_on_products_only_where_there_may_be_some() -> None:
    source = SOURCE.replace("x * torch.rsqrt", "(x @ self.w) * torch.rsqrt")
    product = replace(request(JobKind.IMPLEMENT), instance=replace(INSTANCE, source=source))
    assert "tl.dot on blocks" in build(product).shared
    assert "tl.dot on blocks" not in build(request(JobKind.IMPLEMENT)).shared


@pytest.mark.parametrize(
    ("precision", "says"),
    [("strict", "No TF32"), ("tf32", "TF32 is allowed"), ("any", "bf16 or fp16"), ("default", "without TF32")],
)
def test_the_precision_policy_is_told(precision: str, says: str) -> None:
    assert says in build(request(JobKind.IMPLEMENT, options={"precision": precision})).system


# --------------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("part", PARTS)
def test_each_part_can_be_switched(part: str) -> None:
    asked = KINDS["ideate"]
    on = build(replace(asked, options={"parts": {part: True}}))
    off = build(replace(asked, options={"parts": {part: False}}))
    marks = {
        "gpu": "# Target",
        "concepts": "# What limits",
        "practices": "# Writing Triton",
        "example": "# A worked example",
        "profile": "What the evaluator saw",
        "history": "# Tried on this module",
    }
    assert marks[part] in on.text and marks[part] not in off.text and off.tokens < on.tokens


def test_a_part_that_is_not_there_is_named() -> None:
    assert switches.read({"example": "on", "gpu": False}) == {"example": True, "gpu": False}
    with pytest.raises(UsageError, match="Did you mean example"):
        switches.read({"exampel": "on"})
    with pytest.raises(UsageError, match="neither on nor off"):
        switches.read({"gpu": "perhaps"})


@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_the_worked_examples_are_programs(backend: str) -> None:
    shown = example(backend)
    for text in shown.values():
        ast.parse(text)
    assert "class ModelNew" in shown["program"] and "class Model(" in shown["reference"]


# -------------------------------------------------------------------------------------------------- budget


def _long(count: int) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(
            Idea(f"idea number {n}: " + "move the loads ahead of the sums " * 4), None, "ok", "", 1.0, 1.0, "measured"
        )
        for n in range(count)
    )


def test_the_oldest_history_goes_first_and_is_said() -> None:
    asked = replace(KINDS["ideate"], tried=_long(200), lineage=())
    whole = build(replace(asked, options={"prompt_tokens": 1_000_000}))
    assert not whole.dropped and "idea number 0:" in whole.specific
    budget = whole.tokens - 2000
    prompt = build(replace(asked, options={"prompt_tokens": budget}))
    assert budget - 100 < prompt.tokens <= budget
    assert "idea number 0:" not in prompt.specific and "idea number 199:" in prompt.specific
    assert "oldest of 200 ideas tried" in prompt.dropped[0] and prompt.dropped[0] in prompt.specific
    assert prompt.shared == whole.shared, "the shared part stays whole while history is left to drop"


@pytest.mark.parametrize("budget", [3500, 2500, 1800, 1300])
def test_then_parts_go_and_code_and_errors_stay(budget: int) -> None:
    asked = replace(KINDS["repair"], tried=_long(50), options={"prompt_tokens": budget, "parts": {"example": True}})
    prompt = build(asked)
    assert "# FAILED CODE" in prompt.specific and "cannot add block and pointer" in prompt.specific
    assert "# BASE CODE" in prompt.specific and "class Model" in prompt.shared
    assert prompt.tokens <= budget or "over its budget" in prompt.dropped[-1]
    assert budget == 3500 or "the part 'example'" in prompt.dropped


def test_the_ideas_to_rate_are_no_history() -> None:
    asked = replace(KINDS["rate"], tried=_long(40), options={"prompt_tokens": 1000, "parts": {"history": False}})
    assert "idea number 0:" in build(asked).specific and "idea number 39:" in build(asked).specific


def test_long_messages_keep_both_ends_and_fences_hold() -> None:
    text = message("first\n" + "x" * 20_000 + "\nlast")
    assert text.startswith("first") and text.endswith("last") and len(text) < 7000 and "characters" in text
    code = 'DOC = """\n```python\nx\n```\n"""'
    assert fenced(code).startswith("````python") and fenced(code).endswith("````")


# -------------------------------------------------------------------------------------------------- tokens


def test_the_estimate_is_near_and_the_bound_above() -> None:
    """Counted with o200k_base, cl100k_base and two others when this was written: 441, 439, 493, 465."""
    code = (example("triton")["program"] + SOURCE) * 3
    assert at_most(code) > estimate(code) > len(code) / 5
    assert estimate("") == 0 and estimate("a b c") == 3
    assert estimate("x" * 1000) > 150 and estimate("1234567") == 3


def test_a_prompt_is_text_in_order() -> None:
    prompt = Prompt("p", "a", "b", "c", 3)
    assert prompt.text == "a\n\nb\n\nc" and Prompt("p", "a", "", "c", 2).text == "a\n\nc"
