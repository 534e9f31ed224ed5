"""The templates that make_templates.py writes: nodes, values, connections, and the groups in which they stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

BUNDLED = "mini-face (bundled)"
ALBUM = "album_photos"  # a folder of the input folder


@dataclass(frozen=True)
class Spec:
    """One node."""

    kind: str
    values: dict[str, Any] = field(default_factory=dict)
    title: str | None = None


@dataclass(frozen=True)
class Template:
    """links: (from, output, to, input).  groups: (title, columns of node names).  shows: title of the node whose
    picture becomes the thumbnail.  prepare: puts into the host what a user would have there."""

    name: str
    nodes: dict[str, Spec]
    links: tuple[tuple[str, str, str, str], ...]
    groups: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]
    shows: str
    prepare: Callable[[Any], None] | None = None
    muted: tuple[str, ...] = ()  # nodes that do not run as it opens
    banner: str = ""  # words on the thumbnail, where two templates look alike


def note(text: str) -> Spec:
    return Spec("MarkdownNote", {"text": text}, "Read me")


SAMPLES = Spec("MirrorPPR_SamplePortraits", {}, "Your photos go here")
LOAD = Spec("MirrorPPR_Load", {"set_name": BUNDLED})
EXTRACT = Spec("MirrorPPR_ExtractOperation")
SAMPLER = Spec("MirrorPPR_RetouchSampler")
COMPARE = Spec("MirrorPPR_Compare", {}, "Before and after")
DIFFERENCE = Spec("PreviewImage", {}, "What differs")
FOUND = Spec("PreviewImage", {}, "What was found in the exemplar")
EXEMPLAR_NOTES = Spec("PreviewAny", {}, "Notes on the exemplar")
RESULT_NOTES = Spec("PreviewAny", {}, "Notes on the result")
SAVE = Spec("SaveImage", {"filename_prefix": "mirrorppr"}, "Save the result")

EXTRACTING = (
    ("load", "extractor", "extract", "extractor"),
    ("samples", "before", "extract", "before"),
    ("samples", "after", "extract", "after"),
    ("extract", "notes", "exemplar_notes", "source"),
)
SAMPLING = (
    ("load", "dit", "sampler", "dit"),
    ("load", "connector", "sampler", "connector"),
    ("extract", "operation", "sampler", "operation"),
)
SHOWING = (
    ("sampler", "image", "compare", "after"),
    ("sampler", "field", "compare", "field"),
    ("sampler", "image", "save", "images"),
    ("sampler", "notes", "result_notes", "source"),
    ("compare", "picture", "difference", "images"),
)

FROM_EXEMPLAR = Template(
    name="retouch_from_exemplar",
    nodes={
        "samples": SAMPLES, "load": LOAD, "extract": EXTRACT, "found": FOUND, "exemplar_notes": EXEMPLAR_NOTES,
        "sampler": SAMPLER, "compare": COMPARE, "difference": DIFFERENCE, "save": SAVE, "result_notes": RESULT_NOTES,
        "note": note(
            "## Retouch from one example\n\nPress **Run**: it works as it opens, with two drawn portraits.\n\n"
            "Then put three *Load Image* nodes in place of *Sample Portraits*:\n\n"
            "1. **before / after**: one portrait and its retouched copy, the same size, uncropped.\n"
            "2. **query**: the portrait that shall get the same retouch, at any size from 256 px.\n\n"
            "*What was found* shows the face and how it was moved; read the notes before you trust the result.\n\n"
            "**strength**: 1 as in the exemplar, 0.5 half, -1 the opposite. Shape is transferred; colour and skin are "
            "not. Pixels that do not move keep their bits."
        ),
    },
    links=(
        *EXTRACTING, ("extract", "picture", "found", "images"), *SAMPLING, ("samples", "query", "sampler", "query"),
        ("samples", "query", "compare", "before"), *SHOWING,
    ),
    groups=(
        ("1  Photos", (("samples", "load", "note"),)),
        ("2  Read the retouch", (("extract", "exemplar_notes", "found"),)),
        ("3  Give it to another photo", (("sampler", "result_notes"), ("compare", "difference", "save"))),
    ),
    shows="What differs",
)  # fmt: skip

GROUP_PHOTO = Template(
    name="group_photo",
    nodes={
        "samples": SAMPLES, "load": LOAD, "extract": EXTRACT, "exemplar_notes": EXEMPLAR_NOTES,
        "group": Spec("ImageStitch", {"direction": "right", "spacing_width": 0}, "A group photo"),
        "faces": Spec("MirrorPPR_FindFaces", {"face": "2"}), "numbers": Spec("PreviewImage", {}, "Who is who"),
        "sampler": Spec("MirrorPPR_RetouchSampler", {"face": "all"}),
        "compare": COMPARE, "difference": DIFFERENCE, "save": SAVE,
        "result_notes": RESULT_NOTES,
        "note": note(
            "## One person of a group\n\n*Find Faces* numbers everybody from the left; its **face**, or a point "
            "**x, y** on a person, says who is meant. Its mask goes into the sampler's **region**: only faces "
            "inside it are retouched.\n\nTo retouch everybody, set **face** to *all* in both."
        ),
    },
    links=(
        *EXTRACTING, *SAMPLING, ("samples", "before", "group", "image1"), ("samples", "query", "group", "image2"),
        ("load", "extractor", "faces", "extractor"), ("group", "IMAGE", "faces", "image"),
        ("faces", "picture", "numbers", "images"), ("faces", "region", "sampler", "region"),
        ("group", "IMAGE", "sampler", "query"), ("group", "IMAGE", "compare", "before"), *SHOWING,
    ),
    groups=(
        ("1  Photos", (("samples", "load", "note"),)),
        ("2  Read the retouch", (("extract", "exemplar_notes"),)),
        ("3  Who is meant", (("group", "faces", "numbers"),)),
        ("4  Retouch", (("sampler", "result_notes"), ("compare", "difference", "save"))),
    ),
    shows="Who is who",
)  # fmt: skip

REPROJECT = Template(
    name="reproject_any_editor",
    nodes={
        "samples": SAMPLES,
        "soft": Spec("ImageBlur", {"blur_radius": 2, "sigma": 1.0}, "Stands for an editor that repaints"),
        "reproject": Spec("MirrorPPR_Reproject"), "compare": COMPARE, "difference": DIFFERENCE, "save": SAVE,
        "result_notes": RESULT_NOTES,
        "note": note(
            "## Keep the photographer's pixels\n\nEvery generating editor repaints the whole picture. *Reproject* "
            "measures how it changed the **shape** and does only that to the original's own pixels.\n\nConnect your "
            "photo as **original** and any editor's output of it as **edited**; here the drawn portrait, "
            "retouched and blurred."
        ),
    },
    links=(
        ("samples", "after", "soft", "image"), ("samples", "before", "reproject", "original"),
        ("soft", "IMAGE", "reproject", "edited"), ("samples", "before", "compare", "before"),
        ("reproject", "image", "compare", "after"), ("reproject", "field", "compare", "field"),
        ("reproject", "image", "save", "images"), ("reproject", "notes", "result_notes", "source"),
        ("compare", "picture", "difference", "images"),
    ),
    groups=(
        ("1  A photo and its edited version", (("samples", "soft", "note"),)),
        ("2  The shape, in the photo's own pixels", (("reproject", "result_notes"), ("compare", "difference", "save"))),
    ),
    shows="What differs",
)  # fmt: skip

OTHER_SIZE = Template(
    name="same_field_other_size",
    nodes={
        "samples": SAMPLES, "load": LOAD, "extract": EXTRACT, "exemplar_notes": EXEMPLAR_NOTES, "sampler": SAMPLER,
        "large": Spec("ImageScale", {"upscale_method": "bicubic", "width": 1280, "height": 1280, "crop": "disabled"},
                      "The same photo, twice as large"),
        "apply": Spec("MirrorPPR_ApplyField"), "preview": Spec("MirrorPPR_FieldPreview", {}, "The field"),
        "save": SAVE, "result_notes": RESULT_NOTES,
        "note": note(
            "## One motion, any version of the photo\n\nThe sampler's **field** is the motion by itself. *Apply Field* "
            "repeats it on another size, a graded version, the mask or the depth map of the **same** photo, at another "
            "strength if you like."
        ),
    },
    links=(
        *EXTRACTING, *SAMPLING, ("samples", "query", "sampler", "query"), ("samples", "query", "large", "image"),
        ("large", "IMAGE", "apply", "image"), ("sampler", "field", "apply", "field"),
        ("apply", "moved", "save", "images"), ("sampler", "field", "preview", "field"),
        ("large", "IMAGE", "preview", "image"), ("sampler", "notes", "result_notes", "source"),
    ),
    groups=(
        ("1  Photos", (("samples", "load", "note"),)),
        ("2  Read and apply", (("extract", "exemplar_notes", "sampler", "result_notes"),)),
        ("3  The same motion elsewhere", (("large", "apply", "save"), ("preview",))),
    ),
    shows="The field",
)  # fmt: skip

SIMULATE = Template(
    name="simulate_and_transfer",
    nodes={
        "samples": SAMPLES, "load": LOAD,
        "simulate": Spec("MirrorPPR_SimulateRetouch", {"operation": "lip_thickness", "strength": 80.0}),
        "truth": Spec("MirrorPPR_FieldPreview", {}, "The true motion"), "extract": EXTRACT,
        "exemplar_notes": EXEMPLAR_NOTES, "sampler": SAMPLER, "result_notes": RESULT_NOTES,
        "preview": Spec("MirrorPPR_FieldPreview", {}, "The motion on the query"), "save": SAVE,
        "note": note(
            "## Practise without a pair\n\n*Simulate Retouch* retouches a portrait by one known operation, so that you "
            "see what is read out of a pair and how it arrives on another person. Change **operation** and "
            "**strength**, and compare the two fields."
        ),
    },
    links=(
        ("load", "extractor", "simulate", "extractor"), ("samples", "before", "simulate", "image"),
        ("simulate", "field", "truth", "field"), ("samples", "before", "truth", "image"),
        ("load", "extractor", "extract", "extractor"), ("samples", "before", "extract", "before"),
        ("simulate", "after", "extract", "after"), ("extract", "notes", "exemplar_notes", "source"),
        *SAMPLING, ("samples", "query", "sampler", "query"), ("sampler", "field", "preview", "field"),
        ("samples", "query", "preview", "image"), ("sampler", "image", "save", "images"),
        ("sampler", "notes", "result_notes", "source"),
    ),
    groups=(
        ("1  A portrait, retouched by a known operation", (("samples", "load", "note"), ("simulate", "truth"))),
        ("2  Read the retouch", (("extract", "exemplar_notes"),)),
        ("3  Give it to another photo", (("sampler", "result_notes"), ("preview", "save"))),
    ),
    shows="The motion on the query",
)  # fmt: skip


def prepare_album(host) -> None:
    """A folder of three drawn photos in the host's input folder."""
    from PIL import Image

    folder = host.base_dir / "input" / ALBUM
    folder.mkdir(parents=True, exist_ok=True)
    from host import ROOT

    for number, name in enumerate(("portrait_b", "portrait_a", "portrait_b"), start=1):
        picture = Image.open(ROOT / "nodes" / "samples" / f"{name}.jpg")
        picture.crop((10 * number, 5 * number, 620, 630)).save(folder / f"IMG_{number}.png")


