"""How well Mini repeats operations that it was not trained on in this form: other tools' versions of them.

    python tests/benchmarks/bench_other_tools.py --portraits DIR [--cases 44] [--weights SET]

Every tool has its own field for "wider eyes". Here each professional operation of the face gets windows 0.7 or 1.4
times as wide as the ones in training, on exemplar and query alike; the query's own field is the truth. Columns: Mini,
and the exemplar's motion carried over without the network. People are from the eval split; intervals are over those
whom the queries show.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.geometry.displacement import length
from mirrorppr_core.geometry.field import Field, apply_field
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.operations.professional import professional_displacement
from training.data.labelled import labelled_portraits
from training.evaluation.intervals import mean_interval
from training.mini.face_set import PROFESSIONAL_FACE

_WIDTHS = (0.7, 1.4)
_NARROW_AMOUNT = 0.6  # narrower windows fold at less strength
_LEAST_PX = 0.8  # longest motion of a case


def displacement(name: str, width: float, strength: float, mesh: Tensor, size: tuple[int, int]) -> Tensor:
    """The operation with windows `width` times as wide, (1, 2, H, W)."""
    return professional_displacement(mesh, None, size, operation=name, strength=strength, reach=width)


def score(model: MirrorPPR, operation, query: Tensor, truth: Tensor, *, refine: bool) -> float:
    """relEPE where the truth moves."""
    made = model.retouch(query, operation, RetouchConfig(refine=refine, face="largest")).field.dense()
    moves = length(truth) > max(0.1, 0.02 * float(length(truth).max()))
    return float((length(made - truth) * moves).sum() / (length(truth) * moves).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--portraits", type=Path, required=True, help="folder with eval/ and landmarks.npz")
    parser.add_argument("--cases", type=int, default=44)
    parser.add_argument("--weights", type=Path, help="a set's folder; the bundled one by default")
    arguments = parser.parse_args()
    model = MirrorPPR.from_folder(arguments.weights) if arguments.weights else MirrorPPR.bundled()
    known = labelled_portraits(arguments.portraits, split="eval")
    people, draw = sorted(known, key=lambda portrait: portrait.file), random.Random(7)
    rows, refused, small = [], 0, 0
    for number in range(arguments.cases):
        name, width = PROFESSIONAL_FACE[number % len(PROFESSIONAL_FACE)], draw.choice(_WIDTHS)
        strength = 100 * draw.choice((-1, 1)) * draw.uniform(0.6, 1.0) * (_NARROW_AMOUNT if width < 1 else 1)
        chosen = draw.sample(people, 2)
        before, query = (portrait.picture() for portrait in chosen)
        made, truth = (
            displacement(name, width, strength, portrait.mesh, tuple(photo.shape[-2:]))
            for portrait, photo in zip(chosen, (before, query), strict=True)
        )
        if float(length(made).max()) < _LEAST_PX:
            small += 1
            continue
        after = (apply_field(before, Field.from_dense(made)).clamp(0, 1) * 255).round() / 255
        try:
            operation = model.extract(Exemplar(before, after), face="largest")
            scores = [score(model, operation, query, truth, refine=refine) for refine in (True, False)]
        except ValueError as error:
            print(f"refused: {chosen[0].file} -> {chosen[1].file}: {error}")
            refused += 1
            continue
        rows.append((width, chosen[1].identity, *scores))
    print(f"{len(rows)} cases, {refused} refused, {small} left out (motion under {_LEAST_PX} px)\n")
    print("| windows | cases | Mini, relEPE | copied motion, relEPE |\n|---|---|---|---|")
    for label, widths in [*((f"x {w:g}", (w,)) for w in _WIDTHS), ("all", _WIDTHS)]:
        _, people, *scores = zip(*(row for row in rows if row[0] in widths), strict=True)
        cells = [mean_interval(column, people).text() for column in scores]
        print(f"| {label} | {len(people)} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main()
