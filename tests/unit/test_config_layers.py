"""SearchConfig: which source wins, and what is said of a value that will not do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kernelgrove.config import SearchConfig
from kernelgrove.errors import UsageError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_flags_over_environment_over_file_over_defaults(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "kernelgrove.toml").write_text('seed = 1\ntrials = 2\nsamples = 3\nmodel = ["a", "b"]\n')
    monkeypatch.setenv("KERNELGROVE_TRIALS", "20")
    monkeypatch.setenv("KERNELGROVE_SAMPLES", "30")
    monkeypatch.setenv("KERNELGROVE_DB", "somewhere.db")
    config = SearchConfig.load({"samples": 300, "seed": None})
    assert (config.seed, config.trials, config.samples, config.parallel) == (1, 20, 300, 4)
    assert config.model == ("a", "b")


def test_a_file_can_be_named_and_must_then_be_there(elsewhere: Path) -> None:
    (elsewhere / "mine.toml").write_text('strategy = "zero_shot"\n[options]\nsamples = 8\n')
    config = SearchConfig.load(file="mine.toml")
    assert (config.strategy, config.strategy_options) == ("zero_shot", {"samples": 8})
    with pytest.raises(UsageError, match=r"There is no configuration file other\.toml"):
        SearchConfig.load(file="other.toml")


def test_alone_reads_neither_file_nor_environment(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "kernelgrove.toml").write_text("seed = 1\n")
    monkeypatch.setenv("KERNELGROVE_SEED", "2")
    assert SearchConfig.load({}, alone=True).seed == 0


def test_lists_and_tables_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELGROVE_MODEL", "rules, recorded:a.db")
    monkeypatch.setenv("KERNELGROVE_WIDTH", "3,4")
    monkeypatch.setenv("KERNELGROVE_OPTIONS", "repairs=0 prune=false")
    config = SearchConfig.load()
    assert config.model == ("rules", "recorded:a.db")
    assert config.strategy_options == {"repairs": "0", "prune": "false", "width": [3, 4]}


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172800)])
def test_durations(text: str, seconds: float) -> None:
    assert SearchConfig.load({"budget_time": text}).budget_time == seconds


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"budget_evals": "ten"}, "--budget-evals must be a whole number from 1, not 'ten'."),
        ({"budget_evals": 0}, "--budget-evals must be a whole number from 1, not 0."),
        ({"budget_time": "soon"}, "--budget-time must be a time above zero, such as 90, 15m or 1h30m, not 'soon'."),
        ({"budget_time": ""}, "--budget-time must be a time above zero"),
        ({"precision": "tf23"}, "one of default, strict, tf32, any (did you mean tf32?), not 'tf23'"),
        ({"backend": "hip"}, "--backend must be one of triton, cuda, torch, not 'hip'."),
        ({"require": "fast"}, "--require must be one of custom, not 'fast'."),
        ({"baselines": "eager,best"}, "--baselines must be one or more of eager, compile, max-autotune"),
        ({"width": "3,0"}, "--width must be whole numbers from 1, such as 3,4,4,5, not '3,0'."),
        ({"temperature": 2.5}, "--temperature must be a number from 0 to 2, not 2.5."),
        ({"tolerance": float("nan")}, "--tolerance must be a number above 0"),
        ({"seed": -1}, "--seed must be a whole number from 0"),
        ({"model": []}, "--model must be one or more provider:model names"),
        ({"modle": "rules"}, "there is no setting 'modle': did you mean 'model'?"),
    ],
)
def test_a_bad_flag_is_one_sentence(flags: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        SearchConfig.load(flags)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value) and "pydantic" not in str(caught.value)


def test_the_sentence_says_where_the_value_was_given(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "kernelgrove.toml").write_text("trials = 'many'\n")
    with pytest.raises(UsageError, match=r"^trials in kernelgrove\.toml must be"):
        SearchConfig.load()
    monkeypatch.setenv("KERNELGROVE_TRIALS", "several")
    with pytest.raises(UsageError, match=r"^KERNELGROVE_TRIALS must be"):
        SearchConfig.load()
    (elsewhere / "kernelgrove.toml").write_text("trails = 5\n")
    with pytest.raises(UsageError, match=r"kernelgrove\.toml: there is no setting 'trails': did you mean 'trials'"):
        SearchConfig.load()
    (elsewhere / "kernelgrove.toml").write_text("trials = \n")
    with pytest.raises(UsageError, match=r"kernelgrove\.toml is not TOML"):
        SearchConfig.load()


def test_a_strategy_option_in_two_places_is_refused() -> None:
    with pytest.raises(UsageError, match="--rounds and -o rounds"):
        _ = SearchConfig.load({"rounds": 2, "options": {"rounds": 3}}).strategy_options


def test_what_was_not_given_is_not_stored() -> None:
    assert SearchConfig.load({"budget_evals": 3}).search_options == {
        **{
            "backend": "triton",
            "trials": 5,
            "samples": 100,
            "timeout_s": 60.0,
            "baselines": ["eager", "compile"],
            "parallel": 4,
        },
        "budget_evals": 3,
    }


def test_eager_is_always_among_the_baselines() -> None:
    assert SearchConfig.load({"baselines": "max-autotune"}, alone=True).baselines == ("eager", "max-autotune")
    assert SearchConfig.load({}, alone=True).search_options["baselines"] == ["eager", "compile"]
