"""Our Mini on a list of cases, as one more folder of outputs.

Pictures are 8-bit PNG at the query's own size, under the published benchmark's names, with its inference_log.json
beside them; a case that is refused has no picture, and the log says why. (The published script writes JPEG at quality
75, which costs fidelity: say so when comparing.)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from mirrorppr_core.editor import RetouchConfig
from mirrorppr_core.extractor import Exemplar
from mirrorppr_core.photo_files import Photo, prepare_folder, read_photo, write_png

from .benchmark import Retoucher
from .evaluation import CONTROLS, IDENTITY, REVERSED, SHUFFLED, Case

LOG = "inference_log.json"


def run_engine(
    retoucher: Retoucher, cases: Sequence[Case], out: Path, config: RetouchConfig, *, control_every: int = 0
) -> dict[int, str]:
    """Write a picture for every case, and the controls (evaluation.py) for every n-th; 0: none.

    Returns why there is no picture, by case.  Raises ValueError if the folder already holds outputs.
    """
    if (out / LOG).exists():
        raise ValueError(f"{out} already holds a run: choose another folder, or score it without --engine")
    for folder in (out, *(out / name for name in CONTROLS if control_every)):
        prepare_folder(folder)
    log, refused = [], {}
    for position, case in enumerate(cases):
        name = output_name(case)
        entry = {
            "test_index": case.index,
            "pair1_original_path": str(case.exemplar_before),
            "pair1_edited_path": str(case.exemplar_after),
            "pair2_original_path": str(case.query),
            "pair2_edited_path": str(case.target),
            "output_image_path": str(out / name),
            "edit_instruction": case.instruction,
        }
        try:
            before, after, query = (read_photo(p) for p in (case.exemplar_before, case.exemplar_after, case.query))
            image = _retouch(retoucher, before, after, query.pixels, config)
            write_png(out / name, Photo(image, query.icc_profile))
            if control_every and position % control_every == 0:
                _write_controls(retoucher, cases, position, out, config, forward=image)
        except ValueError as error:
            refused[case.index] = str(error)
            entry |= {"output_image_path": None, "error": str(error)}
        log.append(entry)
        print(f"{position + 1}/{len(cases)} {refused.get(case.index, name)}", flush=True)
    (out / LOG).write_text(json.dumps(log, indent=1))
    return refused


def output_name(case: Case) -> str:
    """The published benchmark's, but PNG."""
    return f"mirrorppr_face_idx{case.index:04d}_p1_{case.exemplar_after.stem}_p2_{case.query.stem}.png"


def _retouch(retoucher: Retoucher, before: Photo, after: Photo, query: Tensor, config: RetouchConfig) -> Tensor:
    operation = retoucher.extract(Exemplar(before.pixels, after.pixels), face=config.face)
    return retoucher.retouch(query, operation, config).image


def _write_controls(
    retoucher: Retoucher,
    cases: Sequence[Case],
    position: int,
    out: Path,
    config: RetouchConfig,
    *,
    forward: Tensor,
) -> None:
    """A control that is refused has no picture."""
    case = cases[position]
    before, after, query = (read_photo(p) for p in (case.exemplar_before, case.exemplar_after, case.query))
    runs = {IDENTITY: (before, before, query.pixels), REVERSED: (after, before, forward)}
    stranger = _stranger(cases, position)
    if stranger is not None:
        others = read_photo(stranger.exemplar_before), read_photo(stranger.exemplar_after)
        runs[SHUFFLED] = (*others, query.pixels)
    for control, (first, second, photo) in runs.items():
        try:
            image = _retouch(retoucher, first, second, photo, config)
        except ValueError:
            continue
        write_png(out / control / output_name(case), Photo(image, query.icc_profile))


def _stranger(cases: Sequence[Case], position: int) -> Case | None:
    """The next case around the list with another exemplar and, where operations are named, another operation."""
    own = cases[position]
    around = [*cases[position + 1 :], *cases[:position]]
    return next(
        (
            case
            for case in around
            if case.exemplar_after != own.exemplar_after and (not own.operation or case.operation != own.operation)
        ),
        None,
    )
