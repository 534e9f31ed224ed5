"""Professional operations as displacement fields: smooth, local, and the same on every face.

    d(p) = -strength / 100 * sum over sides of  U(p) * sum_k w_k(p) m_k(p) / sum_k w_k(p)
    w_k  = (1 - r^2)^2 for r < 1, else 0      r: distance from push k's middle in its reach
    U    = 1 - prod_k (1 - w_k)               pushes side by side move as one, they do not add up
    m_k  = shift + stretch * (p - middle)     +100 of the definition, in the person's own axes

The published professional pictures come from a commercial retouching engine whose fields are unknown; these are our
own design. What follows from the formula: strength 0 is exactly zero motion, opposite strengths are exact opposites,
the two sides add up to both, pixels beyond the reach keep their bits. The motion is small against the reach (numbers
in `professional_table.py`), so that the map does not fold. Where an edit moves the outline of the face, it also
fades with the distance from the oval, which keeps the background straight without a segmentation model.

The axes of a face are the line through the outer eye corners and its normal; of a body, the shoulder line and its
normal. B faces, N points, P pushes. Pixels, x then y. For the definitions see `professional_table.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..faces.landmarks import NUM_MESH
from ..geometry.displacement import pixel_grid, smoothstep
from .professional_table import OPERATIONS, ProfessionalOperation, Push, operation_named

__all__ = ["OPERATIONS", "SIDES", "professional_displacement", "professional_displacement_at"]

SIDES = ("both", "left", "right")
NUM_POSE = 33
LEAST_VISIBILITY = 0.5  # MediaPipe's own guess that a body landmark is in the picture and not hidden
_EDGES_TIMES_POINTS = 2**16  # of an outline, looked at together: few calls for few points, little memory for many
LEAST_WEIGHT = 1e-6  # on the rim of a window; dividing by less gives gradients that are not numbers

OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip


def professional_displacement(
    mesh: Tensor | None,
    pose: Tensor | None,
    size: tuple[int, int],
    *,
    operation: str,
    strength: float,
    side: str = "both",
    reach: float = 1.0,
) -> Tensor:
    """One operation on every pixel.  mesh: (478, 2).  pose: (33, 2..4).  size: H, W.  Returns (1, 2, H, W).

    Body operations read the pose and face operations the mesh; the other may be None. A fourth column of the pose
    is its visibility. side: "left" and "right" are the person's own. reach: times as wide windows as ours, for what
    other tools may do.
    """
    chosen = operation_named(operation).with_reach(reach)
    landmarks = checked_landmarks(chosen, mesh, pose)
    check_amount(chosen, strength, side)
    groups = placed_groups(chosen, landmarks, side)
    left, top, right, bottom = _box(groups, size)
    displacement = landmarks.new_zeros(1, 2, *size)
    if left < right and top < bottom:
        grid = pixel_grid(bottom - top, right - left, device=landmarks.device, dtype=landmarks.dtype)
        points = (grid.flatten(2).mT + landmarks.new_tensor([left, top])).contiguous()  # (1, N, 2)
        moved = _motion(points, chosen, groups, landmarks)
        inside = (moved * (-strength / 100)).mT.unflatten(2, (bottom - top, right - left))
        displacement[..., top:bottom, left:right] = inside
    return displacement


def professional_displacement_at(
    points: Tensor,
    mesh: Tensor | None,
    pose: Tensor | None,
    *,
    operation: str,
    strength: float | Tensor,
    side: str = "both",
    reach: float = 1.0,
) -> Tensor:
    """The same at a few points, for many people at once; differentiable.

    points: (N, 2) or (B, N, 2).  mesh: (478, 2) or (B, 478, 2).  pose: (33, 2..4) or (B, 33, 2..4).
    strength: a number or (B,).  Returns displacements shaped like points: what the dense field has there.
    """
    chosen = operation_named(operation).with_reach(reach)
    landmarks = checked_landmarks(chosen, mesh, pose)
    check_amount(chosen, strength, side)
    targets = points if points.ndim == 3 else points[None]
    moved = _motion(targets, chosen, placed_groups(chosen, landmarks, side), landmarks)
    amount = torch.as_tensor(strength, dtype=moved.dtype, device=moved.device).reshape(-1, 1, 1) / 100
    return (moved * -amount).view(points.shape)


@dataclass(frozen=True, kw_only=True)
class PlacedPush:
    """A push laid on B people: everything in pixels."""

    middle: Tensor  # (B, 1, 2)
    outward: Tensor  # (B, 1, 2) unit vector
    down: Tensor  # (B, 1, 2) unit vector
    half_length: Tensor  # (B, 1) of the capsule, along down; 0 for an ellipse
    reach: Tensor  # (B, 1, 2) outward and down
    shift: Tensor  # (B, 1, 2) x and y
    stretch: tuple[float, float] | tuple[Tensor, Tensor]  # (B, 1) each
    present: Tensor  # (B, 1) 1, or 0 where the landmarks are not visible

    def at(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """points: (B, N, 2).  Returns weights and motions in x and in y, (B, N) each."""
        x, y = points.unbind(-1)
        outward_x, outward_y = self.outward.unbind(-1)  # (B, 1)
        down_x, down_y = self.down.unbind(-1)
        away_x, away_y = x - self.middle[..., 0], y - self.middle[..., 1]
        across, along = away_x * outward_x + away_y * outward_y, away_x * down_x + away_y * down_y
        beyond = F.relu(along.abs() - self.half_length)
        squared = (across / self.reach[..., 0]).square() + (beyond / self.reach[..., 1]).square()
        weight = (1 - squared).clamp_min(0).square() * self.present
        stretch_x, stretch_y = self.stretch
        motion_x = self.shift[..., 0] + stretch_x * across * outward_x + stretch_y * along * down_x
        motion_y = self.shift[..., 1] + stretch_x * across * outward_y + stretch_y * along * down_y
        return weight, motion_x, motion_y

    @property
    def extent(self) -> Tensor:
        """(B, 2): how far the window goes from its middle, in x and in y, at most."""
        across = self.outward.abs() * self.reach[..., :1]
        along = self.down.abs() * (self.half_length[..., None] + self.reach[..., 1:])
        return (across + along)[:, 0]


def placed_groups(operation: ProfessionalOperation, landmarks: Tensor, side: str) -> list[list[PlacedPush]]:
    """The pushes of every side that takes part, on B people; each side blends on its own."""
    right, left = (12, 11) if operation.on_body else (33, 263)
    leftward = F.normalize(landmarks[:, left, :2] - landmarks[:, right, :2], dim=-1)[:, None]  # (B, 1, 2)
    groups = []
    for own_side, pushes in operation.sides().items():
        if side in ("both", own_side):
            outward = -leftward if own_side == "right" else leftward
            groups.append([_place(push, landmarks, outward, leftward) for push in pushes])
    seen = torch.stack([push.present for group in groups for push in group]).amax(0)
    if not seen.all():
        raise ValueError(
            f"{operation.name} moves {operation.parts}, and the pose does not see them: use a photo that shows "
            f"them (visibility {LEAST_VISIBILITY} or more), or another operation"
        )
    return groups


def _place(push: Push, landmarks: Tensor, outward: Tensor, leftward: Tensor) -> PlacedPush:
    """landmarks: (B, 478, 2) or (B, 33, 2..4).  outward, leftward: (B, 1, 2)."""
    places = landmarks[..., :2]
    down = torch.stack([-leftward[..., 1], leftward[..., 0]], -1)
    start = places[:, list(push.at)].mean(1, keepdim=True)  # (B, 1, 2)
    end = places[:, list(push.to)].mean(1, keepdim=True) if push.to else start
    ruler = (places[:, push.ruler[0]] - places[:, push.ruler[1]]).norm(dim=-1)[:, None, None]
    shift = ruler * (push.shift[0] * outward + push.shift[1] * down)
    if push.to:
        down = F.normalize(end - start, dim=-1)
        outward = torch.stack([down[..., 1], -down[..., 0]], -1)
    present = torch.ones_like(ruler[..., 0])
    if landmarks.shape[-1] == 4:
        present = (landmarks[:, list(push.landmarks), 3].amin(1) >= LEAST_VISIBILITY).to(ruler.dtype)[:, None]
    return PlacedPush(
        middle=(start + end) / 2,
        outward=outward,
        down=down,
        half_length=(end - start).norm(dim=-1) / 2,
        # A ruler of no length moves nothing; the floor keeps its window finite.
        reach=(ruler * ruler.new_tensor(push.reach)).clamp_min(1e-3),
        shift=shift,
        stretch=push.stretch,
        present=present,
    )


def _motion(
    points: Tensor, operation: ProfessionalOperation, groups: list[list[PlacedPush]], landmarks: Tensor
) -> Tensor:
    """Forward motion at +100.  points: (B, N, 2).  Returns (B, N, 2)."""
    total_x, total_y = 0, 0
    for group in groups:
        weights, moved_x, moved_y, untouched = 0, 0, 0, 1
        for push in group:
            weight, motion_x, motion_y = push.at(points)
            weights, untouched = weights + weight, untouched * (1 - weight)
            moved_x, moved_y = moved_x + weight * motion_x, moved_y + weight * motion_y
        share = (1 - untouched) / weights.clamp_min(LEAST_WEIGHT)
        total_x, total_y = total_x + share * moved_x, total_y + share * moved_y
    total = torch.stack([total_x, total_y], -1)
    if operation.outside is None:
        return total
    width = (landmarks[:, 454] - landmarks[:, 234]).norm(dim=-1)[:, None]  # (B, 1)
    away = distance_outside(points, landmarks[:, list(OVAL)]) / (operation.outside * width).clamp_min(1e-3)
    return total * smoothstep(1 - away)[..., None]


def distance_outside(points: Tensor, polygon: Tensor) -> Tensor:
    """How far points lie outside a closed polygon, 0 inside.  (B, N, 2), (B, K, 2) -> (B, N)."""
    squared = points.new_full((), torch.inf)
    inside = torch.zeros((), dtype=torch.bool, device=points.device)
    x, y = points[:, None].unbind(-1)  # (B, 1, N)
    together = max(1, _EDGES_TIMES_POINTS // max(1, points.shape[0] * points.shape[1]))
    for start, end in zip(polygon.split(together, 1), polygon.roll(-1, 1).split(together, 1), strict=True):
        (x0, y0), (x1, y1) = start[:, :, None].unbind(-1), end[:, :, None].unbind(-1)  # (B, E, 1)
        edge_x, edge_y, away_x, away_y = x1 - x0, y1 - y0, x - x0, y - y0
        share = (away_x * edge_x + away_y * edge_y) / (edge_x.square() + edge_y.square()).clamp_min(1e-12)
        share = share.clamp(0, 1)
        near = ((away_x - share * edge_x).square() + (away_y - share * edge_y).square()).amin(1)
        squared = torch.minimum(squared, near)
        # Even-odd rule: a ray to the right crosses the outline an odd number of times from inside.
        spans = (y0 > y) != (y1 > y)
        turn = edge_x * away_y - edge_y * away_x
        inside = inside ^ ((spans & ((turn > 0) == (edge_y < 0))).sum(1) % 2 == 1)
    # The square root has no slope at 0, where the outline and the whole inside are.
    outside = (squared > 0) & ~inside
    return torch.where(outside, torch.where(outside, squared, 1).sqrt(), 0)


def _box(groups: list[list[PlacedPush]], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom pixel of the first person's windows inside the picture, ends excluded."""
    pushes = [push for group in groups for push in group]
    first = torch.stack([(push.middle[:, 0] - push.extent)[0] for push in pushes]).amin(0).floor().long()
    last = torch.stack([(push.middle[:, 0] + push.extent)[0] for push in pushes]).amax(0).ceil().long() + 1
    left, top = first.clamp_min(0).tolist()
    right, bottom = torch.minimum(last, last.new_tensor([size[1], size[0]])).tolist()
    return left, top, right, bottom


