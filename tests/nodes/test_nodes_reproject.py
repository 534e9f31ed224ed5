"""Reproject in the real ComfyUI: shapes from the edited picture, pixels from the original, whatever the sizes."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from host import ROOT
from PIL import Image
from synthetic import bump, vae_like

from mirrorppr_core.geometry.displacement import warp

pytestmark = pytest.mark.host
skimage_data = pytest.importorskip("skimage.data", reason="scikit-image brings the test photo")

ASTRONAUT = skimage_data.astronaut()
EDIT = bump(512, 512, centre=(215.0, 170.0), radius=90.0, shift=(12.0, 0.0))


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255


def to_pixels(image: torch.Tensor) -> np.ndarray:
    return (image[0].permute(1, 2, 0) * 255).round().byte().numpy()


def degraded(image: torch.Tensor) -> np.ndarray:
    return to_pixels(vae_like(image, torch.Generator().manual_seed(0)))


def read(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.fixture(scope="module", autouse=True)
def pictures(host):
    """original.png, 768 px; edited.png and untouched.png, 512 px, soft and in other colours; other.png, noise."""
    photo = to_tensor(ASTRONAUT)
    large = np.asarray(Image.fromarray(ASTRONAUT).resize((768, 768), Image.Resampling.BICUBIC))
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    files = {
        "original.png": large,
        "edited.png": degraded(warp(photo, EDIT)),
        "untouched.png": degraded(photo),
        "other.png": np.asarray(Image.fromarray(noise).resize((512, 512), Image.Resampling.BICUBIC)),
        "wide.png": ASTRONAUT[:300],
    }
    for name, pixels in files.items():
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "PNG")
        host.upload_image(name, content.getvalue())
    return files


def reprojection(edited: str = "edited.png", *, paste: bool = False, **more_nodes: dict) -> dict:
    """LoadImage twice -> Reproject (3) -> image (4), mask (5, 6), residual (7), notes (8)."""
    return {
        "1": node("LoadImage", image="original.png"),
        "2": node("LoadImage", image=edited),
        "3": node("MirrorPPR_Reproject", original=["1", 0], edited=["2", 0], paste_residual=paste),
        "4": node("SaveImage", images=["3", 0], filename_prefix="reprojected"),
        "5": node("MaskToImage", mask=["3", 2]),
        "6": node("SaveImage", images=["5", 0], filename_prefix="mask"),
        "7": node("SaveImage", images=["3", 3], filename_prefix="residual"),
        "8": node("PreviewAny", source=["3", 4]),
    } | {name.removeprefix("n"): one for name, one in more_nodes.items()}


def saved(host, prompt: dict, *node_ids: str) -> list[list[np.ndarray]]:
    run = host.run(prompt)
    assert run.status == "success", run.complaint
    return [[read(content) for content in host.images(run, node_id)] for node_id in node_ids]


def refused(host, prompt: dict) -> str:
    run = host.run(prompt)
    assert run.status == "error" and host.is_running
    return run.complaint


def test_a_small_soft_edited_picture_moves_the_pixels_of_the_original(host, pictures):
    (result,), (mask,), (residual,) = saved(host, reprojection(), "4", "6", "7")
    original = pictures["original.png"]
    changed = (result != original).any(-1)
    assert result.shape == residual.shape == original.shape
    assert 0.02 < changed.mean() < 0.2 and not changed[mask[..., 0] == 0].any()
    assert (residual > 0).mean() < 0.01


def test_an_edited_picture_without_an_edit_gives_back_the_original(host, pictures):
    run = host.run(reprojection("untouched.png"))
    assert np.array_equal(read(host.images(run, "4")[0]), pictures["original.png"])
    assert "nothing moved" in run.outputs["8"]["text"][0]


def test_the_field_goes_to_apply_field_and_preview(host):
    prompt = reprojection(
        n10=node("MirrorPPR_ApplyField", image=["1", 0], field=["3", 1], strength=1.0),
        n11=node("SaveImage", images=["10", 0], filename_prefix="applied"),
        n12=node("MirrorPPR_FieldPreview", field=["3", 1], style="arrows", close_up=True, image=["1", 0]),
    )
    (result,), (applied,), (drawn,) = saved(host, prompt, "4", "11", "12")
    assert np.array_equal(applied, result) and drawn.ndim == 3


def test_several_edited_versions_of_one_original_are_a_batch(host, pictures):
    prompt = reprojection(
        n10=node("LoadImage", image="untouched.png"),
        n11=node("ImageBatch", image1=["2", 0], image2=["10", 0]),
    )
    prompt["3"]["inputs"]["edited"] = ["11", 0]
    (first, second), masks = saved(host, prompt, "4", "6")
    assert np.array_equal(second, pictures["original.png"]) and not np.array_equal(first, second)
    assert len(masks) == 2 and not masks[1].any()


def test_batches_that_do_not_fit_are_refused(host):
    prompt = reprojection(n11=node("ImageBatch", image1=["1", 0], image2=["1", 0]))
    prompt["3"]["inputs"]["original"] = ["11", 0]
    assert "original holds 2 pictures but edited holds 1" in refused(host, prompt)


@pytest.mark.parametrize(
    ("edited", "message"),
    [("other.png", "does not show the same photo"), ("wide.png", "of another aspect ratio")],
)
def test_a_picture_that_is_no_version_of_the_original_is_refused(host, edited, message):
    assert message in refused(host, reprojection(edited))


def test_every_picture_of_a_batch_is_named_in_its_error(host):
    prompt = reprojection(
        n10=node("LoadImage", image="other.png"),
        n11=node("ImageBatch", image1=["2", 0], image2=["10", 0]),
    )
    prompt["3"]["inputs"]["edited"] = ["11", 0]
    assert "picture 2 of 2: edited does not show" in refused(host, prompt)


def test_the_node_explains_itself(host):
    info = host.object_info()["MirrorPPR_Reproject"]
    inputs = info["input"]["required"]
    assert set(inputs) == {"original", "edited", "paste_residual"}
    assert info["output_name"] == ["image", "field", "mask", "residual", "notes"]
    assert all(spec[1].get("tooltip") for spec in inputs.values()) and all(info["output_tooltips"])
    assert (ROOT / "nodes" / "web" / "docs" / "MirrorPPR_Reproject.md").exists()
