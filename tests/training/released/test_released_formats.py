"""The released data sets' metadata: every row becomes a record or a reason, in the old spelling and the new."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from mirrorppr_core.operations.professional_table import operation_named
from training.released.compose import compose
from training.released.formats import read_pairs, read_professional, read_simface

ALL = "single_ops_all.json"


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def picture(path, colour=(90, 120, 150), size=(60, 80)):
    """size: width, height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


# Professional subset


def edit(root, **changes):
    """One row in the new spelling, with its files; changes of None take a field out."""
    picture(root / "photos" / "1443_3.png", size=(200, 160))
    row = {
        "image_id": "1443:3",
        "subset": "face",
        "operation_id": "mandible_left+mandible_right:-100",
        "source_image_path": "photos/1443_3.png",
        "source_tile_path": "tiles/before.png",
        "edited_tile_path": "tiles/after.png",
        "crop_bbox_in_original": [40, 30, 60, 80],
        "encoder_image_process_info": {
            "target_resolution": [1152, 1920],
            "crop_vertices_on_origin": [[0, 0], [150, 0], [150, 150], [0, 150]],
            "rotation": 0,
        },
        "face_bbox_xywh": [50, 40, 30, 40],
        "body_bbox_xywh": [10, 20, 150, 140],
    }
    for name in ("source_tile_path", "edited_tile_path"):
        picture(root / row[name])
    return {name: value for name, value in {**row, **changes}.items() if value is not None}


def read(root, rows, **settings):
    return read_professional(written(root / "professional" / "metadata" / ALL, rows), root, **settings)


def test_an_edit_is_read_with_absolute_paths(tmp_path):
    (found,) = read(tmp_path, [edit(tmp_path)]).records
    assert (found.image_id, found.subset, found.level) == ("1443:3", "face", -100)
    assert operation_named(found.operation).name == "mandible_left+mandible_right"
    assert (
        found.tile_before == tmp_path / "tiles" / "before.png" and found.tile_after == tmp_path / "tiles" / "after.png"
    )
    assert found.photo == tmp_path / "photos" / "1443_3.png" and found.photo.is_absolute()
    assert found.box == (40, 30, 60, 80) and found.face_box == (50, 40, 30, 40) and found.body_box[2] == 150
    assert found.crop_size == (1152, 1920) and found.crop_vertices[2] == (150, 150) and found.rotation == 0


def test_the_old_field_names_tell_the_same(tmp_path):
    new = edit(tmp_path)
    old = {
        "group": 1443,
        "index_in_group": 3,
        "subset": "face",
        "edit_param": "mandible_left+mandible_right",
        "edit_value_level": -100,
        "image_path": new["source_image_path"],
        "cropped_mosaic_path": new["source_tile_path"],
        "cropped_edited_mosaic_image_path": new["edited_tile_path"],
        "mosaic_info": {"crop_bbox_in_original": new["crop_bbox_in_original"]},
        **{name: new[name] for name in ("encoder_image_process_info", "face_bbox_xywh", "body_bbox_xywh")},
    }
    first, second = read(tmp_path, [new, old]).records
    assert first == second


def test_a_list_and_an_object_of_rows_are_the_same(tmp_path):
    assert read(tmp_path, [edit(tmp_path)]).records == read(tmp_path, {"any key": edit(tmp_path)}).records


@pytest.mark.parametrize("as_object", [False, True])
def test_the_geometry_file_beside_it_fills_what_a_row_leaves_out(tmp_path, as_object):
    names = ("source_image_path", "encoder_image_process_info", "face_bbox_xywh", "body_bbox_xywh")
    full = edit(tmp_path)
    person = {"image_id": "1443:3", **{name: full[name] for name in names}}
    geometry = {"1443:3": person} if as_object else [person]
    written(tmp_path / "professional" / "metadata" / "person_geometry.json", geometry)
    bare, own = edit(tmp_path, **dict.fromkeys(names)), edit(tmp_path, face_bbox_xywh=[1, 2, 3, 4])
    found = read(tmp_path, [full, bare, own]).records
    assert found[0] == found[1]
    assert found[2].face_box == (1, 2, 3, 4)  # the row goes before the person


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"operation_id": None}, "no-operation"),
        ({"operation_id": "jaw_trans"}, "no-operation"),
        ({"operation_id": "jaw_trans:much"}, "bad-value"),
        ({"operation_id": "jaw_trans:0.5"}, "bad-value"),
        ({"crop_bbox_in_original": None}, "no-box"),
        ({"crop_bbox_in_original": [1, 2, 0, 4]}, "bad-value"),
        ({"image_id": None}, "no-identity"),
        ({"edited_tile_path": None}, "no-path"),
        ({"edited_tile_path": "tiles/gone.png"}, "no-file"),
        ({"source_tile_path": "/etc/passwd"}, "bad-path"),
        ({"source_tile_path": 7}, "bad-value"),
        ({"encoder_image_process_info": [1]}, "bad-value"),
    ],
)
def test_an_edit_that_cannot_be_executed_is_counted(tmp_path, changes, reason):
    found = read(tmp_path, [edit(tmp_path), edit(tmp_path, **changes)])
    assert len(found.records) == 1 and found.counts() == {reason: 1}
    assert found.unusable[0].row == "1"


