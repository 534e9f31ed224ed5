"""Benchmark B with other tools: every kind of tool on one person, done to another; own joints and true ones.

People are those of split eval with a pose that the teacher's views agree on: half and full bodies, from the side too.
Each of them moves what that person shows, so an exemplar may lack a limb that the query has, and the other way round.
The list is a function of a seed; refusals count as the query unchanged.

How far lines of the background bend is told of the truth and of the results (straight_lines.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.bodies.frames import LEAST_TOLD
from mirrorppr_core.bodies.pose import Pose
from mirrorppr_core.bodies.sources import PoseChoice
from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.geometry.displacement import length, pixel_grid, warp
from mirrorppr_core.mini.editor import RetouchConfig, Retouched
from mirrorppr_core.mini.pipeline import MirrorPPR

from ..data.picture_files import read_picture
from ..data.tables import read_arrays, read_rows
from ..evaluation.benchmark_report import median
from ..evaluation.intervals import mean_interval
from ..evaluation.known_truth import CasePictures, Score, edited_region, score, strength_of, to_eight_bits
from ..recipes.forms import body_of_pose
from .straight_lines import UNMOVED, Bend, bend, sentence
from .tools import BODY_OPERATIONS, BRUSHES, KINDS, Edit, Person, drawn_edit, motion_at

OWN, TRUE = "own joints", "true joints"
_LEAST_FACE_PX = 60  # of people in bodies/, whose pictures are small; smaller faces are refused by the locator
_LEAST_VOTES = 4  # of five views of the teacher
_MOST_PX, _STEP = 40.0, 4  # a longer motion is no retouch; pixels between places where truth is computed
_MAX_DRAWS = 300


@dataclass(frozen=True, kw_only=True)
class StyleConfig:
    num_each: int = 4  # cases of each kind and name
    seed: int = 0
    min_strength: float = 60.0  # percent
    max_strength: float = 100.0
    min_motion_px: float = 1.5

    def __post_init__(self) -> None:
        if self.num_each < 1:
            raise ValueError(f"num_each={self.num_each}: use 1 or more")


@dataclass(frozen=True, kw_only=True)
class Shown(Person):
    """A person in a picture of the portraits folder.  size: H, W."""

    file: str
    identity: str
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class StyleCase:
    exemplar: Shown
    query: Shown
    edit: Edit = field(repr=False)

    @property
    def label(self) -> str:
        return f"{self.edit.group} {self.edit.strength:+.0f} {self.edit.side}"


@dataclass(frozen=True, kw_only=True)
class StyleResult:
    """scores: by row.  bends: of the truth and by row, None where the edit reaches no line of the background."""

    case: StyleCase
    scores: dict[str, Score]
    bends: dict[str, Bend | None]
    extract_seconds: float = 0.0


def load_shown(portraits: Path, *, split: str = "eval") -> list[Shown]:
    """Everybody of a split. portraits: folder with landmarks.npz, portraits.csv and bodies/."""
    people = []
    stored = read_arrays(portraits / "landmarks.npz", ("body_files", "pose"))
    columns = ("file", "split", "identity")
    rows = {row["file"]: row for row in read_rows(portraits / "portraits.csv", columns) if row["split"] == split}
    for name, pose in zip(stored["body_files"], stored["pose"], strict=True):
        if str(name) in rows and np.isfinite(pose).all():
            people.append(_shown(str(name), rows[str(name)]["identity"], pose, (512, 512)))
    table, found = portraits / "bodies" / "bodies.csv", portraits / "bodies" / "bodies.npz"
    if table.is_file() and found.is_file():
        listed = read_rows(table, (*columns, "synthetic"))
        rows = {row["file"]: row for row in listed if row["split"] == split and row["synthetic"] != "1"}
        names = ("files", "pose", "votes", "face")
        stored = read_arrays(found, names)
        for name, pose, votes, face in zip(*(stored[key] for key in names), strict=True):
            usable = str(name) in rows and votes >= _LEAST_VOTES and np.isfinite(pose).all()
            if usable and face[2] - face[0] >= _LEAST_FACE_PX:
                file = f"bodies/{name}"
                size = tuple(read_picture(portraits / file).shape[-2:])
                people.append(_shown(file, rows[str(name)]["identity"], pose, (size[0], size[1])))
    people = [one for one in people if one.unit is not None]
    if len(people) < 2:
        raise ValueError(f"{portraits}: need two or more people of split {split} with poses")
    return people


def _shown(file: str, identity: str, found: np.ndarray, size: tuple[int, int]) -> Shown:
    pose = torch.from_numpy(found).float()
    pose[:, :2] -= 0.5  # MediaPipe measures from the picture's edge
    inside = ((pose[:, :2] >= 0) & (pose[:, :2] < torch.tensor([size[1], size[0]]))).all(1)
    pose[:, 3] *= inside
    body = body_of_pose(pose, least=LEAST_TOLD)
    return Shown(pose=pose, body=body, file=file, identity=identity, size=size)


def list_style_cases(people: Sequence[Shown], config: StyleConfig) -> list[StyleCase]:
    """The cases, shuffled: the first N are a fair sample. Edits that no two people show have none."""
    generator = torch.Generator().manual_seed(config.seed)
    cases: list[StyleCase] = []
    for kind in KINDS:
        for name in BRUSHES if kind == "brush" else BODY_OPERATIONS:
            for number in range(config.num_each):
                case = _drawn(people, kind, name, 1 if number % 2 == 0 else -1, config, generator)
                cases += [] if case is None else [case]
    return [cases[i] for i in torch.randperm(len(cases), generator=generator).tolist()]


def _drawn(people, kind, name, sign, config, generator) -> StyleCase | None:  # noqa: PLR0913
    for _ in range(_MAX_DRAWS):
        first, second = torch.randperm(len(people), generator=generator)[:2].tolist()
        share = float(torch.rand((), generator=generator))
        span = (config.min_strength, config.max_strength)
        edit = drawn_edit(kind, name, strength_of(sign, share, span), generator)
        case = StyleCase(exemplar=people[first], query=people[second], edit=edit)
        if case.exemplar.identity != case.query.identity and _is_deliverable(case, config):
            return case
    return None


def _is_deliverable(case: StyleCase, config: StyleConfig) -> bool:
    for shown, on_query in ((case.exemplar, False), (case.query, True)):
        motion = truth(case.edit, shown, on_query=on_query)
        longest = 0.0 if motion is None else float(length(motion).amax())
        if not config.min_motion_px <= longest <= _MOST_PX:
            return False
    return True


def truth(edit: Edit, shown: Shown, *, on_query: bool) -> Tensor | None:
    """The edit on a person's whole picture: (1, 2, H, W), or None where nothing of it shows."""
    height, width = shown.size
    rows, columns = -(-height // _STEP), -(-width // _STEP)
    places = (pixel_grid(rows, columns) + 0.5) * torch.tensor([width / columns, height / rows]).view(1, 2, 1, 1) - 0.5
    moved = motion_at(edit, shown, places.flatten(2)[0].T.contiguous(), on_query=on_query)
    if moved is None:
        return None
    coarse = moved.T.reshape(1, 2, rows, columns)
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)


