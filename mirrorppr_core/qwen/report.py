"""What a set of real weights is, found out by looking: kinds, precision, LoRA, patch order, and whether it runs.

The released files are not part of this repository and its tests; this is the check for whoever has them.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..exemplar import Exemplar
from .extractor import ExtractConfig, QwenConnector, QwenExtractor, QwenOperation
from .files import SLOTS, QwenSet
from .lora_files import read_lora
from .patch_order import PatchOrder
from .standalone import QwenComponents, QwenEngine, QwenRetouchConfig

_SIDE = 512
_SHIFT_PX = 8


def describe(files: QwenSet) -> dict[str, Any]:
    """From headers, position tables and the LoRA alone: seconds, and little memory."""
    lora = read_lora(files.lora.path)
    return {
        "set": files.set_id,
        "kind": files.config.kind,
        "files": {
            slot: {
                "is": file.what,
                "stored": sorted(file.stored_dtypes),
                "fingerprint": file.md5,
                "name": file.path.name,
            }
            for slot, file in ((slot, getattr(files, slot)) for slot in SLOTS)
        },
        "lora": {"layers": len(lora.layers), "ranks": list(lora.ranks), "targets": lora.targets},
        "patch_order": str(files.judge_patch_order()),
    }


def exercise(files: QwenSet, *, device: torch.device | str) -> tuple[QwenOperation, dict[str, Any]]:
    """Run extractor and connector on a drawn pair. Raises ValueError if what comes out is not usable."""
    began = time.perf_counter()
    extractor, pair = QwenExtractor.load(files, device=device), drawn_pair()
    operation = extractor.extract(pair)
    reverse = extractor.extract(Exemplar(pair.after, pair.before))
    shuffled = extractor.extract(pair, ExtractConfig(patch_order=PatchOrder(seed=0)))
    tokens = QwenConnector.load(files, device=device).tokens(operation)
    if not tokens.isfinite().all():
        raise ValueError(f"set {files.set_id} gives tokens that are not numbers: download its files again")
    return operation, {
        "tokens": list(tokens.shape),
        "tokens_rms": round(float(tokens.square().mean().sqrt()), 4),
        "difference_when_reversed": _relative(reverse.tokens, operation.tokens),
        "difference_when_shuffled": _relative(shuffled.tokens, operation.tokens),
        "seconds": round(time.perf_counter() - began, 2),
    }


def retouch_once(files: QwenSet, base: Path, operation: QwenOperation, *, device: torch.device | str) -> dict[str, Any]:
    """Two steps of the whole engine on a drawn picture: that it runs, not that it is good."""
    engine = QwenEngine(files=files, components=QwenComponents.from_folder(base, device=device))
    began = time.perf_counter()
    result = engine.retouch(drawn_pair().before, operation, QwenRetouchConfig(num_steps=2))
    if not result.isfinite().all():
        raise ValueError("the retouched picture is not finite: this precision does not suit the device, try bfloat16")
    return {"size": list(result.shape), "seconds": round(time.perf_counter() - began, 2)}


def drawn_pair() -> Exemplar:
    """A picture without meaning, and itself with its middle pushed aside."""
    coarse = torch.rand(1, 3, _SIDE // 8, _SIDE // 8, generator=torch.Generator().manual_seed(0))
    before = F.interpolate(coarse, (_SIDE, _SIDE), mode="bicubic", align_corners=False).clamp(0, 1)
    after, middle = before.clone(), slice(_SIDE * 3 // 8, _SIDE * 5 // 8)
    after[..., middle, middle] = before.roll(_SHIFT_PX, dims=-1)[..., middle, middle]
    return Exemplar(before, after)


def _relative(a: Tensor, b: Tensor) -> float:
    return round(float((a - b).norm() / b.norm()), 4)