def test_tiles_need_not_be_there_when_they_are_not_asked_for(tmp_path):
    row = edit(tmp_path, edited_tile_path="tiles/gone.png")
    assert len(read(tmp_path, [row], need_tiles=False).records) == 1


def test_a_geometry_file_of_another_format_is_refused(tmp_path):
    geometry = written(tmp_path / "people.json", [{"face_bbox_xywh": [1, 2, 3, 4]}])
    with pytest.raises(ValueError, match="not every entry is an object with its image_id"):
        read(tmp_path, [edit(tmp_path)], geometry=geometry)


# Composing


def tiles(root, name, before, after):
    for side, array in (("before", before), ("after", after)):
        Image.fromarray(array).save(root / f"{name}_{side}.png")
    return {"source_tile_path": f"{name}_before.png", "edited_tile_path": f"{name}_after.png"}


def grey_tile(value, width=60, height=80):
    return np.full((height, width, 3), value, np.uint8)


def test_the_photo_changes_where_a_tile_does_and_keeps_its_bits_elsewhere(tmp_path):
    before, after = grey_tile(100), grey_tile(100)
    after[20:30, 10:20] = 180
    after[50:60, 10:20] = 103  # three grey levels are noise
    paths = tiles(tmp_path, "a", before, after)
    pair = compose(read(tmp_path, [edit(tmp_path, operation_id="jaw_trans:50", **paths)]).records)
    expected = torch.zeros(160, 200, dtype=torch.bool)
    expected[30 + 20 : 30 + 30, 40 + 10 : 40 + 20] = True
    assert torch.equal(pair.edited, expected)
    assert (pair.target[:, expected] == 180).all() and torch.equal(pair.target[:, ~expected], pair.source[:, ~expected])


@pytest.mark.parametrize(
    ("operation", "bottom"),
    [
        ("eye_height_left+eye_height_right:100", 2),
        ("face_trans:100", 20),
        ("face_trans:-100", 5),
        ("jaw_trans:-100", 20),
        ("mandible_left+mandible_right:100", 5),
    ],
)
def test_the_border_of_a_tile_is_never_copied_least_of_all_below_a_chin(tmp_path, operation, bottom):
    paths = tiles(tmp_path, "a", grey_tile(100), grey_tile(180))
    pair = compose(read(tmp_path, [edit(tmp_path, operation_id=operation, **paths)]).records)
    expected = torch.zeros(160, 200, dtype=torch.bool)
    expected[30 + 2 : 30 + 80 - bottom, 40 + 2 : 40 + 60 - 2] = True
    assert torch.equal(pair.edited, expected)


def test_where_edits_overlap_their_mean_counts_cut_to_whole_levels(tmp_path):
    first = tiles(tmp_path, "a", grey_tile(100), grey_tile(150))
    second = tiles(tmp_path, "b", grey_tile(100), grey_tile(181))
    rows = [
        edit(tmp_path, operation_id="nasal_tip:100", **first),
        edit(tmp_path, operation_id="nasal_root:100", crop_bbox_in_original=[70, 30, 60, 80], **second),
    ]
    target = compose(read(tmp_path, rows).records).target
    assert target[0, 60, [60, 85, 120]].tolist() == [150, 165, 181]


