"""Bootstrap intervals for means of repeated measurements. The only bootstrap here.

Cases that show the same person are not independent: a face that is hard to read spoils all of its cases at once. So
whole people (all cases whose query shows one) are drawn with replacement, not cases; drawing cases would give
intervals that are too narrow wherever a person repeats, as in SimFace-100, whose 100 cases show 12 faces, and in
Benchmark P, whose 208 queries show 120. A person is the query's, because its face is the one that is moved and scored:
portraits.csv's identity where it is known, else the query's file.

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


def mean_interval(values: Sequence[float], people: Sequence[Hashable]) -> Interval:
    """The mean.  people: one label per value: whose query it was measured on."""
    return ratio_interval(values, [1.0] * len(values), people)


def median_interval(values: Sequence[float], people: Sequence[Hashable]) -> Interval:
    """The median; of an even number of values half way between the two in the middle."""
    drawn = _times_drawn(people, len(values))
    data, order = torch.tensor(list(values), dtype=torch.float64).sort()

    def median(times: Tensor) -> Tensor:
        """times: (R, n) how often each value counts."""
        until = times[:, order].cumsum(1)  # (R, n) values up to and with this one
        total = until[:, -1:]
        middle = torch.cat([(total + 1) // 2, total // 2 + 1], dim=1)  # (R, 2) their places, from 1
        return data[torch.searchsorted(until, middle)].mean(1)

    return _interval(median(torch.ones_like(drawn[:1])), median(drawn))


def ratio_interval(
    numerators: Sequence[float],
    denominators: Sequence[float],
    people: Sequence[Hashable],
    transform: Callable[[Tensor], Tensor] = lambda ratio: ratio,
) -> Interval:
    """transform(sum of numerators / sum of denominators): pooled PSNR is one of squared errors and pixel counts."""
    if len(numerators) != len(denominators):
        raise ValueError(f"{len(numerators)} numerators and {len(denominators)} denominators: one of each")
    drawn = _times_drawn(people, len(numerators)).double()
    parts = torch.tensor([list(numerators), list(denominators)], dtype=torch.float64).T  # (n, 2)
    resampled = transform(torch.divide(*(drawn @ parts).unbind(1)))
    return _interval(transform(torch.divide(*parts.sum(0).unbind())), resampled)


def _times_drawn(people: Sequence[Hashable], num_values: int) -> Tensor:
    """(RESAMPLES, n): how often each measurement is in each resample."""
    if len(people) != num_values:
        raise ValueError(f"{num_values} measurements and {len(people)} labels of people: one for each")
    if not num_values:
        raise ValueError("there is nothing to average: pass one measurement or more")
    index = {label: i for i, label in enumerate(dict.fromkeys(people))}
    picks = torch.randint(len(index), (RESAMPLES, len(index)), generator=torch.Generator().manual_seed(0))
    times = torch.zeros(RESAMPLES, len(index), dtype=torch.int64).scatter_add_(1, picks, torch.ones_like(picks))
    return times[:, [index[label] for label in people]]


def _interval(value: Tensor, resampled: Tensor) -> Interval:
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    # "nearest": between two infinite PSNRs there is nothing to interpolate.
    low, high = resampled.quantile(ends, interpolation="nearest").tolist()
    return Interval(float(value), low, high)
