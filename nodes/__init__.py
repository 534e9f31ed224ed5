"""The ComfyUI nodes. Wrappers only: each converts, calls mirrorppr_core and converts back.

    loaders.py    Load MirrorPPR, Load Extractor, Load Connector, Load DiT
    operation.py  Extract Operation;  refine.py: Refine Operation
    arithmetic.py Scale, Reverse, Combine, Blend, Average, Limit
    explain.py    Explain Operation, Operation from Sliders; bars.py: drawn
    operation_files.py  Save Operation, Load Operation; listed_folder.py: where files lie
    retouch.py    Retouch Sampler
    reproject.py  Reproject
    fields.py     Apply Field, Field Preview
    field_files.py  Save Field, Load Field, Field to ST Map, ST Map to Field
    simulate.py   Simulate Retouch;  sample_portraits.py: Sample Portraits, drawn ones
    faces.py      Find Faces
    compare.py    Compare;  its slider is web/js/compare.js
    album.py      Retouch Album
    qwen/         the nodes of the paper's own system
    sets.py       where matched sets lie, and the models kept of them
    sockets.py    our types, and IMAGE / MASK to core's tensors and back
    checking.py   what comes over inputs is what the schema says; every node is looked at through it
    picture.py    motion drawn for people
    page_files.py where the host finds page/: blueprints of the page, names in other languages (and web/js/names.js)
    web/docs/     the help page of every node

To add a node: its class in one of these files (or a new one), its class in NODES below, and its help page
web/docs/NODE_ID.md. Node ids are in users' workflows and never change. Of ComfyUI's V3 API only what version 0.3.75
has is used.
"""

from comfy_api.latest import ComfyExtension, io

from .album import RetouchAlbum
from .arithmetic import (
    AverageOperations,
    BlendOperations,
    CombineOperations,
    LimitOperation,
    ReverseOperation,
    ScaleOperation,
)
from .checking import checked
from .compare import Compare
from .explain import ExplainOperation, OperationFromSliders
from .faces import FindFaces
from .field_files import FieldToMap, LoadField, MapToField, SaveField
from .fields import ApplyField, FieldPreview
from .loaders import Load, LoadConnector, LoadDiT, LoadExtractor
from .operation import ExtractOperation
from .operation_files import LoadOperation, SaveOperation
from .page_files import register_page_files
from .qwen.conditioning import QwenConditioning, QwenRestore
from .qwen.loaders import ApplyQwen, LoadQwen
from .qwen.operation import ExtractQwenOperation
from .qwen.operation_files import LoadQwenOperation, SaveQwenOperation
from .qwen.sampler import QwenSampler
from .refine import RefineOperation
from .reproject import Reproject
from .retouch import RetouchSampler
from .sample_portraits import SamplePortraits
from .sets import register_folder
from .simulate import SimulateRetouch

NODES: list[type[io.ComfyNode]] = [
    Load,
    LoadExtractor,
    LoadConnector,
    LoadDiT,
    ExtractOperation,
    RefineOperation,
    RetouchSampler,
    Reproject,
    ApplyField,
    FieldPreview,
    SaveField,
    LoadField,
    FieldToMap,
    MapToField,
    SimulateRetouch,
    SamplePortraits,
    FindFaces,
    Compare,
    RetouchAlbum,
    SaveOperation,
    LoadOperation,
    ScaleOperation,
    ReverseOperation,
    CombineOperations,
    BlendOperations,
    AverageOperations,
    LimitOperation,
    ExplainOperation,
    OperationFromSliders,
    LoadQwen,
    ApplyQwen,
    ExtractQwenOperation,
    SaveQwenOperation,
    LoadQwenOperation,
    QwenConditioning,
    QwenSampler,
    QwenRestore,
]


class MirrorPPRExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [checked(node) for node in NODES]


async def comfy_entrypoint() -> MirrorPPRExtension:
    register_folder()
    register_page_files()
    return MirrorPPRExtension()
