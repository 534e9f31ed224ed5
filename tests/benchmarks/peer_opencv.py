"""The obvious way to make the same training data: OpenCV and numpy, one picture at a time, full frames.

What a careful programmer writes from the description of the operations: dense displacements in numpy (moving least
squares on the published grid as matrix products, pushes in place and in float32), masks by fillConvexPoly and
GaussianBlur, the distance to the face by distanceTransform, one cv2.remap a step, and the published order of
augmentations (flip, crop, rotate, resize). The tables of operations are the project's own; how the fields follow from
them is written anew here and shares no code with it. Pictures are (H, W, 3) uint8, BGR; points (N, 2) in pixels.
"""

import math
from functools import lru_cache

import cv2
import numpy as np
import torch

from mirrorppr_core.operations.llw_table import OPERATIONS as SIMULATED
from mirrorppr_core.operations.professional import OVAL
from mirrorppr_core.operations.professional_table import OPERATIONS as PROFESSIONAL

GRID_SHARE = 30 / 1024
BLUR_SHARE = 0.05


class Retoucher:
    """One frame size. interpolation: cv2.INTER_LINEAR is the published one, INTER_CUBIC the quality of ours."""

    def __init__(self, height, width, interpolation=cv2.INTER_LINEAR):
        self.height, self.width, self.interpolation = height, width, interpolation
        self.y, self.x = np.mgrid[0:height, 0:width].astype(np.float32)
        self.cells = int(1 / GRID_SHARE)
        xs = np.linspace(0, width, self.cells + 1, dtype=np.float32)
        ys = np.linspace(0, height, self.cells + 1, dtype=np.float32)
        self.vertices = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)

    def retouch(self, picture, mesh, steps):
        """steps: (operation, strength, side).  mesh: (478, 2) float32."""
        for number, (operation, strength, side) in enumerate(steps):
            if operation in SIMULATED:
                dx, dy = self.simulated(mesh, operation, strength)
            else:
                dx, dy = self.professional(mesh, operation, strength, side)
            dx += self.x
            dy += self.y
            picture = cv2.remap(picture, dx, dy, self.interpolation, borderMode=cv2.BORDER_REPLICATE)
            if number + 1 < len(steps):
                mesh = self._followed(mesh, dx, dy)
        return picture

    def simulated(self, mesh, operation, strength):
        chosen = SIMULATED[operation]
        face = torch.from_numpy(mesh)[None]
        control = chosen.control_points(face, strength)
        source, destination = control.source[0].numpy(), control.destination[0].numpy()
        moved = _moving_least_squares(self.vertices, destination, source)
        moved = moved.reshape(self.cells + 1, self.cells + 1, 2)
        enlarge = np.array([[self.width / self.cells, 0, 0], [0, self.height / self.cells, 0]])
        size = (self.width, self.height)
        dense = cv2.warpAffine(moved, enlarge, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mask = np.zeros((self.height, self.width), np.uint8)
        for ring in chosen.mask_rings(face):
            cv2.fillConvexPoly(mask, cv2.convexHull(np.round(ring[0].numpy()).astype(np.int32)), 255)
        kernel = int(min(self.height, self.width) * BLUR_SHARE) | 1
        mask = cv2.GaussianBlur(mask, (kernel, kernel), 0) * np.float32(1 / 255)
        return dense[..., 0] * mask, dense[..., 1] * mask

    def professional(self, mesh, operation, strength, side):
        chosen = PROFESSIONAL[operation]
        leftward = _unit(mesh[263] - mesh[33])
        amount = np.float32(-strength / 100)
        dx, dy = np.zeros_like(self.x), np.zeros_like(self.y)
        for own_side, pushes in chosen.sides().items():
            if side not in ("both", own_side):
                continue
            outward = -leftward if own_side == "right" else leftward
            weights, moved_x, moved_y, untouched = 0, 0, 0, 1
            for push in pushes:
                weight, motion_x, motion_y = self._push(push, mesh, outward, leftward)
                if len(pushes) == 1:  # (1 - untouched) / weights is 1
                    moved_x, moved_y = weight * motion_x, weight * motion_y
                    break
                weights, untouched = weights + weight, untouched * (1 - weight)
                moved_x, moved_y = moved_x + weight * motion_x, moved_y + weight * motion_y
            if len(pushes) > 1:
                share = (1 - untouched) / np.maximum(weights, 1e-6)
                moved_x, moved_y = moved_x * share, moved_y * share
            dx += moved_x * amount
            dy += moved_y * amount
        if chosen.outside is not None:
            plane = np.full((self.height, self.width), 255, np.uint8)
            cv2.fillPoly(plane, [np.round(mesh[list(OVAL)]).astype(np.int32)], 0)
            face_width = float(np.linalg.norm(mesh[454] - mesh[234]))
            near = cv2.distanceTransform(plane, cv2.DIST_L2, 5)
            near *= -1 / (chosen.outside * face_width)
            near = np.maximum(near + 1, 0)
            near *= near * (3 - 2 * near)
            dx *= near
            dy *= near
        return dx, dy

    def _push(self, push, mesh, outward, leftward):
        start = mesh[list(push.at)].mean(0)
        end = mesh[list(push.to)].mean(0) if push.to else start
        ruler = float(np.linalg.norm(mesh[push.ruler[0]] - mesh[push.ruler[1]]))
        down = np.array([-leftward[1], leftward[0]], np.float32)
        shift = (ruler * (push.shift[0] * outward + push.shift[1] * down)).astype(np.float32)
        half = 0.0
        if push.to:
            half = float(np.linalg.norm(end - start)) / 2
            down = _unit(end - start)
            outward = np.array([down[1], -down[0]], np.float32)
        middle = (start + end) / 2
        away_x, away_y = self.x - middle[0], self.y - middle[1]
        across = away_x * outward[0] + away_y * outward[1]
        along = away_x * down[0] + away_y * down[1]
        beyond = np.maximum(np.abs(along) - np.float32(half), 0) if half else along
        weight = 1 - np.square(across * np.float32(1 / (ruler * push.reach[0])))
        weight -= np.square(beyond * np.float32(1 / (ruler * push.reach[1])))
        np.maximum(weight, 0, out=weight)
        np.square(weight, out=weight)
        if push.stretch == (0.0, 0.0):
            return weight, shift[0], shift[1]
        across *= np.float32(push.stretch[0])
        along *= np.float32(push.stretch[1])
        motion_x = across * outward[0] + along * down[0] + shift[0]
        motion_y = across * outward[1] + along * down[1] + shift[1]
        return weight, motion_x, motion_y

    def _followed(self, mesh, to_x, to_y):
        """Landmarks after the step: the points that are fetched from the old ones."""
        points = mesh
        for _ in range(6):
            points = mesh - (np.stack([_bilinear(to_x, points), _bilinear(to_y, points)], -1) - points)
        return points


@lru_cache(maxsize=4)
def retoucher(height, width, interpolation):
    return Retoucher(height, width, interpolation)


def steps_of(recipe):
    """A training.recipes.Recipe as `Retoucher.retouch` takes it."""
    return [(step.operation, step.strength, step.side) for step in recipe.steps]


def augment(picture, *, degrees, flip, crop, centre, size):
    """The published order: flip, crop, rotate (bicubic), resize.  crop: width, height.  centre: x, y.  size: H, W."""
    if flip:
        picture = cv2.flip(picture, 1)
        centre = picture.shape[1] - 1 - centre[0], centre[1]
    left, top = round(centre[0] - crop[0] / 2), round(centre[1] - crop[1] / 2)
    right, bottom = left + max(1, round(crop[0])), top + max(1, round(crop[1]))
    pad = [max(0, -top), max(0, bottom - picture.shape[0]), max(0, -left), max(0, right - picture.shape[1])]
    if any(pad):
        picture = cv2.copyMakeBorder(picture, *pad, cv2.BORDER_REPLICATE)
        left, right, top, bottom = left + pad[2], right + pad[2], top + pad[0], bottom + pad[0]
    picture = picture[top:bottom, left:right]
    if degrees:
        height, width = picture.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), degrees, 1)
        picture = cv2.warpAffine(picture, turn, (width, height), flags=cv2.INTER_CUBIC)
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)


