"""Faces in large group photos, and in pictures without any.

    python tests/benchmarks/bench_faces.py --portraits DIR [--faceless 200]

Group photos: twelve eval portraits, brought to faces of 60 or 100 px, are laid on a textured background of 24 and 60
megapixels; every size runs in a process of its own, whose peak memory is told beyond what it was before. A face counts
as found where a found box covers most of it. Faceless pictures: crops of scikit-image's photos of things and textures,
of the portraits' own backgrounds beside the person, drawn shapes and noise; what is found there is a false face.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

GROUPS = ((60, 6000, 4000), (100, 6000, 4000), (60, 9500, 6300))  # face, width, height in px
THINGS = ("brick", "clock", "coffee", "coins", "grass", "gravel", "horse", "hubble_deep_field", "moon", "page",
          "retina", "rocket", "text")  # fmt: skip
_FACES = 12


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--faceless", type=int, default=200)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print(
        "| faces, px | photo | found | false | seconds | peak MiB beyond torch |\n|---|---|---|---|---|---|", flush=True
    )
    for group in GROUPS:
        with context.Pool(1) as pool:
            found, false, seconds, memory = pool.apply(look_at_group, (options.portraits, *group))
        print(f"| {group[0]} | {group[1]}x{group[2]} | {found} of {_FACES} | {false} | {seconds:.1f} | {memory:.0f} |")
    with context.Pool(1) as pool:
        false = pool.apply(look_at_nothing, (options.portraits, options.faceless))
    print(f"\n{options.faceless} faceless pictures: {len(false)} with a false face {', '.join(false)}")
    return 0


def look_at_group(portraits: Path, face: int, width: int, height: int) -> tuple[int, int, float, float]:
    """Faces found, false faces, seconds to find them, MiB beyond the photo, torch and the weights."""
    import torch

    from mirrorppr_core.faces.search import locate
    from mirrorppr_core.mini.pipeline import MirrorPPR

    torch.set_num_threads(2)
    photo, boxes = _group(portraits, face, width, height)
    locator = MirrorPPR.bundled().extractor.sight.locator
    locate(locator, torch.rand(1, 3, 256, 256))
    before = _peak_mib()
    began = time.perf_counter()
    faces = locate(locator, photo)
    seconds = time.perf_counter() - began
    hit = [any(_covers(found.box, box) for found in faces) for box in boxes]
    return sum(hit), len(faces) - sum(hit), seconds, _peak_mib() - before


def look_at_nothing(portraits: Path, count: int) -> list[str]:
    """The names of pictures in which a face is seen."""
    import torch

    from mirrorppr_core.faces.search import locate
    from mirrorppr_core.mini.pipeline import MirrorPPR

    torch.set_num_threads(2)
    locator = MirrorPPR.bundled().extractor.sight.locator
    pictures = _faceless(portraits)
    return [name for name, picture in (next(pictures) for _ in range(count)) if locate(locator, picture)]


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _covers(found: tuple[float, ...], box: tuple[float, ...]) -> bool:
    wide = min(found[2], box[2]) - max(found[0], box[0])
    high = min(found[3], box[3]) - max(found[1], box[1])
    return wide > 0 and high > 0 and wide * high > 0.4 * (box[2] - box[0]) * (box[3] - box[1])


def _group(portraits: Path, face: int, width: int, height: int):
    """The photo (1, 3, H, W) uint8, and the boxes of its faces."""
    import torch
    import torch.nn.functional as F

    from training.data.picture_files import read_picture
    from training.evaluation.benchmark_cases import load_people

    g = torch.Generator().manual_seed(0)
    coarse = (torch.rand(1, 3, -(-height // 40), -(-width // 40), generator=g) * 128 + 51).byte()
    photo = coarse.repeat_interleave(40, 2).repeat_interleave(40, 3)[..., :height, :width].contiguous()
    people, boxes, used = load_people(portraits), [], set()
    for person in people[::7]:
        if person.identity in used or len(boxes) == _FACES:
            continue
        low, high = person.mesh[:, :2].amin(0), person.mesh[:, :2].amax(0)
        factor = face / float(high[0] - low[0])
        side = round(512 * factor)
        picture = read_picture(portraits / person.file)
        small = F.interpolate(picture, (side, side), mode="bilinear", antialias=True).clamp(0, 1)
        column, row = len(boxes) % 4, len(boxes) // 4
        left, top = round((column + 0.5) * width / 4 - side / 2), round((row + 0.5) * height / 3 - side / 2)
        photo[..., top : top + side, left : left + side] = (small * 255).byte()
        place = torch.tensor([left, top])
        boxes.append((*(low * factor + place).tolist(), *(high * factor + place).tolist()))
        used.add(person.identity)
    return photo, boxes


def _faceless(portraits: Path):
    """Names and pictures (1, 3, H, W) without end: things, backgrounds, shapes and noise in turn."""
    import skimage.data
    import torch
    import torch.nn.functional as F
    from skimage.color import gray2rgb

    from training.data.picture_files import read_picture
    from training.evaluation.benchmark_cases import load_people

    g = torch.Generator().manual_seed(0)
    things = {}
    for name in THINGS:
        pixels = getattr(skimage.data, name)()
        pixels = gray2rgb(pixels) if pixels.ndim == 2 else pixels[..., :3]
        pixels = pixels * 255 if pixels.dtype == bool else pixels
        things[name] = torch.from_numpy(pixels.astype("uint8")).permute(2, 0, 1)[None].float() / 255
    people = load_people(portraits)

    def number(low: int, high: int) -> int:
        return low + int(torch.randint(max(1, high - low), (), generator=g))

    turn = 0
    while True:
        kind, turn = turn % 4, turn + 1
        if kind == 0:
            name = THINGS[number(0, len(THINGS))]
            picture = things[name]
            height, width = picture.shape[-2:]
            side = number(min(160, min(height, width) - 1), min(height, width))
            top, left = number(0, height - side), number(0, width - side)
            yield f"{name} {top} {left} {side}", picture[..., top : top + side, left : left + side]
        elif kind == 1:
            person = people[number(0, len(people))]
            picture = read_picture(portraits / person.file)
            low, high = person.mesh[:, :2].amin(0), person.mesh[:, :2].amax(0)
            margin = 0.35 * float(high[0] - low[0])
            room = {"left": float(low[0]) - margin, "right": 512 - float(high[0]) - margin}
            side = max(room, key=room.get)
            wide = int(room[side])
            if wide < 64:
                turn -= 1
                continue
            strip = picture[..., :wide] if side == "left" else picture[..., 512 - wide :]
            yield f"beside {person.file}", F.interpolate(strip, scale_factor=2, mode="bilinear")
        elif kind == 2:
            side = number(256, 900)
            picture = torch.full((1, 3, side, side), 0.8)
            for _ in range(number(3, 30)):  # ellipses and bars
                y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
                cx, cy, rx, ry = (2 * torch.rand(4, generator=g) - 1).tolist()
                inside = ((x - cx) / (abs(rx) * 0.4 + 0.02)) ** 2 + ((y - cy) / (abs(ry) * 0.4 + 0.02)) ** 2 < 1
                picture = torch.where(inside, torch.rand(1, 3, 1, 1, generator=g), picture)
            yield f"shapes {turn}", picture
        else:
            cells = number(4, 60)
            noise = torch.rand(1, 3, cells, cells, generator=g)
            yield f"noise {turn}", F.interpolate(noise, (512, 512), mode="bicubic").clamp(0, 1)


if __name__ == "__main__":
    sys.exit(main())
