"""Settings of a Qwen training run: which networks, which adapters, which loss, and how the base model is held.

Dimensions default to the released files' (mirrorppr_core/qwen/config.py). What the paper does not say is marked as our
choice: LoRA rank and targets follow DiffSynth's public edit recipe (minus the modulations), the decoder of Stage I
follows Moto, the public code that the R-Former comes from.

Memory of Stage II on one GPU, a batch of one pair at 1024 px, cached text and latents, gradient checkpointing. These
are estimates that `python -m training.qwen_memory` works out from the dimensions; no GPU has confirmed them.

    DiT frozen, bfloat16                                   38.1 GiB     fp8 19.0, nf4 9.9
    319 M trainable, gradients, AdamW, average, float32     5.9 GiB
    MAE-Large encoder, bfloat16                             0.6 GiB
    activations: between blocks, one block, R-Former        6.7 GiB     of 9576 tokens
    work space and context                                  3.0 GiB
                                                    total  54.2 GiB     fp8 35.1, nf4 26.0
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field

from mirrorppr_core.networks.config import LoRAConfig
from mirrorppr_core.qwen.config import FACE, PRO, QwenConfig
from mirrorppr_core.settings_file import parsed_table, settings_of
from mirrorppr_core.wording import brief

SOURCES = ("online", "shards", "released")
STORAGES = ("bfloat16", "float32", "fp8", "nf4")
WEIGHTINGS = ("bell", "flat")

# Linear layers of a Qwen-Image block that get an adapter. The text branch of the last block is left out by
# qwen_base.adapted_layers: nothing reads what it writes, so it would never see a gradient.
LORA_TARGETS = (
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
    "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out",
    "img_mlp.net.0.proj", "img_mlp.net.2", "txt_mlp.net.0.proj", "txt_mlp.net.2",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Stage I's throw-away ViT decoder. Defaults are Moto's."""

    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12

    def __post_init__(self) -> None:
        if min(self.patch, self.width, self.depth, self.heads) < 1:
            raise ValueError("decoder: patch, width, depth and heads must be 1 or more")
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"decoder width={self.width}: use a multiple of heads={self.heads} and of 4")


@dataclass(frozen=True, kw_only=True)
class QwenTrainConfig:
    """Everything about a run that its weights depend on, and how the frozen base is stored."""

    model: QwenConfig = FACE
    lora: LoRAConfig = field(default_factory=lambda: LoRAConfig(rank=32, alpha=32, targets=LORA_TARGETS))
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    lpips_weight: float = 0.0  # of Stage I, beside the squared error; above 0 needs torchmetrics
    weighting: str = "bell"  # over the times of Stage II: "bell" as DiffSynth, or "flat"
    region_weight: float = 1.0  # of edited latents in Stage II; 100 in the release's code, used or not is not known
    storage: str = "bfloat16"  # how the frozen DiT lies in memory
    gradient_checkpointing: bool = field(default=True, metadata={"compared": False})  # changes no bit, only memory

    def __post_init__(self) -> None:
        if self.storage not in STORAGES:
            raise ValueError(f"storage={self.storage!r}: use one of {', '.join(STORAGES)}")
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"weighting={self.weighting!r}: use one of {', '.join(WEIGHTINGS)}")
        if self.region_weight < 1 or self.lpips_weight < 0:
            raise ValueError(
                f"region_weight={self.region_weight}, lpips_weight={self.lpips_weight}: use region_weight >= 1 (1 is "
                "off) and lpips_weight >= 0"
            )

    def to_json(self) -> str:
        values = dataclasses.asdict(self)
        return json.dumps({f.name: values[f.name] for f in _compared(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> QwenTrainConfig:
        """Inverse of to_json, and of the settings that a run's results carry. Refuses those of another code version."""
        values = parsed_table(text, "the configuration")
        expected = {f.name for f in _compared(cls)}
        if set(values) != expected:
            raise ValueError(
                f"fields {sorted(set(values) ^ expected)} do not fit this version of the code: export with the version "
                "that trained the run"
            )
        lora, decoder = values.pop("lora"), values.pop("decoder")
        try:
            return cls(
                model=QwenConfig.from_json(json.dumps(values.pop("model"))),
                lora=settings_of(LoRAConfig, lora),
                decoder=settings_of(DecoderConfig, decoder),
                **values,
            )
        except TypeError as error:
            raise ValueError(f"the configuration is damaged ({brief(error)}): copy the result again") from error

    @property
    def config_hash(self) -> str:
        """Twelve hex digits; saved with everything that a run writes."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]


QWEN_FACE = QwenTrainConfig()
QWEN_PRO = QwenTrainConfig(model=PRO)


def _compared(config: QwenTrainConfig | type[QwenTrainConfig]) -> list[dataclasses.Field]:
    """Fields that shape what is learned."""
    return [f for f in dataclasses.fields(config) if f.metadata.get("compared", True)]


def _place() -> str:
    """A path: it may change between the parts of a run."""
    return field(default="", metadata={"compared": False})


@dataclass(frozen=True, kw_only=True)
class QwenDataConfig:
    """Where a run's weights and samples come from. Sizes are (height, width); empty ones are the method's own.

    Portraits are retouched while training (online), or finished pairs are read (pairs.py): then landmarks and mode
    were decided when those were made, and operations only says which of them to take.
    """

    base: str = _place()  # diffusers folder of Qwen-Image-Edit
    mae: str = _place()  # mae_pretrained.safetensors of the release, or the file of facebook/vit-mae-large
    source: str = "online"  # or "shards" of training.synthesize, or "released" layouts
    portraits: str = _place()  # online: folder of training.data.portrait_folder
    pairs: str = _place()  # the others: their folder
    cache: str = _place()  # of training.qwen_cache; empty: language model and VAE work while training
    landmarks: str = "mini"  # or npz:PATH, mediapipe; body operations need the latter two
    min_side: int = 512  # pixels; smaller portraits are passed over
    operations: str = ""  # instead of what the stage's row says: a group or names of training.recipes.recipe
    # In the set, over all sizes; they repeat, so a cache of them can be complete. 0: every pair once, never online.
    samples: int = 20_000
    held_out: float = 0.02  # share of identities kept for validation
    cross_identity: float = 0.5  # share of samples whose query is another person; of pairs: where one has the same
    max_steps: int = 3  # operations in one retouch, at most
    mode: str = "exact"  # or "official": the published arithmetic, simulated operations only
    exemplar_size: tuple[int, ...] = ()  # face: 1024 x 1024; pro: 1536 x 1440
    query_sizes: tuple[tuple[int, int], ...] = ()  # face: 1024 x 1024; pro: the published pools

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"source={self.source!r}: use one of {', '.join(SOURCES)}")
        if not 0 < self.held_out < 1 or self.samples < (self.source == "online") or self.min_side < 1:
            raise ValueError(
                f"held_out={self.held_out}, samples={self.samples}, min_side={self.min_side}: need 0 < held_out < 1, "
                "samples and min_side of 1 or more (samples=0 takes every pair of shards or released folders once)"
            )
        if len(self.exemplar_size) not in (0, 2) or any(len(size) != 2 for size in self.query_sizes):
            raise ValueError("exemplar_size and query_sizes hold (height, width), e.g. exemplar_size=[1024, 1024]")