def test_a_tile_of_another_size_is_brought_to_its_box(tmp_path):
    paths = tiles(tmp_path, "a", grey_tile(100, 30, 40), grey_tile(180, 30, 40))
    pair = compose(read(tmp_path, [edit(tmp_path, operation_id="nasal_tip:100", **paths)]).records)
    assert int(pair.edited.sum()) == (60 - 8) * (80 - 8)  # the border is of the stored tile
    assert_close(pair.target[:, pair.edited].unique().tolist(), [180])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"crop_bbox_in_original": [150, 30, 60, 80]}, r"leaves 1443_3.png of 200x160 pixels"),
        ({"source_image_path": None}, "edits of one photo, and that photo"),
        ({"edited_tile_path": "photos/1443_3.png"}, "need two of one size"),
    ],
)
def test_edits_that_do_not_fit_their_photo_are_refused(tmp_path, changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        compose(read(tmp_path, [edit(tmp_path, **changes)]).records)


def test_edits_of_two_photos_and_no_edits_are_refused(tmp_path):
    picture(tmp_path / "photos" / "other.png", size=(200, 160))
    rows = [edit(tmp_path), edit(tmp_path, source_image_path="photos/other.png")]
    with pytest.raises(ValueError, match="1443_3.png, .*other.png: compose needs edits of one photo"):
        compose(read(tmp_path, rows).records)
    with pytest.raises(ValueError, match="at least one record"):
        compose([])


# SimFace-100

KEYS = ("pair1_origin", "pair1_edited", "pair2_origin", "pair2_edited")


def simface(root, *, larger=(), **changes):
    row = {key: f"images/{key}.jpg" for key in KEYS} | {f"{key}_2k": f"images/{key}_2k.jpg" for key in larger}
    for path in row.values():
        picture(root / path)
    return {key: value for key, value in {**row, **changes}.items() if value is not None}


def test_simface_rows_are_exemplar_query_and_target(tmp_path):
    rows = [simface(tmp_path, edit_instruction="smaller nose"), simface(tmp_path)]
    found = read_simface(written(tmp_path / "dataset.json", rows), tmp_path).records
    images = tmp_path / "images"
    assert (found[0].exemplar_before, found[0].exemplar_after) == (images / f"{KEYS[0]}.jpg", images / f"{KEYS[1]}.jpg")
    assert (found[0].query, found[0].target) == (images / f"{KEYS[2]}.jpg", images / f"{KEYS[3]}.jpg")
    assert [row.instruction for row in found] == ["smaller nose", None] and [row.index for row in found] == [0, 1]


def test_2k_takes_the_large_inputs_falls_back_to_base_and_never_takes_a_large_target(tmp_path):
    rows = [simface(tmp_path, larger=("pair1_origin", "pair2_origin", "pair2_edited"))]
    metadata = written(tmp_path / "dataset.json", rows)
    (large,), (base,) = (read_simface(metadata, tmp_path, resolution=r).records for r in ("2k", "base"))
    assert large.exemplar_before.name == "pair1_origin_2k.jpg" and large.query.name == "pair2_origin_2k.jpg"
    assert large.exemplar_after == base.exemplar_after and large.fell_back == ("pair1_edited",)
    assert large.target == base.target and large.target.name == "pair2_edited.jpg"
    assert base.query.name == "pair2_origin.jpg" and base.fell_back == ()


def test_a_row_without_its_pictures_is_counted_and_the_others_keep_their_numbers(tmp_path):
    rows = [
        simface(tmp_path, pair1_edited=None),
        simface(tmp_path, pair2_edited="images/gone.jpg"),
        3,
        simface(tmp_path),
    ]
    found = read_simface(written(tmp_path / "dataset.json", rows), tmp_path)
    assert [row.index for row in found.records] == [3]
    assert found.counts() == {"no-file": 1, "no-path": 1, "not-a-record": 1}


def test_an_unknown_resolution_is_refused(tmp_path):
    with pytest.raises(ValueError, match="use one of base, 2k"):
        read_simface(written(tmp_path / "dataset.json", []), tmp_path, resolution="4k")


# Pairs that the published scripts write


def test_the_pairs_of_both_subsets_are_found_by_their_names(tmp_path):
    names = [
        "aligned_{}.png", "wild_{}.png", "augmentations/simulated_003_TopLeft_{}.png", "full_resolution/{}.png",
        "extractor_2k/extractor_2k_{}.png", "qwen_augmentations/professional_000_1152x1920_{}.png",
    ]  # fmt: skip
    for name in names:
        for role in ("source", "target"):
            picture(tmp_path / name.format(role))
    picture(tmp_path / "preview.png")
    found = read_pairs(tmp_path)
    assert {(pair.kind, pair.variant) for pair in found.records} == {
        ("aligned", ""), ("wild", ""), ("augmentation", "003_TopLeft"), ("full_resolution", ""), ("exemplar", ""),
        ("augmentation", "000_1152x1920"),
    }  # fmt: skip
    assert all(pair.source.name == pair.target.name.replace("target", "source") for pair in found.records)


def test_a_source_without_its_target_is_counted(tmp_path):
    for name in ("aligned_source.png", "aligned_target.png", "wild_target.png"):
        picture(tmp_path / name)
    found = read_pairs(tmp_path)
    assert len(found.records) == 1 and found.counts() == {"no-partner": 1}
    assert found.unusable[0].row == "wild" and found.unusable[0].detail == "only the target is there"


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_pairs(tmp_path / "gone")
    with pytest.raises(ValueError, match="none of the pictures that the published scripts write"):
        read_pairs(tmp_path)


# Files that are not of the format at all


@pytest.mark.parametrize("reader", [read_professional, read_simface])
def test_a_missing_broken_or_foreign_file_is_named(tmp_path, reader):
    with pytest.raises(FileNotFoundError, match="m.json: no such file"):
        reader(tmp_path / "m.json", tmp_path)
    (tmp_path / "m.json").write_text('{"0": ')
    with pytest.raises(ValueError, match="m.json is damaged or not JSON"):
        reader(tmp_path / "m.json", tmp_path)
    with pytest.raises(ValueError, match="m.json holds str, need .*is this the right file"):
        reader(written(tmp_path / "m.json", "text"), tmp_path)
    empty = written(tmp_path / "m.json", [] if reader is read_simface else {})
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        reader(empty, tmp_path / "nowhere")
