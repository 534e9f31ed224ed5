"""Our engines on a list of cases, as one more folder of outputs.

    mini    the pipeline that the nodes use
    qwen    the standalone path on diffusers, as `python -m mirrorppr_core retouch --engine qwen` takes it

Pictures are 8-bit PNG at the query's own size, under the published benchmark's names, with its inference_log.json
beside them; a case that is refused has no picture, and the log says why. (The published script writes JPEG at quality
75, which costs fidelity: say so when comparing.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.file_writing import write_file
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.photo_files import prepare_folder, read_photo, write_photo

from .outputs import CONTROLS, IDENTITY, REVERSED, SHUFFLED, CaseFiles

LOG = "inference_log.json"

# Exemplar before, after and a query, each (1, 3 or 4, H, W) uint8 -> the query retouched, uint8. ValueError: refused.
Retouch = Callable[[Tensor, Tensor, Tensor], Tensor]


def mini_retouch(model: MirrorPPR, config: RetouchConfig) -> Retouch:
    def retouch(before: Tensor, after: Tensor, query: Tensor) -> Tensor:
        operation = model.extract(Exemplar(before, after), face=config.face)
        return model.retouch(query, operation, config).image

    return retouch


def qwen_retouch(
    weights: Path,
    base: Path,
    *,
    device: str,
    num_steps: int | None = None,
    seed: int | None = None,
    guidance: float = 1.0,
    generated: bool = False,
) -> Retouch:
    """weights: folder of the set.  base: diffusers folder of Qwen-Image-Edit.  None: the reference's number.

    generated: the generated pictures themselves instead of the queries' own pixels, moved as those show. Every case
    has an exemplar and a query of its own, so every case moves the large models to the device and back.
    """
    # diffusers and transformers take seconds to import and are not needed for Mini.
    from mirrorppr_core.qwen.album import retouch_album
    from mirrorppr_core.qwen.extractor import QwenExtractor
    from mirrorppr_core.qwen.schedule import NUM_STEPS, SEED
    from mirrorppr_core.qwen.standalone import QwenEngine, QwenRetouchConfig

    config = QwenRetouchConfig(
        num_steps=NUM_STEPS if num_steps is None else num_steps,
        seed=SEED if seed is None else seed,
        guidance=guidance,
    )
    engine = QwenEngine.from_folders(weights=weights, base=base, device=device)
    extractor = QwenExtractor.load(engine.files, device=device)

    def retouch(before: Tensor, after: Tensor, query: Tensor) -> Tensor:
        operation = extractor.extract(Exemplar(before, after))
        (result,) = retouch_album(engine, [query], operation, config, generated=generated)
        if isinstance(result, ValueError):
            raise result
        return result.image if result.image.dtype == query.dtype else (result.image * 255).round().byte()

    return retouch


def run_engine(retouch: Retouch, cases: Sequence[CaseFiles], out: Path, *, control_every: int = 0) -> dict[int, str]:
    """Write a picture for every case, and the controls (outputs.py) for every n-th; 0: none.

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
            image = retouch(before.pixels, after.pixels, query.pixels)
            write_photo(out / name, query.with_pixels(image))
            if control_every and position % control_every == 0:
                _write_controls(retouch, cases, position, out, forward=image)
        except ValueError as error:
            refused[case.index] = str(error)
            entry |= {"output_image_path": None, "error": str(error)}
        log.append(entry)
        print(f"{position + 1}/{len(cases)} {refused.get(case.index, name)}", flush=True)
    write_file(out / LOG, json.dumps(log, indent=1))
    return refused


def output_name(case: CaseFiles) -> str:
    """The published benchmark's, but PNG."""
    return f"mirrorppr_face_idx{case.index:04d}_p1_{case.exemplar_after.stem}_p2_{case.query.stem}.png"


def _write_controls(retouch: Retouch, cases: Sequence[CaseFiles], position: int, out: Path, *, forward: Tensor) -> None:
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
            image = retouch(first.pixels, second.pixels, photo)
        except ValueError:
            continue
        write_photo(out / control / output_name(case), query.with_pixels(image))


def _stranger(cases: Sequence[CaseFiles], position: int) -> CaseFiles | None:
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