def relight(picture, look):
    """The same light, colour and wear as `training.recipes.photometry.apply_look`."""
    matrix = np.array(look.matrix)[::-1, ::-1]  # BGR
    result = cv2.transform(picture.astype(np.float32) / 255, np.column_stack([matrix, look.offset]).astype(np.float32))
    if look.blur_px:
        result = cv2.GaussianBlur(result, (0, 0), look.blur_px, borderType=cv2.BORDER_REPLICATE)
    if look.noise:
        noise = np.random.default_rng(look.noise_seed).standard_normal(result.shape, np.float32)
        result = result + np.float32(look.noise) * noise
    result = (np.clip(result, 0, 1) * 255 + 0.5).astype(np.uint8)
    if look.jpeg_quality is not None:
        _, stored = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, look.jpeg_quality])
        result = cv2.imdecode(stored, cv2.IMREAD_COLOR)
    return result


def as_training_sample(pictures):
    """(H, W, 3) bytes in BGR -> (3, H, W) floats in RGB, as a network wants them."""
    return [np.ascontiguousarray(p[..., ::-1].transpose(2, 0, 1)).astype(np.float32) / 255 for p in pictures]


def view_parts(view):
    """What `augment` needs of a training.recipes.augment.View."""
    (a, b), (c, d) = view.linear
    height, width = view.size
    middle = width / 2 - 0.5, height / 2 - 0.5
    degrees = math.degrees(math.atan2(-b, d))
    return {
        "degrees": -degrees if view.flipped else degrees,
        "flip": view.flipped,
        "crop": (math.hypot(a, c) * width, math.hypot(b, d) * height),
        "centre": (a * middle[0] + b * middle[1] + view.shift[0], c * middle[0] + d * middle[1] + view.shift[1]),
        "size": view.size,
    }