def build_style_case(case: StyleCase, portraits: Path) -> CasePictures:
    """Load and retouch both photos."""
    before, query = (read_picture(portraits / shown.file) for shown in (case.exemplar, case.query))
    shown, wanted = truth(case.edit, case.exemplar, on_query=False), truth(case.edit, case.query, on_query=True)
    assert shown is not None and wanted is not None
    return CasePictures(
        exemplar_before=before,
        exemplar_after=to_eight_bits(warp(before, shown)),
        query=query,
        query_after=to_eight_bits(warp(query, wanted)),
        displacement=wanted,
        region=edited_region(wanted),
    )


def score_style_case(model: MirrorPPR, case: StyleCase, pictures: CasePictures) -> StyleResult:
    """Both rows."""
    scores, bends = {}, {"truth": _bend(pictures.displacement, case.query)}
    for row in (OWN, TRUE):
        poses = [PoseChoice(source="mini", given=_given(s) if row == TRUE else ()) for s in (case.exemplar, case.query)]
        result, refused = _tried(model, pictures, *poses)
        scores[row] = score(pictures, result, refused=refused)
        bends[row] = UNMOVED if result is None else _bend(result.field.dense(), case.query)
    return StyleResult(case=case, scores=scores, bends=bends)


def _bend(displacement: Tensor, shown: Shown) -> Bend | None:
    return bend(displacement, shown.body, shown.unit or 1.0)


def _given(shown: Shown) -> tuple[Pose, ...]:
    return (Pose(points=shown.body.points, told=shown.body.told.clamp(0, 1), source="given"),)


def _tried(
    model: MirrorPPR, pictures: CasePictures, exemplar: PoseChoice, query: PoseChoice
) -> tuple[Retouched | None, str]:
    try:
        pair = Exemplar(pictures.exemplar_before, pictures.exemplar_after)
        operation = model.extract(pair, face="largest", poses=[exemplar])
        return model.retouch(pictures.query, operation, RetouchConfig(face="largest"), pose=query), ""
    except ValueError as error:
        return None, str(error)


def write_style_report(results: Sequence[StyleResult], config: StyleConfig) -> str:
    """Markdown: a line for each group, for each kind of tool and for all."""
    people = {result.case.query.identity for result in results}
    lines = [
        "# Benchmark B: other tools",
        "",
        "Made by `python -m training.body_benchmark --list styles --portraits DIR`; do not edit.",
        "",
        f"{len(results)} cross-identity cases on people of split eval, strengths {config.min_strength:g} to "
        f"{config.max_strength:g} in both directions, seed {config.seed}: pushes (ours, windows 0.7 to 1.4 times as "
        "wide, counted in shoulder widths), forms (measured, counted in u, widths drawn) and freehand brushes. relEPE "
        "of the motion in the edited region; the query unchanged scores 1. [ ]: 95 % bootstrap interval over the "
        f"{len(people)} people whom the queries show.",
        "",
        "| group | cases | own joints: relEPE | median | true joints: relEPE | median | refused |",
        "|---|---|---|---|---|---|---|",
    ]
    groups = list(dict.fromkeys(sorted(result.case.edit.group for result in results)))
    for name in (*groups, *(f"all {kind}" for kind in KINDS), "all"):
        chosen = [r for r in results if name in (r.case.edit.group, f"all {r.case.edit.kind}", "all")]
        if not chosen:
            continue
        who, cells = [r.case.query.identity for r in chosen], []
        for row in (OWN, TRUE):
            errors = [r.scores[row].relative_epe for r in chosen]
            cells += [mean_interval(errors, who).text(), f"{median(errors):.3f}"]
        refused = sum(bool(r.scores[OWN].refused) for r in chosen)
        lines.append(f"| {name} | {len(chosen)} | {' | '.join(cells)} | {refused} |")
    lines += ["", sentence([r.bends for r in results])]
    return "\n".join(lines) + "\n"
