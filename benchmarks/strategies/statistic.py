"""Means over landscapes, each counting the same, with intervals from resampling seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f}–{self.high:.3f})"


def overall(by_landscape: Mapping[str, Sequence[float]]) -> Estimate:
    """The mean of the landscapes' means. Seeds are resampled within each landscape."""
    drawn = _resampled([np.asarray(v, dtype=float) for v in by_landscape.values()])
    mean = float(np.mean([np.mean(v) for v in by_landscape.values()]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(mean, float(low), float(high))


def ratio(one: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]]) -> Estimate:
    """Overall *one* ÷ overall *other*, the same seeds resampled for both."""
    pairs = [np.asarray([one[name], other[name]], dtype=float) for name in one]
    drawn = _resampled(pairs)
    ratios = drawn[:, 0] / drawn[:, 1]
    mean = float(np.mean([p[0].mean() for p in pairs]) / np.mean([p[1].mean() for p in pairs]))
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Estimate(mean, float(low), float(high))


def _resampled(samples: Sequence[np.ndarray]) -> np.ndarray:
    """Means over landscapes of resampled means over seeds: one row a resample (a pair's two side by side)."""
    rng = np.random.default_rng(1)
    total: np.ndarray | None = None
    for sample in samples:
        seeds = sample.shape[-1]
        picked = rng.integers(0, seeds, size=(_RESAMPLES, seeds))
        means = sample[..., picked].mean(axis=-1)
        means = means.T if sample.ndim == 2 else means
        total = means if total is None else total + means
    assert total is not None
    return total / len(samples)
