"""The first way that comes to mind: OpenCV and numpy, formulas written down as they are read, one picture at a time.

Nothing here is slow on purpose, and nothing was made fast: coordinates are what np.mgrid gives, every operation has a
dense displacement of the whole picture and a cv2.remap of its own, a pair is read, retouched and written by itself.
`peer_opencv.py` is the same after a day of tuning (32-bit floats in place, kept grids, sums as matrix products, one
reading for several pairs). The tables of operations are the project's own. Pictures are (H, W, 3) uint8, BGR; points
(N, 2) in pixels, x then y.
"""

import cv2
import numpy as np
import torch

from mirrorppr_core.operations.llw_table import OPERATIONS as SIMULATED
from mirrorppr_core.operations.professional import OVAL
from mirrorppr_core.operations.professional_table import OPERATIONS as PROFESSIONAL

GRID_SHARE = 30 / 1024
BLUR_SHARE = 0.05


def retouch(picture, mesh, steps, interpolation=cv2.INTER_CUBIC):
    """steps: (operation, strength, side).  mesh: (478, 2)."""
    height, width = picture.shape[:2]
    for operation, strength, side in steps:
        if operation in SIMULATED:
            displacement = simulated(mesh, height, width, operation, strength)
        else:
            displacement = professional(mesh, height, width, operation, strength, side)
        y, x = np.mgrid[0:height, 0:width]
        map_x = (x + displacement[..., 0]).astype(np.float32)
        map_y = (y + displacement[..., 1]).astype(np.float32)
        picture = cv2.remap(picture, map_x, map_y, interpolation, borderMode=cv2.BORDER_REPLICATE)
        mesh = followed(mesh, displacement)
    return picture


def simulated(mesh, height, width, operation, strength):
    """Moving least squares on the grid of the method, enlarged to the picture, times the feathered mask."""
    chosen = SIMULATED[operation]
    face = torch.from_numpy(mesh)[None].float()
    control = chosen.control_points(face, strength)
    cells = int(1 / GRID_SHARE)
    columns, rows = np.meshgrid(np.linspace(0, width, cells + 1), np.linspace(0, height, cells + 1))
    vertices = np.stack([columns.ravel(), rows.ravel()], -1)
    moved = moving_least_squares(vertices, control.destination[0].numpy(), control.source[0].numpy()) - vertices
    moved = moved.reshape(cells + 1, cells + 1, 2).astype(np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    dense = cv2.remap(moved, x * cells / width, y * cells / height, cv2.INTER_LINEAR)
    mask = np.zeros((height, width), np.float32)
    for ring in chosen.mask_rings(face):
        cv2.fillConvexPoly(mask, cv2.convexHull(np.round(ring[0].numpy()).astype(np.int32)), 1.0)
    kernel = int(min(height, width) * BLUR_SHARE) | 1
    return dense * cv2.GaussianBlur(mask, (kernel, kernel), 0)[..., None]


def moving_least_squares(points, p, q):
    """Similarity deformation (Schaefer et al. 2006): where points (N, 2) go when p goes to q, both (K, 2)."""
    weights = 1 / (((points[:, None] - p) ** 2).sum(-1) + 1e-8)  # (N, K)
    total = weights.sum(1, keepdims=True)
    p_mean, q_mean = weights @ p / total, weights @ q / total  # (N, 2)
    p_hat, q_hat = p - p_mean[:, None], q - q_mean[:, None]  # (N, K, 2)
    spread = (weights * (p_hat**2).sum(-1)).sum(1)
    real = (weights * (p_hat * q_hat).sum(-1)).sum(1) / spread
    imaginary = (weights * (p_hat[..., 0] * q_hat[..., 1] - p_hat[..., 1] * q_hat[..., 0])).sum(1) / spread
    away = points - p_mean
    turned = np.stack([-away[:, 1], away[:, 0]], -1)
    return away * real[:, None] + turned * imaginary[:, None] + q_mean


def professional(mesh, height, width, operation, strength, side):
    """The formula of mirrorppr_core/operations/professional.py on every pixel."""
    chosen = PROFESSIONAL[operation]
    y, x = np.mgrid[0:height, 0:width]
    places = np.stack([x, y], -1)
    leftward = unit(mesh[263] - mesh[33])
    total = np.zeros((height, width, 2))
    for own_side, pushes in chosen.sides().items():
        if side not in ("both", own_side):
            continue
        outward = -leftward if own_side == "right" else leftward
        weights, moved, untouched = 0, 0, 1
        for push in pushes:
            weight, motion = window(places, push, mesh, outward, leftward)
            weights = weights + weight
            moved = moved + weight[..., None] * motion
            untouched = untouched * (1 - weight)
        total += ((1 - untouched) / np.maximum(weights, 1e-6))[..., None] * moved
    if chosen.outside is not None:
        plane = np.full((height, width), 255, np.uint8)
        cv2.fillPoly(plane, [np.round(mesh[list(OVAL)]).astype(np.int32)], 0)
        away = cv2.distanceTransform(plane, cv2.DIST_L2, 5) / (chosen.outside * np.linalg.norm(mesh[454] - mesh[234]))
        near = np.clip(1 - away, 0, 1)
        total *= (near**2 * (3 - 2 * near))[..., None]
    return total * (-strength / 100)


def window(places, push, mesh, outward, leftward):
    """Weight (H, W) and motion (H, W, 2) or (2,) of one push."""
    start = mesh[list(push.at)].mean(0)
    end = mesh[list(push.to)].mean(0) if push.to else start
    ruler = np.linalg.norm(mesh[push.ruler[0]] - mesh[push.ruler[1]])
    down = np.array([-leftward[1], leftward[0]])
    shift = ruler * (push.shift[0] * outward + push.shift[1] * down)
    if push.to:
        down = unit(end - start)
        outward = np.array([down[1], -down[0]])
    away = places - (start + end) / 2
    across, along = away @ outward, away @ down
    beyond = np.maximum(np.abs(along) - np.linalg.norm(end - start) / 2, 0)
    squared = (across / (ruler * push.reach[0])) ** 2 + (beyond / (ruler * push.reach[1])) ** 2
    weight = np.maximum(1 - squared, 0) ** 2
    if push.stretch == (0.0, 0.0):
        return weight, shift
    stretched = push.stretch[0] * across[..., None] * outward + push.stretch[1] * along[..., None] * down
    return weight, shift + stretched


def followed(mesh, displacement):
    """Landmarks after a step: the points that are fetched from the old ones."""
    height, width = displacement.shape[:2]
    points = mesh
    for _ in range(6):
        x = np.clip(np.round(points[:, 0]).astype(int), 0, width - 1)
        y = np.clip(np.round(points[:, 1]).astype(int), 0, height - 1)
        points = mesh - displacement[y, x]
    return points


def unit(vector):
    return vector / max(np.linalg.norm(vector), 1e-12)
