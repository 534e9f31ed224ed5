"""What is fuzzed: for each kind of file sound examples, how it is read, and what must not be accepted when damaged.

A subject lays a sound example into a folder, damages one of its files, reads it as the product does, and says whether
what came back is wrong. Everything is of toy size: one case takes milliseconds.
"""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mutations import damaged, odd_json, odd_safetensors, shuffled_numbers
from PIL import Image
from safetensors.torch import save_file
from toys import TINY, save_set

from mirrorppr_core.bodies.given import read_poses
from mirrorppr_core.mini.files import load_connector, load_editor, load_extractor, load_sight
from mirrorppr_core.mini.operation_file import read_file, save_operation
from mirrorppr_core.mini.set_list import write_list
from mirrorppr_core.operations.sliders import Sliders
from mirrorppr_core.photo_files import encode_png, read_photo
from mirrorppr_core.qwen.files import identify
from training.data.body_labels import read_body_labels
from training.data.landmark_sources import NpzLandmarks
from training.data.picture_files import read_pixels, upright_size
from training.data.portrait_folder import portrait_rows
from training.presets import load_preset
from training.runs.checkpoints import TrainingState, check_result, load_checkpoint, save_checkpoint, save_result
from training.runs.stored import read_result
from training.shards.reader import ShardSet, decode_pair
from training.shards.tar import Sample, write_shard

# Ending, Pillow's format, mode and settings. Those after GIF are no photos, whatever they are called.
_PICTURES: tuple[tuple[str, str, str, dict], ...] = (
    ("jpg", "JPEG", "RGB", {"quality": 80}),
    ("jpg", "JPEG", "RGB", {"progressive": True}),
    ("jpg", "JPEG", "L", {}),
    ("jpg", "JPEG", "CMYK", {}),
    ("jpg", "MPO", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (8, 8))]}),
    ("png", "PNG", "RGB", {}),
    ("png", "PNG", "RGBA", {}),
    ("png", "PNG", "P", {}),
    ("png", "PNG", "I;16", {}),
    ("tif", "TIFF", "RGB", {}),
    ("tif", "TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("tif", "TIFF", "RGB", {"compression": "jpeg"}),
    ("tif", "TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
    ("webp", "WEBP", "RGB", {}),
    ("webp", "WEBP", "RGBA", {"lossless": True}),
    ("bmp", "BMP", "RGB", {}),
    ("gif", "GIF", "P", {}),
    ("jpg", "EPS", "RGB", {}),
    ("png", "PPM", "RGB", {}),
    ("png", "ICO", "RGB", {}),
    ("tif", "TGA", "RGB", {}),
    ("png", "AVIF", "RGB", {}),
)
_PRESET = """base: mini-face
# a comment
loop:
  seed: 3
stages:
  joint:
    steps: 10
    learning_rate: 1e-3
"""
SETTINGS = {"stage": {"name": "joint", "steps": 3}, "seed": 0}


@dataclass(frozen=True)
class Case:
    """read: what the product does with the damaged file.  is_wrong: whether its answer must not have been accepted."""

    about: str
    read: Callable[[], Any]
    is_wrong: Callable[[Any], bool] = lambda value: False


class Weights:
    """Every part of a listed set, its list, and a set without one (whose numbers nobody can vouch for)."""

    def __init__(self, folder: Path):
        self.folder = save_set(folder / "listed")
        self.sight = load_sight(self.folder)
        write_list(self.folder, "0123456789ab")
        self.bare = shutil.copytree(self.folder, folder / "bare")
        (self.bare / "set.json").unlink()
        self.sound = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        self.spoiled: Path | None = None  # by the case before; all other files are sound

    def case(self, draw: random.Random) -> Case:
        name = draw.choice(
            ["connector"] * 4 + ["rformer", "dit", "lora", "mae", "set.json"] + ["locator"] * (draw.random() < 0.1)
        )
        file = name if name == "set.json" else f"{name}.safetensors"
        bare = draw.random() < 0.3 and name != "set.json"
        ways = [damaged, odd_json] if name == "set.json" else [damaged, odd_safetensors, shuffled_numbers]
        content = _other(self.sound[file], draw.choice(ways), draw)
        if self.spoiled is not None:
            _put(self.spoiled, self.sound[self.spoiled.name])
        folder = self.bare if bare else self.folder
        self.spoiled = folder / file
        _put(self.spoiled, content)
        # A list that still says the same, with other spaces, is none that is damaged.
        wrong = not bare and name != "set.json"
        return Case(
            f"{file} of a set {'without' if bare else 'with'} a list", lambda: self._load(folder, name), lambda _: wrong
        )

    def _load(self, folder: Path, name: str) -> Any:
        if name in ("connector", "set.json"):
            return load_connector(folder / "connector.safetensors")
        if name == "rformer":
            return load_extractor(folder / "rformer.safetensors", self.sight)
        if name in ("dit", "lora"):
            return load_editor(folder / "dit.safetensors", self.sight)
        return load_sight(folder)


class Pictures:
    """The formats of photos, and others under their names, through both readers."""

    def __init__(self, folder: Path):
        self.folder, draw = folder, np.random.default_rng(0)
        pixels = draw.integers(0, 255, (40, 56, 3), dtype=np.uint8)
        self.sound: list[tuple[str, bytes]] = []
        for suffix, form, mode, settings in _PICTURES:
            exif = Image.Exif()
            exif[0x0112] = 6
            stream = io.BytesIO()
            extra = {"exif": exif.tobytes()} if form in ("JPEG", "WEBP") else {}
            picture = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode)
            try:
                picture.convert(mode).save(stream, form, **settings, **extra)
            except (OSError, KeyError, ValueError):  # a build of Pillow without this writer
                continue
            self.sound.append((suffix, stream.getvalue()))

    def case(self, draw: random.Random) -> Case:
        suffix, sound = draw.choice(self.sound)
        path = self.folder / f"a.{suffix}"
        _put(path, damaged(sound, draw))
        read = draw.choice((read_photo, read_photo, read_pixels, upright_size))
        return Case(f"{suffix} by {read.__name__}", lambda: read(path))


