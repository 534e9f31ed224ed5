"""Draws the pack's icon and banner (nodes/web/), of the drawn sample portraits and what Mini makes of them.

    .venv/bin/python tests/environment/draw_icon.py

Registries ask for a square icon of at most 400 pixels and a banner of 21 to 9. The banner is README's picture too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.files import bundled_set
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.operations.sliders import Sliders
from mirrorppr_core.photo_files import read_photo

ICON, BANNER = 400, (1260, 540)
GROUND, INK, LINE = (24, 24, 24), (235, 235, 235), (255, 214, 10)
EDIT = {"eye_resize": 90.0, "nose_alar": -90.0}  # the retouch of Sample Portraits, larger eyes and a narrower nose
PANEL, TOP = 290, 100


def pictures() -> dict[str, Image.Image]:
    """before, after, query and result as RGB pictures of one size."""
    model = MirrorPPR.from_folder(bundled_set())
    before, query = (read_photo(ROOT / "nodes" / "samples" / f"portrait_{one}.jpg").pixels for one in "ab")
    after = model.retouch(before, Sliders.of(EDIT), RetouchConfig()).image
    result = model.retouch(query, model.extract(Exemplar(before, after)), RetouchConfig()).image
    named = {"before": before, "after": after, "your photo": query, "result": result}
    return {name: as_picture(one) for name, one in named.items()}


def as_picture(photo: Tensor) -> Image.Image:
    """(1, 3, H, W) uint8."""
    assert photo.dtype == torch.uint8
    return Image.fromarray(photo[0].permute(1, 2, 0).contiguous().numpy())


def face(picture: Image.Image) -> Image.Image:
    """The drawn people all look out of the middle."""
    side = picture.width
    return picture.crop((side // 5, side // 7, side - side // 5, side // 7 + side * 3 // 5))


def icon(shown: dict[str, Image.Image]) -> Image.Image:
    """Half before, half after, with the line of the slider between."""
    before, after = (face(shown[name]).resize((ICON, ICON), Image.LANCZOS) for name in ("before", "after"))
    before.paste(after.crop((ICON // 2, 0, ICON, ICON)), (ICON // 2, 0))
    ImageDraw.Draw(before).line((ICON // 2, 0, ICON // 2, ICON), fill=LINE, width=4)
    return before


def banner(shown: dict[str, Image.Image]) -> Image.Image:
    page = Image.new("RGB", BANNER, GROUND)
    pen = ImageDraw.Draw(page)
    pen.text((30, 28), "Show one retouch. Every portrait gets it.", fill=INK, font=ImageFont.load_default(size=40))
    left = 30
    for number, (name, picture) in enumerate(shown.items()):
        page.paste(face(picture).resize((PANEL, PANEL), Image.LANCZOS), (left, TOP))
        pen.text((left + 4, TOP + PANEL + 10), name, fill=INK, font=ImageFont.load_default(size=24))
        left += PANEL + (10 if number != 1 else 30)
        if number == 1:
            pen.line((left - 20, TOP, left - 20, TOP + PANEL), fill=LINE, width=4)
    words = "The photo's own pixels are moved; all others stay the same, bit for bit."
    pen.text((30, BANNER[1] - 70), words, fill=LINE, font=ImageFont.load_default(size=26))
    return page


def main() -> None:
    shown = pictures()
    folder = ROOT / "nodes" / "web"
    icon(shown).save(folder / "icon.png", optimize=True)
    banner(shown).save(folder / "banner.png", optimize=True)
    print(f"[icon] {folder.relative_to(ROOT)}/icon.png, banner.png")


if __name__ == "__main__":
    main()
