"""How much memory a Qwen run needs, worked out from the dimensions alone: no weights, no GPU, a few seconds.

    python -m training.qwen_memory [--kind pro] [--height 1440 --width 1536] [--batch 1] [--storage nf4]

Parameters are counted, and what a layer keeps for its backward pass is measured, on PyTorch's meta device, where
tensors have sizes but no contents. Attention matrices do not count: fused attention never stores them. What the sum
leaves out (fragmentation, work space, the CUDA context: 3 GiB are added for them) makes it an ESTIMATE; no GPU was at
hand to hold it against.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mirrorppr_core.networks.connector import Connector
from mirrorppr_core.qwen.conditioning import VL_CELL, vl_size
from mirrorppr_core.qwen.networks import OfficialMAE, OfficialRFormer

from .program import Parser, run
from .qwen.base import add_lora
from .qwen.config import QWEN_FACE, QWEN_PRO, STORAGES, QwenTrainConfig

GIB = 2**30
_BYTES = {"float32": 4.0, "bfloat16": 2.0, "fp8": 1.0, "nf4": 0.52}  # nf4: 4 bits and its doubly quantised scales
_ADAMW_BYTES = 16  # float32 weight, gradient and two moments
_AVERAGE_BYTES = 4  # the running average of the weights
_OVERHEAD_GIB = 3.0
_TEMPLATE_TOKENS = 7  # of the empty prompt, around the picture's


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Numbers of parameters, and GiB on one GPU without sharding."""

    dit: int
    trainable: int
    num_blocks: int
    tokens: int
    base_gib: float
    mae_gib: float
    trainable_gib: float
    boundaries_gib: float  # what checkpointing keeps: the two streams between blocks
    block_gib: float  # one block at work
    rformer_gib: float  # R-Former's activations

    @property
    def total_gib(self) -> float:
        fixed = self.base_gib + self.mae_gib + self.trainable_gib
        return fixed + self.boundaries_gib + self.block_gib + self.rformer_gib + _OVERHEAD_GIB

    def __str__(self) -> str:
        rows = (
            (f"frozen DiT ({self.dit / 1e9:.2f} B, {self.num_blocks} blocks)", self.base_gib),
            ("frozen MAE", self.mae_gib),
            (f"trainable ({self.trainable / 1e6:.0f} M), gradients, AdamW, average", self.trainable_gib),
            (f"between blocks ({self.tokens} tokens)", self.boundaries_gib),
            ("one block at work", self.block_gib),
            ("R-Former at work", self.rformer_gib),
            ("work space and context", _OVERHEAD_GIB),
            ("total, estimated", self.total_gib),
        )
        return "\n".join(f"{name:<58}{value:7.1f} GiB" for name, value in rows)


def estimate(
    config: QwenTrainConfig, *, query: tuple[int, int], exemplar: tuple[int, int], batch: int, num_blocks: int = 60
) -> Memory:
    """Stage II with cached text and latents, gradient checkpointing on. query, exemplar: (H, W) in pixels."""
    from diffusers import QwenImageTransformer2DModel

    with torch.device("meta"):
        block_free = QwenImageTransformer2DModel(num_layers=0)
        dit = QwenImageTransformer2DModel(num_layers=2).bfloat16().requires_grad_(False)
        mae, rformer = OfficialMAE(config.model.mae), OfficialRFormer(config.model).bfloat16()
        connector = Connector(config.model.connector)
    outside = count(block_free)
    block = (count(dit) - outside) // 2
    with torch.device("meta"):
        add_lora(dit, config.lora)
    adapters = [count(b, trained=True) for b in dit.transformer_blocks]  # the last block has fewer
    trainable = count(rformer) + count(connector) + (num_blocks - 1) * adapters[0] + adapters[1]
    words = vl_size(*query)
    num_text = words[0] * words[1] // VL_CELL**2 + _TEMPLATE_TOKENS + config.model.rformer.num_queries
    grid = query[0] // 16, query[1] // 16
    num_image = 2 * grid[0] * grid[1]

    def forward() -> Tensor:
        made = {"device": "meta", "dtype": torch.bfloat16}
        return dit(
            hidden_states=torch.empty(batch, num_image, dit.config.in_channels, **made),
            encoder_hidden_states=torch.empty(batch, num_text, connector.proj[0].out_features, **made).requires_grad_(),
            timestep=torch.empty(batch, **made),
            img_shapes=[[(1, *grid)] * 2] * batch,
            return_dict=False,
        )[0]

    # The last block keeps less than the others, so two blocks are a little less than twice the first.
    at_work = kept_bytes(forward, longest=num_image + num_text) / 2
    patches = [(side // config.model.mae.patch) for side in exemplar]
    features = torch.empty(batch, 1 + patches[0] * patches[1], config.model.mae.width, device="meta").bfloat16()
    reading = kept_bytes(
        lambda: rformer(features, features, before_grid=tuple(patches), after_grid=tuple(patches)),
        longest=2 * features.shape[1] + 1 + config.model.rformer.num_queries,
    )
    total = outside + num_blocks * block
    stream = batch * (num_image + num_text) * dit.inner_dim * 2
    return Memory(
        dit=total,
        trainable=trainable,
        num_blocks=num_blocks,
        tokens=num_image + num_text,
        base_gib=total * _BYTES[config.storage] / GIB,
        mae_gib=count(mae) * (4 if config.storage == "float32" else 2) / GIB,
        trainable_gib=trainable * (_ADAMW_BYTES + _AVERAGE_BYTES) / GIB,
        boundaries_gib=num_blocks * stream / GIB,
        block_gib=at_work / GIB,
        rformer_gib=reading / GIB,
    )


def count(module: nn.Module, *, trained: bool = False) -> int:
    """Number of parameters, or of those that are trained."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def kept_bytes(forward, *, longest: int) -> int:
    """Bytes that autograd keeps of this forward pass, parameters and attention matrices aside.

    longest: tokens of the longest sequence; a tensor with that many rows and columns is an attention matrix.
    """
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter) and list(tensor.shape).count(longest) < 2:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del result
    return size


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("qwen_memory", __doc__)
    parser.add_argument("--kind", choices=("face", "pro"), default="face")
    parser.add_argument("--height", type=int, help="of query and exemplar; default 1024, or 1536 for pro")
    parser.add_argument("--width", type=int, help="default 1024, or 1440 for pro")
    parser.add_argument("--batch", type=int, default=1, help="pairs of one forward pass")
    parser.add_argument("--storage", choices=STORAGES, default="bfloat16")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    config = replace(QWEN_FACE if options.kind == "face" else QWEN_PRO, storage=options.storage)
    usual = (1024, 1024) if options.kind == "face" else (1536, 1440)
    query = (options.height or usual[0], options.width or usual[1])
    if options.batch < 1 or min(query) < 32:
        raise ValueError(f"{options.batch} pairs of {query[0]}x{query[1]} px: use 1 or more, of 32 px or more")
    side = config.model.side_px
    exemplar = (side, side) if options.kind == "face" else query
    print(estimate(config, query=query, exemplar=exemplar, batch=options.batch))


if __name__ == "__main__":
    sys.exit(main())
