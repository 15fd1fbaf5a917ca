"""specs.toml against the arithmetic that ties its numbers together, and what find and load tell a user."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kernelgrove.engine.gpus import specs
from kernelgrove.errors import UsageError

#: Those of TritonLLM, then those that this program adds.
NAMES = [
    *("RTX_4070_LAPTOP", "L40S", "H100", "A100", "A100_80GB", "L4", "T4", "A10G"),
    *("H200", "B200", "RTX_4090", "RTX_5090", "L40", "MI300X", "MI325X"),
]
CORES_PER_SM = {
    "sm_75": 64, "sm_80": 64, "sm_86": 128, "sm_89": 128, "sm_90": 128, "sm_100": 128, "sm_120": 128, "gfx942": 128
}  # fmt: skip
SHARED_KB = {
    "sm_75": (64, 64), "sm_80": (164, 163), "sm_86": (100, 99), "sm_89": (100, 99), "sm_90": (228, 227),
    "sm_100": (228, 227), "sm_120": (100, 99), "gfx942": (64, 64),
}  # fmt: skip
THREADS_BLOCKS = {
    "sm_75": (1024, 16), "sm_80": (2048, 32), "sm_86": (1536, 16), "sm_89": (1536, 24), "sm_90": (2048, 32),
    "sm_100": (2048, 32), "sm_120": (1536, 24), "gfx942": (2048, 16),
}  # fmt: skip


def test_exactly_the_gpus_of_this_version() -> None:
    assert sorted(specs.load()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_agree_with_each_other(name: str) -> None:
    spec = specs.find(name)
    prefix = {"cuda": "sm_", "hip": "gfx"}[spec.backend]
    assert spec.arch.startswith(f"{prefix}{spec.capability[0]}{spec.capability[1]}")
    peak = spec.sms * CORES_PER_SM[spec.arch] * 2 * spec.boost_clock_ghz / 1e3
    assert spec.fp32_tflops == pytest.approx(peak, rel=0.02)
    assert (spec.shared_kb_per_sm, spec.shared_kb_per_block) == SHARED_KB[spec.arch]
    assert (spec.max_threads_per_sm, spec.max_blocks_per_sm) == THREADS_BLOCKS[spec.arch]
    if spec.fp16_tflops and spec.int8_tops and "RTX" not in name:
        assert spec.int8_tops == pytest.approx(2 * spec.fp16_tflops, rel=0.02), "one of them is a sparse figure"
    if spec.tf32_tflops and spec.fp16_tflops:
        assert spec.fp16_tflops == pytest.approx(2 * spec.tf32_tflops, rel=0.02)
    assert spec.sources


def test_figures_that_are_often_wrong() -> None:
    assert specs.find("A100").bandwidth_gbs == 1555
    assert specs.find("T4").bandwidth_gbs == 320
    assert specs.find("A10G").shared_kb_per_sm == 100
    assert specs.find("T4").bf16_tflops is None and specs.find("A100").fp8_tflops is None


@pytest.mark.parametrize("said", ["h100", "H100", " rtx-4070 laptop ", "NVIDIA H100 80GB HBM3", "tesla t4"])
def test_find_forgives_spelling(said: str) -> None:
    assert specs.find(said).name in NAMES


def test_a_file_of_the_users_own_adds_one_and_changes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "gpus.toml"
    own.write_text("[H100]\nboost_clock_ghz = 1.5\n\n[MY_H200]\n" + _as_toml(specs.find("H200"), matches=["My Card"]))
    monkeypatch.setenv("KERNELGROVE_GPUS", str(own))
    assert specs.find("H100").boost_clock_ghz == 1.5 and specs.find("H100").sms == 132
    assert specs.find("my-h200").arch == "sm_90"
    found = specs.match("my card")
    assert found is not None and found.name == "MY_H200"
    monkeypatch.setenv("KERNELGROVE_GPUS", str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match="cannot be read"):
        specs.find("H100")


def _as_toml(spec: specs.GpuSpec, **changed: object) -> str:
    facts = {**spec.facts(), **changed}
    del facts["name"]
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in facts.items() if value is not None)


def test_find_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"H100.*H200|H200.*H100"):
        specs.find("H10")
    with pytest.raises(UsageError, match="Known: "):
        specs.find("zzzzzz")


def test_a_slower_chip_under_the_same_name_is_not_matched() -> None:
    assert specs.match("NVIDIA H100 PCIe") is None
    assert specs.match("NVIDIA A100-SXM4-80GB") == specs.find("A100_80GB")


def test_facts_are_json_and_complete() -> None:
    facts = specs.find("H200").facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["capability"] == [9, 0] and facts["sms"] == 132


def test_a_users_file_adds_and_overrides(tmp_path: Path) -> None:
    extra = tmp_path / "gpus.toml"
    whole = "\n".join(
        f"{key} = {json.dumps(value)}" for key, value in specs.find("H200").facts().items()
        if key != "name" and value is not None
    )  # fmt: skip
    extra.write_text(f"[my_chip]\n{whole}\n[h100]\nbandwidth_gbs = 2000.0\n")
    loaded = specs.load(extra)
    assert loaded["H100"].bandwidth_gbs == 2000 and loaded["H100"].sms == 132
    assert loaded["MY_CHIP"].bandwidth_gbs == 4800
    assert specs.find("my-chip", extra).name == "MY_CHIP"
    assert specs.load()["H100"].bandwidth_gbs == 3350


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[X", "not TOML"),
        ("x = 1", "outside any table"),
        ("[X]\nsms = 1", "lacks"),
        ("[H100]\nspeed = 1", "unknown key 'speed'"),
        ("[H100]\nsms = -1", "sms = -1"),
        ("[H100]\ncapability = [9]", "capability"),
        ("[H100]\narch = 90", "arch = 90"),
    ],
)
def test_a_users_file_that_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    extra = tmp_path / "gpus.toml"
    extra.write_text(text)
    with pytest.raises(UsageError, match=said):
        specs.load(extra)


def test_a_users_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        specs.load(tmp_path / "none.toml")


def test_neither_specs_nor_detection_imports_torch() -> None:
    code = "import sys, kernelgrove.engine.gpus.detect as d; d.detect(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
