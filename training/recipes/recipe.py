"""Recipes: a retouch as data, a few named operations with their strengths, and what it does to a portrait.

    Recipe(steps=(Step(operation="eye_resize", strength=60), Step(operation="jaw_trans", strength=-40)))

The 8 simulated operations (LLW) and the professional ones mix freely. All of them measure in landmarks of the face
or body at hand, so the same recipe on another person is the same operation: that is what cross-identity pairs are
made of. Two modes, as in `mirrorppr_core.operations.llw`:

    exact      step n acts on the landmarks that the steps before it have moved; the motions are composed into one
               field, and the picture is resampled once: after(p) = before(p + d(p)).
    official   the published arithmetic, simulated operations only: pictures are blended and cut to bytes after
               every step, so `displacement` only approximates what happened to the pixels.

Pixels, x then y, the centre of the top-left pixel at (0, 0). H height, W width, N points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from mirrorppr_core.geometry import displacement
from mirrorppr_core.geometry.field import Field, apply_field
from mirrorppr_core.images import as_float
from mirrorppr_core.operations import llw, professional_table
from mirrorppr_core.operations.professional import LEAST_VISIBILITY, SIDES

from .placed_steps import PlacedStep, field_of, followed, place_form, place_llw, place_professional

MODES = llw.MODES
SIMULATED: tuple[str, ...] = tuple(llw.OPERATIONS)
_PROFESSIONAL = professional_table.OPERATIONS
PROFESSIONAL_FACE: tuple[str, ...] = tuple(name for name, operation in _PROFESSIONAL.items() if not operation.on_body)
PROFESSIONAL_BODY: tuple[str, ...] = tuple(name for name, operation in _PROFESSIONAL.items() if operation.on_body)
ALL_OPERATIONS: tuple[str, ...] = SIMULATED + PROFESSIONAL_FACE + PROFESSIONAL_BODY
GROUPS = {
    "simulated": SIMULATED,
    "face": PROFESSIONAL_FACE,
    "body": PROFESSIONAL_BODY,
    "professional": PROFESSIONAL_FACE + PROFESSIONAL_BODY,
    "all": ALL_OPERATIONS,
}
WEAKEST = 30  # percent; weaker retouches of a face of 100 px move less than a pixel
BODY_TOOLS = ("pushes", "forms")  # whose windows a body operation has: ours, or those measured on a commercial tool
ONE_SIDED_SHARE = 0.2  # of the drawn steps that could be, evenly left and right


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operation. strength: -100..100 percent. side: the person's own, for paired professional operations.
    tool: one of BODY_TOOLS, for operations of the body."""

    operation: str
    strength: float
    side: str = "both"
    tool: str = "pushes"

    def __post_init__(self) -> None:
        if self.operation not in ALL_OPERATIONS:  # the name of a group is none
            raise ValueError(f"unknown operation {self.operation!r}: use one of {', '.join(ALL_OPERATIONS)}")
        if not -100 <= self.strength <= 100:
            raise ValueError(f"strength={self.strength} of {self.operation}: use -100 to 100 percent")
        if self.side not in SIDES:
            raise ValueError(f"side={self.side!r} of {self.operation}: use one of {', '.join(SIDES)}")
        if self.tool not in BODY_TOOLS or (self.tool != "pushes" and self.operation not in PROFESSIONAL_BODY):
            raise ValueError(
                f"tool={self.tool!r} of {self.operation}: use one of {', '.join(BODY_TOOLS)}; what is not of the body "
                "has pushes alone"
            )
        if self.side != "both" and not has_sides(self.operation):
            raise ValueError(f"{self.operation} acts on both sides at once: use side='both', not {self.side!r}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Steps in the order in which they are applied."""

    steps: tuple[Step, ...]
    mode: str = "exact"

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("a recipe without steps changes nothing: give it at least one Step")
        if self.mode not in MODES:
            raise ValueError(f"mode={self.mode!r}: use one of {', '.join(MODES)}")
        _check_mode(self.mode, [step.operation for step in self.steps])

    @property
    def one_sided(self) -> bool:
        """Whether a step moves only one half of the person, so that a flip makes it another operation."""
        return any(step.side != "both" for step in self.steps)

    def to_json(self) -> dict:
        """Plain lists, strings and numbers."""
        return {"mode": self.mode, "steps": [asdict(step) for step in self.steps]}

    @classmethod
    def from_json(cls, stored: dict) -> Recipe:
        try:
            steps = tuple(Step(**step) for step in stored["steps"])
            return cls(steps=steps, mode=stored["mode"])
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"this is not a recipe ({error}): need {{'mode': 'exact', 'steps': [{{'operation': ..., "
                f"'strength': ..., 'side': 'both'}}]}}, got {stored!r}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An exemplar pair with its truth: after(p) = before(p + displacement(p)) in exact mode."""

    before: Tensor  # (1, 3, H, W)
    after: Tensor  # (1, 3, H, W)
    displacement: Tensor  # (1, 2, H, W) pixels


def operations_named(text: str) -> tuple[str, ...]:
    """ "simulated", "face", "body", "professional", "all", or operation names separated by commas."""
    if text in GROUPS:
        return GROUPS[text]
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in ALL_OPERATIONS]
    if unknown or not names:
        raise ValueError(
            f"unknown operation {', '.join(map(repr, unknown or [text]))}: use {', '.join(GROUPS)} (one, and alone), "
            f"or names from {', '.join(ALL_OPERATIONS)}"
        )
    return tuple(dict.fromkeys(names))


