"""The metadata of the released data sets, as typed records: MirrorPPR47M and SimFace-100.

    read_professional(single_ops_all.json, root)         professional subset: one edit of one person a record
    read_simface(dataset.json, root, resolution=...)     SimFace-100: exemplar before/after, query, target
    read_pairs(folder)                                   the picture pairs that the published scripts write

Every reader gives Released(records, unusable): each row is in exactly one of the two, and unusable ones say why
(released_rows.REASONS). A file that is not of the format at all is an error. Old field names of the professional
metadata are read where the new ones are missing. Paths in the records are absolute, and never outside the root.

The formats are those of the paper's (arXiv:2606.29308) public scripts and data pages; the data itself was not seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .rows import (
    BadRow,
    Point,
    Released,
    Unusable,
    as_number,
    as_numbers,
    as_object,
    as_points,
    dataset_root,
    load_json,
    need_files,
    path_inside,
    read_rows,
)

Box = tuple[float, float, float, float]
RESOLUTIONS = ("base", "2k")


@dataclass(frozen=True)
class ProfessionalEdit:
    """One operation of one level on one person: a tile of the photo before and after.

    operation: as in mirrorppr_core.operations.professional_table ("jaw_trans").  level: -100..100 in all known data.
    box: x, y, w, h of the tile in the photo.  face_box, body_box: x, y, w, h.
    crop_vertices, crop_size (w, h): the exemplar's crop of the photo; rotation in degrees, as stored.
    """

    image_id: str
    subset: str
    operation: str
    level: int
    tile_before: Path | None
    tile_after: Path | None
    photo: Path | None
    box: tuple[int, int, int, int]
    face_box: Box | None
    body_box: Box | None
    crop_vertices: tuple[Point, Point, Point, Point] | None
    crop_size: tuple[int, int] | None
    rotation: float | None


@dataclass(frozen=True)
class SimFaceRow:
    """index: position in dataset.json, which the published scores are keyed by. The target is never the 2k picture.

    fell_back: inputs for which 2k was asked and only base is named.
    """

    index: int
    exemplar_before: Path
    exemplar_after: Path
    query: Path
    target: Path
    instruction: str | None
    fell_back: tuple[str, ...]


@dataclass(frozen=True)
class PicturePair:
    """kind: "aligned", "wild", "full_resolution", "exemplar" or "augmentation".  variant: its direction or size."""

    kind: str
    variant: str
    source: Path
    target: Path


def read_professional(
    metadata: Path, root: Path, *, geometry: Path | None = None, need_tiles: bool = True
) -> Released[ProfessionalEdit]:
    """single_ops_all.json with the person_geometry.json beside it, if there is one.

    Usable ("executable" in the published lister) is an edit with an operation, a box and, unless need_tiles is off,
    both tile files. The photo may be absent: only composing needs it.
    """
    stored, root = load_json(metadata, (list, dict)), dataset_root(root)
    rows = stored.items() if isinstance(stored, dict) else ((str(n), row) for n, row in enumerate(stored))
    beside = metadata.with_name("person_geometry.json")
    people = _people(geometry or beside) if geometry or beside.is_file() else {}

    def record(key: str, row: dict) -> ProfessionalEdit:
        image_id = _image_id(row)
        person = people.get(image_id, {})
        operation, level = _operation(row)
        mosaic = as_object(row.get("mosaic_info") or {}, "mosaic_info")
        box = row.get("crop_bbox_in_original") or mosaic.get("crop_bbox_in_original")
        if not box:
            raise BadRow("no-box", f"{operation}:{level} of {image_id}")
        x, y, w, h = (int(v) for v in as_numbers(box, 4, "crop_bbox_in_original"))
        if w < 1 or h < 1:
            raise BadRow("bad-value", f"crop_bbox_in_original is {w}x{h} pixels")
        before = path_inside(root, _either(row, "source_tile_path", "cropped_mosaic_path"), "source_tile_path")
        after = _either(row, "edited_tile_path", "cropped_edited_mosaic_image_path")
        after = path_inside(root, after, "edited_tile_path")
        if need_tiles:
            need_files([before, after])
        told = {**person, **{name: value for name, value in row.items() if value}}  # the row goes first
        crop = as_object(told.get("encoder_image_process_info") or {}, "encoder_image_process_info")
        vertices, size, rotation = (
            crop.get(name) for name in ("crop_vertices_on_origin", "target_resolution", "rotation")
        )
        return ProfessionalEdit(
            image_id=image_id,
            subset=str(row.get("subset") or ""),
            operation=operation,
            level=level,
            tile_before=before,
            tile_after=after,
            photo=path_inside(root, _either(told, "source_image_path", "image_path"), "source_image_path"),
            box=(x, y, w, h),
            face_box=_numbers_or_none(told.get("face_bbox_xywh"), 4, "face_bbox_xywh"),
            body_box=_numbers_or_none(told.get("body_bbox_xywh"), 4, "body_bbox_xywh"),
            crop_vertices=as_points(vertices, "crop_vertices_on_origin") if vertices else None,
            crop_size=_size(size, "target_resolution"),
            rotation=None if rotation is None else as_number(rotation, "rotation"),
        )

    return read_rows(rows, record)


def read_simface(metadata: Path, root: Path, *, resolution: str = "base") -> Released[SimFaceRow]:
    """SimFace-100. resolution "2k" takes the inputs' _2k pictures where they are named; the target stays base."""
    if resolution not in RESOLUTIONS:
        raise ValueError(f"resolution={resolution!r}: use one of {', '.join(RESOLUTIONS)}")
    stored, root = load_json(metadata, (list,)), dataset_root(root)
    inputs = ("pair1_origin", "pair1_edited", "pair2_origin")

    def record(key: str, row: dict) -> SimFaceRow:
        larger = {name: row.get(f"{name}_2k") for name in inputs} if resolution == "2k" else dict.fromkeys(inputs)
        named = [larger[name] or row.get(name) for name in inputs] + [row.get("pair2_edited")]
        paths = [path_inside(root, path, name) for path, name in zip(named, (*inputs, "pair2_edited"), strict=True)]
        need_files(paths)
        instruction = row.get("edit_instruction")
        return SimFaceRow(
            index=int(key),
            exemplar_before=paths[0],
            exemplar_after=paths[1],
            query=paths[2],
            target=paths[3],
            instruction=None if instruction is None else str(instruction),
            fell_back=tuple(name for name in inputs if resolution == "2k" and not larger[name]),
        )

    return read_rows(((str(n), row) for n, row in enumerate(stored)), record)


