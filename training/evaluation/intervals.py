"""Bootstrap intervals for means of repeated measurements.

Cases that share a portrait are not independent: a face that is hard to read spoils all of its cases at once. So whole
clusters (all cases of one portrait) are drawn with replacement, not cases; drawing cases would give intervals that are
too narrow wherever a portrait repeats, as in SimFace-100, whose 100 cases show 12 faces.

Percentile bootstrap, Efron 1979; clusters: Field and Welsh 2007. Same values, same interval: the seed is fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A value, and what 95 % of the resamples lie between."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 3, *, sign: bool = False) -> str:
        style = f"{'+' if sign else ''}.{digits}f"
        return f"{self.value:{style}} [{self.low:{style}}, {self.high:{style}}]"


def mean_interval(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Interval:
    """The mean.  clusters: one label per value, for example the query's file; None: every value on its own."""
    return ratio_interval(values, [1.0] * len(values), clusters)


def ratio_interval(
    numerators: Sequence[float],
    denominators: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    transform: Callable[[Tensor], Tensor] = lambda ratio: ratio,
) -> Interval:
    """transform(sum of numerators / sum of denominators): pooled PSNR is one of squared errors and pixel counts."""
    clusters = range(len(numerators)) if clusters is None else clusters
    if not len(numerators) == len(denominators) == len(clusters):
        raise ValueError(
            f"{len(numerators)} numerators, {len(denominators)} denominators and {len(clusters)} cluster labels: "
            "one of each per measurement"
        )
    if not numerators:
        raise ValueError("there is nothing to average: pass one measurement or more")
    index = {label: i for i, label in enumerate(dict.fromkeys(clusters))}
    rows = torch.tensor([index[label] for label in clusters])
    sums = torch.zeros(2, len(index), dtype=torch.float64)
    sums.index_add_(1, rows, torch.tensor([list(numerators), list(denominators)], dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    picks = torch.randint(len(index), (RESAMPLES, len(index)), generator=generator)
    numerator, denominator = sums[:, picks].sum(-1)  # (RESAMPLES,) each
    resampled, ends = transform(numerator / denominator), torch.tensor([0.025, 0.975], dtype=torch.float64)
    # "nearest": between two infinite PSNRs there is nothing to interpolate.
    low, high = resampled.quantile(ends, interpolation="nearest").tolist()
    return Interval(float(transform(sums[0].sum() / sums[1].sum())), low, high)
