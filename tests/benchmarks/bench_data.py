"""Speed of the data engine against the obvious way: OpenCV and numpy, one picture at a time.

    pip install --no-deps opencv-python-headless        # for this comparison only
    python tests/benchmarks/bench_data.py --portraits DIR --landmarks npz:DIR/landmarks.npz [--native 1024]

Two things are measured, in CPU seconds of one process on one thread, ours and the peer in turn on the same samples:

    quadruplets    256 px, made while training (training/quadruplets.py): read, retouch, augment, relight
    pairs          512 px to shards (training/pair_maker.py): read, retouch, two JPEGs of quality 95, tar blocks

The peer (peer_opencv.py) makes the same pictures with the same recipes, views and light; "agreement" says how closely.
It is handed these and the landmarks, draws nothing, looks for no folds and makes no motion fields, all of which ours
does in the time counted. It retouches the photo at its native size, step by step, and resamples with cv2.INTER_CUBIC,
the kernel of ours, or with INTER_LINEAR, as published, which blurs a little at every step. For pairs both sides read a
portrait once for a few pairs in a row. Ceiling: what ours spends on reading (and writing) alone.
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
    import torch.nn.functional as F
    from PIL import Image

    from training.find_landmarks import save_landmarks
    from training.landmark_sources import Landmarks, landmark_source
    from training.portrait_folder import Portrait, PortraitFolder

    found = {}
    for number in range(0, len(portraits), max(1, len(portraits) // 60)):  # 60 portraits are enough
        portrait = portraits.read(number)
        if not isinstance(portrait, Portrait):
            continue
        scale = side / min(portrait.image.shape[-2:])
        image = F.interpolate(portrait.image, scale_factor=scale, mode="bicubic", align_corners=False).clamp(0, 1)
        name = portrait.file.replace("/", "_")
        Image.fromarray((image[0] * 255).round().byte().permute(1, 2, 0).numpy()).save(folder / name, quality=QUALITY)
        found[name] = Landmarks(mesh=(portrait.mesh + 0.5) * scale - 0.5, pose=None)
    save_landmarks(folder / "landmarks.npz", found)
    return PortraitFolder(folder, landmark_source(f"npz:{folder / 'landmarks.npz'}"), needs="face")


def meshes_of(portraits):
    from training.portrait_folder import Portrait

    read = (portraits.read(number) for number in range(len(portraits)))
    return {portrait.file: portrait.mesh.numpy() for portrait in read if isinstance(portrait, Portrait)}


def measure_quadruplets(portraits, operations, num_samples, clock):
    import cv2
    import peer_opencv as peer

    from training.quadruplets import QuadrupletConfig, Quadruplets

    made = Quadruplets(portraits, QuadrupletConfig(operations=operations), seed=0)
    # What the peer is given.
    meshes = meshes_of(portraits)

    def theirs(sample, interpolation):
        pairs = {}
        for file in dict.fromkeys(sample.files):
            before = cv2.imread(str(portraits.path / file))
            retoucher = peer.retoucher(*before.shape[:2], interpolation)
            pairs[file] = before, retoucher.retouch(before, meshes[file], peer.steps_of(sample.recipe))
        exemplar, query = (pairs[file] for file in sample.files)
        views = [peer.view_parts(view) for view in sample.views]
        pictures = [peer.augment(picture, **views[0]) for picture in exemplar]
        pictures += [peer.relight(peer.augment(picture, **views[1]), sample.look) for picture in query]
        return peer.as_training_sample(pictures)

    made.sample(0), theirs(made.sample(0), cv2.INTER_CUBIC)  # warm caches on both sides
    agreement = []
    for index in range(1, num_samples + 1):
        sample = clock("ours", lambda index=index: made.sample(index))
        pictures = clock("peer, bicubic", lambda sample=sample: theirs(sample, cv2.INTER_CUBIC))
        agreement.append(psnr(pictures[1], sample.after[0].numpy()))
        clock("peer, linear", lambda sample=sample: theirs(sample, cv2.INTER_LINEAR))
        numbers = [portraits.files.index(file) for file in set(sample.files)]
        clock("ceiling: reading", lambda numbers=numbers: [portraits.read(number) for number in numbers])
    return statistics.median(agreement)


def measure_pairs(portraits, landmarks, split, operations, num_samples, clock):
    import cv2
    import numpy as np
    import peer_opencv as peer

    from training.dataset_spec import DatasetSpec
    from training.pair_maker import PairMaker, Tally
    from training.recipes import Recipe
    from training.shards import Sample, sample_bytes

    spec = DatasetSpec(
        portraits=str(portraits.path), landmarks=landmarks, operations=operations, num_pairs=10**6, split=split
    )
    maker, tally = PairMaker(spec), Tally()
    meshes = meshes_of(portraits)
    flags = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    last = {}

    def theirs(about, interpolation):
        file, recipe = about["file"], Recipe.from_json(about["recipe"])
        key = file, interpolation
        if key not in last:  # ours reads a portrait once for a few pairs in a row, so the peer may too
            last.clear()
            before = cv2.imread(str(portraits.path / file))
            if about["scale"] != 1:
                before = cv2.resize(before, tuple(about["size"]), interpolation=cv2.INTER_AREA)
            last[key] = before, cv2.imencode(".jpg", before, flags)[1].tobytes()
        before, encoded = last[key]
        retoucher = peer.retoucher(*before.shape[:2], interpolation)
        mesh = (meshes[file] + np.float32(0.5)) * np.float32(about["scale"]) - np.float32(0.5)
        after = retoucher.retouch(before, mesh, peer.steps_of(recipe))
        after = cv2.imencode(".jpg", after, flags)[1].tobytes()
        files = {"before.jpg": encoded, "after.jpg": after, "json": json.dumps(about).encode()}
        return after, sample_bytes(Sample("0", files))

    def ours(index):
        sample = maker.make(index, tally)
        return sample, sample_bytes(sample)

    group, agreement = spec.pairs_per_portrait, []
    for start in range(group, group + num_samples, group):
        abouts, afters = [], []
        for index in range(start, start + group):
            sample, _ = clock("ours", lambda index=index: ours(index))
            abouts.append(json.loads(sample.files["json"]))
            afters.append(sample.files["after.jpg"])
        for name, kind in (("peer, bicubic", cv2.INTER_CUBIC), ("peer, linear", cv2.INTER_LINEAR)):
            for about, after in zip(abouts, afters, strict=True):
                made, _ = clock(name, lambda about=about, kind=kind: theirs(about, kind))
                agreement.append(psnr(_decoded(made), _decoded(after)))
        number = portraits.files.index(abouts[0]["file"])
        clock("ceiling: reading and writing", lambda number=number: portraits.read(number))
        stored = _stored(afters[0])
        for _ in range(group + 1):  # one before for all of the group
            clock("ceiling: reading and writing", lambda stored=stored: _encoded(stored))
    return statistics.median(agreement)


def _encoded(picture):
    picture.save(io.BytesIO(), "JPEG", quality=QUALITY, subsampling=0)


def _stored(encoded):
    from PIL import Image

    return Image.open(io.BytesIO(encoded)).convert("RGB")


def _decoded(encoded):
    import numpy as np

    return np.asarray(_stored(encoded), np.float32) / 255


def report(title, clock, num, agreement):
    print(f"\n{title}, {num} samples, agreement {agreement:.1f} dB")
    print(f"{'':32}{'ms each':>10}{'per s and core':>16}{'ours is':>10}")
    ours = clock.seconds["ours"]
    for name, seconds in clock.seconds.items():
        times = f"{seconds / ours:.2f} x" if name.startswith("peer") else ""
        print(f"{name:32}{1000 * seconds / num:10.2f}{num / seconds:16.1f}{times:>10}")


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

    from training.landmark_sources import landmark_source
    from training.portrait_folder import PortraitFolder
    from training.recipes import PROFESSIONAL_FACE, SIMULATED, operations_named

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    operations = operations_named(args.operations) if args.operations else SIMULATED + PROFESSIONAL_FACE
    portraits = PortraitFolder(args.portraits, landmark_source(args.landmarks), split=args.split, needs="face")
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
    each = clock.seconds["ours"] / args.samples
    print(
        f"\n{PAIRS_OF_THE_METHOD / 1e6:.0f} million pairs at 512 px: {PAIRS_OF_THE_METHOD * each / 3600:.0f} core-hours"
    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
