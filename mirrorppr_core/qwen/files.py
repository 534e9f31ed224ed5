"""What a weights file is, and getting it into memory: identified by its header, refused with a reason, loaded late.

    SET/mae/mae_pretrained.safetensors    SET/rformer/rformer.safetensors    SET/connector/connector.safetensors
    SET/lora/lora.safetensors             SET is mirrorppr_face or mirrorppr_pro, as in the release

Identifying reads the header only. Loading maps the file into memory, so nothing is read before it is used and a file
already of the wanted precision is not copied. Released files carry no metadata and are known by fingerprint; files
of ours carry their QwenConfig as metadata `mirrorppr_qwen`, and their tensors are held against that.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..networks.connector import Connector
from ..settings_file import parsed_table
from ..weights_file import check_numbers, read_tensors
from ..wording import brief, file_name
from .config import FACE, KINDS, PRO, QwenConfig
from .fingerprints import KNOWN, fingerprint
from .networks import OfficialMAE, OfficialRFormer
from .patch_order import PatchOrderVerdict, judge_patch_order

CONFIG_KEY = "mirrorppr_qwen"
SLOTS = {
    "mae": "mae/mae_pretrained.safetensors",
    "rformer": "rformer/rformer.safetensors",
    "connector": "connector/connector.safetensors",
    "lora": "lora/lora.safetensors",
}
_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_PREFIX = {"mae": "vit."}  # the MAE file also holds a decoder, which nobody here needs
_ID_BYTES = 1 << 16
_MAX_HEADER = 100_000_000  # safetensors' own limit
_FITS = {
    "mae": ("mae",),
    "rformer": ("rformer", "rformer-face", "rformer-pro"),
    "connector": ("connector",),
    "lora": ("lora",),
}

# kind -> (what it is in plain words, where it belongs)
_WORDS = {
    "rformer-face": ("the R-Former of MirrorPPR-Face", "the rformer slot of a Face set"),
    "rformer-pro": ("the R-Former 2D of MirrorPPR-Pro", "the rformer slot of a Pro set"),
    "rformer": ("an R-Former", "the rformer slot"),
    "rformer-other": ("an R-Former of other dimensions", "no slot: this version reads Face, Pro and sets of our own"),
    "connector": ("the connector", "the connector slot"),
    "connector-3584": ("an older, unused connector of width 3584", "no slot: use connector/connector.safetensors"),
    "mae": ("the MAE", "the mae slot"),
    "learnable-query": ("an experimental query table", "no slot: released weights do not use it"),
    "latent-extractor": ("an experimental latent extractor", "no slot: released weights do not use it"),
    "lora": ("a LoRA", "the lora slot"),
    "dit": ("the Qwen-Image DiT", "ComfyUI's diffusion_models folder"),
    "text-encoder": ("the Qwen2.5-VL text encoder", "ComfyUI's text_encoders folder"),
    "vae": ("an image VAE", "ComfyUI's vae folder"),
    "mini": ("part of a MirrorPPR Mini set", "the loader of Mini sets"),
    "unknown": ("not a file that MirrorPPR knows", "no slot"),
}


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A file's header, and what it says. kind: a key of _WORDS.  config: the file's own, or the release's, or None."""

    path: Path
    kind: str
    what: str
    md5: str
    tensors: dict[str, tuple[int, ...]]
    stored_dtypes: frozenset[str]
    config: QwenConfig | None
    metadata: dict[str, str]