def checked_landmarks(operation: ProfessionalOperation, mesh: Tensor | None, pose: Tensor | None) -> Tensor:
    """Those that the operation reads, with a batch: (B, 478, 2) or (B, 33, 2..4)."""
    landmarks = pose if operation.on_body else mesh
    kind, widths, num = ("pose", (2, 3, 4), NUM_POSE) if operation.on_body else ("mesh", (2,), NUM_MESH)
    wanted = f"pass finite ({num}, {widths[0] if len(widths) == 1 else '2..4'}) pixels, x then y"
    if landmarks is None:
        raise ValueError(f"{operation.name} needs the {kind} and got None: {wanted}")
    batched = landmarks if landmarks.ndim == 3 else landmarks[None]
    if batched.ndim != 3 or batched.shape[1] != num or batched.shape[2] not in widths or not batched.isfinite().all():
        raise ValueError(f"{kind} is {tuple(landmarks.shape)}, or has points that were not found: {wanted}")
    return batched


def check_amount(operation: ProfessionalOperation, strength: float | Tensor, side: str) -> None:
    if not bool((torch.as_tensor(strength).abs() <= 100).all()):
        raise ValueError(f"strength={strength} of {operation.name}: use -100 to 100 percent")
    if side not in SIDES:
        raise ValueError(f"side={side!r}: use one of {', '.join(SIDES)}")
    if side != "both" and not operation.paired:
        raise ValueError(f"{operation.name} moves {operation.parts}, which has no sides: use side='both'")
