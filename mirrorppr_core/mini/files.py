"""Files of a matched set: what is in them, how they are written, and how wrong ones are told apart.

    SET/locator.safetensors    the face locator (locator.py writes and reads it)
    SET/mae.safetensors        frozen encoder
    SET/rformer.safetensors    SET/connector.safetensors    SET/dit.safetensors    SET/lora.safetensors
    SET/body.safetensors       the body network (bodies/ writes and reads it); a set may come without
    SET/set.json               the sha256 of them all (set_list.py)

safetensors only. The metadata holds the format version, the part's name, the ModelConfig and the set's id; tensors
are half precision on disk and float32 in memory. Loading is strict: a file that is not exactly what its slot needs, or
not the one that the set's list names, is refused with what it is and what to do. The layout follows the released
MirrorPPR-Face folders.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..bodies.pose import load_pose_net
from ..faces.locator import Locator
from ..faces.view import CanonicalView
from ..networks.config import FORMAT_VERSION, ModelConfig
from ..networks.connector import Connector
from ..networks.lora import merge
from ..networks.mae import MAEEncoder
from ..networks.rformer import RFormer
from ..weights_file import check_stored, filled, halved, read_tensors, write_tensors
from ..wording import brief
from .carry import load_carry
from .editor import FieldEditor
from .extractor import OperationExtractor
from .field_dit import FieldDiT
from .set_list import check_listed, check_owner, check_present, file_sha256, unchecked_note
from .sight import Sight

PARTS = ("locator", "mae", "rformer", "connector", "dit", "lora")
FORMAT = "mirrorppr"
_SET_KEY = "set_hash"  # the set's id in the metadata; files on disk keep the name it had first


@dataclass(frozen=True)
class Part:
    """One file's contents."""

    state: dict[str, Tensor]
    config: ModelConfig
    set_id: str
    locator_sha256: str
    body_sha256: str = ""  # of the set's body network; empty where the set does not insist on one


@dataclass(frozen=True)
class LoadedConnector:
    """The connector with the name of its set."""

    connector: Connector
    set_id: str


def bundled_set() -> Path:
    """Folder of the Mini weights that come with this package."""
    return Path(__file__).parents[1] / "weights" / "mini"


def save_part(
    path: Path,
    part: str,
    state: dict[str, Tensor],
    config: ModelConfig,
    set_id: str,
    locator_sha256: str,
    body_sha256: str = "",
) -> None:
    """Write one file of a set in half precision. The locator's own hash goes along: another one sees other faces.

    body_sha256: of the set's body network, if it must not be missing or another one.
    """
    if part not in PARTS or part == "locator":
        raise ValueError(f"part {part!r}: use one of {', '.join(PARTS[1:])} (the locator writes itself)")
    metadata = {"format": FORMAT, "version": str(FORMAT_VERSION), "part": part, _SET_KEY: set_id}
    seeing = {"locator_sha256": locator_sha256} | ({"body_sha256": body_sha256} if body_sha256 else {})
    write_tensors(path, halved(state), {**metadata, "config": config.to_json(), **seeing})


