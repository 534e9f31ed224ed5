"""Operation files: what is kept comes back, and whatever else is found in a file is refused with one sentence."""

import json
import random
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mirrorppr_core.bodies.families import Fitted
from mirrorppr_core.bodies.motion import BodyMotion
from mirrorppr_core.bodies.part_map import CHARTS, MapPart, PartMap
from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.mini.arithmetic import Blended, Limited, Scaled, Undone, combined
from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.mini.operation_file import read_file, save_operation
from mirrorppr_core.operations.sliders import Sliders

N = 16


def extracted(*, seed: int = 0, body: bool = False) -> Operation:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    trunk = MapPart("trunk", drawn(2, next(chart.num for chart in CHARTS if chart.part == "trunk")))
    beside = BodyMotion(
        measures=drawn(3).abs(),
        fitted=(Fitted("waist", drawn(5), drawn(4)),),
        part_map=PartMap((trunk,)),
        still_face=True,
        largest=0.1,
    )
    picture = torch.randint(0, 256, (1, 3, 40, 30), dtype=torch.uint8, generator=generator)
    return Operation(
        tokens=drawn(1, 4, 8),
        motion=drawn(1, 2, N, N),
        shape=drawn(1, 2, N, N),
        atoms=drawn(1, 3, 2, N, N),
        set_id="0123456789ab",
        largest_px=6.5,
        notes=("one note",),
        body=beside if body else None,
        exemplars=(Exemplar(picture, 255 - picture),),
        thumbnails=torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8, generator=generator),
    )


MADE_UP = combined(
    [
        Scaled(of=Undone(of=extracted()), factor=0.5),
        Limited(of=Sliders.of({"eye_resize": 30, "mouth_smile_left": -20}), parts=("eyes", "mouth"), side="left"),
        Blended(of=(extracted(seed=1, body=True), extracted(seed=2)), weights=(1, 3)),
        Limited(of=extracted(seed=3), region=torch.rand(20, 30) > 0.5),
    ]
)