def _bilinear(plane, points):
    """(H, W) at (N, 2), the border going on."""
    height, width = plane.shape
    x, y = np.clip(points[:, 0], 0, width - 1), np.clip(points[:, 1], 0, height - 1)
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    share_x, share_y = (x - left).astype(np.float32), (y - top).astype(np.float32)
    upper = plane[top, left] * (1 - share_x) + plane[top, left + 1] * share_x
    lower = plane[top + 1, left] * (1 - share_x) + plane[top + 1, left + 1] * share_x
    return upper * (1 - share_y) + lower * share_y


def _moving_least_squares(points, destination, source):
    """Similarity deformation, sums as one matrix product.  (N, 2), (K, 2), (K, 2) -> displacements (N, 2)."""
    middle = destination.mean(0)
    p, v, e = destination - middle, points - middle, source - destination
    squared = np.square(v[:, None, 0] - p[:, 0]) + np.square(v[:, None, 1] - p[:, 1]) + np.float32(1e-8)
    px, py, ex, ey = p[:, 0], p[:, 1], e[:, 0], e[:, 1]
    terms = np.stack([np.ones_like(px), px, py, ex, ey, px * px + py * py, px * ex + py * ey, px * ey - py * ex], -1)
    sums = np.reciprocal(squared) @ terms
    px, py, ex, ey, pp, dot, cross = (sums[:, 1:] / sums[:, :1]).T
    spread = np.maximum(pp - px * px - py * py, 1e-3)
    real, imaginary = (dot - px * ex - py * ey) / spread, (cross - px * ey + py * ex) / spread
    ux, uy = v[:, 0] - px, v[:, 1] - py
    return np.stack([ex + ux * real - uy * imaginary, ey + ux * imaginary + uy * real], -1)


def _unit(vector):
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
