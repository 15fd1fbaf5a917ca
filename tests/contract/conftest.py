"""``--strategy module:Class`` runs the strategy contract over a strategy that is not in the registry."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kernelgrove")
    group.addoption("--strategy", metavar="MODULE:CLASS", help="run the strategy contract over this one alone")
    group.addoption("--strategy-option", action="append", default=[], metavar="KEY=VALUE", help="an option of it")
