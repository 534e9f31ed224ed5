"""Training quadruplets made while training: sample number i is a function of (configuration, i) and of nothing else.

    before, after     an exemplar pair: a portrait and what a recipe makes of it
    query, target     the same operation elsewhere, in another frame and light:
                      the exemplar's own photo under a random A (the method's self-augmentation), or
                      another person's, retouched by the same recipe (operations measure in landmarks)

Pictures and motions come straight from the photo's pixels: crop, rotation, flip, scale and retouch are one map, and
each picture is sampled once. Portraits come in passes over the whole folder, each in an order of its own. Whatever
cannot be used (no face, a recipe that folds, a motion nobody could see) is replaced by a draw that depends on the
number alone, and told in `skipped`. So order, shards and resuming are arithmetic on i: no state, any worker.

`QuadrupletStream` deals the numbers to the processes of a run. Pixels, x then y; sizes are (H, W).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mirrorppr_core.geometry.displacement import folds, length
from mirrorppr_core.operations.professional import LEAST_VISIBILITY

from ..data.order import place_of, seed_of
from ..data.portrait_folder import Portrait, Skipped
from .augment import AugmentConfig, View, draw_view, see, see_motion, source_of
from .photometry import Look, PhotometricConfig, apply_look, draw_look
from .placed_steps import PlacedStep, motion_through
from .recipe import (
    PROFESSIONAL_BODY,
    SIMULATED,
    Recipe,
    apply_recipe,
    can_do,
    draw_recipe,
    operations_for,
    operations_named,
    recipe_motions,
)

PLAIN = AugmentConfig(area=(1.0, 1.0), stretch=(1.0, 1.0), degrees=(0,), flip=0.0)  # the largest upright crop
LEAST_MOTION_PX = 0.25  # of a view; a weaker motion leaves nothing to learn from
_MOST_RECIPES = 8  # drawn for one choice of portraits before others are taken
_MOST_CHOICES = 1000  # of portraits, before the folder is called unusable
_FACE_MARGIN, _BODY_MARGIN = 0.1, 0.025  # kept around landmarks on each side, of the box's side


class Portraits(Protocol):
    """What is needed of a PortraitFolder."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Portrait | Skipped: ...


