"""The ComfyUI nodes. Wrappers only: each converts, calls mirrorppr_core and converts back.

    loaders.py    Load MirrorPPR, Load Extractor, Load Connector, Load DiT
    operation.py  Extract Operation
    retouch.py    Retouch Sampler
    reproject.py  Reproject
    fields.py     Apply Field, Field Preview
    simulate.py   Simulate Retouch
    qwen_load.py          Load MirrorPPR (Qwen), Apply to Qwen
    qwen_operation.py     Extract Operation (Qwen)
    qwen_conditioning.py  Retouch Conditioning (Qwen), Restore Size (Qwen); qwen_vision.py is what the model sees
    qwen_sampler.py       Retouch Sampler (Qwen)
    sockets.py    our types, and IMAGE / MASK to core's tensors and back
    picture.py    motion drawn for people
    web/docs/     the help page of every node

Node ids are in users' workflows and never change. Of ComfyUI's V3 API only what version 0.3.75 has is used.
"""

from comfy_api.latest import ComfyExtension, io

from .fields import ApplyField, FieldPreview
from .loaders import Load, LoadConnector, LoadDiT, LoadExtractor, register_folder
from .operation import ExtractOperation
from .qwen_conditioning import QwenConditioning, QwenRestore
from .qwen_load import ApplyQwen, LoadQwen
from .qwen_operation import ExtractQwenOperation
from .qwen_sampler import QwenSampler
from .reproject import Reproject
from .retouch import RetouchSampler
from .simulate import SimulateRetouch


class MirrorPPRExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            Load,
            LoadExtractor,
            LoadConnector,
            LoadDiT,
            ExtractOperation,
            RetouchSampler,
            Reproject,
            ApplyField,
            FieldPreview,
            SimulateRetouch,
            LoadQwen,
            ApplyQwen,
            ExtractQwenOperation,
            QwenConditioning,
            QwenSampler,
            QwenRestore,
        ]


async def comfy_entrypoint() -> MirrorPPRExtension:
    register_folder()
    return MirrorPPRExtension()