ALBUM_TEMPLATE = Template(
    name="album",
    nodes={
        "samples": SAMPLES, "load": LOAD, "extract": EXTRACT, "exemplar_notes": EXEMPLAR_NOTES,
        "album": Spec("MirrorPPR_RetouchAlbum", {"folder": ALBUM, "name": "album", "face": "largest"}),
        "sheet": Spec("PreviewImage", {}, "All photos, the doubtful first"),
        "report": Spec("PreviewAny", {}, "Report"),
        "note": note(
            "## A whole shoot in one go\n\nPut a folder with your photos into *ComfyUI/input*, press **R** to refresh, "
            "and choose it as **folder**. Results go to *ComfyUI/output/NAME* under their own names.\n\nStopped at any "
            "moment, the same run goes on where it was. A photo without a face is left as it is and named in "
            "the report."
        ),
    },
    links=(
        *EXTRACTING, ("load", "dit", "album", "dit"), ("load", "connector", "album", "connector"),
        ("extract", "operation", "album", "operation"), ("album", "sheet", "sheet", "images"),
        ("album", "report", "report", "source"),
    ),
    groups=(
        ("1  Photos", (("samples", "load", "note"),)),
        ("2  Read the retouch", (("extract", "exemplar_notes"),)),
        ("3  The album", (("album", "report"), ("sheet",))),
    ),
    shows="All photos, the doubtful first",
    prepare=prepare_album,
)  # fmt: skip

