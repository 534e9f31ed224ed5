"""Cases of tools that nobody here wrote: one programme on one to three exemplars and on a query, the truth known.

    programme (held_out_tools.py)  ->  exemplar pairs 1..3, each of another person  ==(what must be learnt)==>  query

People are of the eval split, four different ones in a case. Programmes that are hardly seen on one of the faces or that
fold it are drawn again. Every case is scored twice: as a user meets it, from pictures through the product, and on
geometry alone, where landmarks and exemplar motion are perfect and the motion is copied in the canonical view. What
separates the two is what measuring costs; what is left of the second is how tools differ from face to face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.faces.landmarks import FACE_POINTS
from mirrorppr_core.faces.view import CanonicalView
from mirrorppr_core.geometry.displacement import jacobian_determinant, pixel_grid
from mirrorppr_core.geometry.field import Field, apply_field
from mirrorppr_core.mini.bank_fit import one_way_of
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.mini.several import together
from mirrorppr_core.operations.atoms import atoms_of

from ..data.picture_files import read_picture
from .benchmark_cases import Person, edited_region, to_eight_bits
from .held_out_tools import FAMILIES, Tool, held_out_tool
from .intervals import mean_interval
from .metrics import region_psnr, relative_epe

NUM_EXEMPLARS = (1, 2, 3)
GEOMETRY, COPY, MINI = "perfect landmarks and motion, copied", "copied motion, no network", "Mini"
_SIZE = 512
_STEP = 4  # pixels: tools are smooth
_LEAST_PX, _LEAST_AREA = 1.5, 0.15  # largest motion on every face; no spot shrinks below this share of its area
_MAX_DRAWS = 60


@dataclass(frozen=True, kw_only=True)
class GeneralityCase:
    """people: three exemplars and the query, last."""

    family: str
    seed: int
    people: tuple[Person, Person, Person, Person]

    @property
    def tool(self) -> Tool:
        return held_out_tool(self.family, self.seed)


@dataclass(frozen=True, kw_only=True)
class GeneralityResult:
    """errors, gains: relEPE and in-region dB over the unchanged query, by (row, number of exemplars)."""

    case: GeneralityCase
    errors: dict[tuple[str, int], float]
    gains: dict[tuple[str, int], float]
    refused: str = ""


def list_generality_cases(people: list[Person], view: CanonicalView, *, per_family: int) -> list[GeneralityCase]:
    """Families by turns, so that the first N are a fair sample."""
    generator = torch.Generator().manual_seed(0)
    cases = []
    for number in range(per_family):
        for family in FAMILIES:
            cases.append(_draw_case(people, view, family, number, generator))
    return cases


def displacement(tool: Tool, person: Person, view: CanonicalView) -> Tensor:
    """What the tool does to one portrait, (1, 2, H, W) pixels."""
    moved = _on_lattice(tool, person, view)
    return F.interpolate(moved, size=(_SIZE, _SIZE), mode="bicubic", align_corners=False)


def _on_lattice(tool: Tool, person: Person, view: CanonicalView) -> Tensor:
    """The same at every _STEP-th pixel."""
    cells = view.cells_per_eye_distance
    similarity = view.fit(person.mesh[list(FACE_POINTS)]).similarity
    small = (pixel_grid(_SIZE // _STEP, _SIZE // _STEP) + 0.5) * _STEP - 0.5
    points = similarity.inverse(small.flatten(2)[0].T[None])[0] / cells
    moved = tool.motion(similarity.inverse(person.mesh[None])[0] / cells, points) * cells  # (P, 2)
    return (moved @ similarity.linear()[0].T).T.reshape(small.shape)


def copied_errors(case: GeneralityCase, view: CanonicalView) -> dict[int, float]:
    """relEPE on the query when perfectly known motion of 1 to 3 exemplars is averaged and copied in the view."""
    views = [view.fit(person.mesh[list(FACE_POINTS)]) for person in case.people]
    fields = [displacement(case.tool, person, view) for person in case.people]
    motions = [view.motion_from_photo(f, v) for f, v in zip(fields[:-1], views[:-1], strict=True)]
    region, errors = edited_region(fields[-1]), {}
    for num in NUM_EXEMPLARS:
        made = view.motion_to_photo(sum(motions[:num]) / num, views[-1], height=_SIZE, width=_SIZE).dense()
        errors[num] = float(relative_epe(made, fields[-1], region))
    return errors


def score_case(model: MirrorPPR, case: GeneralityCase, portraits: Path) -> GeneralityResult:
    """All rows. Of several pairs those that cannot be read are left out, as in use; a refusal counts as the query
    unchanged."""
    view = model.extractor.sight.view
    photos = [read_picture(portraits / person.file) for person in case.people]
    fields = [displacement(case.tool, person, view) for person in case.people]
    after = [to_eight_bits(apply_field(p, Field.from_dense(f))) for p, f in zip(photos, fields, strict=True)]
    query, target, truth = photos[-1], after[-1], fields[-1]
    region = edited_region(truth)
    unchanged = region_psnr(query, target, region)
    errors = {(GEOMETRY, num): error for num, error in copied_errors(case, view).items()}
    gains, refused = {(GEOMETRY, num): float("nan") for num in NUM_EXEMPLARS}, ""
    one_way = one_way_of(atoms_of(model.extractor.config.dit.operations))
    read, unread = _read_each(model, photos[:-1], after[:-1])  # once, and used in every number of pairs
    for num in NUM_EXEMPLARS:
        for row in (COPY, MINI):
            errors[row, num], gains[row, num] = 1.0, 0.0
            try:
                left_out = {place: why for place, why in unread.items() if place < num}
                if len(left_out) == num:
                    raise ValueError(left_out[0])
                config = RetouchConfig(refine=row == MINI, face="largest")
                made = model.retouch(query, together(read[:num], one_way=one_way, left_out=left_out), config)
            except ValueError as error:
                refused = f"{num} exemplars: {error}"
                continue
            errors[row, num] = float(relative_epe(made.field.dense(), truth, region))
            gains[row, num] = float(region_psnr(to_eight_bits(made.image), target, region) - unchanged)
    return GeneralityResult(case=case, errors=errors, gains=gains, refused=refused)


def _read_each(
    model: MirrorPPR, befores: Sequence[Tensor], afters: Sequence[Tensor]
) -> tuple[list[Operation | None], dict[int, str]]:
    """The operation of each pair; None where it cannot be read, and why, by its place."""
    read: list[Operation | None] = []
    unread: dict[int, str] = {}
    for place, (before, after) in enumerate(zip(befores, afters, strict=True)):
        try:
            read.append(model.extractor.extract(Exemplar(before, after), face="largest").operation)
        except ValueError as error:
            read.append(None)
            unread[place] = str(error)
    return read, unread


def generality_report(results: Sequence[GeneralityResult]) -> str:
    """A Markdown table: rows by number of exemplars, then by family."""
    people = [result.case.people[-1].identity for result in results]
    lines = [
        f"{len(results)} cases of {len(FAMILIES)} families of tools, eval people, 95 % intervals by person",
        "",
        "| exemplars | row | relEPE | in-region gain, dB |",
        "|---|---|---|---|",
    ]
    for num in NUM_EXEMPLARS:
        for row in (GEOMETRY, COPY, MINI):
            errors = mean_interval([r.errors[row, num] for r in results], people).text()
            gains = [r.gains[row, num] for r in results]
            gain = "-" if row == GEOMETRY else mean_interval(gains, people).text(1, sign=True)
            lines.append(f"| {num} | {row} | {errors} | {gain} |")
    columns = [(row, num) for row in (GEOMETRY, COPY, MINI) for num in (NUM_EXEMPLARS[0], NUM_EXEMPLARS[-1])]
    header = " | ".join(f"{row}, {num}" for row, num in columns)
    lines += ["", f"| relEPE | {header} |", "|---" * (len(columns) + 1) + "|"]
    for family in FAMILIES:
        own = [result for result in results if result.case.family == family]
        if own:
            means = [sum(r.errors[column] for r in own) / len(own) for column in columns]
            lines.append(f"| {family} ({len(own)}) | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    refused = [f"- {r.case.family} {r.case.seed}, {r.case.people[-1].file}: {r.refused}" for r in results if r.refused]
    return "\n".join([*lines, "", f"{len(refused)} refused, counted as the query unchanged", *refused])


def _draw_case(
    people: list[Person], view: CanonicalView, family: str, number: int, generator: torch.Generator
) -> GeneralityCase:
    for draw in range(_MAX_DRAWS):
        drawn = [people[i] for i in torch.randperm(len(people), generator=generator)[:4].tolist()]
        case = GeneralityCase(family=family, seed=number * _MAX_DRAWS + draw, people=tuple(drawn))
        if len({person.identity for person in drawn}) == 4 and all(_deliverable(case.tool, p, view) for p in drawn):
            return case
    raise ValueError(f"no four people show tool {family} {number} in {_MAX_DRAWS} draws: use larger faces")


def _deliverable(tool: Tool, person: Person, view: CanonicalView) -> bool:
    motion = _on_lattice(tool, person, view)
    seen = float(motion.norm(dim=1).amax()) >= _LEAST_PX
    return seen and bool((jacobian_determinant(motion / _STEP) > _LEAST_AREA).all())
