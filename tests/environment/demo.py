"""`make demo`: a real portrait retouched after one before/after pair, in the real ComfyUI.

    before   Eileen Collins, from scikit-image's package data
    after    the same photo with a simulated retouch of known operations (mirrorppr_core/operations/llw.py)
    query    Grace Hopper, from matplotlib's package data: another person, light and camera
    result   the query after the API workflow, posted to a ComfyUI that is started for it and stopped again

Both photos are in the public domain and come with installed packages. Everything is written to demo/.
"""

from __future__ import annotations

import copy
import io
import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib.cbook
import numpy as np
import skimage.data
import torch
from PIL import Image

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT), str(_ROOT / "tests" / "helpers")]

from host import PACK, ROOT, ComfyHost, HostError
from sheet import Panel, difference, draw_sheet

from mirrorppr_core.faces.locator import Face, Locator
from mirrorppr_core.motion.estimate import estimate_motion
from mirrorppr_core.operations.llw import apply_llw

FOLDER = ROOT / "demo"
WORKFLOW = ROOT / "workflows" / "api" / "retouch_from_exemplar.json"
LOCATOR = ROOT / "mirrorppr_core" / "weights" / "mini" / "locator.safetensors"
STEPS = [("eye_resize", 100), ("nose_alar", -100), ("lip_thickness", 100)]  # strong, so that a stranger sees them
IN_WORDS = "larger eyes, narrower nose, fuller lips"
ROLES = ("before", "after", "query")  # a LoadImage node says in its title which of them it loads


@dataclass(frozen=True)
class Pictures:
    before: Image.Image
    after: Image.Image
    query: Image.Image


def prepare() -> Pictures:
    """The two photos, and the exemplar's after made with our own operations."""
    before = Image.fromarray(skimage.data.astronaut())
    query = Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB")
    return Pictures(before=before, after=simulated_retouch(before), query=query)


def simulated_retouch(before: Image.Image) -> Image.Image:
    """The operations on the face's own square: their feather is a share of the frame, not of the face, and in the
    whole photo, where the face is small, it would fade them away. It ends well inside the square."""
    square = face_box(before)
    mesh = find_face(to_tensor(before)).mesh - torch.tensor(square[:2])
    after = before.copy()
    after.paste(to_picture(apply_llw(to_tensor(before.crop(square)), mesh, STEPS).image), square[:2])
    return after


@cache
def locator() -> Locator:
    return Locator.from_file(LOCATOR)


def find_face(image: torch.Tensor) -> Face:
    return locator().find(image)[0]


def fill_in(workflow: dict, images: dict[str, str]) -> dict:
    """The API workflow with our pictures: `images` maps each role to a name in the host's input folder."""
    filled = copy.deepcopy(workflow)
    for node in filled.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = images[role_of(node["_meta"]["title"])]
        if node["class_type"] == "SaveImage":
            node["inputs"]["filename_prefix"] = "mirrorppr_demo"
    return filled


def role_of(title: str) -> str:
    roles = [role for role in ROLES if role in title.lower()]
    if len(roles) != 1:
        raise ValueError(f"LoadImage node titled {title!r}: the title must name one of {', '.join(ROLES)}")
    return roles[0]


def retouch_in_host(pictures: Pictures) -> Image.Image:
    with ComfyHost(packs={PACK: ROOT}) as host:
        images = {role: host.upload_image(f"{role}.png", to_png(getattr(pictures, role))) for role in ROLES}
        prompt = fill_in(json.loads(WORKFLOW.read_text()), images)
        run = host.run(prompt)
        if run.status != "success":
            raise HostError(f"{run.error.get('node_type', 'the prompt')} failed: {run.complaint}")
        (saver,) = (name for name, node in prompt.items() if node["class_type"] == "SaveImage")
        (result,) = host.images(run, saver)
    return Image.open(io.BytesIO(result)).convert("RGB")


def compare(pictures: Pictures, result: Image.Image) -> Image.Image:
    """The sheet: whole photos above; below them the faces, where the change can be seen, and the differences."""
    before, after, query = pictures.before, pictures.after, pictures.query
    exemplar_face, query_face = face_box(before), face_box(query)
    photos = [
        Panel(before, "exemplar, before"),
        Panel(after, f"exemplar, after (simulated):\n{IN_WORDS}"),
        Panel(query, "query"),
        Panel(result, "result: the query, retouched\nafter the exemplar"),
    ]
    faces = [
        Panel(before.crop(exemplar_face), "exemplar's face, before"),
        Panel(after.crop(exemplar_face), "exemplar's face, after"),
        Panel(query.crop(query_face), "query's face"),
        Panel(result.crop(query_face), "result's face"),
    ]
    of_exemplar, of_query = difference(before, after, gain=3), difference(query, result, gain=3)
    differences = [
        Panel(of_exemplar, "exemplar: what changed (x3);\nwhite is unchanged"),
        Panel(of_exemplar.crop(exemplar_face), "the same, the face"),
        Panel(of_query, "query: what changed (x3);\nwhite is unchanged"),
        Panel(of_query.crop(query_face), "the same, the face"),
    ]
    return draw_sheet([photos, faces, differences])


def face_box(picture: Image.Image) -> tuple[int, int, int, int]:
    """A square around the face with a margin, inside the picture."""
    points = find_face(to_tensor(picture)).landmarks
    x, y = ((points.amin(0) + points.amax(0)) / 2).tolist()
    reach = 0.65 * float((points.amax(0) - points.amin(0)).max())
    return (
        max(0, round(x - reach)),
        max(0, round(y - reach)),
        min(picture.width, round(x + reach)),
        min(picture.height, round(y + reach)),
    )


def report(query: Image.Image, result: Image.Image) -> str:
    """The largest motion and the share of changed pixels, measured on the two pictures themselves."""
    largest = estimate_motion(source=to_tensor(query), target=to_tensor(result)).max_px.item()
    changed = (np.asarray(query) != np.asarray(result)).any(-1).mean()
    return f"largest displacement in the result {largest:.1f} px; {changed:.1%} of its pixels differ from the query's"


def main():
    FOLDER.mkdir(exist_ok=True)
    print("[demo] making the exemplar's after; starting ComfyUI (half a minute on a slow machine)", flush=True)
    pictures = prepare()
    result = retouch_in_host(pictures)
    sheet = compare(pictures, result)
    everything = {"before": pictures.before, "after": pictures.after, "query": pictures.query}
    for name, picture in {**everything, "result": result, "sheet": sheet}.items():
        picture.save(FOLDER / f"{name}.png")
        print(f"[demo] {(FOLDER / name).relative_to(ROOT)}.png")
    print(f"[demo] {report(pictures.query, result)}")


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """(1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


def to_picture(image: torch.Tensor) -> Image.Image:
    return Image.fromarray((image[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())


def to_png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("[demo] stopped")
    except HostError as error:
        sys.exit(f"[demo] {error}")
