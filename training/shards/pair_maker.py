"""Pair number i of a data set: a portrait, a recipe, before and after. A pure function of (specification, i).

    PairMaker(spec).make(i)    reads a portrait, draws a recipe that can be done on it, retouches, encodes

Portraits come in passes over the whole folder, each in another order, so that all are used equally often; a few pairs
in a row share one, which then is read, measured and encoded once. A portrait that cannot be used is replaced by
another, a recipe that folds the picture or moves nothing visible by another, both drawn from the seed and the number:
the pair that is made in the end does not depend on who makes it. Body operations are drawn on portraits that show the
body only, so a mixed data set has as many of them as the portraits allow. What was passed over is tallied.

Pixels; H height, W width.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.geometry.displacement import length
from mirrorppr_core.geometry.field import Field

from ..data.landmark_sources import landmark_source
from ..data.order import place_of, seed_of
from ..data.packed_pixels import as_png, to_pixels
from ..data.portrait_folder import Portrait, PortraitFolder, Skipped
from ..recipes.recipe import (
    PROFESSIONAL_BODY,
    Recipe,
    apply_recipe,
    can_do,
    draw_recipe,
    operations_for,
    recipe_field,
    recipe_folds,
)
from ..recipes.warp import warped
from .code_version import code_version
from .jpeg_strips import JpegStrips
from .spec import FORMAT_VERSION, DatasetSpec
from .tar import Sample

LEAST_MOTION_PX = 1.0  # a recipe whose longest motion is shorter leaves nothing to see
VISIBLE_PX = 0.1  # motions below it do not count as retouched area
MOST_RECIPES = 20  # drawn for one portrait before another is taken
MOST_PORTRAITS = 2000  # tried for one pair; a folder where so many in a row cannot be used is the wrong folder
# Why a recipe is drawn again.
REDRAWN = {
    "folds": "the motion turns a part of the picture over",
    "no-effect": "the longest motion is shorter than LEAST_MOTION_PX",
    "not-visible": "the half of the body that a one-sided step moves is hidden",
}
# Our own reasons to pass over a portrait, beside those of portrait_folder.py.
NO_OPERATION = "no-operation"  # none of the operations can be done on what it shows
NO_RECIPE = "no-recipe"  # MOST_RECIPES recipes in a row folded it or moved nothing


class NothingUsable(ValueError):
    """No portrait could be used for a pair."""


class Tally:
    """What one shard is made of, and what was passed over on the way."""

    def __init__(self):
        self.passed_over: dict[str, tuple[str, str]] = {}  # file -> reason, detail
        self.redrawn: Counter[str] = Counter()  # recipes, by reason
        self.kinds = {name: Counter() for name in ("operations", "licences", "sources")}

    def pass_over(self, file: str, reason: str, detail: str) -> None:
        self.passed_over[file] = (reason, detail)

    def redraw(self, reason: str) -> None:
        assert reason in REDRAWN, reason
        self.redrawn[reason] += 1

    def reasons(self) -> Counter[str]:
        return Counter(reason for reason, _ in self.passed_over.values())

    def used(self, portrait: Portrait, recipe: Recipe) -> None:
        self.kinds["operations"].update(step.operation for step in recipe.steps)
        self.kinds["licences"][portrait.licence] += 1
        self.kinds["sources"][portrait.source] += 1

    def to_json(self) -> dict:
        files = [dict(file=f, reason=r, detail=d) for f, (r, d) in sorted(self.passed_over.items())]
        return {
            "skipped": _sorted(self.reasons()),
            "redrawn_recipes": _sorted(self.redrawn),
            **{name: _sorted(counts) for name, counts in self.kinds.items()},
            "skipped_files": files,
        }


@dataclass(frozen=True)
class _Prepared:
    """A portrait at the data set's size, on bytes, as it will be stored."""

    portrait: Portrait
    photo: np.ndarray  # the picture again, packed (packed_pixels.py)
    strips: JpegStrips | None  # of the photo, where pairs are stored as JPEGs
    encoded: bytes  # the photo as a file
    scale: float  # stored pixels per pixel of the file


