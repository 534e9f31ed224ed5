"""A pack for tests only: ComfyUI's stock loaders read a tiny Qwen-Image-Edit, and one that is packed as GGUF is.

ComfyUI takes most dimensions of Qwen-Image and Qwen2.5-VL for granted. Here they are read from the tensors, when these
are clearly smaller than the real ones; real files load as before.
"""

from __future__ import annotations

import logging

import comfy.lora
import comfy.model_detection
import comfy.model_management
import comfy.sd
import comfy.text_encoders.llama as llama
import comfy.text_encoders.qwen_vl as qwen_vl
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import ComfyExtension, io

AXES = {16: (4, 6, 6)}  # RoPE channels for time, row and column, by head width
HEAD = 16  # of the tiny language model
REAL_WIDTH, REAL_TEXT_WIDTH = 3072, 3584

_detect_unet, _detect_te = comfy.model_detection.detect_unet_config, comfy.sd.detect_te_model
_LanguageConfig, _Vision = llama.Qwen25_7BVLI_Config, qwen_vl.Qwen2VLVisionTransformer
_language: dict | None = None  # dimensions of the tiny text encoder that is being loaded
_vision: dict | None = None


def detect_unet_config(state, prefix, *args, **kwargs):
    config = _detect_unet(state, prefix, *args, **kwargs)
    if config and config.get("image_model") == "qwen_image":
        width = state[f"{prefix}img_in.weight"].shape[0]
        if width < REAL_WIDTH:
            head = state[f"{prefix}transformer_blocks.0.attn.norm_q.weight"].shape[0]
            config |= {
                "attention_head_dim": head, "num_attention_heads": width // head, "axes_dims_rope": AXES[head],
                "joint_attention_dim": state[f"{prefix}txt_norm.weight"].shape[0],
            }  # fmt: skip
    return config


def detect_te_model(state):
    global _language, _vision
    _language = _vision = None
    words, patches = state.get("model.embed_tokens.weight"), state.get("visual.patch_embed.proj.weight")
    if words is None or patches is None or words.shape[1] >= REAL_TEXT_WIDTH:
        return _detect_te(state)
    attention = "model.layers.0.self_attn."
    _language = {
        "vocab_size": words.shape[0], "hidden_size": words.shape[1],
        "num_hidden_layers": _count(state, "model.layers."),
        "intermediate_size": state["model.layers.0.mlp.gate_proj.weight"].shape[0],
        "num_attention_heads": state[f"{attention}q_proj.weight"].shape[0] // HEAD,
        "num_key_value_heads": state[f"{attention}k_proj.weight"].shape[0] // HEAD,
    }  # fmt: skip
    _vision = {
        "hidden_size": patches.shape[0], "num_heads": 2, "num_layers": _count(state, "visual.blocks."),
        "intermediate_size": state["visual.blocks.0.mlp.gate_proj.weight"].shape[0],
    }  # fmt: skip
    return comfy.sd.TEModel.QWEN25_7B


def language_config(**kwargs):
    config = _LanguageConfig(**((_language or {}) | kwargs))
    if _language:
        config.head_dim, config.rope_dims = HEAD, [2, 3, 3]
    return config


def vision(**kwargs):
    made = _Vision(**(kwargs | (_vision or {})))
    if _vision:
        made.fullatt_block_indexes = [1]
    return made


def _count(state, prefix) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


comfy.model_detection.detect_unet_config = detect_unet_config
comfy.sd.detect_te_model = detect_te_model
llama.Qwen25_7BVLI_Config = language_config
qwen_vl.Qwen2VLVisionTransformer = vision


class PackedLinear(torch.nn.Module):
    """As in GGUF packs: the weight is bytes, patches are kept beside it and applied to what is unpacked."""

    def __init__(self, linear):
        super().__init__()
        weight = linear.weight.data.float()
        self.register_buffer("scale", weight.abs().amax(1, keepdim=True) / 127)
        self.weight = torch.nn.Parameter((weight / self.scale).round().to(torch.int8), requires_grad=False)
        self.bias, self.patch = linear.bias, None

    def forward(self, x):
        weight = self.weight.float() * self.scale
        if self.patch:
            weight = self.patch(weight)
        return torch.nn.functional.linear(x, weight.to(x), self.bias)


class PackedPatcher(ModelPatcher):
    """Never adds to packed weights."""

    def patch_weight_to_device(self, key, device_to=None, inplace_update=False):
        name, _, what = key.rpartition(".")
        module = self.model.get_submodule(name)
        if what != "weight" or not isinstance(module, PackedLinear):
            super().patch_weight_to_device(key, device_to, inplace_update)
        elif patches := self.patches.get(key):
            module.patch = lambda weight: comfy.lora.calculate_weight(patches, weight, key)

    def unpatch_model(self, device_to=None, unpatch_weights=True):
        if unpatch_weights:
            for module in self.model.modules():
                if isinstance(module, PackedLinear):
                    module.patch = None
        return super().unpatch_model(device_to, unpatch_weights)


class LoadPacked(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TinyQwen_LoadPacked", inputs=[io.String.Input("unet_name")], outputs=[io.Model.Output()]
        )

    @classmethod
    def execute(cls, unet_name) -> io.NodeOutput:
        model = comfy.sd.load_diffusion_model(folder_paths.get_full_path_or_raise("diffusion_models", unet_name))
        blocks = model.model.diffusion_model.transformer_blocks
        for name, module in list(blocks.named_modules()):
            if isinstance(module, torch.nn.Linear):
                blocks.set_submodule(name, PackedLinear(module))
        device = comfy.model_management.get_torch_device()
        return io.NodeOutput(PackedPatcher(model.model, load_device=device, offload_device=model.offload_device))


class Watch(io.ComfyNode):
    """Logs every call of the model, or fails at the first as a full GPU does."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TinyQwen_Watch",
            inputs=[io.Model.Input("model"), io.Boolean.Input("out_of_memory")],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model, out_of_memory) -> io.NodeOutput:
        def call(apply_model, arguments):
            if out_of_memory:
                raise comfy.model_management.OOM_EXCEPTION("out of memory")
            logging.info("tiny model called")
            return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

        watched = model.clone()
        watched.set_model_unet_function_wrapper(call)
        return io.NodeOutput(watched)


class OtherModel(io.ComfyNode):
    """A MODEL that is not Qwen-Image."""

    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="TinyQwen_OtherModel", inputs=[], outputs=[io.Model.Output()])

    @classmethod
    def execute(cls) -> io.NodeOutput:
        device = torch.device("cpu")
        return io.NodeOutput(ModelPatcher(torch.nn.Linear(1, 1), load_device=device, offload_device=device))


class BlindClip(io.ComfyNode):
    """A CLIP without a vision tower."""

    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="TinyQwen_BlindClip", inputs=[io.Clip.Input("clip")], outputs=[io.Clip.Output()])

    @classmethod
    def execute(cls, clip) -> io.NodeOutput:
        blind = clip.clone()
        blind.cond_stage_model = torch.nn.Identity()
        return io.NodeOutput(blind)


class Shim(ComfyExtension):
    async def get_node_list(self):
        return [LoadPacked, Watch, OtherModel, BlindClip]


async def comfy_entrypoint() -> Shim:
    return Shim()
