"""How large a body is drawn: the unit u in which widths and amplitudes of body motion are told.

    u = 0.75 * (mean of m_k ^ 4) ^ (1 / 4)      m: torso, shoulder width / 0.72, longest upper arm / 0.56

over the measures that both photos tell. Foreshortening only ever makes a measure smaller, so the mean leans towards
the largest (p = 4): a person from the side keeps the size that the torso says. The ratios are medians of people.
A unit too small loses a little motion, one too large distorts: where the photos share few measures, one that only the
exemplar shows foreshortened hardly makes the query larger, and one that the query shows so hardly makes it smaller.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .frames import Body

_POWER, _OF_TORSO = 4.0, 0.75
SHOULDERS, _UPPER_ARM = 0.72, 0.56  # of the torso
_MOST_LARGER = 1.1  # times what the query's own measures say
_LEAST = 0.9  # of what all of the query's measures say


def measures(body: Body) -> Tensor:
    """(3,) pixels, each as the torso it speaks for; NaN (or 0) where it cannot be told."""
    nan = float("nan")
    shoulders, hips = body.middle("shoulder"), body.middle("hip")
    right, left = body.joint("shoulder_r"), body.joint("shoulder_l")
    width = nan if right is None or left is None else float((right - left).norm())
    torso = nan if shoulders is None or hips is None else float((shoulders - hips).norm())
    arms = []
    for shoulder, side in ((right, "r"), (left, "l")):
        elbow = body.joint(f"elbow_{side}")
        if shoulder is not None and elbow is not None:
            arms.append(float((shoulder - elbow).norm()))
    return torch.tensor([torso, width / SHOULDERS, max(arms, default=nan) / _UPPER_ARM])


def unit_of(told: Tensor) -> float | None:
    """u in the unit of `measures`, over those that are told; None without any."""
    known = told[told.isfinite() & (told > 0)]
    if not len(known):
        return None
    return _OF_TORSO * float(known.pow(_POWER).mean().pow(1 / _POWER))


def shared_unit(query: Tensor, exemplar: Tensor) -> float | None:
    """u of the query, given both photos' measures: over those told in both, times what the exemplar's own u has more,
    up to a tenth; and at least nine tenths of the query's own u.

    None where they share none.
    """
    both = query.isfinite() & exemplar.isfinite() & (query > 0) & (exemplar > 0)
    if not bool(both.any()):
        return None
    all_told, alike, other, own = (unit_of(told) for told in (exemplar, exemplar[both], query[both], query))
    if all_told is None or alike is None or other is None or own is None:
        return None
    return max(other * min(all_told / alike, _MOST_LARGER), _LEAST * own)
