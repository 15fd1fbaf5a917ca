"""Prices and bills: the table that ships, the user's own, and what a call's tokens cost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelgrove.engine.money import find, load
from kernelgrove.engine.money.prices import Price
from kernelgrove.errors import UsageError
from kernelgrove.model import Usage

PRICE = Price(input=2.0, output=10.0, cached_input=0.2, cache_write=2.5)


def test_every_price_has_a_source_and_a_date() -> None:
    prices = load()
    assert len(prices) >= 30
    for name, price in prices.items():
        assert re.fullmatch(r"(openai|google|anthropic|deepseek):[\w.-]+", name)
        assert price.source.startswith("https://") and re.fullmatch(r"20\d\d-\d\d-\d\d", price.date), name
        assert 0 < price.input < price.output and (price.cached_input or 0) < price.input
        assert price.max_output is not None and price.max_output >= 8192


def test_a_snapshot_has_its_models_price_and_no_other_name_is_guessed() -> None:
    assert find("openai:gpt-5-2025-08-07") == find("openai:gpt-5") is not None
    assert find("anthropic:claude-sonnet-4-5-20250929") == find("anthropic:claude-sonnet-4-5")
    for name in ("openai:gpt-5-turbo", "openai:gpt", "gpt-5", "openai-compatible:gpt-5", "command:llm"):
        assert find(name) is None


def test_cached_and_written_tokens_have_their_own_price() -> None:
    usage = Usage(1000, 400, None, cached_tokens=600, cache_write_tokens=100, reasoning_tokens=300)
    assert PRICE.cost(usage) == pytest.approx((300 * 2.0 + 600 * 0.2 + 100 * 2.5 + 400 * 10.0) / 1e6)
    plain = Price(input=2.0, output=10.0)
    assert plain.cost(usage) == pytest.approx((1000 * 2.0 + 400 * 10.0) / 1e6), "no price of its own: the full one"


def test_a_long_prompt_costs_more_for_the_whole_call() -> None:
    price = Price(1.0, 4.0, 0.1, None, long_from=1001, long_input=2.0, long_output=6.0, long_cached_input=0.2)
    assert price.cost(Usage(1000, 100, None)) == pytest.approx((1000 * 1.0 + 100 * 4.0) / 1e6)
    assert price.cost(Usage(1001, 100, None, 1)) == pytest.approx((1000 * 2.0 + 1 * 0.2 + 100 * 6.0) / 1e6)
    assert price.at_most(1001, 100) == pytest.approx((1001 * 2.0 + 100 * 6.0) / 1e6)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**5))
def test_a_reservation_is_never_below_the_bill(input_: int, cached: int, written: int, output: int) -> None:
    usage = Usage(input_, output, None, cached, written)
    for price in (PRICE, Price(2.0, 10.0), *load().values()):
        assert 0 <= price.cost(usage) <= price.at_most(input_, output) + 1e-12


def test_a_file_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "prices.toml"
    own.write_text('["openai:gpt-5"]\ninput = 9.0\n["command:llm -m x"]\ninput = 0\noutput = 0\n')
    monkeypatch.setenv("KERNELGROVE_PRICES", str(own))
    changed, free = find("openai:gpt-5"), find("command:llm -m x")
    assert changed is not None and (changed.input, changed.output) == (9.0, 10.0)
    assert free is not None and free.cost(Usage(10, 10, None)) == 0.0 and free.source == str(own)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("input = 1", "outside any table"),
        ('["m"]\ninput = 1', "lacks output"),
        ('["m"]\ninput = "1"\noutput = 2', "input = '1'"),
        ('["m"]\ninput = -1\noutput = 2', "input = -1"),
        ('["m"]\ninput = 1\noutput = 2\ncolour = 3', "unknown key 'colour'"),
        ("[", "not TOML"),
    ],
)
def test_a_wrong_file_is_named(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        load(path)
    assert "prices.toml" in str(caught.value)
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "none.toml")