def has_sides(operation: str) -> bool:
    return operation in _PROFESSIONAL and _PROFESSIONAL[operation].paired


def operations_for(operations: Sequence[str], mesh: Tensor | None, pose: Tensor | None) -> tuple[str, ...]:
    """Those that can be done, on one side at least, on a portrait with these landmarks.

    mesh: (478, 2).  pose: (33, 2..4).  A limb counts as seen from `LEAST_VISIBILITY` on.
    """
    return tuple(name for name in operations if _shows(name, "both", mesh, pose))


def can_do(recipe: Recipe, mesh: Tensor | None, pose: Tensor | None) -> bool:
    """Whether the portrait shows what every step moves, on the side that the step asks for."""
    return all(_shows(step.operation, step.side, mesh, pose) for step in recipe.steps)


def draw_recipe(
    generator: torch.Generator,
    operations: Sequence[str],
    *,
    max_steps: int = 3,
    mode: str = "exact",
    body_tools: Sequence[str] = BODY_TOOLS[:1],
) -> Recipe:
    """One to max_steps different operations at random; strengths of 30..100 percent, whole numbers, either sign.
    body_tools: of BODY_TOOLS, each as often; a single one takes nothing from the generator.
    """
    if max_steps < 1:
        raise ValueError(f"max_steps={max_steps}: use 1 or more")
    if not operations:
        raise ValueError("no operations to draw from: give at least one name, or a group such as 'simulated'")
    _check_mode(mode, operations)
    num_steps = _below(generator, min(max_steps, len(operations))) + 1
    order = torch.randperm(len(operations), generator=generator)[:num_steps].tolist()
    return Recipe(steps=tuple(_draw_step(generator, operations[i], body_tools) for i in order), mode=mode)


def recipe_displacement(recipe: Recipe, mesh: Tensor | None, pose: Tensor | None, size: tuple[int, int]) -> Tensor:
    """The motion of the whole recipe.  mesh: (478, 2).  pose: (33, 2..4).  size: (H, W).  Returns (1, 2, H, W).

    Either set of landmarks may be None if no step reads it; ValueError says which step needs it.
    """
    return recipe_field(recipe, mesh, pose, size).dense()


def recipe_field(recipe: Recipe, mesh: Tensor | None, pose: Tensor | None, size: tuple[int, int]) -> Field:
    """The same on the box where the recipe acts, several times faster than the dense one."""
    if recipe.mode == "official":
        return Field.from_dense(apply_recipe(torch.zeros(1, 3, *size), recipe, mesh, pose).displacement)
    return field_of(recipe_motions(recipe, mesh, pose, size), size)


def recipe_motions(recipe: Recipe, mesh: Tensor | None, pose: Tensor | None, size: tuple[int, int]) -> list[PlacedStep]:
    """The steps of an exact recipe, laid on this person in order: see `recipe_fields.motion_through`."""
    _check_landmarks(recipe.steps, mesh, pose)
    motions = []
    for step in recipe.steps:
        if motions:
            mesh, pose = followed(mesh, motions[-1]), followed(pose, motions[-1])
        motions.append(_place(step, mesh, pose, size))
    return motions