class Operations:
    """Operation files and poses."""

    def __init__(self, folder: Path):
        from tests.core.mini.test_operation_file import MADE_UP, extracted

        self.folder = folder
        self.sound = []
        for name, operation in (
            ("made-up", MADE_UP),
            ("extracted", extracted(body=True)),
            ("sliders", Sliders.of({"eye_resize": 30})),
        ):
            path = folder / f"{name}.safetensors"
            save_operation(path, operation, pictures="exemplar")
            self.sound.append(path.read_bytes())
        people = [{"pose_keypoints_2d": [0.5, 0.5, 0.9] * 18}]
        self.pose = json.dumps({"canvas_width": 512, "canvas_height": 512, "people": people}).encode()

    def case(self, draw: random.Random) -> Case:
        if draw.random() < 0.15:
            path = self.folder / "pose.json"
            _put(path, draw.choice((damaged, odd_json))(self.pose, draw))
            return Case("a pose", lambda: read_poses(path, (512, 512)))
        path = self.folder / "a.safetensors"
        _put(path, draw.choice((damaged, odd_safetensors, odd_safetensors))(draw.choice(self.sound), draw))
        return Case("an operation file", lambda: read_file(path))


class Shards:
    """A shard with pictures and a field: the archive, its json, and its older json without digests."""

    def __init__(self, folder: Path):
        self.folder = folder / "shards"
        self.folder.mkdir()
        draw = np.random.default_rng(0)
        samples = [self._sample(index, draw) for index in range(3)]
        write_shard(self.folder, "pairs-000000", samples, {"shard": 0})
        self.sound = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        older = json.loads(self.sound["pairs-000000.json"])
        del older["samples"]
        self.older = json.dumps(older).encode()
        self.expected = self._read()

    def _sample(self, index: int, draw: np.random.Generator) -> Sample:
        stream = io.BytesIO()
        np.save(stream, draw.normal(size=(2, 8, 8)).astype(np.float16), allow_pickle=False)
        pictures = {
            f"{name}.png": encode_png(torch.from_numpy(draw.integers(0, 255, (1, 3, 24, 24), dtype=np.uint8)))
            .numpy()
            .tobytes()
            for name in ("before", "after")
        }
        about = {"identity": "a", "recipe": {"steps": []}, "displacement": {"box": [4, 4, 12, 12]}}
        return Sample(f"{index:09d}", {"json": json.dumps(about).encode(), **pictures, "field.npy": stream.getvalue()})

    def _read(self) -> list[tuple]:
        shards = ShardSet(self.folder, decode=decode_pair)
        list(shards.abouts())
        return [
            (pair.key, pair.before, pair.after, pair.displacement, json.dumps(pair.about))
            for pair in (shards[index] for index in range(len(shards)))
        ]

    def case(self, draw: random.Random) -> Case:
        for name, content in self.sound.items():
            _put(self.folder / name, content)
        older = draw.random() < 0.3
        if older:
            _put(self.folder / "pairs-000000.json", self.older)
        name = draw.choice(("pairs-000000.tar", "pairs-000000.tar", "pairs-000000.json"))
        sound = self.older if older and name.endswith("json") else self.sound[name]
        if name.endswith(".tar") and draw.random() < 0.4:  # of the right length: the json cannot tell
            content = bytearray(sound)
            for _ in range(draw.choice((1, 1, 3, 40))):
                content[draw.randrange(len(content))] = draw.randrange(256)
            content = bytes(content)
        else:
            content = draw.choice((damaged, odd_json) if name.endswith("json") else (damaged,))(sound, draw)
        _put(self.folder / name, content)
        return Case(f"{name}{' of an older shard' if older else ''}", self._read, self._is_wrong)

    def _is_wrong(self, value: list[tuple]) -> bool:
        """Fewer samples, by a json that says so, are not wrong ones."""
        whole = {one[0]: one for one in self.expected}
        return any(one[0] not in whole or not _same(one, whole[one[0]]) for one in value)


