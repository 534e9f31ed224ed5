"""Draws the two sample portraits that come with the pack (nodes/samples/): nobody's picture, made by this program.

    .venv/bin/python tests/environment/draw_samples.py

Every feature stands where the mean face of our locator has it, so that the locator reads a drawing like a photo; the
rest is ellipses, soft shadows and strands. Made once and committed: drawing takes several seconds.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mirrorppr_core.faces.locator import Locator

SIDE = 640
FINER = 2  # drawn so many times larger, then reduced
OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149,
        150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
MOUTH = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
EYES = (
    {"all": (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246), "iris": 468, "corner": 133,
     "upper": (33, 246, 161, 160, 159, 158, 157, 173, 133), "lower": (33, 7, 163, 144, 145, 153, 154, 155, 133)},
    {"all": (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466), "iris": 473,
     "corner": 362, "upper": (263, 466, 388, 387, 386, 385, 384, 398, 362),
     "lower": (263, 249, 390, 373, 374, 380, 381, 382, 362)},
)  # fmt: skip
BROWS = (((70, 63, 105, 66, 107), (46, 53, 52, 65, 55), 1), ((300, 293, 334, 296, 336), (276, 283, 282, 295, 285), -1))


@dataclass(frozen=True, kw_only=True)
class Person:
    """Colours are RGB, 0 to 255."""

    seed: int
    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    lips: tuple[int, int, int]
    iris: tuple[int, int, int]
    shirt: tuple[int, int, int]
    wall: tuple[tuple[int, int, int], tuple[int, int, int]]
    long_hair: bool
    width: float = 1.0  # of the face
    chin: float = 1.0  # of what lies below the eyes


PEOPLE = {
    "portrait_a": Person(seed=0, skin=(214, 168, 140), hair=(58, 40, 30), lips=(178, 92, 88), iris=(86, 110, 120),
                         shirt=(70, 90, 120), wall=((196, 200, 206), (120, 126, 136)), long_hair=True),
    "portrait_b": Person(seed=5, skin=(150, 104, 80), hair=(24, 18, 18), lips=(126, 66, 62), iris=(64, 40, 28),
                         shirt=(150, 70, 60), wall=((170, 180, 170), (96, 110, 104)), long_hair=False, width=0.95,
                         chin=1.06),
}  # fmt: skip


@dataclass
class Canvas:
    """A picture that grows: colours are laid on, light and shadow are multiplied in."""

    side: int
    unit: float  # pixels of one eye distance
    image: np.ndarray = field(init=False)

    def __post_init__(self):
        self.y, self.x = np.mgrid[0 : self.side, 0 : self.side].astype(np.float32)
        self.image = np.zeros((self.side, self.side, 3), np.float32)

    def mask(self, draw, soft: float) -> np.ndarray:
        """What `draw(pen)` draws, softened by so many eye distances: (side, side) in [0, 1]."""
        layer = Image.new("L", (self.side, self.side), 0)
        draw(ImageDraw.Draw(layer))
        return np.asarray(layer.filter(ImageFilter.GaussianBlur(soft * self.unit)), np.float32) / 255

    def softened(self, mask: np.ndarray, soft: float) -> np.ndarray:
        layer = Image.fromarray((mask * 255).astype(np.uint8))
        return np.asarray(layer.filter(ImageFilter.GaussianBlur(soft * self.unit)), np.float32) / 255

    def paint(self, colour, where: np.ndarray) -> None:
        self.image += (np.array(colour, np.float32) - self.image) * where[..., None]

    def light(self, amount: float, where: np.ndarray) -> None:
        """amount > 0 lightens, < 0 darkens."""
        self.image *= 1 + amount * where[..., None]

    def spot(self, at, radii: tuple[float, float], amount: float, within: np.ndarray) -> None:
        x, y = at
        rx, ry = radii[0] * self.unit, radii[1] * self.unit
        self.light(amount, np.exp(-(((self.x - x) / rx) ** 2) - ((self.y - y) / ry) ** 2) * within)

    def line(self, points, width: float):
        pixels = max(1, int(width * self.unit))
        return lambda pen: pen.line([tuple(p) for p in points], fill=255, width=pixels, joint="curve")

    def noise(self, rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
        coarse = Image.fromarray(rng.normal(size=(rows, columns)).astype(np.float32))
        return np.asarray(coarse.resize((self.side, self.side), Image.Resampling.BICUBIC))


def polygon(points):
    return lambda pen: pen.polygon([tuple(p) for p in points], fill=255)


def ellipse(x: float, y: float, rx: float, ry: float):
    return lambda pen: pen.ellipse((x - rx, y - ry, x + rx, y + ry), fill=255)


def draw_person(person: Person, mean_mesh: np.ndarray) -> Image.Image:
    side = SIDE * FINER
    canvas = Canvas(side, unit=0.185 * side)
    points = mean_mesh * (person.width, 1)
    below = points[:, 1] > 0.3
    points[below, 1] = 0.3 + (points[below, 1] - 0.3) * person.chin
    points = points * canvas.unit + np.array([0.5, 0.42]) * side
    rng = np.random.default_rng(person.seed)
    draw_surroundings(canvas, person, points)
    face = draw_face(canvas, person, points)
    draw_nose(canvas, points, face)
    draw_mouth(canvas, person, points, face)
    for eye in EYES:
        draw_eye(canvas, person, points, eye, face)
    for brow in BROWS:
        draw_brow(canvas, person, points, brow, rng)
    hair = draw_hair(canvas, person, points, face, rng)
    draw_texture(canvas, points, face * (1 - hair), rng)
    drawn = Image.fromarray(np.clip(canvas.image, 0, 255).astype(np.uint8))
    return drawn.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def measures(points: np.ndarray) -> tuple[float, float, float, float, float]:
    """Middle, top, chin, width and height of the face."""
    oval = points[list(OVAL)]
    middle, top, chin = points[1][0], points[10][1], points[152][1]
    return middle, top, chin, float(np.ptp(oval[:, 0])), chin - top


def draw_surroundings(c: Canvas, person: Person, points: np.ndarray) -> None:
    """Wall, hair behind the head, shoulders, neck, ears."""
    middle, top, chin, width, height = measures(points)
    share = (c.y / c.side)[..., None]
    c.image = np.array(person.wall[0], np.float32) * (1 - share) + np.array(person.wall[1], np.float32) * share
    c.light(-0.6, ((c.x - c.side / 2) / c.side) ** 2)
    low = chin - (0.05 if person.long_hair else 0.42) * height
    c.paint(person.hair, c.mask(lambda pen: pen.ellipse(
        (middle - 0.6 * width, top - 0.32 * height, middle + 0.6 * width, low), fill=255), 0.02))  # fmt: skip
    shoulders = [(-1.55, 2.0), (-1.35, 0.62), (-0.42, 0.34), (0.42, 0.34), (1.35, 0.62), (1.55, 2.0)]
    c.paint(person.shirt, c.mask(polygon([(middle + a * width, chin + b * height) for a, b in shoulders]), 0.06))
    neck = [(-0.33, -0.25), (0.33, -0.25), (0.36, 0.36), (0, 0.52), (-0.36, 0.36)]
    shade = tuple(0.86 * value for value in person.skin)
    c.paint(shade, c.mask(polygon([(middle + a * width, chin + b * height) for a, b in neck]), 0.025))
    c.light(-0.25, c.mask(ellipse(middle, chin + 0.02 * height, 0.36 * width, 0.18 * height), 0.08))
    for side, ear in ((-1, 234), (1, 454)):
        where = ellipse(middle + side * 0.505 * width, points[ear][1] + 0.015 * height, 0.06 * width, 0.105 * height)
        c.paint(tuple(0.92 * value for value in person.skin), c.mask(where, 0.012))


def draw_face(c: Canvas, person: Person, points: np.ndarray) -> np.ndarray:
    """Skin with light from the left above. Returns where the face is."""
    middle, _, _, width, height = measures(points)
    face = c.mask(polygon(points[list(OVAL)]), 0.018)
    c.paint(person.skin, face)
    c.light(-0.42, face * (1 - c.softened(face, 0.22)))
    slope = (c.x - middle) / width * 0.5 + (c.y - points[168][1]) / height * 0.25
    c.light(-0.22, face * np.clip(slope, -0.6, 0.8))
    for eye in EYES:
        x, y = points[list(eye["all"])].mean(axis=0)
        c.spot((x, y - 0.05 * c.unit), (0.36, 0.2), -0.24, face)
        c.spot((x, y + 0.17 * c.unit), (0.26, 0.1), -0.06, face)
    for index in (50, 280):
        c.spot(points[index], (0.3, 0.26), 0.1, face)
    for index in (205, 425):
        c.spot(points[index] + [0, 0.02 * c.unit], (0.2, 0.3), -0.05, face)
    c.spot(points[152] - [0, 0.22 * c.unit], (0.2, 0.14), 0.06, face)
    return face


def draw_nose(c: Canvas, points: np.ndarray, face: np.ndarray) -> None:
    u = c.unit
    for index in (168, 6, 197, 195, 5, 4):
        c.spot(points[index] - [0.02 * u, 0], (0.075, 0.12), 0.05, face)
    c.spot(points[4] - [0.02 * u, 0.02 * u], (0.12, 0.1), 0.12, face)
    for index in (197, 195):
        c.spot(points[index] + [0.14 * u, 0], (0.08, 0.2), -0.12, face)
        c.spot(points[index] - [0.16 * u, 0], (0.07, 0.2), -0.07, face)
    c.spot(points[2] + [0, 0.035 * u], (0.24, 0.07), -0.26, face)
    for wing, outer, side in ((98, 129, -1), (327, 358, 1)):
        c.spot(points[wing] + [side * 0.06 * u, -0.05 * u], (0.09, 0.13), -0.14, face)
        x, y = points[wing] + [-side * 0.075 * u, 0.012 * u]
        c.paint((70, 38, 34), 0.8 * c.mask(ellipse(x, y, 0.065 * u, 0.03 * u), 0.012))
        x, y = points[outer] - [side * 0.03 * u, 0]
        box, turn = (x - 0.1 * u, y - 0.11 * u, x + 0.1 * u, y + 0.11 * u), (-80, 80) if side > 0 else (100, 260)
        c.light(-0.3, c.mask(lambda pen, b=box, t=turn: pen.arc(b, *t, fill=255, width=int(0.03 * u)), 0.02))


def draw_mouth(c: Canvas, person: Person, points: np.ndarray, face: np.ndarray) -> None:
    u = c.unit
    c.spot(points[0] - [0, 0.12 * u], (0.05, 0.1), -0.08, face)
    c.spot(points[17] + [0, 0.09 * u], (0.26, 0.06), -0.22, face)
    lips = c.mask(polygon(points[list(LIPS)]), 0.012)
    c.paint(person.lips, 0.9 * lips)
    lower = np.clip((c.y - points[14][1]) / (0.03 * u) + 0.5, 0, 1)
    shine = (points[14][1] + points[17][1]) / 2
    c.light(0.12, lips * lower * np.exp(-(((c.y - shine) / (0.06 * u)) ** 2)))
    c.light(-0.16, lips * (1 - lower))
    c.paint((88, 38, 38), 0.9 * c.mask(c.line(points[list(MOUTH)], 0.028), 0.008))


def draw_eye(c: Canvas, person: Person, points: np.ndarray, eye: dict, face: np.ndarray) -> None:
    u = c.unit
    opening = c.mask(polygon(points[list(eye["all"])]), 0.006)
    c.paint((236, 230, 226), opening)
    x, y = points[eye["iris"]]
    away, radius = np.hypot(c.x - x, c.y - y), 0.118 * u
    iris = np.clip((radius - away) / (0.012 * u) + 0.5, 0, 1) * opening
    c.paint(person.iris, iris)
    c.light(-0.45, iris * np.clip((away / radius - 0.72) / 0.28, 0, 1))
    c.light(0.2, iris * np.clip((c.y - y) / radius, 0, 1))
    c.paint((12, 10, 10), np.clip((0.052 * u - away) / (0.01 * u) + 0.5, 0, 1) * opening)
    gleam = np.hypot(c.x - x + 0.04 * u, c.y - y + 0.045 * u)
    c.paint((255, 255, 255), np.clip((0.022 * u - gleam) / (0.008 * u) + 0.5, 0, 1) * opening)
    upper, lower = points[list(eye["upper"])], points[list(eye["lower"])]
    c.light(-0.4, c.mask(c.line(upper, 0.1), 0.03) * opening)
    c.paint((40, 24, 20), 0.92 * c.mask(c.line(upper, 0.04), 0.008))
    c.paint((110, 66, 56), 0.7 * c.mask(c.line(lower, 0.018), 0.008))
    c.light(-0.3, c.mask(c.line(upper[1:-1] - [0, 0.085 * u], 0.02), 0.012))
    c.spot(points[eye["corner"]], (0.03, 0.03), -0.15, face)


def draw_brow(c: Canvas, person: Person, points: np.ndarray, brow: tuple, rng: np.random.Generator) -> None:
    """A soft ground and 260 hairs."""
    upper, lower, side = points[list(brow[0])], points[list(brow[1])], brow[2]
    c.paint(person.hair, 0.55 * c.mask(polygon([*upper, *lower[::-1]]), 0.03))
    strokes = []
    for _ in range(260):
        place, height = rng.uniform(0, len(upper) - 1), rng.uniform()
        index = min(int(place), len(upper) - 2)
        share = place - index
        root = (1 - height) * (lower[index] * (1 - share) + lower[index + 1] * share)
        root = root + height * (upper[index] * (1 - share) + upper[index + 1] * share)
        lean = rng.uniform(0.06, 0.12) * (1 if place < 2.8 else 0.3)
        strokes.append((root, root + [-side * lean * c.unit, -rng.uniform(0, 0.07) * c.unit]))

    def hairs(pen):
        for root, tip in strokes:
            pen.line([tuple(root), tuple(tip)], fill=255, width=max(1, int(0.008 * c.unit)))

    c.paint(tuple(0.8 * value for value in person.hair), 0.75 * c.mask(hairs, 0.004))


def draw_hair(c: Canvas, person: Person, points: np.ndarray, face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One soft shape over the forehead, parted on one side. Returns where it is."""
    u = c.unit
    middle, top, _, width, height = measures(points)
    round_head = ((c.x - middle) / (0.6 * width)) ** 2 + ((c.y - top - 0.3 * height) / (0.62 * height)) ** 2
    outer = np.clip((1 - round_head) / 0.05 + 0.5, 0, 1)
    arch = top + 0.04 * height + 0.2 * height * np.abs((c.x - middle + 0.12 * width) / (0.55 * width)) ** 2.2
    above = np.clip((arch - c.y) / (0.05 * u) + 0.5, 0, 1)
    temple = np.clip((np.abs(c.x - middle) - 0.455 * width) / (0.035 * u) + 0.5, 0, 1)
    temple *= np.clip((points[234][1] - 0.1 * height - c.y) / (0.12 * u) + 0.5, 0, 1)
    hair = c.softened(outer * np.maximum(above, temple), 0.02)
    c.light(-0.3, face * c.softened(hair, 0.07) * (1 - hair))
    c.paint(person.hair, hair)
    c.light(0.16, hair * c.noise(rng, c.side // 16, c.side // 3))
    gleam = ((c.x - middle + 0.18 * width) / (0.3 * width)) ** 2 + ((c.y - top + 0.2 * height) / (0.08 * height)) ** 2
    c.light(0.6, hair * np.exp(-gleam))
    return hair


def draw_texture(c: Canvas, points: np.ndarray, skin: np.ndarray, rng: np.random.Generator) -> None:
    """Grain everywhere, and freckles: without texture no motion could be measured."""
    for coarseness, amount in ((1, 0.016), (4, 0.014), (12, 0.015)):
        cells = c.side // (FINER * coarseness)
        c.light(amount, c.noise(rng, cells, cells))
    for _ in range(70):
        at = points[rng.integers(0, len(points))] + rng.normal(size=2) * 0.1 * c.unit
        radius = rng.uniform(0.006, 0.014)
        c.spot(at, (radius, radius), -0.1, skin)


def main() -> None:
    mean_mesh = Locator.from_file(ROOT / "mirrorppr_core" / "weights" / "mini" / "locator.safetensors").mean_mesh
    folder = ROOT / "nodes" / "samples"
    folder.mkdir(exist_ok=True)
    for name, person in PEOPLE.items():
        path = folder / f"{name}.jpg"
        draw_person(person, mean_mesh.numpy().copy()).save(path, quality=93, subsampling=0)
        print(f"[samples] {path.relative_to(ROOT)}: {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
