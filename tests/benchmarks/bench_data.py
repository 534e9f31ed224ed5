"""Speed of the data engine against the obvious way: OpenCV and numpy, one picture at a time.

    pip install --no-deps opencv-python-headless        # for this comparison only
    python tests/benchmarks/bench_data.py --portraits DIR --landmarks npz:DIR/landmarks.npz [--native 1024]

Two things are measured, in CPU seconds of one process on one thread, ours and the peer in turn on the same samples:

    quadruplets    256 px, made while training (training/recipes/quadruplets.py): read, retouch, augment, relight
    pairs          512 px to shards (training/shards/pair_maker.py): read, retouch, two JPEGs of quality 95, tar blocks

Two peers make the same pictures with the same recipes, views and light; "agreement" says how closely:

    peer, obvious          peer_obvious.py: what one writes first. Each pair is read, retouched and written by itself
    peer, tuned            peer_opencv.py: the same after a day of tuning. For pairs it reads and encodes a portrait
                           once for a few pairs in a row, as ours does

Both are handed recipes, views and landmarks, draw nothing, look for no folds and make no motion fields, all of which
ours does in the time counted. They retouch the photo at its native size, step by step, and resample with
cv2.INTER_CUBIC, the kernel of ours, or with INTER_LINEAR, as published, which blurs a little at every step. Ceiling:
what ours spends on reading (and writing) alone.
"""

import argparse
import io
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy starts its threads

ROOT = Path(__file__).resolve().parents[2]
PAIRS_OF_THE_METHOD = 47_000_000
QUALITY = 95


class Clock:
    """CPU seconds, summed under names."""

    def __init__(self):
        self.seconds = Counter()

    def __call__(self, name, function):
        start = time.process_time()
        result = function()
        self.seconds[name] += time.process_time() - start
        return result


def psnr(a, b):
    return float(-10 * math.log10(max(float(((a - b) ** 2).mean()), 1e-12)))


