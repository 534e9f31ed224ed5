"""One before/after pair becomes the operation tokens of the Qwen engine.

    before ─ to 1024 x 1024 ─ normalise ─ MAE ─┐
    after  ─ to 1024 x 1024 ─ normalise ─ MAE ─┴─ R-Former ─► tokens (1, 8, 768) ─ connector ─► (1, 8, 3584)

The release squeezes both pictures to a square whatever their shape (crop "stretch"). Crop "square" cuts the same square
out of both before, so that faces keep their proportions; which square is the caller's choice, the middle by default.
Pro does not resize: pictures keep their size, and what exceeds whole 16 px patches is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..exemplar import Exemplar, check_pair
from ..images import IMAGENET_MEAN, IMAGENET_STD, as_float
from ..networks.connector import Connector
from .config import QwenConfig
from .files import QwenSet, choose_dtype
from .networks import OfficialMAE, OfficialRFormer
from .patch_order import CANONICAL, PatchOrder

CROPS = ("stretch", "square")
_STD_EPS = 1e-6  # the release's; keeps our numbers equal to its own
_STRONG_STRETCH = 1.25


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """crop: "stretch" as released, or "square": the middle of the pair."""

    crop: str = "stretch"
    patch_order: PatchOrder = CANONICAL

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise ValueError(f"crop={self.crop!r}: use one of {', '.join(CROPS)}")


@dataclass(frozen=True, kw_only=True)
class QwenOperation:
    """tokens: (1, Q, D) of the R-Former, float32 on the CPU.  set_id: the set that made it; others refuse it.
    exemplars: the pair it was read from, for keeping; it changes nothing."""

    tokens: Tensor
    set_id: str
    kind: str
    patch_order: PatchOrder
    notes: tuple[str, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()


@dataclass(frozen=True, kw_only=True)
class QwenConnector:
    """The connector with the name of its set."""

    connector: Connector
    set_id: str

    @classmethod
    def load(
        cls, files: QwenSet, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> QwenConnector:
        dtype = dtype or choose_dtype(device)
        return cls(connector=files.load_connector(dtype=dtype, device=device), set_id=files.set_id)

    @torch.no_grad()
    def tokens(self, operation: QwenOperation) -> Tensor:
        """Conditioning tokens (1, Q, D_text), float32 on the CPU, to be appended to the text stream."""
        if operation.set_id != self.set_id:
            raise ValueError(
                f"the operation was extracted with set {operation.set_id} but the connector is of set {self.set_id}: "
                "they were trained apart. Load extractor and connector from one set and extract again."
            )
        parameter = next(self.connector.parameters())
        return self.connector(operation.tokens.to(parameter)).float().cpu()


@dataclass(frozen=True, kw_only=True)
class QwenExtractor:
    """MAE and R-Former of one set. Computes where and in the precision that they are."""

    config: QwenConfig
    set_id: str
    mae: OfficialMAE
    rformer: OfficialRFormer

    @classmethod
    def load(
        cls, files: QwenSet, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> QwenExtractor:
        """dtype None: bfloat16 on a GPU that has it, as the reference, otherwise float32."""
        dtype = dtype or choose_dtype(device)
        return cls(
            config=files.config,
            set_id=files.set_id,
            mae=files.load_mae(dtype=dtype, device=device),
            rformer=files.load_rformer(dtype=dtype, device=device),
        )

    @torch.no_grad()
    def extract(self, exemplar: Exemplar, config: ExtractConfig | None = None) -> QwenOperation:
        """What was done between before and after. Raises ValueError on pictures that cannot be a pair."""
        config = config or ExtractConfig()
        check_pair(exemplar.before, exemplar.after)
        before, after = (self._prepare(picture, config) for picture in (exemplar.before, exemplar.after))
        grid = tuple(side // self.config.mae.patch for side in before.shape[-2:])
        num_patches = grid[0] * grid[1]
        orders = config.patch_order.permutations(num_patches, num_patches)
        features = [self.mae(picture, order) for picture, order in zip((before, after), orders, strict=True)]
        tokens = self.rformer(*features, before_grid=grid, after_grid=grid)
        return QwenOperation(
            tokens=tokens.float().cpu(),
            set_id=self.set_id,
            kind=self.config.kind,
            patch_order=config.patch_order,
            notes=self._notes(exemplar, config),
            exemplars=(exemplar,),
        )

    def _prepare(self, picture: Tensor, config: ExtractConfig) -> Tensor:
        if config.crop == "square":
            picture = cut(picture, square_box(*picture.shape[-2:]))
        if self.config.kind == "face":
            prepared = to_face_input(picture, self.config.side_px)
        else:
            prepared = to_pro_input(picture, self.config.side_px)
        return prepared.to(self.mae.layernorm.weight)

    def _notes(self, exemplar: Exemplar, config: ExtractConfig) -> tuple[str, ...]:
        height, width = exemplar.before.shape[-2:]
        patch, stretch = self.config.mae.patch, max(height, width) / min(height, width)
        notes = []
        if torch.equal(exemplar.before, exemplar.after):
            notes.append("before and after are identical: the retouch will be none, or the DiT's own habits")
        if self.config.kind == "face" and config.crop == "stretch" and stretch > _STRONG_STRETCH:
            notes.append(
                f"the pair is {width}x{height} and is squeezed to a square, as in the release; crop square keeps the "
                "face's proportions"
            )
        if self.config.kind == "pro" and config.crop == "stretch" and (height % patch or width % patch):
            notes.append(f"{height % patch} rows and {width % patch} columns at the far edges are not seen")
        return tuple(notes)


def square_box(height: int, width: int) -> tuple[int, int, int]:
    """The largest square in the middle of a picture: left, top, side."""
    side = min(height, width)
    return round((width - side) / 2), round((height - side) / 2), side


def cut(picture: Tensor, box: tuple[int, int, int]) -> Tensor:
    left, top, side = box
    return picture[..., top : top + side, left : left + side]


def to_face_input(picture: Tensor, side: int) -> Tensor:
    """(1, C, H, W) -> (1, 3, side, side), ImageNet-normalised. Bicubic, antialiased, not clamped, as released."""
    pixels = as_float(picture[:, :3])
    if pixels.shape[-2:] != (side, side):
        pixels = torch.nn.functional.interpolate(
            pixels, size=(side, side), mode="bicubic", antialias=True, align_corners=False
        )
    return normalise(pixels)


def to_pro_input(picture: Tensor, longest: int) -> Tensor:
    """(1, C, H, W) -> (1, 3, H, W), ImageNet-normalised, its own size."""
    height, width = picture.shape[-2:]
    if max(height, width) > longest:
        raise ValueError(
            f"exemplar is {width}x{height}: Pro reads at most {longest} pixels a side, and about 1440x1536 is what it "
            "was trained on. Crop or reduce before and after alike."
        )
    return normalise(as_float(picture[:, :3]))


def normalise(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels - mean) / (std + _STD_EPS)