EXPLAIN = Template(
    name="explain_and_sliders",
    nodes={
        "samples": SAMPLES, "load": LOAD, "extract": EXTRACT, "exemplar_notes": EXEMPLAR_NOTES,
        "explain": Spec("MirrorPPR_ExplainOperation", {}, "The exemplar in names"),
        "words": Spec("PreviewAny", {}, "The same in words"),
        "sliders": Spec("MirrorPPR_OperationFromSliders", {"mouth_smile": 30.0}, "Change it here"),
        "sampler": SAMPLER, "compare": COMPARE, "difference": DIFFERENCE, "save": SAVE, "result_notes": RESULT_NOTES,
        "note": note(
            "## What is this retouch, and a little of that\n\n*Explain Operation* says which named operations the "
            "exemplar looks like, and how strongly. Its lines go into **text** of *Operation from Sliders*, whose "
            "sliders are added to them: here a smile comes on top.\n\nFor a retouch without any exemplar disconnect "
            "**text** and use the sliders alone. What has no name is left out: connect the *Sampler* to *Extract "
            "Operation* for all of it."
        ),
    },
    links=(
        *EXTRACTING, ("extract", "operation", "explain", "operation"), ("load", "extractor", "explain", "extractor"),
        ("explain", "words", "words", "source"), ("explain", "sliders", "sliders", "text"),
        ("load", "dit", "sampler", "dit"),
        ("load", "connector", "sampler", "connector"), ("sliders", "operation", "sampler", "operation"),
        ("samples", "query", "sampler", "query"), ("samples", "query", "compare", "before"), *SHOWING,
    ),
    groups=(
        ("1  Photos", (("samples", "load", "note"),)),
        ("2  Read and explain the retouch", (("extract", "exemplar_notes"), ("explain", "words"))),
        ("3  As sliders", (("sliders",),)),
        ("4  Retouch", (("sampler", "result_notes"), ("compare", "difference", "save"))),
    ),
    shows="The exemplar in names",
)  # fmt: skip

