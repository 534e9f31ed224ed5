"""How fine an edit the canonical view still holds: one eyebrow's tail, one mouth corner, the nose tip.

    python tests/benchmarks/bench_fine_edits.py --portraits DIR [--people 10]

A soft dab (Gaussian, half as long as it is wide) is put on one landmark of eval portraits. relEPE over the whole
portrait of the motion as the view of 64 x 64 cells holds it, as the codec holds it, and as it is read from pictures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

SPOTS = {"brow tail": 70, "mouth corner": 61, "nose tip": 1}  # mesh points
WIDTHS = (0.06, 0.09, 0.12, 0.18, 0.25)  # standard deviations, in eye distances


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--people", type=int, default=10)
    options = parser.parse_args()

    import torch

    from mirrorppr_core.exemplar import Exemplar
    from mirrorppr_core.faces.landmarks import FACE_POINTS
    from mirrorppr_core.geometry.displacement import pixel_grid
    from mirrorppr_core.geometry.field import Field, apply_field
    from mirrorppr_core.mini.codec import FieldCodec, motion_scale
    from mirrorppr_core.mini.pipeline import MirrorPPR
    from training.data.picture_files import read_picture
    from training.evaluation.benchmark_cases import load_people, to_eight_bits

    torch.set_num_threads(1)
    model = MirrorPPR.bundled()
    view, codec = model.extractor.sight.view, FieldCodec()
    people = load_people(options.portraits)
    people = people[:: max(1, len(people) // options.people)][: options.people]

    def error(made: torch.Tensor, true: torch.Tensor) -> float:
        return float((made - true).norm(dim=1).sum() / true.norm(dim=1).sum())

    print("| edit | width, eye distances | longest, px | view | codec | read |\n|---|---|---|---|---|---|")
    for spot, point in SPOTS.items():
        for width in WIDTHS:
            errors, longest = [], []
            for person in people:
                photo = read_picture(options.portraits / person.file)
                size = photo.shape[-2:]
                seen = view.fit(person.mesh[list(FACE_POINTS)])
                deviation = width * view.cells_per_eye_distance * seen.pixels_per_cell
                away = (pixel_grid(*size) - person.mesh[point].view(1, 2, 1, 1)).square().sum(1, keepdim=True)
                push = torch.tensor([0.4, -0.3]).view(1, 2, 1, 1) * deviation
                true = torch.exp(-away / (2 * deviation**2)) * push
                motion = view.motion_from_photo(true, seen)
                scale = motion_scale(motion)
                latent = codec.encode(motion, scale)
                decoded = codec.decode(latent, scale, shown=latent) * view.window
                held = [view.motion_to_photo(one, seen, height=size[0], width=size[1]) for one in (motion, decoded)]
                after = to_eight_bits(apply_field(photo, Field.from_dense(true)))
                try:
                    held.append(model.extractor.extract(Exemplar(photo, after), face="largest").field)
                except ValueError:
                    held.append(Field.zero(*size))
                errors.append([error(field.dense(), true) for field in held])
                longest.append(0.5 * deviation)
            told = " | ".join(f"{mean(column):.3f}" for column in zip(*errors, strict=True))
            print(f"| {spot} | {width} | {mean(longest):.1f} | {told} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
