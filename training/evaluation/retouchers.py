"""What the benchmarks measure: anything with the pipeline's two calls, and its refusals."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from torch import Tensor

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.mini.editor import RetouchConfig, Retouched
from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.mini.pipeline import MirrorPPR

from .benchmark_report import MINI


class Retoucher(Protocol):
    """What is measured: anything with the pipeline's two calls."""

    def extract(self, exemplar: Exemplar, *, face: str) -> Operation: ...

    def retouch(self, query: Tensor, operation: Operation, config: RetouchConfig) -> Retouched: ...


def try_extract(retoucher: Retoucher, before: Tensor, after: Tensor) -> tuple[Operation | None, str]:
    """The operation, or why there is none."""
    try:
        return retoucher.extract(Exemplar(before, after), face="largest"), ""
    except ValueError as error:
        return None, f"exemplar: {error}"


def try_retouch(
    retoucher: Retoucher, query: Tensor, operation: Operation | None, row: str, refused: str = ""
) -> tuple[Retouched | None, float, str]:
    """(result, seconds, why there is none)."""
    if operation is None:
        return None, 0.0, refused
    started = time.perf_counter()
    try:
        result = retoucher.retouch(query, operation, RetouchConfig(refine=row == MINI, face="largest"))
    except ValueError as error:
        return None, time.perf_counter() - started, f"query: {error}"
    return result, time.perf_counter() - started, ""


def load_model(weights: Path | None) -> MirrorPPR:
    """The set in that folder, or the bundled one."""
    return MirrorPPR.from_folder(weights) if weights else MirrorPPR.bundled()


def first_cases(cases: list, num: int | None) -> list:
    """The first `num` of a shuffled list, a fair sample of it; all where none is given."""
    if num is not None and not 1 <= num <= len(cases):
        raise ValueError(f"--cases {num}: use 1 to {len(cases)}")
    return cases[:num]