@dataclass(frozen=True)
class _Retouched:
    """field: the motion.  lengths: of its displacements, (h, w).  after: (H, W) packed."""

    field: Field
    lengths: np.ndarray
    after: np.ndarray


class PairMaker:
    """Raises FileNotFoundError, ImportError or ValueError for anything that would go wrong with every portrait."""

    def __init__(self, spec: DatasetSpec):
        self.spec = spec
        source = landmark_source(spec.landmarks)
        on_body = [name for name in spec.operations if name in PROFESSIONAL_BODY]
        on_face = [name for name in spec.operations if name not in PROFESSIONAL_BODY]
        for names, found, kind in ((on_body, source.finds_pose, "body"), (on_face, source.finds_mesh, "face")):
            if names and not found:
                raise ValueError(
                    f"{names[0]} needs the landmarks of the {kind}, and {spec.landmarks} gives none: take them from "
                    f"npz:PATH or mediapipe, or leave the {kind} operations out"
                )
        needs = "any" if on_body and on_face else "body" if on_body else "face"
        self.folder = PortraitFolder(
            spec.portraits, source, split=spec.split, min_side=spec.side, needs=needs, as_bytes=True
        )
        self.landmarks = source.name
        self._skipped: dict[int, Skipped] = {}
        self._last: tuple[int, _Prepared] | None = None

    @torch.inference_mode()  # bytes come out: nothing of what is in between is trained through
    def make(self, index: int, tally: Tally) -> Sample:
        """Raises NothingUsable."""
        group = index // self.spec.pairs_per_portrait
        for attempt in range(min(len(self.folder) + 1, MOST_PORTRAITS)):
            number = self._portrait_number(group, attempt)
            ready = self._prepared(number)
            if isinstance(ready, Skipped):
                tally.pass_over(ready.file, ready.reason, ready.detail)
                continue
            portrait = ready.portrait
            possible = operations_for(self.spec.operations, portrait.mesh, portrait.pose)
            if not possible:
                tally.pass_over(portrait.file, NO_OPERATION, "the joints that the operations move are not visible")
                continue
            for draw in range(MOST_RECIPES):
                generator = torch.Generator().manual_seed(seed_of("recipe", self.spec.seed, index, number, draw))
                recipe = draw_recipe(
                    generator,
                    possible,
                    max_steps=self.spec.max_steps,
                    mode=self.spec.mode,
                    body_tools=self.spec.body_tools,
                )
                made = _retouched(ready, recipe)
                if isinstance(made, _Retouched):
                    tally.used(portrait, recipe)
                    return self._sample(index, ready, recipe, made)
                tally.redraw(made)
            tally.pass_over(portrait.file, NO_RECIPE, f"{MOST_RECIPES} recipes in a row folded it or moved nothing")
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.reasons().items()))
        raise NothingUsable(
            f"no portrait in {self.spec.portraits} can be used for pair {index}: {counts}. Check the folder and the "
            "landmarks; the words are explained in training/data/portrait_folder.py and training/shards/pair_maker.py"
        )

    def _portrait_number(self, group: int, attempt: int) -> int:
        n = len(self.folder)
        if attempt == 0:
            return place_of(group % n, n, seed_of("pass", self.spec.seed, group // n))
        return place_of(attempt - 1, n, seed_of("instead", self.spec.seed, group))

    def _prepared(self, number: int) -> _Prepared | Skipped:
        if number in self._skipped:
            return self._skipped[number]
        if self._last is None or self._last[0] != number:
            portrait = self.folder.read(number)
            if isinstance(portrait, Skipped):
                self._skipped[number] = portrait
                return portrait
            self._last = number, self._prepare(portrait)
        return self._last[1]

    def _prepare(self, portrait: Portrait) -> _Prepared:
        height, width = portrait.image.shape[-2:]
        scale = self.spec.side / min(height, width)
        image, mesh, pose = portrait.image, portrait.mesh, portrait.pose
        if scale != 1:
            size = (round(height * scale), round(width * scale))
            image = F.interpolate(image, size, mode="bicubic", antialias=True, align_corners=False)
            factors = torch.tensor([size[1] / width, size[0] / height])  # the longer side was rounded
            mesh = None if mesh is None else _scaled(mesh, factors)
            pose = None if pose is None else _scaled_pose(pose, factors)
        if image.dtype != torch.uint8:  # of a file with more than 8 bits
            image = (image.clamp(0, 1) * 255).round().byte()
        photo = to_pixels(image[0].float().contiguous().numpy())
        scaled = Portrait(**{**portrait.__dict__, "image": image, "mesh": mesh, "pose": pose})
        if self.spec.picture == "png":
            return _Prepared(scaled, photo, None, as_png(photo), scale)
        strips = JpegStrips.of(photo, self.spec.quality)
        return _Prepared(scaled, photo, strips, strips.to_bytes(), scale)

    def _sample(self, index: int, ready: _Prepared, recipe: Recipe, made: _Retouched) -> Sample:
        portrait, field, suffix = ready.portrait, made.field, self.spec.picture
        about = {
            "format": FORMAT_VERSION,
            "index": index,
            "seed": self.spec.seed,
            "recipe": recipe.to_json(),
            "displacement": {"box": list(field.box), **_statistics(made)},
            "size": [field.width, field.height],
            "scale": ready.scale,
            **{name: getattr(portrait, name) for name in ("file", "identity", "source", "licence", "split")},
            "landmarks": self.landmarks,
            "code": code_version(),
        }
        if ready.strips is None:
            after = as_png(made.after)
        else:
            rows = (0, field.height) if recipe.mode == "official" else (field.box[1], field.box[3])
            after = ready.strips.with_rows(made.after, *rows).to_bytes()
        files = {f"before.{suffix}": ready.encoded, f"after.{suffix}": after}
        if self.spec.fields:
            files["field.npy"] = _npy(field)
        return Sample(f"{index:09d}", {**files, "json": json.dumps(about).encode()})


def _scaled(points: Tensor, factors: Tensor) -> Tensor:
    """(N, 2) pixels.  The centre of the first pixel is at 0, the edge of the picture at -0.5."""
    return (points + 0.5) * factors - 0.5


def _scaled_pose(pose: Tensor, factors: Tensor) -> Tensor:
    """(33, 4): x, y, z in pixels, visibility. z is measured in the unit of x."""
    return torch.cat([_scaled(pose[:, :2], factors), pose[:, 2:3] * factors[0], pose[:, 3:]], 1)


def _retouched(ready: _Prepared, recipe: Recipe) -> _Retouched | str:
    """The retouch, or why another recipe must be drawn: a key of REDRAWN."""
    image, mesh, pose = ready.portrait.image, ready.portrait.mesh, ready.portrait.pose
    if not can_do(recipe, mesh, pose):
        return "not-visible"
    if recipe.mode == "official":
        # Pairs of this mode are blends, whatever their field does, and the published ones are as they are.
        pair = apply_recipe(image, recipe, mesh, pose)
        field = Field.from_dense(pair.displacement)
    else:
        field = recipe_field(recipe, mesh, pose, tuple(image.shape[-2:]))
    lengths = length(field.displacement)[0, 0].numpy()
    if lengths.max(initial=0) < LEAST_MOTION_PX:
        return "no-effect"
    if recipe.mode == "official":
        return _Retouched(field, lengths, to_pixels(pair.after[0].float().numpy()))
    if recipe_folds(field):
        return "folds"
    return _Retouched(field, lengths, warped(ready.photo, field))


def _statistics(made: _Retouched) -> dict[str, float]:
    """Longest and mean motion (the mean of the visible), and the share of the picture that visibly moves."""
    visible = made.lengths > VISIBLE_PX
    count = int(np.count_nonzero(visible))
    return {
        "longest_px": round(float(made.lengths.max()), 3),
        "mean_px": round(float((made.lengths * visible).sum(dtype=np.float64)) / count, 3),
        "share": round(count / (made.field.width * made.field.height), 5),
    }


def _npy(field: Field) -> bytes:
    """The part inside the box, (2, h, w) float16."""
    stream = io.BytesIO()
    np.save(stream, field.displacement[0].half().numpy(), allow_pickle=False)
    return stream.getvalue()


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