def enlarged(portraits, side, folder):
    """A folder of the same portraits at another size, as a PortraitFolder."""
    import numpy as np
    import torch.nn.functional as F
    from PIL import Image

    from training.data.landmark_sources import landmark_source
    from training.data.portrait_folder import Portrait, PortraitFolder

    found = {}
    for number in range(0, len(portraits), max(1, len(portraits) // 60)):  # 60 portraits are enough
        portrait = portraits.read(number)
        if not isinstance(portrait, Portrait):
            continue
        scale = side / min(portrait.image.shape[-2:])
        image = F.interpolate(
            portrait.image.float() / 255, scale_factor=scale, mode="bicubic", align_corners=False
        ).clamp(0, 1)
        name = portrait.file.replace("/", "_")
        Image.fromarray((image[0] * 255).round().byte().permute(1, 2, 0).numpy()).save(folder / name, quality=QUALITY)
        found[name] = (portrait.mesh.numpy() + 0.5) * scale  # from the picture's edge, as the file has it
    np.savez(folder / "landmarks.npz", files=np.array(list(found)), face_avg=np.stack(list(found.values())))
    return PortraitFolder(folder, landmark_source(f"npz:{folder / 'landmarks.npz'}"), needs="face", as_bytes=True)


def meshes_of(portraits):
    from training.data.portrait_folder import Portrait

    read = (portraits.read(number) for number in range(len(portraits)))
    return {portrait.file: portrait.mesh.numpy() for portrait in read if isinstance(portrait, Portrait)}


def measure_quadruplets(portraits, operations, num_samples, clock):
    import cv2
    import peer_obvious
    import peer_opencv as peer

    from training.recipes.quadruplets import QuadrupletConfig, Quadruplets

    made = Quadruplets(portraits, QuadrupletConfig(operations=operations), seed=0, length=num_samples + 1)
    # What the peer is given.
    meshes = meshes_of(portraits)

    def tuned(before, mesh, steps, interpolation):
        return peer.retoucher(*before.shape[:2], interpolation).retouch(before, mesh, steps)

    def theirs(sample, retouch, interpolation):
        pairs = {}
        for file in dict.fromkeys(sample.files):
            before = cv2.imread(str(portraits.path / file))
            pairs[file] = before, retouch(before, meshes[file], peer.steps_of(sample.recipe), interpolation)
        exemplar, query = (pairs[file] for file in sample.files)
        views = [peer.view_parts(view) for view in sample.views]
        pictures = [peer.augment(picture, **views[0]) for picture in exemplar]
        pictures += [peer.relight(peer.augment(picture, **views[1]), sample.look) for picture in query]
        return peer.as_training_sample(pictures)

    peers = {
        "peer, obvious": (peer_obvious.retouch, cv2.INTER_CUBIC),
        "peer, tuned, bicubic": (tuned, cv2.INTER_CUBIC),
        "peer, tuned, linear": (tuned, cv2.INTER_LINEAR),
    }
    for way in peers.values():
        theirs(made[0], *way)  # warm caches on both sides
    agreement = {name: [] for name in peers}
    for index in range(1, num_samples + 1):
        sample = clock("ours", lambda index=index: made[index])
        for name, way in peers.items():
            pictures = clock(name, lambda sample=sample, way=way: theirs(sample, *way))
            agreement[name].append(psnr(pictures[1], sample.after[0].numpy()))
        numbers = [portraits.files.index(file) for file in set(sample.files)]
        clock("ceiling: reading", lambda numbers=numbers: [portraits.read(number) for number in numbers])
    return agreement


def measure_pairs(portraits, landmarks, split, operations, num_samples, clock):
    import cv2
    import numpy as np
    import peer_obvious
    import peer_opencv as peer

    from training.recipes.recipe import Recipe
    from training.shards.pair_maker import PairMaker, Tally
    from training.shards.spec import DatasetSpec
    from training.shards.tar import Sample, sample_bytes

    spec = DatasetSpec(
        portraits=str(portraits.path), landmarks=landmarks, operations=operations, num_pairs=10**6, split=split
    )
    maker, tally = PairMaker(spec), Tally()
    meshes = meshes_of(portraits)
    flags = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    last = {}

    def opened(about, interpolation):
        before = cv2.imread(str(portraits.path / about["file"]))
        if about["scale"] != 1:
            before = cv2.resize(before, tuple(about["size"]), interpolation=cv2.INTER_AREA)
        return before, cv2.imencode(".jpg", before, flags)[1].tobytes()

    def tuned(about, interpolation):
        key = about["file"], interpolation
        if key not in last:  # ours reads a portrait once for a few pairs in a row, so the tuned peer does too
            last.clear()
            last[key] = opened(about, interpolation)
        before, encoded = last[key]
        return stored(about, before, encoded, peer.retoucher(*before.shape[:2], interpolation).retouch)

    def obvious(about, interpolation):
        return stored(about, *opened(about, interpolation), peer_obvious.retouch)

    def stored(about, before, encoded, retouch):
        mesh = (meshes[about["file"]] + np.float32(0.5)) * np.float32(about["scale"]) - np.float32(0.5)
        after = retouch(before, mesh, peer.steps_of(Recipe.from_json(about["recipe"])))
        after = cv2.imencode(".jpg", after, flags)[1].tobytes()
        files = {"before.jpg": encoded, "after.jpg": after, "json": json.dumps(about).encode()}
        return after, sample_bytes(Sample("0", files))

    def ours(index):
        sample = maker.make(index, tally)
        return sample, sample_bytes(sample)

    peers = {
        "peer, obvious": (obvious, cv2.INTER_CUBIC),
        "peer, tuned, bicubic": (tuned, cv2.INTER_CUBIC),
        "peer, tuned, linear": (tuned, cv2.INTER_LINEAR),
    }
    group, agreement = spec.pairs_per_portrait, {name: [] for name in peers}
    for start in range(group, group + num_samples, group):
        abouts, afters = [], []
        for index in range(start, start + group):
            sample, _ = clock("ours", lambda index=index: ours(index))
            abouts.append(json.loads(sample.files["json"]))
            afters.append(sample.files["after.jpg"])
        for name, (way, kind) in peers.items():
            for about, after in zip(abouts, afters, strict=True):
                made, _ = clock(name, lambda about=about, way=way, kind=kind: way(about, kind))
                agreement[name].append(psnr(_decoded(made), _decoded(after)))
        number = portraits.files.index(abouts[0]["file"])
        clock("ceiling: reading and writing", lambda number=number: portraits.read(number))
        picture = _stored(afters[0])
        for _ in range(group + 1):  # one before for all of the group
            clock("ceiling: reading and writing", lambda picture=picture: _encoded(picture))
    return agreement


def _encoded(picture):
    picture.save(io.BytesIO(), "JPEG", quality=QUALITY, subsampling=0)


def _stored(encoded):
    from PIL import Image

    return Image.open(io.BytesIO(encoded)).convert("RGB")


def _decoded(encoded):
    import numpy as np

    return np.asarray(_stored(encoded), np.float32) / 255


def report(title, clock, num, agreement):
    print(f"\n{title}, {num} samples")
    print(f"{'':32}{'ms each':>10}{'per s and core':>16}{'ours is':>10}{'agreement':>12}")
    ours = clock.seconds["ours"]
    for name, seconds in clock.seconds.items():
        times = f"{seconds / ours:.2f} x" if name in agreement else ""
        alike = f"{statistics.median(agreement[name]):.1f} dB" if name in agreement else ""
        print(f"{name:32}{1000 * seconds / num:10.2f}{num / seconds:16.1f}{times:>10}{alike:>12}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--landmarks", required=True, help="as training.synthesize takes them: npz:FILE, mediapipe ...")
    parser.add_argument("--split", default=None, help="of portraits.csv; default: all")
    parser.add_argument("--samples", type=int, default=120)
    parser.add_argument("--native", type=int, help="enlarge the portraits to this side first (FFHQ has 1024)")
    parser.add_argument("--operations", default=None, help="default: simulated and professional, on faces")
    args = parser.parse_args()
    try:
        import cv2
    except ImportError:
        parser.exit(2, "the peer needs OpenCV: pip install --no-deps opencv-python-headless\n")
    import torch

    from training.data.landmark_sources import landmark_source
    from training.data.portrait_folder import PortraitFolder
    from training.recipes.recipe import PROFESSIONAL_FACE, SIMULATED, operations_named

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    operations = operations_named(args.operations) if args.operations else SIMULATED + PROFESSIONAL_FACE
    portraits = PortraitFolder(
        args.portraits, landmark_source(args.landmarks), split=args.split, needs="face", as_bytes=True
    )
    with tempfile.TemporaryDirectory() as folder:
        landmarks, split = args.landmarks, args.split
        if args.native:
            portraits = enlarged(portraits, args.native, Path(folder))
            landmarks, split = f"npz:{Path(folder) / 'landmarks.npz'}", None
        clock = Clock()
        agreement = measure_quadruplets(portraits, operations, args.samples, clock)
        report("quadruplets at 256 px, online", clock, args.samples, agreement)
        clock = Clock()
        agreement = measure_pairs(portraits, landmarks, split, operations, args.samples, clock)
        report("pairs at 512 px, to shards", clock, args.samples, agreement)
    print(f"\n{PAIRS_OF_THE_METHOD / 1e6:.0f} million pairs at 512 px, core-hours:")
    for name, seconds in clock.seconds.items():
        print(f"{name:32}{PAIRS_OF_THE_METHOD * seconds / args.samples / 3600:10.0f}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