LOOK = Template(
    name="save_and_load_look",
    nodes={
        "samples": SAMPLES, "load": LOAD, "extract": EXTRACT, "exemplar_notes": EXEMPLAR_NOTES,
        "keep": Spec("MirrorPPR_SaveOperation", {"name": "my look"}, "Keep the look"),
        "sampler": SAMPLER, "compare": COMPARE, "difference": DIFFERENCE, "save": SAVE, "result_notes": RESULT_NOTES,
        "again": Spec("MirrorPPR_LoadOperation", {"file": "my look_00001.safetensors [output]"}, "A look kept before"),
        "half": Spec("MirrorPPR_ScaleOperation", {"percent": 50.0}, "Half of it"),
        "who": Spec("PreviewImage", {}, "Whose look it is"),
        "second": Spec("MirrorPPR_RetouchSampler", {}, "Retouch with the kept look"),
        "shown": Spec("PreviewImage", {}, "With the kept look"),
        "note": note(
            "## A look to keep\n\n**Run** reads the exemplar, keeps its operation as a file in "
            "*output/mirrorppr_operations* and uses it.\n\nAnother day only group 4 is needed. It is muted, because "
            "there is no file yet: after the first run press **R**, choose the **file**, select the nodes of the group "
            "and press **Ctrl+M**.\n\nThumbnails in the file show a person; *pictures: none* keeps none."
        ),
    },
    links=(
        *EXTRACTING, ("extract", "operation", "keep", "operation"), ("load", "dit", "sampler", "dit"),
        ("load", "connector", "sampler", "connector"), ("keep", "same", "sampler", "operation"),
        ("samples", "query", "sampler", "query"), ("samples", "query", "compare", "before"), *SHOWING,
        ("load", "extractor", "again", "extractor"), ("again", "operation", "half", "operation"),
        ("again", "picture", "who", "images"), ("half", "made", "second", "operation"),
        ("load", "dit", "second", "dit"), ("load", "connector", "second", "connector"),
        ("samples", "query", "second", "query"), ("second", "image", "shown", "images"),
    ),
    groups=(
        ("1  Photos", (("samples", "load", "note"),)),
        ("2  Read and keep the retouch", (("extract", "keep", "exemplar_notes"),)),
        ("3  Use it at once", (("sampler", "result_notes"), ("compare", "difference", "save"))),
        ("4  Another day: from the file (muted)", (("again", "half", "who"), ("second", "shown"))),
    ),
    shows="What differs",
    muted=("again", "half", "who", "second", "shown"),
    banner="a look kept in a file",
)  # fmt: skip