class Checkpoints:
    """Checkpoints, results of stages, and the same as older versions wrote them."""

    def __init__(self, folder: Path):
        self.folder = folder / "checkpoints"
        torch.manual_seed(0)
        self.state = self._state()
        for parameter in self.state.trainable.values():
            parameter.grad = torch.randn_like(parameter)
        self.state.optimizer.step()
        self.state.step, self.state.sums = 7, {"loss": 1.5, "steps": 3}
        save_checkpoint(self.folder, self.state, SETTINGS, keep=2, is_main=True)
        self.step = self.folder / "step-00000007"
        self.sound = {path.name: path.read_bytes() for path in self.step.iterdir()}
        self.result = folder / "joint.safetensors"
        save_result(self.result, self.state.average, SETTINGS, is_main=True)
        self.sound_result = self.result.read_bytes()

    def _state(self) -> TrainingState:
        module = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 2))
        trainable = dict(module.named_parameters())
        average = {name: parameter.detach().clone() for name, parameter in trainable.items()}
        return TrainingState(trainable, average, torch.optim.AdamW(trainable.values()))

    def case(self, draw: random.Random) -> Case:
        if draw.random() < 0.4:
            ways = (damaged, odd_safetensors, shuffled_numbers)
            _put(self.result, _other(self.sound_result, draw.choice(ways), draw))
            return Case("a result", self._read_result, lambda found: not _same(found, self.state.average))
        for name, content in self.sound.items():
            _put(self.step / name, content)
        name = draw.choice(sorted(self.sound))
        ways = (damaged, odd_json) if name.endswith("json") else (damaged, odd_safetensors, shuffled_numbers)
        _put(self.step / name, _other(self.sound[name], draw.choice(ways), draw))
        return Case(f"{name} of a checkpoint", self._load, self._is_wrong)

    def _read_result(self) -> Any:
        check_result(self.result, SETTINGS)
        return read_result(self.result).tensors

    def _load(self) -> TrainingState:
        state = self._state()
        load_checkpoint(self.folder, state, SETTINGS)
        return state

    def _is_wrong(self, found: TrainingState) -> bool:
        same = found.step == self.state.step and found.sums == self.state.sums
        for name, parameter in self.state.trainable.items():
            moments = found.optimizer.state[found.trainable[name]]
            same = same and torch.equal(found.trainable[name], parameter)
            same = same and torch.equal(found.average[name], self.state.average[name])
            same = same and all(torch.equal(moments[k], v) for k, v in self.state.optimizer.state[parameter].items())
        return not same