def same(one, other) -> bool:
    """Equal, tensor by tensor: dataclasses of tensors have no equality of their own."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "__dataclass_fields__"):
        return type(one) is type(other) and all(
            same(getattr(one, f), getattr(other, f)) for f in one.__dataclass_fields__
        )
    return one == other


# what is kept comes back


@pytest.mark.parametrize("operation", [extracted(), extracted(body=True), MADE_UP], ids=["face", "body", "made up"])
def test_an_operation_comes_back_to_the_bit(tmp_path, operation):
    save_operation(tmp_path / "look.safetensors", operation, name="My look", pictures="exemplar")
    again = read_file(tmp_path / "look.safetensors")
    assert same(again.operation, operation)
    assert (again.name, again.engine, again.set_id) == ("My look", "mini", "0123456789ab")


def test_an_operation_may_stand_in_several_places_of_another(tmp_path):
    operation = extracted()
    save_operation(tmp_path / "a.safetensors", combined([operation, Undone(of=operation)]))
    again = read_file(tmp_path / "a.safetensors").operation
    assert torch.equal(again.steps[0].motion, again.steps[1].of.motion)


def test_sliders_belong_to_every_set(tmp_path):
    save_operation(tmp_path / "a.safetensors", Sliders.of({"nose_alar": -40}))
    again = read_file(tmp_path / "a.safetensors")
    assert (again.engine, again.set_id, again.name) == ("any", "", "a")
    assert again.operation == Sliders.of({"nose_alar": -40})


@pytest.mark.parametrize(
    ("pictures", "told"),
    [
        ("none", "This file holds no pictures. It holds the shape"),
        ("thumbnails", "This file shows a person: it holds small pictures"),
        ("exemplar", "This file shows a person: it holds the exemplar's photos"),
    ],
)
def test_pictures_are_kept_as_asked_and_the_file_says_what_it_shows(tmp_path, pictures, told):
    path = tmp_path / "look.safetensors"
    save_operation(path, combined([extracted(), Undone(of=extracted(seed=1))]), pictures=pictures)
    with safe_open(str(path), framework="pt") as file:
        assert file.metadata()["privacy"].startswith(told)
        kept = "".join(file.keys())
    assert ("before" in kept) == (pictures == "exemplar") and ("thumbnails" in kept) == (pictures != "none")


def test_a_lost_exemplar_cannot_be_kept_and_that_is_said(tmp_path):
    with pytest.raises(ValueError, match="no longer known.*extract again"):
        save_operation(tmp_path / "a.safetensors", replace(extracted(), exemplars=()), pictures="exemplar")
    assert not list(tmp_path.iterdir())


def test_a_file_of_before_a_field_existed_is_read_with_its_default(tmp_path):
    def without(tree: dict) -> dict:
        return {key: value for key, value in tree.items() if key not in ("notes", "exemplars", "thumbnails", "body")}

    path = rewritten(tmp_path, without, pictures="none")
    assert read_file(path).operation.notes == () and read_file(path).operation.body is None


# writing


def test_a_file_is_never_overwritten(tmp_path):
    path = tmp_path / "look.safetensors"
    save_operation(path, extracted())
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="exists already and is not overwritten"):
        save_operation(path, extracted(seed=1))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["look.safetensors"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mirrorppr_core.file_writing.os.fsync", full)
    with pytest.raises(OSError, match="cannot write look.safetensors into .*No space left on device.*free some space"):
        save_operation(tmp_path / "look.safetensors", extracted())
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write look.safetensors into file/"):
        save_operation(tmp_path / "file" / "look.safetensors", extracted())
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        (locked / "probe").touch()
    except OSError:
        with pytest.raises(OSError, match="into locked/"):
            save_operation(locked / "look.safetensors", extracted())
    finally:
        locked.chmod(stat.S_IRWXU)


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", "c:", ".hidden", "", " a", "x" * 121, "nul\0", "tab\t"])
def test_names_that_are_paths_or_worse_are_refused(tmp_path, name):
    if name:  # no name: the file's own
        with pytest.raises(ValueError, match="cannot be the name of an operation"):
            save_operation(tmp_path / "a.safetensors", extracted(), name=name)
    assert not list(tmp_path.iterdir())


# reading what is no operation of ours


def rewritten(folder: Path, change, *, pictures: str = "exemplar", **metadata: str | None) -> Path:
    """A file whose record was changed, and whose tensors are those that the record still names."""
    path, again = folder / "first.safetensors", folder / "again.safetensors"
    save_operation(path, extracted(), pictures=pictures)
    with safe_open(str(path), framework="pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    tree = change(json.loads(header["operation"]))
    header = header | {"operation": json.dumps(tree)} | metadata
    header = {key: value for key, value in header.items() if value is not None}
    named = header["operation"]
    save_file({k: v for k, v in tensors.items() if f'"{k}"' in named}, str(again), metadata=header)
    return again


def as_it_is(tree: dict) -> dict:
    return tree


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": None}, "is another program's file and no operation: choose a file that Save Operation"),
        ({"format": "mirrorppr", "part": "dit"}, "holds the dit of a set of weights and no operation"),
        ({"version": "2"}, "of version 2, and this release reads 1: update the node pack"),
        ({"name": None}, "has no name in its header"),
        ({"operation": "{"}, "cannot be read as an operation"),
        ({"operation": "[" * 100_000}, "cannot be read as an operation"),
        ({"operation": "[" * 90 + "]" * 90}, "nested more than 40 levels deep"),
        ({"operation": '{"type": "os.system"}'}, "of the type 'os.system', which this release does not know"),
        ({"operation": '{"type": "amount", "operation": "eye_resize", "percent": 3}'}, "only a part of one"),
        ({"operation": '{"type": "scaled", "of": {"type": "sliders", "amounts": []}, "factor": 1e9}'}, "holds the num"),
        ({"operation": '{"type": "scaled", "of": {"type": "sliders", "amounts": []}, "factor": NaN}'}, "number nan"),
        ({"operation": '{"type": "scaled", "of": {"type": "sliders", "amounts": []}, "factor": 3}'}, "use 0 to 200 %"),
        ({"operation": '{"type": "sliders", "amounts": "eye_resize"}'}, "amounts of sliders is not what it should be"),
    ],
)
def test_a_file_that_is_no_operation_of_this_release_is_refused(tmp_path, metadata, message):
    path = rewritten(tmp_path, as_it_is, **metadata)
    with pytest.raises(ValueError, match=message) as refusal:
        read_file(path)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400 and path.name in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree | {"future": 1}, "a field 'future', which this release does not know"),
        (lambda tree: {k: v for k, v in tree.items() if k != "motion"}, "extracted has no motion"),
        (lambda tree: tree | {"shape": {"tensor": "motion"}}, "'motion' is missing, or named twice"),
        (lambda tree: tree | {"atoms": tree["shape"], "shape": tree["atoms"]}, "its tensors do not fit together"),
        (lambda tree: tree | {"largest_px": "far"}, "largest_px of extracted is not what it should be"),
        (lambda tree: tree | {"thumbnails": tree["exemplars"][0]["before"]}, "named twice"),
    ],
)
def test_a_record_that_does_not_fit_its_type_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read_file(rewritten(tmp_path, change))


def test_tensors_that_nothing_names_are_refused(tmp_path):
    path = rewritten(tmp_path, as_it_is)
    with safe_open(str(path), framework="pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    save_file(tensors | {"stowaway": torch.zeros(3)}, str(path), metadata=header)
    with pytest.raises(ValueError, match="tensors that nothing in it names .stowaway"):
        read_file(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_numbers_that_are_none_are_refused(tmp_path, value):
    broken = extracted()
    broken.motion[0, 0, 3, 3] = value
    save_operation(tmp_path / "a.safetensors", broken)
    with pytest.raises(ValueError, match="motion contains NaN, infinite or absurdly large numbers"):
        read_file(tmp_path / "a.safetensors")


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\xff" * 64, b"GIF89a" + b"x" * 500, b"{}" * 50])
def test_a_file_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.safetensors is (empty|damaged or no safetensors file).*save it again"):
        read_file(path)


def test_a_missing_and_a_huge_file_are_refused(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="there is no operation file a.safetensors"):
        read_file(tmp_path / "a.safetensors")
    save_operation(tmp_path / "a.safetensors", extracted())
    monkeypatch.setattr("mirrorppr_core.mini.operation_file.MAX_BYTES", 1 << 10)
    with pytest.raises(ValueError, match="0 MB large, more than any operation"):
        read_file(tmp_path / "a.safetensors")


def test_whatever_bytes_change_the_file_is_read_or_refused_in_one_sentence(tmp_path):
    """400 seeded mutations: bytes overwritten, cut out, doubled, the end lost, and the JSON's own words swapped."""
    save_operation(tmp_path / "good.safetensors", MADE_UP, pictures="exemplar")
    good, path, draw = (tmp_path / "good.safetensors").read_bytes(), tmp_path / "bad.safetensors", random.Random(0)
    words = [b"tensor", b"extracted", b"null", b"0.5", b"motion", b"png", b"true", b"[", b"}", b"exemplar", b"1"]
    header, refused = 8 + int.from_bytes(good[:8], "little"), 0
    for _ in range(400):
        content, reach = bytearray(good), header if draw.random() < 0.7 else len(good)
        place = draw.randrange(reach)
        kind = draw.randrange(5)
        if kind == 0:
            for _ in range(draw.randint(1, 8)):
                content[draw.randrange(reach)] = draw.randrange(256)
        elif kind == 1:
            del content[place : place + draw.randint(1, 400)]
        elif kind == 2:
            content[place:place] = content[place : place + draw.randint(1, 400)]
        elif kind == 3:
            del content[place:]
        else:
            one, other = draw.choice(words), draw.choice(words)
            at = good.find(one, draw.randrange(header))
            if at > 0:
                content[at : at + len(one)] = other.ljust(len(one))[: len(one)]
        path.write_bytes(bytes(content))
        try:
            read_file(path)
        except ValueError as refusal:
            refused += 1
            assert "\n" not in str(refusal) and path.name in str(refusal), refusal
    assert refused > 200
