"""A tiny random Qwen-Image-Edit and a tiny MirrorPPR set for it: the real classes, no download, a few hundred KB.

The tokenizer has one symbol per byte and the real special tokens. Every weight is random, norms included, so that
nothing hides behind an initial value.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mirrorppr_core.networks.config import ConnectorConfig, MAEConfig, RFormerConfig
from mirrorppr_core.networks.connector import Connector
from mirrorppr_core.qwen.config import QwenConfig
from mirrorppr_core.qwen.files import CONFIG_KEY, SLOTS
from mirrorppr_core.qwen.networks import OfficialMAE, OfficialRFormer
from mirrorppr_core.qwen.standalone import QwenComponents

TEXT_WIDTH = 32
NUM_BLOCKS = 2
TINY_FACE = QwenConfig(
    side_patches=4,
    mae=MAEConfig(image_size=32, patch=16, width=16, depth=1, heads=2),
    rformer=RFormerConfig(num_queries=8, width=16, depth=1, heads=2, motion_channels=0),
    connector=ConnectorConfig(width=16, depth=1, heads=2, output=TEXT_WIDTH),
)
TINY_PRO = QwenConfig(
    kind="pro", side_patches=32, mae=TINY_FACE.mae, rformer=TINY_FACE.rformer, connector=TINY_FACE.connector
)
SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip
LORA_TARGETS = ("attn.to_q", "attn.add_k_proj", "attn.to_out.0", "img_mlp.net.0.proj", "img_mlp.net.2", "txt_mod.1")


def randomise(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """Matrices keep their input's scale; gains lie near one, biases near zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            z = torch.randn(value.shape, generator=generator)
            if value.ndim > 1 and "gamma" not in name:
                value.copy_(z / value[0].numel() ** 0.5)
            elif name.endswith("bias"):
                value.copy_(0.1 * z)
            else:
                value.copy_(1 + 0.1 * z)
    return module.eval().requires_grad_(False)


def tokenizer():
    from tokenizers import AddedToken
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    vocab = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    made = Qwen2Tokenizer(
        vocab=vocab, merges=[], eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<|endoftext|>"
    )
    made.add_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS], special_tokens=True)
    return made


def transformer() -> nn.Module:
    from diffusers import QwenImageTransformer2DModel

    return randomise(
        QwenImageTransformer2DModel(
            patch_size=2, in_channels=64, out_channels=16, num_layers=NUM_BLOCKS, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=TEXT_WIDTH, axes_dims_rope=(4, 6, 6),
        ),
        seed=1,
    )  # fmt: skip


def text_encoder(words) -> nn.Module:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    ids = {name: words.convert_tokens_to_ids(name) for name in SPECIAL_TOKENS}
    config = Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=len(words), hidden_size=TEXT_WIDTH, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=8192, rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        ),
        vision_config=dict(
            depth=2, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=TEXT_WIDTH,
            fullatt_block_indexes=[1], window_size=112, patch_size=14,
        ),
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    return randomise(Qwen2_5_VLForConditionalGeneration(config), seed=2)


def vae() -> nn.Module:
    from diffusers import AutoencoderKLQwenImage

    made = AutoencoderKLQwenImage(
        base_dim=8, z_dim=16, dim_mult=[1, 2, 2, 2], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    return randomise(made, seed=3)


def components() -> QwenComponents:
    words = tokenizer()
    return QwenComponents(
        transformer=transformer(), text_encoder=text_encoder(words), tokenizer=words, vae=vae(),
        device=torch.device("cpu"),
    )  # fmt: skip


def save_base(parts: QwenComponents, folder: Path) -> Path:
    """The diffusers folder of these components."""
    parts.transformer.save_pretrained(folder / "transformer")
    parts.text_encoder.save_pretrained(folder / "text_encoder")
    parts.vae.save_pretrained(folder / "vae")
    parts.tokenizer.save_pretrained(folder / "processor")
    return folder


def lora_state(*, rank: int = 4, seed: int = 5) -> dict[str, Tensor]:
    """A LoRA for the tiny transformer, keys as in the release: bare module names."""
    generator, state = torch.Generator().manual_seed(seed), {}
    for name, weight in transformer().state_dict().items():
        module = name.removesuffix(".weight")
        if weight.ndim == 2 and module.endswith(LORA_TARGETS):
            state[f"{module}.lora_A.default.weight"] = 0.3 * torch.randn(rank, weight.shape[1], generator=generator)
            state[f"{module}.lora_B.default.weight"] = 0.3 * torch.randn(weight.shape[0], rank, generator=generator)
    return state


def save_set(root: Path, config: QwenConfig = TINY_FACE, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """A complete set in the layout of the release, below ROOT/mirrorppr_face or mirrorppr_pro."""
    folder = root / f"mirrorppr_{config.kind}"
    mae = randomise(OfficialMAE(config.mae), seed=seed).state_dict()
    states = {
        "mae": {f"vit.{name}": value for name, value in mae.items()},
        "rformer": randomise(OfficialRFormer(config), seed=seed + 1).state_dict(),
        "connector": randomise(Connector(config.connector), seed=seed + 2).state_dict(),
        "lora": lora_state(seed=seed + 5),
    }
    for slot, state in states.items():
        path = folder / SLOTS[slot]
        path.parent.mkdir(parents=True)
        metadata = {} if slot == "lora" else {CONFIG_KEY: config.to_json()}
        save_file({name: value.to(dtype).contiguous() for name, value in state.items()}, str(path), metadata=metadata)
    return folder
