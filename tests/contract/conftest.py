"""Options and fixtures: ``--strategy module:Class`` runs the strategy contract over a strategy that is not in the
registry; the store contract runs over each of ``store_backends``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_backends import BACKENDS, Backend
from store_world import ROOT, SPEC

from kernelgrove.engine.budget import Ledger


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kernelgrove")
    group.addoption("--strategy", metavar="MODULE:CLASS", help="run the strategy contract over this one alone")
    group.addoption("--strategy-option", action="append", default=[], metavar="KEY=VALUE", help="an option of it")


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    found = BACKENDS[request.param]
    missing = found.missing()
    if missing:
        pytest.skip(missing)
    return found


@pytest.fixture
def store(backend: Backend, tmp_path: Path) -> Iterator[Ledger]:
    made = backend.new(tmp_path)
    yield made
    made.close()


@pytest.fixture
def again(backend: Backend, store: Ledger, tmp_path: Path) -> Iterator[Callable[[], Ledger]]:
    """Opens the same database once more, as another process would."""
    opened: list[Ledger] = []

    def open_() -> Ledger:
        opened.append(backend.again(tmp_path))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


@pytest.fixture
def search(store: Ledger) -> int:
    return store.create_search(SPEC, ROOT)