class Tables:
    """Landmarks and labels of bodies (npz), portraits (csv), presets (yaml), headers of Qwen weights."""

    def __init__(self, folder: Path):
        self.folder = folder / "portraits"
        (self.folder / "bodies").mkdir(parents=True)
        draw = np.random.default_rng(0)
        Image.fromarray(draw.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(self.folder / "a.png")
        rows = "file,split,identity,synthetic,source,licence\na.png,train,one,0,own,CC0\n"
        (self.folder / "portraits.csv").write_text(rows)
        (self.folder / "bodies" / "bodies.csv").write_text(rows)
        mesh, pose = draw.normal(size=(1, 478, 2)), draw.normal(size=(1, 33, 4))
        np.savez(self.folder / "landmarks.npz", files=["a.png"], mesh=mesh, body_files=["a.png"], pose=pose)
        labels = {
            "files": ["a.png"], "pose": pose, "point_votes": np.ones((1, 33)), "views": [3], "exact": [True],
            "face": np.ones((1, 4)),
        }  # fmt: skip
        for name in ("bodies.npz", "portraits_pose.npz"):
            np.savez_compressed(self.folder / "bodies" / name, **labels)
        (self.folder / "preset.yaml").write_text(_PRESET)
        save_file({"weight": torch.zeros(2, 2)}, self.folder / "q.safetensors", {"mirrorppr_config": TINY.to_json()})
        self.sound = {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        self.readers: dict[str, Callable[[], Any]] = {
            "landmarks.npz": lambda: NpzLandmarks(self.folder / "landmarks.npz"),
            "portraits.csv": lambda: portrait_rows(self.folder),
            "bodies.csv": lambda: read_body_labels(self.folder, split="train"),
            "bodies.npz": lambda: read_body_labels(self.folder, split="train"),
            "preset.yaml": lambda: load_preset(str(self.folder / "preset.yaml")),
            "q.safetensors": lambda: identify(self.folder / "q.safetensors"),
        }

    def case(self, draw: random.Random) -> Case:
        for path, content in self.sound.items():
            _put(path, content)
        path = draw.choice(sorted(path for path in self.sound if path.name in self.readers))
        ways = (damaged, odd_safetensors) if path.suffix == ".safetensors" else (damaged,)
        _put(path, draw.choice(ways)(self.sound[path], draw))
        return Case(path.name, self.readers[path.name])


SUBJECTS: dict[str, type] = {
    "weights": Weights,
    "pictures": Pictures,
    "operations": Operations,
    "shards": Shards,
    "checkpoints": Checkpoints,
    "tables": Tables,
}


def _other(content: bytes, way: Callable[[bytes, random.Random], bytes], draw: random.Random) -> bytes:
    """Changed for certain."""
    changed = way(content, draw)
    while changed == content:
        changed = damaged(content, draw)
    return changed


def _put(path: Path, content: bytes) -> None:
    """A new file each time: others may still be mapped into memory."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other
