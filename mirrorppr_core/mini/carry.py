"""How a retouch without a name follows another face: a network that has seen endless random tools.

    each pair: motion and face at the places, the query's face   --mixing layers-->  mean over the pairs
    --mixing layers-->  gain A and rest r at every place

    x_0(u) = m(u) + A(u) m(u) + scale * r(u)      m: the mean of the pairs' motions in the canonical view

A copied motion is right for a tool that thinks in the unit in which the view is straightened, the size of the face.
Others think in the width of an eye or the height of a chin, have windows of their own, anchors of their own. One
exemplar does not tell which, but how likely each is can be learned. The network starts as the plain copy.

Landmarks are the same on every face, so places are mixed by matrices of their own (MLP-Mixer, arXiv:2105.01601),
cheaper than attention; ratios of lengths of the two faces, the units that tools think in, modulate every layer.
Shapes: B batch, I pairs, T places, K landmarks, D width. Motions and places are in cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..faces.landmarks import FACE_POINTS
from ..faces.view import CanonicalView
from ..weights_file import filled, halved, read_network, write_tensors
from .operation import Operation
from .places import NUM_PLACES, Places
from .transport import followed, of_pairs

MAX_TOLD_PAIRS = 4  # more count as so many
_WIDTH, _MIXED, _GEOMETRY = 48, 96, 32
_LAYERS = (1, 2)  # before and after the pairs are brought together
_BELIEVED = (0.2, 0.2, 0.15)  # how far, with one, two and more pairs, beside what transport.py does already
_AWAY = 0.3  # places of a face away from the template, in units near one

# Pairs of mesh points whose distances tools like to use as units.
_LENGTHS = (
    (468, 473), (234, 454), (10, 152), (61, 291), (33, 133), (263, 362), (159, 145), (386, 374), (129, 358), (168, 2),
    (0, 17), (70, 107), (300, 336), (2, 152), (133, 362), (172, 397), (0, 2), (17, 152), (145, 70),
)  # fmt: skip
USUAL_LENGTHS = tuple((FACE_POINTS.index(a), FACE_POINTS.index(b)) for a, b in _LENGTHS)  # as rows of the landmarks


@dataclass(frozen=True)
class CarryCondition:
    """motions: (B, I, T, 2).  exemplar_points: (B, I, K, 2) and query_points: (B, K, 2), the faces' landmarks."""

    motions: Tensor
    exemplar_points: Tensor
    query_points: Tensor


class CarryNet(nn.Module):
    """template: (K, 2), of the view that the places are of."""

    def __init__(self, places: Places, template: Tensor):
        super().__init__()
        for name, value in vars(places).items():
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("template", template, persistent=False)
        self.read = nn.Linear(8, _WIDTH)
        self.place = nn.Parameter(0.02 * torch.randn(NUM_PLACES, _WIDTH))
        self.number = nn.Embedding(MAX_TOLD_PAIRS, _WIDTH)
        self.lengths = nn.Sequential(nn.Linear(2 * len(USUAL_LENGTHS), 64), nn.GELU(), nn.Linear(64, _GEOMETRY))
        self.alone = nn.ModuleList(_Mixing() for _ in range(_LAYERS[0]))
        self.together = nn.ModuleList(_Mixing() for _ in range(_LAYERS[1]))
        self.norm = nn.LayerNorm(_WIDTH)
        self.answer = nn.Linear(_WIDTH, 6)
        for weights in (self.number.weight, self.answer.weight, self.answer.bias):
            nn.init.zeros_(weights)

    @classmethod
    def of(cls, view: CanonicalView) -> CarryNet:
        return cls(Places.of(view), view.template)

    @property
    def places(self) -> Places:
        return Places(self.cells, self.rows, self.area, self.spread)

    def forward(self, condition: CarryCondition) -> tuple[Tensor, Tensor]:
        """The gain (B, T, 2, 2) and the rest (B, T, 2), in cells, at the places.

        What the network answers for the exemplars' own face is taken off: there the copy is right as it is.
        """
        scale = self.places.strongest(condition.motions.mean(1)).clamp(min=1e-6)[:, None, None]
        own_face = condition.exemplar_points.mean(1)
        twice = CarryCondition(
            *(torch.cat([one, one]) for one in (condition.motions, condition.exemplar_points)),
            torch.cat([condition.query_points, own_face]),
        )
        asked, own = self._answer(twice, torch.cat([scale, scale])).chunk(2)
        gain, rest = (asked - own).split([4, 2], dim=-1)
        return gain.unflatten(-1, (2, 2)), rest * scale

    def _answer(self, condition: CarryCondition, scale: Tensor) -> Tensor:
        """(B, T, 6): gain and rest, in units of the scale (B, 1, 1)."""
        motions, places = condition.motions, self.places
        mean = motions.mean(1)  # (B, T, 2)
        own = places.on_faces(condition.exemplar_points.flatten(0, 1), self.template).unflatten(0, motions.shape[:2])
        asked = places.on_faces(condition.query_points, self.template)[:, None]  # (B, 1, T, 2)
        seen = [motions / scale[:, None], (motions - mean[:, None]) / scale[:, None]]
        seen += [(own - places.cells) * _AWAY, (asked - own) * _AWAY]
        x = self.read(torch.cat(seen, dim=-1)) + self.place  # (B, I, T, D)
        lengths = self._lengths(condition.exemplar_points)  # (B, I, L)
        ratios = self._lengths(condition.query_points)[:, None] - lengths
        geometry = self.lengths(4 * torch.cat([lengths, ratios], dim=-1))  # (B, I, G)
        for layer in self.alone:
            x = layer(x, geometry)
        x = x.mean(1) + self.number.weight[min(motions.shape[1], MAX_TOLD_PAIRS) - 1]  # (B, T, D)
        for layer in self.together:
            x = layer(x, geometry.mean(1))
        return self.answer(self.norm(x)).float()

    def at_places(self, condition: CarryCondition) -> Tensor:
        """The query's motion (B, T, 2)."""
        gain, rest = self(condition)
        mean = condition.motions.mean(1)
        return mean + (gain @ mean[..., None])[..., 0] + rest

    def _lengths(self, points: Tensor) -> Tensor:
        """Logarithms of the usual lengths in those of the template.  (..., K, 2) -> (..., L)."""
        a, b = torch.tensor(USUAL_LENGTHS, device=points.device).unbind(1)
        usual = (self.template[a] - self.template[b]).norm(dim=-1)
        return ((points[..., a, :] - points[..., b, :]).norm(dim=-1) / usual).clamp(min=0.05).log()