def apply_recipe(image: Tensor, recipe: Recipe, mesh: Tensor | None, pose: Tensor | None) -> Pair:
    """Retouch one portrait.  image: (1, 3, H, W), float in [0, 1] or uint8.  mesh: (478, 2).  pose: (33, 2..4).

    A float picture gives a float one and bytes give bytes; the latter is faster. Official mode is bytes inside.
    """
    size = tuple(image.shape[-2:])
    if recipe.mode == "exact":
        field = recipe_field(recipe, mesh, pose, size)
        return Pair(before=image, after=apply_field(image, field), displacement=field.dense())
    _check_landmarks(recipe.steps, mesh, pose)
    steps = [(step.operation, step.strength) for step in recipe.steps]
    edited = llw.apply_llw(as_float(image), mesh, steps, mode="official")
    after = edited.image if image.is_floating_point() else (edited.image * 255).round().to(image.dtype)
    return Pair(before=image, after=after, displacement=edited.displacement)


def recipe_folds(motion: Field | Tensor) -> bool:
    """Whether the motion turns any part of the picture over.  A field, which is faster, or (1, 2, H, W).

    Single operations fold on no portrait we tried; several in a row, or landmarks of no face, may. Nothing here weakens
    such a recipe; draw another one, or keep a note of it.
    """
    field = motion if isinstance(motion, Field) else Field.from_dense(motion)
    return field.displacement.numel() > 0 and displacement.folds(field.displacement)


def _place(step: Step, mesh: Tensor | None, pose: Tensor | None, size: tuple[int, int]) -> PlacedStep:
    if step.operation in SIMULATED:
        return place_llw(mesh, size, operation=step.operation, strength=step.strength)
    if step.tool == "forms":
        return place_form(pose, operation=step.operation, strength=step.strength, side=step.side)
    return place_professional(mesh, pose, operation=step.operation, strength=step.strength, side=step.side)


def _check_landmarks(steps: Sequence[Step], mesh: Tensor | None, pose: Tensor | None) -> None:
    for step in steps:
        on_body = step.operation in PROFESSIONAL_BODY
        if (pose if on_body else mesh) is None:
            kind, where = ("pose", "body") if on_body else ("mesh", "face")
            raise ValueError(
                f"{step.operation} needs the {kind} and got None: no {where} was found in this portrait; use another "
                "portrait or another operation (operations_for lists the possible ones)"
            )


def _check_mode(mode: str, operations: Sequence[str]) -> None:
    others = [name for name in operations if name not in SIMULATED]
    if mode == "official" and others:
        raise ValueError(
            f"mode='official' is the published arithmetic of the simulated operations and knows no {others[0]}: "
            "use mode='exact', or simulated operations only"
        )


def _shows(name: str, side: str, mesh: Tensor | None, pose: Tensor | None) -> bool:
    if name not in PROFESSIONAL_BODY:
        return mesh is not None
    if pose is None:
        return False
    if pose.shape[1] < 4:
        return True
    seen = (pose[:, 3] >= LEAST_VISIBILITY).tolist()
    sides = _PROFESSIONAL[name].sides()
    pushes = [push for own_side, group in sides.items() if side in ("both", own_side) for push in group]
    return any(all(seen[i] for i in push.landmarks) for push in pushes)


def _draw_step(generator: torch.Generator, operation: str, body_tools: Sequence[str]) -> Step:
    strength = WEAKEST + _below(generator, 101 - WEAKEST)
    sign = 1 - 2 * _below(generator, 2)
    one_sided = float(torch.rand((), generator=generator)) < ONE_SIDED_SHARE
    side = ("left", "right")[_below(generator, 2)]
    several = len(body_tools) > 1 and operation in PROFESSIONAL_BODY
    tool = body_tools[_below(generator, len(body_tools)) if several else 0]
    return Step(
        operation=operation,
        strength=float(sign * strength),
        side=side if one_sided and has_sides(operation) else "both",
        tool=tool if operation in PROFESSIONAL_BODY else BODY_TOOLS[0],
    )


def _below(generator: torch.Generator, limit: int) -> int:
    return int(torch.randint(limit, (), generator=generator))