def load_part(path: Path, part: str) -> Part:
    """Read one file of a set. Raises FileNotFoundError or ValueError with the reason and the remedy."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path.name} is missing from the set in {path.parent.name}/: a set needs all of "
            f"{', '.join(f'{p}.safetensors' for p in PARTS)}. Copy the complete set."
        )
    check_listed(path)
    stored, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path.name} is not a MirrorPPR file: choose a {part}.safetensors of a MirrorPPR set")
    if metadata.get("part") != part:
        raise ValueError(
            f"{path.name} holds the part {brief(repr(metadata.get('part')), 40)} but this slot needs {part!r}: choose "
            "the other file"
        )
    if metadata.get("version") != str(FORMAT_VERSION):
        raise ValueError(
            f"{path.name} has format version {brief(metadata.get('version'), 20)}, this code reads {FORMAT_VERSION}: "
            "update the node pack or use weights of its release"
        )
    if not {"config", _SET_KEY, "locator_sha256"} <= metadata.keys():
        raise ValueError(f"{path.name} has an incomplete header: download or copy it again")
    check_owner(path.parent, metadata[_SET_KEY])
    check_stored(path, stored)
    state = {name: value.float() if value.is_floating_point() else value for name, value in stored.items()}
    try:
        config = ModelConfig.from_json(metadata["config"])
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path.name}: {brief(error, 300)} Copy or download it again, for this release of the code."
        ) from error
    return Part(state, config, metadata[_SET_KEY], metadata["locator_sha256"], metadata.get("body_sha256", ""))


def load_sight(folder: Path) -> Sight:
    """What the set in this folder sees with. Extractor and editor share it."""
    mae = load_part(folder / "mae.safetensors", "mae")
    locator, body = folder / "locator.safetensors", folder / "body.safetensors"
    sees_bodies = body.is_file()  # a set may come without
    if folder.resolve() == bundled_set() and unchecked_note(folder):
        raise FileNotFoundError("set.json is missing from the bundled weights: install the node pack again")
    hashes = {path: file_sha256(path) for path in (locator, body) if path.is_file()}
    for path, sha256 in hashes.items():
        check_listed(path, sha256)
    face_locator = Locator.from_file(locator)
    sight = Sight(
        set_id=mae.set_id,
        locator=face_locator,
        view=CanonicalView(mae.config.view, face_locator.mean_face),
        mae=filled(lambda: MAEEncoder(mae.config.mae), mae.state, "mae.safetensors"),
        body=load_pose_net(body) if sees_bodies else None,
        locator_sha256=hashes[locator],
        body_sha256=hashes.get(body, ""),
        notes=tuple(filter(None, [unchecked_note(folder)])),
    )
    _check_sees(folder, sight, mae=mae)
    return sight


def load_extractor(path: Path, sight: Sight | None = None) -> OperationExtractor:
    """The extractor of the set that holds this rformer.safetensors. sight: the set's, if loaded already."""
    rformer, sight = load_part(path, "rformer"), sight or load_sight(path.parent)
    _check_sees(path.parent, sight, rformer=rformer)
    return OperationExtractor(
        config=rformer.config,
        set_id=rformer.set_id,
        sight=sight,
        rformer=filled(lambda: RFormer(rformer.config), rformer.state, path.name),
    )


def load_connector(path: Path) -> LoadedConnector:
    part = load_part(path, "connector")
    return LoadedConnector(filled(lambda: Connector(part.config.connector), part.state, path.name), part.set_id)


def load_editor(path: Path, sight: Sight | None = None, *, lora_strength: float = 1.0) -> FieldEditor:
    """DiT and LoRA of the set that holds this dit.safetensors, LoRA merged. sight: the set's, if loaded already."""
    dit, lora = load_part(path, "dit"), load_part(path.with_name("lora.safetensors"), "lora")
    sight = sight or load_sight(path.parent)
    _check_sees(path.parent, sight, dit=dit, lora=lora)
    field_dit = filled(lambda: FieldDiT(dit.config), dit.state, path.name)
    merge(field_dit, lora.state, dit.config.lora, strength=lora_strength)
    carry = path.with_name("carry.safetensors")
    check_present(carry)  # a set may come without, but not lose it
    if carry.is_file():
        check_listed(carry)
    return FieldEditor(
        config=dit.config,
        set_id=dit.set_id,
        sight=sight,
        field_dit=field_dit,
        carry=load_carry(carry, sight.view) if carry.is_file() else None,
    )


def check_one_set(**hashes: str) -> None:
    """Raise unless all parts belong together. Keywords: the part's name in messages = its set's id."""
    if len(set(hashes.values())) > 1:
        listed = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in hashes.items())
        raise ValueError(
            f"these parts come from different sets ({listed}): they were trained apart and do not understand each "
            "other. Load extractor, connector and DiT from one set."
        )


def _check_sees(folder: Path, sight: Sight, **parts: Part) -> None:
    """Raise unless these parts belong to the set that sees so, and were trained to."""
    try:
        check_one_set(**{"mae": sight.set_id} | {name: part.set_id for name, part in parts.items()})
    except ValueError as error:
        raise ValueError(f"the set in {folder.name}/ is mixed: {error}") from None
    for part in parts.values():
        if part.locator_sha256 != sight.locator_sha256:
            raise ValueError(
                f"the set in {folder.name}/ is mixed: locator.safetensors is not the one the set was trained with. "
                "Copy the complete set."
            )
        if part.body_sha256 and not sight.body_sha256:  # which one it is, the set's list says (set_list.py)
            raise FileNotFoundError(f"body.safetensors is missing from {folder.name}/: copy the complete set")