class _Mixing(nn.Module):
    """Places among each other, then the numbers of each place under the ratios of lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.places_norm, self.width_norm = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.gather, self.scatter = nn.Linear(NUM_PLACES, _MIXED), nn.Linear(_MIXED, NUM_PLACES)
        self.modulate = nn.Linear(_GEOMETRY, 2 * _WIDTH)
        self.widen, self.narrow = nn.Linear(_WIDTH, 2 * _WIDTH), nn.Linear(2 * _WIDTH, _WIDTH)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, geometry: Tensor) -> Tensor:
        """x: (..., T, D).  geometry: (..., G)."""
        mixed = F.gelu(self.gather(self.places_norm(x).mT), approximate="tanh")
        x = x + self.scatter(mixed).mT
        gain, shift = self.modulate(geometry).unsqueeze(-2).chunk(2, dim=-1)
        hidden = F.gelu(self.widen(self.width_norm(x) * (1 + gain) + shift), approximate="tanh")
        return x + self.narrow(hidden)


def carried(
    network: CarryNet | None, operation: Operation, query_shape: Tensor, view: CanonicalView, *, named: float = 0.0
) -> Tensor:
    """The operation's motion on the query's face, (1, 2, N, N) cells.  query_shape: (1, 2, N, N), the face's.

    network: None where a set comes without; then the motion is laid on the face as it is (transport.py).
    named: how far the operation is believed to have a name after all.
    """
    laid = followed(operation, query_shape, view, named=named)
    if network is None:
        return laid
    motion, (motions, shapes) = operation.motion, of_pairs(operation)
    condition = CarryCondition(
        motions=network.places.seen(motions)[None],
        exemplar_points=view.landmarks(shapes)[None],
        query_points=view.landmarks(query_shape),
    )
    gain, rest = network(condition)
    maps = network.places.spread_out(torch.cat([gain.flatten(2), rest], dim=-1))  # (1, 6, N, N)
    adapted = torch.einsum("bijhw,bjhw->bihw", maps[:, :4].unflatten(1, (2, 2)), motion) + maps[:, 4:]
    return laid + _BELIEVED[min(len(motions), len(_BELIEVED)) - 1] * adapted


def save_carry(network: CarryNet, path: str | Path) -> None:
    write_tensors(path, halved(network.state_dict()), {"format": "mirrorppr", "part": "carry", "network": "mixing"})


def load_carry(path: str | Path, view: CanonicalView) -> CarryNet:
    """Strict: a file that is not exactly this network is refused (weights_file.py says how)."""
    weights, _ = read_network(path, "carry", "network for tools without a name")
    places = Places.of(view)
    return filled(lambda: CarryNet(places, view.template), weights, path)