def identify(path: Path) -> WeightsFile:
    """Read the header and say what the file is. Raises FileNotFoundError or ValueError with the remedy."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. `python -m mirrorppr_core fetch` says how to get the weights.")
    header = _read_header(path)
    metadata = header.pop("__metadata__", {})
    tensors = {name: tuple(entry["shape"]) for name, entry in header.items()}
    dtypes = frozenset(entry["dtype"] for entry in header.values())
    md5 = fingerprint(tensors)
    config = None
    if CONFIG_KEY in metadata:
        try:
            config = QwenConfig.from_json(metadata[CONFIG_KEY])
        except ValueError as error:
            raise ValueError(f"{file_name(path.name)}: {brief(error, 300)} Copy or download it again.") from error
        kind = next((k for k in ("mae", "rformer", "connector") if tensors == expected_tensors(k, config)), None)
    else:
        kind = KNOWN.get(md5)
        if kind is not None:
            config = {"rformer-face": FACE, "rformer-pro": PRO}.get(kind)
        elif tensors == expected_tensors("mae", FACE):
            kind = "mae"  # without its decoder
    kind = kind or _sniff(tensors, metadata)
    what = _WORDS[kind][0]
    if kind == "mini":
        what += f" ({brief(metadata.get('part'), 40)})"
    elif kind == "unknown":
        what += f" ({len(tensors)} tensors, the first is {brief(min(tensors, default='none'), 60)!r})"
    return WeightsFile(
        path=path, kind=kind, what=what, md5=md5, tensors=tensors, stored_dtypes=dtypes, config=config,
        metadata=metadata,
    )  # fmt: skip


def require(path: Path, slot: str) -> WeightsFile:
    """The file, if it fits the slot ("mae", "rformer", "connector" or "lora"). Otherwise a ValueError says why not."""
    file = identify(path)
    if file.kind not in _FITS[slot]:
        raise ValueError(
            f"{path.name} is {file.what}, which belongs to {_WORDS[file.kind][1]}. The {slot} slot needs "
            f"{SLOTS[slot]} of a MirrorPPR set."
        )
    foreign = sorted(file.stored_dtypes - _FLOATS.keys())
    if foreign:
        raise ValueError(
            f"{path.name} is {file.what}, but stored as {', '.join(foreign)}: use a copy in float32, float16 or "
            "bfloat16 (these parts are small, quantising them gains nothing)"
        )
    return file


@dataclass(frozen=True, kw_only=True)
class QwenSet:
    """Checked files of one set; no weights are in memory yet. set_id names it: other sets' operations are refused."""

    mae: WeightsFile
    rformer: WeightsFile
    connector: WeightsFile
    lora: WeightsFile
    config: QwenConfig
    set_id: str

    @classmethod
    def from_folder(cls, folder: Path) -> QwenSet:
        """The set in a folder of the release's layout, or in the only mirrorppr_face or mirrorppr_pro below it."""
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder. `python -m mirrorppr_core fetch` makes one.")
        if not (folder / "rformer").is_dir() and not (folder / "rformer2d").is_dir():
            below = [folder / f"mirrorppr_{kind}" for kind in KINDS if (folder / f"mirrorppr_{kind}").is_dir()]
            if len(below) != 1:
                found = " and ".join(f"{path.name}/" for path in below) or "neither rformer/ nor mirrorppr_face/"
                raise ValueError(f"{folder.name}/ holds {found}: name the folder of one set, e.g. mirrorppr_face")
            folder = below[0]
        return cls.from_files(**{slot: _only_file(folder, slot) for slot in SLOTS})

    @classmethod
    def from_files(cls, *, mae: Path, rformer: Path, connector: Path, lora: Path) -> QwenSet:
        """Any four files, if they are what they should be and of one set as far as that can be seen."""
        paths = {"mae": mae, "rformer": rformer, "connector": connector, "lora": lora}
        files = {slot: require(path, slot) for slot, path in paths.items()}
        config = files["rformer"].config
        _refuse_mixed(files, config)
        for slot in ("mae", "connector"):
            if files[slot].tensors != {**files[slot].tensors, **expected_tensors(slot, config)}:
                raise ValueError(
                    f"{paths[slot].name} does not fit {rformer.name}: they have different dimensions and come from "
                    "different sets. Use the files of one set."
                )
        identity = hashlib.sha256("".join(_content_id(paths[slot]) for slot in sorted(paths)).encode())
        return cls(**files, config=config, set_id=identity.hexdigest()[:12])

    def load_mae(self, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> OfficialMAE:
        return load_mae(self.mae, self.config, dtype=dtype, device=device)

    def load_rformer(self, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> OfficialRFormer:
        return _load(OfficialRFormer, self.config, self.rformer, "rformer", dtype, device)

    def load_connector(self, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Connector:
        return _load(Connector, self.config.connector, self.connector, "connector", dtype, device)

    def judge_patch_order(self) -> PatchOrderVerdict:
        """The patch-order test on this set's R-Former; reads its position tables only."""
        names = [n for n in self.rformer.tensors if n.startswith("embeddings.pos")]
        tables = {name.removeprefix("embeddings."): t for name, t in read_tensors(self.rformer.path, names)[0].items()}
        return judge_patch_order(
            tables, num_queries=self.config.rformer.num_queries, side_patches=self.config.side_patches
        )


def load_mae(
    file: WeightsFile, config: QwenConfig, *, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> OfficialMAE:
    """The frozen encoder, of a set or alone. file: `require`d for the mae slot, of these dimensions."""
    return _load(OfficialMAE, config.mae, file, "mae", dtype, device)


def choose_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 on GPUs that compute in it, as the reference does; float32 elsewhere."""
    device = torch.device(device)
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32


def expected_tensors(part: str, config: QwenConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes that this part's file must hold (of the MAE: at least). part: mae, rformer or connector."""
    cls, arguments = {
        "mae": (OfficialMAE, config.mae),
        "rformer": (OfficialRFormer, config),
        "connector": (Connector, config.connector),
    }[part]
    with torch.device("meta"):
        state = cls(arguments).state_dict()
    return {_PREFIX.get(part, "") + name: tuple(value.shape) for name, value in state.items()}


def _read_header(path: Path) -> dict[str, Any]:
    """The JSON before the data: the metadata, and dtype, shape and place of each tensor.

    Read by hand, because opening maps the whole file, and small machines refuse that for somebody's 40 GB DiT.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _MAX_HEADER):
                raise ValueError(f"its first bytes promise a header of {length} bytes")
            header = parsed_table(file.read(length), "its header")
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        needed = max((entry["data_offsets"][1] for entry in entries), default=0)
        told = header.get("__metadata__", {})
        if not all(isinstance(value, str) for value in told.values()) or not all(_is_entry(one) for one in entries):
            raise ValueError("its header is of another form")
        if size != 8 + length + needed:
            raise ValueError(f"it has {size} bytes and should have {8 + length + needed}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ValueError(
            f"{file_name(path.name)} is damaged or not a safetensors file ({brief(error)}). Download it again; a file "
            "of a few hundred bytes is a Git LFS pointer, not the weights."
        ) from error
    return header


def _is_entry(entry: Any) -> bool:
    """Whether this is what a header says of a tensor."""
    sizes = [*entry["shape"], *entry["data_offsets"]]
    return isinstance(entry["dtype"], str) and all(isinstance(one, int) and one >= 0 for one in sizes)


def _load(cls: type, arguments: Any, file: WeightsFile, part: str, dtype: torch.dtype, device: Any) -> nn.Module:
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced
        module = cls(arguments)
    prefix = _PREFIX.get(part, "")
    state, _ = read_tensors(file.path, [prefix + name for name in module.state_dict()])
    check_numbers(file.path, state)
    module.load_state_dict({n.removeprefix(prefix): t.to(device, dtype) for n, t in state.items()}, assign=True)
    return module.train(False).requires_grad_(False)


def _only_file(folder: Path, slot: str) -> Path:
    """The released name; else the only safetensors file of the slot's folder."""
    released = folder / SLOTS[slot]
    if released.is_file():
        return released
    folders = [folder / slot, *([folder / "rformer2d"] if slot == "rformer" else [])]
    found = [path for sub in folders for path in sorted(sub.glob("*.safetensors"))]
    if len(found) != 1:
        raise FileNotFoundError(
            f"{folder.name}/ has {len(found)} candidates for {SLOTS[slot]}, needs exactly one. Copy the complete set "
            f"({', '.join(SLOTS.values())}); `python -m mirrorppr_core fetch` does."
        )
    return found[0]


def _refuse_mixed(files: dict[str, WeightsFile], config: QwenConfig) -> None:
    """Connector, MAE and LoRA of Face and Pro have the same shapes; only the folder tells them apart."""
    for slot, file in files.items():
        for kind in KINDS:
            if kind != config.kind and f"mirrorppr_{kind}" in file.path.parts:
                raise ValueError(
                    f"{file.path.name} ({slot}) lies in mirrorppr_{kind}, but the R-Former is a {config.kind.title()} "
                    "one: Face and Pro were trained apart. Take all four files from one set."
                )


def _content_id(path: Path) -> str:
    """Size, first and last bytes of the file: enough to tell two trainings apart without reading gigabytes."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _ID_BYTES))
        end = file.read()
        file.seek(0)
        return hashlib.sha256(str(size).encode() + file.read(_ID_BYTES) + end).hexdigest()


def _sniff(tensors: dict[str, tuple[int, ...]], metadata: dict[str, str]) -> str:
    """Best word for a file without a known fingerprint: variants of the host's own models are common mistakes."""
    if metadata.get("format") == "mirrorppr":
        return "mini"
    names = [name.removeprefix("model.").removeprefix("diffusion_model.") for name in tensors]
    if any(".lora" in name or ".lokr" in name or ".hada_" in name for name in names):
        return "lora"
    if any(name.startswith("transformer_blocks.") and ".img_mod.1." in name for name in names):
        return "dit"
    if any("visual.patch_embed." in name or name.endswith("embed_tokens.weight") for name in names):
        return "text-encoder"
    if any(name.startswith(("decoder.head.", "decoder.up_blocks.", "post_quant_conv.", "conv2.")) for name in names):
        return "vae"
    if "embeddings.latent_motion_token" in names:
        return "rformer-other"
    return "unknown"