FRAMES = Template(
    name="frame_sequence",
    nodes={
        "samples": SAMPLES, "load": LOAD, "extract": EXTRACT, "exemplar_notes": EXEMPLAR_NOTES,
        "repeat": Spec("RepeatImageBatch", {"amount": 6}, "Stands for a camera: six frames"),
        "grain": Spec("ImageAddNoise", {"seed": 7, "strength": 0.02}, "and its grain"),
        "sampler": Spec("MirrorPPR_RetouchSampler", {"sequence": True}),
        "preview": Spec("MirrorPPR_FieldPreview", {}, "The motion in every frame"),
        "save": SAVE, "result_notes": RESULT_NOTES,
        "note": note(
            "## Frames of one person\n\nWith **sequence** on, the batch is taken as frames in their order: the face is "
            "followed, and its landmarks and the retouch are steadied over time, so that nothing trembles.\n\nPut "
            "your frames in place of the repeated portrait, for example *Load Video* and *Get Video Components*, and "
            "*Create Video* behind the sampler. For a folder of numbered files: `python -m mirrorppr_core album "
            "--sequence`."
        ),
    },
    links=(
        *EXTRACTING, *SAMPLING, ("samples", "query", "repeat", "image"), ("repeat", "IMAGE", "grain", "image"),
        ("grain", "IMAGE", "sampler", "query"), ("sampler", "field", "preview", "field"),
        ("grain", "IMAGE", "preview", "image"),
        ("sampler", "image", "save", "images"), ("sampler", "notes", "result_notes", "source"),
    ),
    groups=(
        ("1  Photos", (("samples", "load", "note"),)),
        ("2  Read the retouch", (("extract", "exemplar_notes"),)),
        ("3  Frames", (("repeat", "grain"),)),
        ("4  Retouch them as one", (("sampler", "result_notes"), ("preview", "save"))),
    ),
    shows="The motion in every frame",
)  # fmt: skip

TEMPLATES = (FROM_EXEMPLAR, SIMULATE, GROUP_PHOTO, REPROJECT, OTHER_SIZE, ALBUM_TEMPLATE, EXPLAIN, LOOK, FRAMES)
