"""The Qwen engine without ComfyUI, on diffusers, transformers (5 or later) and peft.

    engine = QwenEngine.from_folders(weights=Path("MirrorPPR-Face"), base=Path("Qwen-Image-Edit"), device="cuda")
    operation = engine.extract(Exemplar(before, after))
    for retouched in engine.generate([query, ...], operation, QwenRetouchConfig()): ...

Of the large models only the one at work is on the device; the language model and the VAE see each query once, whatever
is then done with it. diffusers' own edit pipeline is not used: beside transformers 5 it gives picture tokens wrong
positions (huggingface/diffusers issue 14194), and it would run every step twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..exemplar import Exemplar
from ..images import check_photo
from .conditioning import IMAGE_TOKEN, NUM_DROPPED, TEMPLATE, append_operation, vl_patches, vl_picture
from .denoise import denoise
from .extractor import ExtractConfig, QwenConnector, QwenExtractor, QwenOperation
from .files import QwenSet, choose_dtype
from .latents import decode, encode
from .lora_files import LoRAFile, attach, detach, read_lora
from .numerics import reference_numerics
from .schedule import NUM_STEPS, SEED, native_noise, official_noise, official_sigmas, reference_time
from .sizes import MAX_PIXELS, WorkingSize, working_size

_PARTS = ("transformer", "text_encoder", "vae", "processor")


@dataclass(frozen=True, kw_only=True)
class QwenRetouchConfig:
    """How a query is retouched; defaults are the reference's, except for its idle guidance."""

    num_steps: int = NUM_STEPS  # 40; cost is linear in this
    seed: int = SEED  # 123; one seed, one picture
    guidance: float = 1.0  # along the operation; other values double the cost
    lora_strength: float = 1.0
    noise: str = "official"  # or "native", which is ComfyUI's for the same seed
    reference_numerics: bool = False  # see numerics.py
    max_pixels: int = MAX_PIXELS  # larger queries are reduced, and enlarged again afterwards

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps={self.num_steps}: use 1 or more, {NUM_STEPS} is the reference's")
        if self.noise not in _NOISES:
            raise ValueError(f"noise={self.noise!r}: use one of {', '.join(_NOISES)}")


_NOISES = {"official": official_noise, "native": native_noise}


@dataclass(frozen=True, kw_only=True)
class QwenComponents:
    """The base model's parts. device: where each computes while it is at work; between, it stays where it was."""

    transformer: nn.Module
    text_encoder: nn.Module
    tokenizer: Any
    vae: nn.Module
    device: torch.device

    def __post_init__(self) -> None:
        if getattr(self.transformer.config, "zero_cond_t", False):
            raise ValueError(
                "this transformer is Qwen-Image-Edit-2511, which treats the query differently: MirrorPPR was trained "
                "on the first Qwen-Image-Edit. Use that one."
            )

    @classmethod
    def from_folder(
        cls, folder: Path, *, device: torch.device | str, dtype: torch.dtype | None = None
    ) -> QwenComponents:
        """A diffusers folder of Qwen-Image-Edit: transformer/, text_encoder/, vae/ with their configs, processor/."""
        missing = [part for part in _PARTS if not (folder / part).is_dir()]
        missing += [f"{part}/config.json" for part in _PARTS[:3] if not (folder / part / "config.json").is_file()]
        if missing:
            raise FileNotFoundError(
                f"{folder} lacks {', '.join(missing)}: name a complete Qwen-Image-Edit folder. "
                "`python -m mirrorppr_core fetch` says where it comes from."
            )
        from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
        from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

        kind = {"torch_dtype": dtype or choose_dtype(device), "local_files_only": True}
        vl_kind = {"dtype": kind["torch_dtype"], "local_files_only": True}
        return cls(
            transformer=QwenImageTransformer2DModel.from_pretrained(folder / "transformer", **kind),
            text_encoder=Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "text_encoder", **vl_kind),
            tokenizer=AutoTokenizer.from_pretrained(folder / "processor", local_files_only=True),
            vae=AutoencoderKLQwenImage.from_pretrained(folder / "vae", **kind),
            device=torch.device(device),
        )


@dataclass(frozen=True, kw_only=True)
class EncodedQuery:
    """What the DiT needs to know of a query, on the CPU. text: (1, L, D).  latent: (1, 16, h, w)."""

    size: WorkingSize
    text: Tensor
    latent: Tensor


@torch.no_grad()
def encode_text(components: QwenComponents, picture: Tensor) -> Tensor:
    """Qwen2.5-VL's words for a query (1, 3, H, W) in [0, 1] and the empty prompt: (1, L, D) on the CPU."""
    encoder, tokenizer = components.text_encoder, components.tokenizer
    vision = encoder.config.vision_config
    seen = vl_picture(picture)
    patches, grid = vl_patches(
        seen, patch=vision.patch_size, merge=vision.spatial_merge_size, frames=vision.temporal_patch_size
    )
    num_tokens = len(patches) // vision.spatial_merge_size**2
    prompt = TEMPLATE.format("").replace(IMAGE_TOKEN, IMAGE_TOKEN * num_tokens)
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    pictures = ids == encoder.config.image_token_id
    if int(pictures.sum()) != num_tokens:
        raise ValueError(
            f"the tokenizer finds {int(pictures.sum())} picture tokens where {num_tokens} stand: it is not "
            "Qwen2.5-VL's. Use the processor folder of Qwen-Image-Edit."
        )
    with _at_work(encoder, components.device) as device:
        answer = encoder.model(  # not the whole class: its word predictions are 152,064 wide and not needed
            input_ids=ids.to(device),
            attention_mask=torch.ones_like(ids, device=device),
            pixel_values=patches.to(device, encoder.dtype),
            image_grid_thw=grid.to(device),
            # Without it transformers 5 gives picture tokens one-dimensional positions, and says nothing.
            mm_token_type_ids=pictures.int().to(device),
            use_cache=False,
        )
        return answer.last_hidden_state[:, NUM_DROPPED:].cpu()


