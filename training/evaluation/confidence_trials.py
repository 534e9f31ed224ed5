"""Retouches whose error is known, with all that the confidence sees of them: what it is fitted on and judged by.

A case is drawn as Benchmark P's and run four times: as it is, with its query disturbed (disturbances.py, by turns),
with its query noisy, blurred, dark or behind dark glasses (by turns), and with its exemplar disturbed or spoiled
(spoiled_exemplars.py, by turns). A retouch that is refused says so itself and makes no trial.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mirrorppr_core.mini.confidence import Cues, Explained, Names
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.motion.sharpness import gauss
from mirrorppr_core.operations.atoms import atoms_of

from .benchmark_cases import Case, build_case
from .disturbances import COMBINED, SINGLE
from .known_truth import CasePictures, edited_region, to_eight_bits
from .metrics import relative_epe
from .retouchers import try_extract
from .spoiled_exemplars import SPOILS, Pair, Spoil

_SPOILS = ("median 7", "Gaussian 2 px", "sunglasses", "bars on the face", "sharpened", "half the size",
           "strap removed on the face", "JPEG 40", "graded", "text on the face")  # fmt: skip
_EYES = ((33, 133), (362, 263))  # corners of the eyes in the mesh


@dataclass(frozen=True)
class Trial:
    """One retouch.  what: the case and what was done to it.  shares: of the named operations that explain its exemplar,
    by name; what the confidence knows of them is fitted on these."""

    what: str
    person: str
    exemplar: str
    cues: Cues
    error: float
    shares: dict[str, float] = field(default_factory=dict)


def trials(model: MirrorPPR, cases: Sequence[Case], portraits: Path, *, first: int = 0) -> Iterator[Trial]:
    """first: number of the first case, which decides whose turn it is."""
    disturbances, spoils = (*SINGLE, *COMBINED), [spoil for spoil in SPOILS if spoil.name in _SPOILS]
    for index, case in enumerate(cases, start=first):
        pictures = build_case(case, portraits)
        before, after, query = pictures.exemplar_before, pictures.exemplar_after, pictures.query
        as_ever = (pictures.displacement, pictures.region)
        of_query, of_exemplar = disturbances[index % len(disturbances)], disturbances[(3 * index + 5) % 11]
        turned = of_query.motion(pictures.displacement)
        look_name, look = _LOOKS[index % len(_LOOKS)]
        runs = [
            ("undisturbed", query, *as_ever),
            (f"query {of_query.name}", of_query.picture(query), turned, edited_region(turned, scale=of_query.scale)),
            (f"query {look_name}", to_eight_bits(look(query, case.query.mesh, index).clamp(0, 1)), *as_ever),
        ]
        if index % 2:
            name, pair = of_exemplar.name, (of_exemplar.picture(before), of_exemplar.picture(after))
        else:
            spoil = spoils[index // 2 % len(spoils)]
            name, pair = spoil.name, _spoiled(spoil, case, pictures, index)
        operation, _ = try_extract(model, before, after)
        worse, _ = try_extract(model, *pair)
        all_runs = [(operation, *run) for run in runs] + [(worse, f"exemplar {name}", query, *as_ever)]
        for used, what, photo, truth, region in all_runs:
            found = None if used is None else _one(model, used, photo, truth, region)
            if found is not None:
                people = (case.query.identity, case.exemplar.identity)
                yield Trial(f"{case.label}, {what}", *people, *found, shares=_shares(model, used))


def _dark_glasses(query: Tensor, mesh: Tensor, seed: int) -> Tensor:
    query = query.clone()
    for a, b in _EYES:
        (x0, y0), (x1, y1) = mesh[a].tolist(), mesh[b].tolist()
        x, y, half = (x0 + x1) / 2, (y0 + y1) / 2, 0.8 * abs(x1 - x0)
        query[..., int(y - 0.6 * half) : int(y + 0.6 * half), int(x - half) : int(x + half)] = 0.07
    return query


def _noisy(query: Tensor, mesh: Tensor, seed: int) -> Tensor:
    return query + 0.05 * torch.randn(query.shape, generator=torch.Generator().manual_seed(seed))


_LOOKS: tuple[tuple[str, Callable[[Tensor, Tensor, int], Tensor]], ...] = (
    ("noisy", _noisy),
    ("blurred by 2 px", lambda query, mesh, seed: gauss(query, 2.0)),
    ("dark", lambda query, mesh, seed: 0.35 * query),
    ("behind dark glasses", _dark_glasses),
)


def _spoiled(spoil: Spoil, case: Case, pictures: CasePictures, seed: int) -> tuple[Tensor, Tensor]:
    before = pictures.exemplar_before
    truth = torch.zeros_like(before[:, :2])  # not looked at by spoils that leave the motion as long as it is
    hidden = torch.zeros_like(before[:, :1], dtype=torch.bool)
    pair = Pair(
        before=before, after=pictures.exemplar_after, truth=truth, mesh=case.exemplar.mesh, hidden=hidden, seed=seed
    )
    worse = spoil.apply(pair)
    return worse.before, worse.after


def _one(
    model: MirrorPPR, operation: Operation, query: Tensor, truth: Tensor, region: Tensor
) -> tuple[Cues, float] | None:
    """None where it was refused, or nothing was found to move."""
    try:
        result = model.retouch(query, operation, RetouchConfig(face="largest"))
    except ValueError:
        return None
    if not result.cues or not result.cues[0]:
        return None
    return result.cues[0][0], float(relative_epe(result.field.dense(), truth, region))


def _shares(model: MirrorPPR, operation: Operation) -> dict[str, float]:
    names = Names.of(atoms_of(model.editor.config.dit.operations))
    shares: dict[str, float] = defaultdict(float)
    for name, share in zip(names.operations, Explained.of(operation, names).shares.tolist(), strict=True):
        shares[name] += share
    return {name: round(share, 4) for name, share in shares.items() if share > 0.001}
