"""One pool a device for all that is judged here: starting one costs more than most candidates."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernelgrove.engine.evaluator.pool import Pool


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def pool(device: str) -> Iterator[Pool]:
    with Pool(device, parallel=4) as pool:
        yield pool