def encode_queries(
    components: QwenComponents, photos: Iterable[Tensor], *, max_pixels: int = MAX_PIXELS
) -> list[EncodedQuery]:
    """photos: (1, 3 or 4, H, W) each, any size. The work that all operations, seeds and strengths share."""
    sizes, pictures = [], []
    for index, photo in enumerate(photos):
        check_photo(photo, f"query {index + 1}")
        sizes.append(working_size(*photo.shape[-2:], max_pixels=max_pixels))
        pictures.append(sizes[-1].prepare(photo))
    with _at_work(components.text_encoder, components.device):
        texts = [encode_text(components, picture) for picture in pictures]
    with _at_work(components.vae, components.device):
        latents = [encode(components.vae, picture).cpu() for picture in pictures]
    return [EncodedQuery(size=s, text=t, latent=v) for s, t, v in zip(sizes, texts, latents, strict=True)]


def retouch_latent(
    components: QwenComponents,
    query: EncodedQuery,
    tokens: Tensor,
    config: QwenRetouchConfig,
    *,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """tokens: (1, Q, D) of the connector. Returns the retouched latent (1, 16, h, w) on the CPU.

    The LoRA must be attached already. on_step: see denoise.
    """
    height, width = query.size.padded
    noise = _NOISES[config.noise](height, width, seed=config.seed)
    exact = config.reference_numerics
    with _at_work(components.transformer, components.device) as device:
        with reference_numerics(components.transformer) if exact else nullcontext():
            latent = denoise(
                components.transformer,
                noise=noise.to(device),
                query=query.latent.to(device),
                text=append_operation(query.text, tokens).to(device),
                text_without=query.text.to(device),
                sigmas=official_sigmas(config.num_steps, height=height, width=width),
                guidance=config.guidance,
                time_of=reference_time if exact else None,
                on_step=on_step,
            )
    return latent.cpu()


def decode_latent(components: QwenComponents, latent: Tensor, size: WorkingSize) -> Tensor:
    """The retouched picture (1, 3, H, W) in [0, 1] at the query's own size, on the CPU."""
    with _at_work(components.vae, components.device):
        return size.restore(decode(components.vae, latent))


@dataclass(frozen=True, kw_only=True)
class QwenEngine:
    """Set and base model, ready to use. Trained parts of the set are loaded when needed and then forgotten."""

    files: QwenSet
    components: QwenComponents

    @classmethod
    def from_folders(
        cls, *, weights: Path, base: Path, device: torch.device | str, dtype: torch.dtype | None = None
    ) -> QwenEngine:
        """weights: folder of the set (files.QwenSet).  base: diffusers folder of Qwen-Image-Edit."""
        files = QwenSet.from_folder(weights)  # first, as it takes no time: a wrong set is refused at once
        return cls(files=files, components=QwenComponents.from_folder(base, device=device, dtype=dtype))

    def extract(self, exemplar: Exemplar, config: ExtractConfig | None = None) -> QwenOperation:
        return QwenExtractor.load(self.files, device=self.components.device).extract(exemplar, config)

    def retouch(
        self, query: Tensor, operation: QwenOperation, config: QwenRetouchConfig | None = None, **watching: Any
    ) -> Tensor:
        """One photo (1, 3 or 4, H, W) -> (1, 3, H, W) in [0, 1]."""
        return next(self.generate([query], operation, config, **watching))

    def generate(
        self,
        queries: Iterable[Tensor],
        operation: QwenOperation,
        config: QwenRetouchConfig | None = None,
        *,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Iterator[Tensor]:
        """The same for many photos, each as soon as it is ready. The large models move to the device once."""
        config, parts = config or QwenRetouchConfig(), self.components
        tokens = QwenConnector.load(self.files, device=parts.device).tokens(operation)
        encoded = encode_queries(parts, queries, max_pixels=config.max_pixels)
        with lora_attached(parts.transformer, self.files.lora.path, strength=config.lora_strength):
            with _at_work(parts.transformer, parts.device):
                for query in encoded:
                    latent = retouch_latent(parts, query, tokens, config, on_step=on_step)
                    yield decode_latent(parts, latent, query.size)


@contextmanager
def lora_attached(transformer: nn.Module, lora: Path | LoRAFile, *, strength: float = 1.0) -> Iterator[int]:
    """The LoRA beside the weights, inside; the transformer as it was, afterwards. Gives the number of layers."""
    file = lora if isinstance(lora, LoRAFile) else read_lora(lora)
    try:
        yield attach(transformer, file, strength=strength)
    finally:
        detach(transformer)


@contextmanager
def _at_work(module: nn.Module, device: torch.device) -> Iterator[torch.device]:
    """The module on the device, inside; back where it was, afterwards, and the memory returned."""
    home = next(module.parameters()).device
    if home.type == device.type and device.index in (None, home.index):
        yield home
        return
    try:
        yield next(module.to(device).parameters()).device
    finally:
        module.to(home)
        if device.type == "cuda":
            torch.cuda.empty_cache()
