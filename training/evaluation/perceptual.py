"""The two learned measures of the published protocol, both optional: LPIPS, and likeness of the face to the target's.

Neither comes with this repository. LPIPS is torchmetrics' with VGG-16, which fetches its weights when first used.
Likeness is the cosine of InsightFace's `buffalo_l` embeddings; its five ONNX files are for non-commercial research
and must be put in place by whoever may use them. Without them the report says so in the measure's own column.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

INSTALL_LPIPS = "pip install torchmetrics torchvision, then --lpips"
INSTALL_IDENTITY = "pip install insightface onnxruntime, then --identity FOLDER with models/buffalo_l"
IDENTITY_FILES = ("1k3d68.onnx", "2d106det.onnx", "det_10g.onnx", "genderage.onnx", "w600k_r50.onnx")
_DETECTOR_PX = 640
_PADDING = 0.25  # of each side, in black: a face that fills the picture is found on the second try

# (output, target), each (1, 3, H, W) in [0, 1] -> the measure, or None where a face is missing.
Measure = Callable[[Tensor, Tensor], "float | None"]


@dataclass(frozen=True, kw_only=True)
class LearnedMeasures:
    """None: not measured."""

    lpips: Measure | None = None
    identity: Measure | None = None


def load_lpips() -> Measure:
    """Raises ImportError or OSError that names the fix."""
    network = lpips_network()

    @torch.no_grad()
    def measure(output: Tensor, target: Tensor) -> float:
        return float(network(output * 2 - 1, target * 2 - 1))

    return measure


def lpips_network() -> nn.Module:
    """torchmetrics' VGG-LPIPS: pictures (B, 3, H, W) in [-1, 1] -> (B, 1, 1, 1). Fetches its weights when first used.

    No test of ours runs it, as it needs those weights.  Raises ImportError or OSError that names the fix.
    """
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        return LearnedPerceptualImagePatchSimilarity(net_type="vgg").net.eval().requires_grad_(False)
    except (ImportError, RuntimeError) as error:  # torchmetrics answers a missing torchvision with RuntimeError
        raise ImportError(f"LPIPS needs torchmetrics and torchvision ({error}): pip install both") from error
    except OSError as error:
        raise OSError(
            f"the VGG weights of LPIPS could not be fetched ({error}): fetch them where there is a network, into "
            "torch's hub cache, or leave LPIPS out"
        ) from error


def load_identity(folder: Path) -> Measure:
    """folder: holds models/buffalo_l/*.onnx.  Raises ImportError or FileNotFoundError that names the fix."""
    models = folder / "models" / "buffalo_l"
    missing = [name for name in IDENTITY_FILES if not (models / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{models} lacks {', '.join(missing)}: get buffalo_l from the InsightFace project if its non-commercial "
            "licence suits you, or leave out --identity"
        )
    try:
        import onnxruntime
        from insightface.app import FaceAnalysis
    except ImportError as error:
        raise ImportError(f"--identity needs insightface and onnxruntime ({error}): {INSTALL_IDENTITY}") from error
    on_gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if on_gpu else ["CPUExecutionProvider"]
    faces = FaceAnalysis(name="buffalo_l", root=str(folder), providers=providers)
    faces.prepare(ctx_id=0 if on_gpu else -1, det_size=(_DETECTOR_PX, _DETECTOR_PX))

    def embedding(image: Tensor) -> np.ndarray | None:
        """Of the first face, as the protocol has it; tried again with a black frame around the picture."""
        height, width = image.shape[-2:]
        across, down = round(width * _PADDING), round(height * _PADDING)
        for picture in (image, F.pad(image, (across, across, down, down))):
            pixels = (picture[0].permute(1, 2, 0) * 255).round().byte().numpy()
            found = faces.get(np.ascontiguousarray(pixels[..., ::-1]))  # BGR
            if found:
                return found[0].embedding
        return None

    def measure(output: Tensor, target: Tensor) -> float | None:
        one, other = embedding(output), embedding(target)
        if one is None or other is None:
            return None
        return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))

    return measure
