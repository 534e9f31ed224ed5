"""Samples of random tools: some tools together, done to one to four exemplars and a query, as a locator sees them.

    group    eight people, and what some hundred tools do to each of them at the places of the view
    sample   one to four tools of a group, of random signs and strengths, added up  ->  exemplars and a query of it

A group costs much and a sample next to nothing, so each step looks into some forty groups, the oldest of which is
replaced every other step. Everything is a function of (seed, step): a run can be stopped and continued.
Shapes: B batch, I exemplars, T places, K landmarks, S people of a group. All in cells of the view.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.faces.landmarks import MIRROR_130
from mirrorppr_core.faces.view import CanonicalView
from mirrorppr_core.mini.carry import CarryCondition
from mirrorppr_core.mini.places import Places

from ..data.labelled import LabelledPortrait, source_weights
from ..data.order import seed_of
from ..locator.errors import landmark_errors
from .steps import draw_steps
from .webs import draw_webs

GROUPS, STEPS_A_GROUP = 40, 2  # looked into at once; a new one every so many steps
PEOPLE, STEPS, WEBS = 8, 48, 48  # of a group: people, tools of each kind
_COUNT_ODDS = (0.45, 0.3, 0.15, 0.1)  # of one to four tools together
_PAIR_ODDS = (0.45, 0.15, 0.25, 0.15)  # of one to four exemplars
_SLOW, _LEAST = 9, 0.02  # nodes a side of slow measuring errors; of its longest motion, a tool must show on every face


@dataclass(frozen=True)
class ToolFaces:
    """points: (F, K, 2) cells, turned and scaled onto the template.  weight: (F,) how often each is drawn."""

    points: Tensor
    weight: Tensor
    identity: tuple[str, ...]

    @classmethod
    def of(cls, portraits: list[LabelledPortrait], view: CanonicalView) -> ToolFaces:
        landmarks = torch.stack([portrait.points for portrait in portraits])
        _, similarity = view.shapes(landmarks)
        names = tuple(portrait.identity for portrait in portraits)
        return cls(similarity.inverse(landmarks), source_weights(portraits), names)

    def divided(self, *, held_out: float, seed: int) -> tuple[ToolFaces, ToolFaces]:
        """For training and for validation, with nobody in both."""
        names = sorted(set(self.identity))
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
        held = {names[i] for i in order[: max(1, int(len(names) * held_out))]}
        is_held = torch.tensor([name in held for name in self.identity])
        return self._only(~is_held), self._only(is_held)

    def _only(self, rows: Tensor) -> ToolFaces:
        names = tuple(name for name, kept in zip(self.identity, rows.tolist(), strict=True) if kept)
        return ToolFaces(self.points[rows], self.weight[rows], names)


@dataclass(frozen=True)
class ToolBatch:
    """condition: what is seen.  target: (B, T, 2) what the tools do to the query."""

    motions: Tensor
    exemplar_points: Tensor
    query_points: Tensor
    target: Tensor

    @property
    def condition(self) -> CarryCondition:
        return CarryCondition(self.motions, self.exemplar_points, self.query_points)


@dataclass(frozen=True)
class _Group:
    """motions: (N, S, T, 2), of one mean strength.  points: (S, K, 2) as they are seen."""

    motions: Tensor
    points: Tensor


class ToolSource:
    """Batches of a step; see loop.BatchSource."""

    def __init__(self, faces: ToolFaces, view: CanonicalView, *, seed: int):
        self._faces, self._seed = faces, seed
        self._cells, self._middle = view.cells_per_eye_distance, (view.config.size - 1) / 2
        self._template, self._places = view.template, Places.of(view)
        self._slow = _slow_errors(self._places, view.config.size)
        self._groups: OrderedDict[int, _Group] = OrderedDict()

    def batch(self, step: int, size: int, part: int, parts: int) -> ToolBatch:
        g = torch.Generator().manual_seed(seed_of("pairs", self._seed, step))
        pairs = 1 + int(torch.multinomial(torch.tensor(_PAIR_ODDS), 1, generator=g))
        rows = range(part * size // parts, (part + 1) * size // parts)
        return _stacked([self._sample(step, row, pairs) for row in rows])

    def _sample(self, step: int, row: int, pairs: int) -> ToolBatch:
        g = torch.Generator().manual_seed(seed_of("tools", self._seed, step, row))
        group = self._group(step // STEPS_A_GROUP + int(torch.randint(GROUPS, (), generator=g)))
        count = 1 + int(torch.multinomial(torch.tensor(_COUNT_ODDS), 1, generator=g))
        tools = torch.randint(len(group.motions), (count,), generator=g)
        amounts = torch.exp(0.5 * torch.randn(count, generator=g))
        amounts = torch.where(torch.rand(count, generator=g) < 0.5, -amounts, amounts)
        people = torch.randperm(PEOPLE, generator=g)[: pairs + 1]
        moved = torch.einsum("n,nstd->std", amounts, group.motions[tools][:, people])
        return ToolBatch(
            motions=self._measured(moved[:pairs], g)[None],
            exemplar_points=group.points[people[:pairs]][None],
            query_points=group.points[people[pairs]][None],
            target=moved[pairs][None],
        )

    def _measured(self, motions: Tensor, g: torch.Generator) -> Tensor:
        """As an estimator returns them: with slow errors, and nothing where little moves.  (I, T, 2)."""
        scale = self._places.strongest(motions)[:, None, None]
        slow = torch.einsum("tn,ind->itd", self._slow, torch.randn(len(motions), _SLOW**2, 2, generator=g))
        motions = motions + 0.04 * scale * torch.rand(len(motions), 1, 1, generator=g) * slow * (motions != 0)
        floor = 0.04 * scale * torch.rand(len(motions), 1, 1, generator=g)
        gate = ((motions.norm(dim=-1, keepdim=True) - floor) / (1.5 * floor + 1e-6)).clamp(0, 1)
        return motions * gate * gate * (3 - 2 * gate)

    def _group(self, index: int) -> _Group:
        if index not in self._groups:
            self._groups[index] = self._drawn(torch.Generator().manual_seed(seed_of("group", self._seed, index)))
            if len(self._groups) > GROUPS + 2:
                self._groups.popitem(last=False)
        return self._groups[index]

    def _drawn(self, g: torch.Generator) -> _Group:
        drawn = torch.multinomial(self._faces.weight, PEOPLE, replacement=True, generator=g)
        true = self._faces.points[drawn]
        mirrored = true[:, list(MIRROR_130)] * torch.tensor([-1.0, 1.0]) + torch.tensor([2 * self._middle, 0.0])
        true = torch.where((torch.rand(PEOPLE, generator=g) < 0.5)[:, None, None], mirrored, true)
        seen = true + landmark_errors(g, PEOPLE) * self._cells
        landmarks = (true[None] - self._middle) / self._cells
        points = (self._places.on_faces(seen, self._template)[None] - self._middle) / self._cells
        mean_face = (self._template - self._middle) / self._cells
        tools = draw_steps(g, STEPS, mean_face), draw_webs(g, WEBS, mean_face)
        motions = torch.cat([tool.motion(landmarks, points) for tool in tools]) * self._cells  # (N, S, T, 2)
        shown = self._places.strongest(motions)  # (N, S)
        longest = shown.amax(1)
        good = motions.isfinite().flatten(1).all(1) & (shown.amin(1) > _LEAST * longest) & (longest > 1e-3)
        return _Group(motions[good] / shown[good].mean(1)[:, None, None, None], seen)


def _slow_errors(places: Places, size: int) -> Tensor:
    """(T, nodes): from a coarse grid of numbers to the places, smoothly."""
    nodes = torch.eye(_SLOW**2).view(-1, 1, _SLOW, _SLOW)
    maps = F.interpolate(nodes, size=(size, size), mode="bicubic", align_corners=False)
    return replace(places).seen(maps.transpose(0, 1))[0]


def _stacked(rows: list[ToolBatch]) -> ToolBatch:
    names = ("motions", "exemplar_points", "query_points", "target")
    return ToolBatch(**{name: torch.cat([getattr(row, name) for row in rows]) for name in names})