# Kind of pair, and its files with two groups: variant and role.
_PAIR_FILES = {
    "aligned": r"aligned_()(source|target)\.png",
    "wild": r"wild_()(source|target)\.png",
    "full_resolution": r"full_resolution/()(source|target)\.png",
    "exemplar": r"extractor_2k/extractor_2k_()(source|target)\.png",
    "augmentation": r"(?:augmentations/simulated|qwen_augmentations/professional)_(\d+_\w+)_(source|target)\.png",
}


def read_pairs(folder: Path) -> Released[PicturePair]:
    """What the published scripts write for one person, simulated or professional, into one folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder. Give the folder with aligned_source.png or extractor_2k/.")
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for path in sorted(folder.rglob("*.png")):
        for kind, pattern in _PAIR_FILES.items():
            if match := re.fullmatch(pattern, path.relative_to(folder).as_posix()):
                found.setdefault((kind, match[1]), {})[match[2]] = path
    if not found:
        raise ValueError(f"{folder} holds none of the pictures that the published scripts write")
    records, unusable = [], []
    for (kind, variant), pair in sorted(found.items()):
        if len(pair) == 2:
            records.append(PicturePair(kind, variant, pair["source"], pair["target"]))
        else:
            (role,) = pair
            unusable.append(Unusable(f"{kind} {variant}".strip(), "no-partner", f"only the {role} is there"))
    return Released(tuple(records), tuple(unusable))


def _people(path: Path) -> dict[str, dict]:
    """person_geometry.json by image_id."""
    stored = load_json(path, (list, dict))
    people = stored.values() if isinstance(stored, dict) else stored
    keys = stored if isinstance(stored, dict) else [p.get("image_id") for p in people if isinstance(p, dict)]
    if len(keys) != len(people) or None in keys or not all(isinstance(p, dict) for p in people):
        raise ValueError(f"{path}: not every entry is an object with its image_id: download it again")
    return {str(key): person for key, person in zip(keys, people, strict=True)}


def _either(row: dict, name: str, old_name: str) -> Any:
    return row.get(name) or row.get(old_name)


def _numbers_or_none(value: Any, count: int, name: str) -> tuple[float, ...] | None:
    return as_numbers(value, count, name) if value else None


def _size(value: Any, name: str) -> tuple[int, int] | None:
    """Width, height."""
    size = _numbers_or_none(value, 2, name)
    return (int(size[0]), int(size[1])) if size else None


def _image_id(row: dict) -> str:
    """`group:index`; in old files in two fields, either of which may be 0."""
    parts = [row.get("group"), row.get("index_in_group")]
    if row.get("image_id") is None and None in parts:
        raise BadRow("no-identity", f"has {', '.join(row) or 'nothing'}")
    return f"{parts[0]}:{parts[1]}" if row.get("image_id") is None else str(row["image_id"])


def _operation(row: dict) -> tuple[str, int]:
    """("jaw_trans", 100) from operation_id, or from the old edit_param and edit_value_level."""
    operation, level = row.get("edit_param"), row.get("edit_value_level")
    if row.get("operation_id"):
        operation, _, level = str(row["operation_id"]).rpartition(":")
    if not operation or level is None:
        raise BadRow("no-operation", f"operation_id is {row.get('operation_id')!r}")
    value = as_number(level, "the level")
    if value != int(value):
        raise BadRow("bad-value", f"the level is {level!r}, need an integer")
    return str(operation), int(value)