@dataclass(frozen=True, kw_only=True)
class QuadrupletConfig:
    """What a sample is drawn from."""

    operations: tuple[str, ...] = SIMULATED
    max_steps: int = 3  # operations in a recipe, at most
    mode: str = "exact"  # or "official": the published arithmetic, simulated operations only
    exemplar_size: tuple[int, int] = (256, 256)
    query_size: tuple[int, int] = (256, 256)
    cross_identity: float = 0.5  # share of samples whose query is another person
    exemplar_view: AugmentConfig = PLAIN
    query_view: AugmentConfig = AugmentConfig()
    look: PhotometricConfig | None = PhotometricConfig()  # of query and target; None leaves them as they are

    def __post_init__(self) -> None:
        if self.operations:  # none at all is told by draw_recipe, as is all that is wrong with the rest
            operations_named(",".join(self.operations))
        draw_recipe(torch.Generator(), self.operations, max_steps=self.max_steps, mode=self.mode)
        for name in ("exemplar_size", "query_size"):
            if min(getattr(self, name)) < 16:
                raise ValueError(f"{name}={getattr(self, name)}: height and width must be 16 or more, 256 is usual")
        if not 0 <= self.cross_identity <= 1:
            raise ValueError(f"cross_identity={self.cross_identity}: a share lies between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Quadruplet:
    """One sample. Pictures (1, 3, H, W) in [0, 1], motions (1, 2, H, W) in their pixels.

    after(p) = before(p + exemplar_motion(p)) and target(p) = query(p + query_motion(p)), up to resampling (and up to
    the blend, in official mode).
    """

    before: Tensor
    after: Tensor
    query: Tensor
    target: Tensor
    exemplar_motion: Tensor
    query_motion: Tensor
    index: int
    recipe: Recipe
    files: tuple[str, str]  # of exemplar and query
    identities: tuple[str, str]
    views: tuple[View, View]  # of the two photos
    look: Look | None
    skipped: tuple[tuple[str, str], ...] = field(default=())  # (file, reason) passed over on the way


class Quadruplets(Dataset):
    """length: samples in the set.  seed: another one is another set."""

    def __init__(self, portraits: Portraits, config: QuadrupletConfig, *, seed: int, length: int):
        if not len(portraits):
            raise ValueError("the folder holds no portraits: quadruplets need at least one")
        if length < 1:
            raise ValueError(f"length={length}: use 1 or more")
        self.portraits, self.config, self.seed, self.length = portraits, config, seed, length
        # What is known of portraits once they were read; only saves reading them again.
        self._unusable: dict[int, Skipped] = {}
        self._identities: dict[int, str] = {}

    @property
    def exemplar_size(self) -> tuple[int, int]:
        return self.config.exemplar_size

    @property
    def query_size(self) -> tuple[int, int]:
        return self.config.query_size

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Quadruplet:
        """The same bytes for the same index in every process, whatever was asked for before."""
        if not 0 <= index < self.length:
            raise IndexError(f"sample {index} of {self.length}")
        skipped: list[tuple[str, str]] = []
        for choice in range(_MOST_CHOICES):
            generator = _generator(self.seed, index, choice)
            pair = self._choose(generator, index, choice, skipped)
            if pair is None:
                continue
            possible = self.config.operations
            for portrait in pair:
                possible = operations_for(possible, portrait.mesh, portrait.pose)
            if not possible:
                skipped.append((pair[0].file, "no-operation"))
                continue
            for _ in range(_MOST_RECIPES):
                with torch.inference_mode():  # without the bookkeeping of gradients, which many small steps feel
                    made = self._make(generator, pair, possible)
                if made is not None:
                    made = {name: _trainable(value) for name, value in made.items()}
                    return Quadruplet(**made, index=index, skipped=tuple(skipped))
            skipped.append((pair[0].file, "no-recipe"))
        reasons = ", ".join(sorted({reason for _, reason in skipped}))
        raise ValueError(f"no portrait can be used for sample {index}: {reasons}. Check the folder and its landmarks")

    def _choose(
        self, generator: torch.Generator, index: int, choice: int, skipped: list[tuple[str, str]]
    ) -> tuple[Portrait, Portrait] | None:
        """The portraits of exemplar and query, or None if one of them cannot be used."""
        n = len(self.portraits)
        cross, draw = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        if choice == 0:
            number = place_of(index % n, n, seed_of(self.seed, "pass", index // n))
        else:
            number = min(int(draw * n), n - 1)
        first = self._read(number, skipped)
        if first is None or cross >= self.config.cross_identity:
            return first and (first, first)
        start = int(torch.randint(n, (), generator=generator))
        for other in (number % n for number in range(start, start + n)):
            if self._identities.get(other) == first.identity:
                continue
            second = self._read(other, skipped)
            if second is not None and second.identity != first.identity:
                return first, second
        return first, first  # there is only one person here

    def _read(self, number: int, skipped: list[tuple[str, str]]) -> Portrait | None:
        found = self._unusable.get(number) or self.portraits.read(number)
        if isinstance(found, Skipped):
            self._unusable[number] = found
            skipped.append((found.file, found.reason))
            return None
        self._identities[number] = found.identity
        return found

    def _make(self, generator: torch.Generator, pair: tuple[Portrait, Portrait], possible: tuple[str, ...]):
        """The fields of a Quadruplet, or None if this recipe cannot be done on one of the two, folds it or hides."""
        config = self.config
        recipe = draw_recipe(generator, possible, max_steps=config.max_steps, mode=config.mode)
        if not all(can_do(recipe, portrait.mesh, portrait.pose) for portrait in pair):
            return None
        sizes, views = (config.exemplar_size, config.query_size), (config.exemplar_view, config.query_view)
        looks_at = [
            draw_view(
                generator,
                tuple(portrait.image.shape[-2:]),
                keep=_kept(portrait, recipe),
                size=size,
                may_flip=not recipe.one_sided,
                config=view,
            )
            for portrait, size, view in zip(pair, sizes, views, strict=True)
        ]
        look = None if config.look is None else draw_look(generator, config.look)
        retouched = [_Retouched.of(pair[0], recipe)]
        retouched.append(retouched[0] if pair[0] is pair[1] else _Retouched.of(pair[1], recipe))
        seen = []
        for one, view in zip(retouched, looks_at, strict=True):
            seen.append(one.through(view))
            if seen[-1] is None:
                return None
        (before, after, exemplar_motion), (query, target, query_motion) = seen
        if look is not None:
            query, target = apply_look(torch.cat([query, target]), look).split(1)
        return {
            "before": before,
            "after": after,
            "query": query,
            "target": target,
            "exemplar_motion": exemplar_motion,
            "query_motion": query_motion,
            "recipe": recipe,
            "files": (pair[0].file, pair[1].file),
            "identities": (pair[0].identity, pair[1].identity),
            "views": tuple(looks_at),
            "look": look,
        }


@dataclass(frozen=True, kw_only=True)
class _Retouched:
    """A portrait with a recipe laid on it, ready to be looked at."""

    portrait: Portrait
    motions: list[PlacedStep] | None  # exact mode
    blended: tuple[Tensor, Tensor] | None  # official mode: the retouched photo and its motion

    @classmethod
    def of(cls, portrait: Portrait, recipe: Recipe) -> _Retouched:
        if recipe.mode == "official":
            pair = apply_recipe(portrait.image, recipe, portrait.mesh, portrait.pose)
            return cls(portrait=portrait, motions=None, blended=(pair.after, pair.displacement))
        size = tuple(portrait.image.shape[-2:])
        motions = recipe_motions(recipe, portrait.mesh, portrait.pose, size)
        return cls(portrait=portrait, motions=motions, blended=None)

    def through(self, view: View) -> tuple[Tensor, Tensor, Tensor] | None:
        """Before, after and motion as the view shows them; None if the motion folds or does not show."""
        if self.blended is not None:
            after, displacement = self.blended
            motion = see_motion(displacement, view)
            return (see(self.portrait.image, view), see(after, view), motion) if _shows(motion) else None
        found = motion_through(self.motions, view)
        if found is None:
            return None
        (left, top, right, bottom), still, moved = found
        part = view.vectors(moved - still)
        if not _shows(part) or folds(part):
            return None
        source = source_of(self.portrait.image, view, margin=sum(motion.longest for motion in self.motions))
        before = source.through(view)
        motion = torch.zeros(1, 2, *view.size)
        motion[..., top:bottom, left:right] = part
        after = before.clone()
        inside = after[..., top:bottom, left:right]
        moves = (part[:, :1] != 0) | (part[:, 1:] != 0)
        inside.copy_(torch.where(moves, source.at(moved), inside))
        return before, after, motion


def _shows(motion: Tensor) -> bool:
    return float(length(motion).amax()) >= LEAST_MOTION_PX


def _kept(portrait: Portrait, recipe: Recipe) -> tuple[float, float, float, float]:
    """What a crop must hold: the face, and the visible joints too where the recipe moves the body."""
    boxes = []
    if portrait.mesh is not None:
        boxes.append(_grown(portrait.mesh, _FACE_MARGIN))
    if portrait.pose is not None and any(step.operation in PROFESSIONAL_BODY for step in recipe.steps):
        boxes.append(_grown(portrait.pose[portrait.pose[:, 3] >= LEAST_VISIBILITY, :2], _BODY_MARGIN))
    height, width = portrait.image.shape[-2:]
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    left, right = max(min(lefts), 0.0), min(max(rights), width - 1.0)
    top, bottom = max(min(tops), 0.0), min(max(bottoms), height - 1.0)
    return left, top, right, bottom


def _grown(points: Tensor, margin: float) -> tuple[float, float, float, float]:
    low, high = points.amin(0), points.amax(0)
    low, high = low - margin * (high - low), high + margin * (high - low)
    return (*low.tolist(), *high.tolist())


def _trainable(value: object) -> object:
    """Tensors of inference mode refuse to be trained on; the same memory under another name does not."""
    return torch.from_numpy(value.numpy()) if isinstance(value, Tensor) else value


def _generator(*parts: object) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(*parts))
