"""Checkpoints that can be trusted: complete or absent, and refused where they do not fit.

    RUN/checkpoints/STAGE/step-00000120/   weights.safetensors  average.safetensors  optimizer.safetensors  state.json

Only what the stage trains is stored, so a frozen 20B backbone costs nothing. A checkpoint is written beside its place
and renamed, so a kill or a full disk leaves the previous one as it was. state.json holds the sha256 of the others and
of itself; checkpoints of older versions hold none and are read without. Tensors are stored whole: sharded ones (FSDP2)
are gathered, every process taking part, and the main process writes. No pickle anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from mirrorppr_core.mini.files import file_sha256
from mirrorppr_core.settings_file import parsed_table
from mirrorppr_core.weights_file import read_tensors
from mirrorppr_core.wording import brief

from .stored import FORMAT, read_result, settings_in, write_result

_FILES = ("weights", "average", "optimizer")
_SHOWN = 3  # differences of settings that a message names
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class CheckpointError(ValueError):
    """A checkpoint could not be written, read or used. The message says what to do."""


@dataclass
class TrainingState:
    """All that a run is between two steps. The tensors belong to the running model and are filled in place.

    trainable: name -> parameter.  average: name -> EMA.  sums: numbers since the last log line.
    """

    trainable: dict[str, nn.Parameter]
    average: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    step: int = 0  # steps done
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, numbers: dict[str, float]) -> None:
        for name, value in {**numbers, "steps": 1}.items():
            self.sums[name] = self.sums.get(name, 0) + value

    def means(self) -> dict[str, float]:
        """Of the steps added since the sums were cleared."""
        return {name: total / self.sums["steps"] for name, total in self.sums.items() if name != "steps"}


def save_checkpoint(folder: Path, state: TrainingState, described: dict, *, keep: int, is_main: bool) -> None:
    """Write `folder/step-N` and delete all but the newest `keep`. Call on every process: sharded tensors are gathered.

    described: the settings that make the run what it is, as JSON values; they are compared on resume.
    Raises CheckpointError when the disk is full; older checkpoints are then as they were.
    """
    moments = {
        f"{kind}.{name}": value
        for name, parameter in state.trainable.items()
        for kind, value in state.optimizer.state.get(parameter, {}).items()
    }
    contents = {"weights": state.trainable, "average": state.average, "optimizer": moments}
    whole = {file: {name: _whole(value, is_main) for name, value in part.items()} for file, part in contents.items()}
    if not is_main:
        return
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{state.step:08d}"
    temporary = folder / f".writing-{state.step:08d}-{secrets.token_hex(4)}"  # two runs never share one
    needed = sum(value.numel() * value.element_size() for part in whole.values() for value in part.values())
    about = {"format": FORMAT, "step": state.step, "sums": state.sums, "settings": described}
    try:
        temporary.mkdir()
        for file, part in whole.items():
            save_file(part, temporary / f"{file}.safetensors")
        hashes = {file: file_sha256(temporary / f"{file}.safetensors") for file in _FILES}
        about["sha256"] = {**hashes, "state": _told_sha256(about)}
        (temporary / "state.json").write_text(json.dumps(about, indent=1))
        for written in temporary.iterdir():
            _flush(written)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(temporary, target)
        _flush(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        kept = checkpoints(folder)
        free = shutil.disk_usage(folder).free
        raise CheckpointError(
            f"the checkpoint of step {state.step} could not be written ({error}): it needs {needed / 1e6:.0f} MB and "
            f"{free / 1e6:.0f} MB are free. {f'{kept[-1]} is intact' if kept else 'There is no earlier one'}; free "
            "some space and give the same command again."
        ) from error
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(folder.glob("step-*"))


def load_checkpoint(folder: Path, state: TrainingState, described: dict, *, accept_changes: bool = False) -> bool:
    """Fill the state from the newest checkpoint under folder. False where there is none.

    Raises CheckpointError for a checkpoint of another code version, of other settings or of another model, and names
    the differences. accept_changes: continue under the new settings where the tensors fit.
    """
    found = checkpoints(folder)
    if not found:
        return False
    newest = found[-1]
    about, stored = _read(newest)
    changed = differences(about["settings"], described)
    if changed and not accept_changes:
        raise CheckpointError(
            f"{newest} was made with other settings:\n  " + _listed(changed) + "\nUse those again, start in "
            "another --run folder, or go on with --accept-changes, which equals neither run."
        )
    expected = {name: tuple(p.shape) for name, p in state.trainable.items()}
    for file in ("weights", "average"):
        saved = {name: tuple(t.shape) for name, t in stored[file].items()}
        if expected != saved:
            odd = sorted(name for name in expected.keys() | saved.keys() if expected.get(name) != saved.get(name))
            raise CheckpointError(f"{newest} holds another model: {len(odd)} tensors differ, first {brief(odd[0])}")
    _check_moments(newest, stored["optimizer"], expected)
    with torch.no_grad():
        for name, parameter in state.trainable.items():
            _fill(parameter, stored["weights"][name])
            _fill(state.average[name], stored["average"][name])
            kinds = {kind: stored["optimizer"].get(f"{kind}.{name}") for kind in _MOMENTS}
            if all(value is not None for value in kinds.values()):
                state.optimizer.state[parameter] = {
                    "step": kinds["step"],
                    **{kind: _fill(torch.zeros_like(parameter), kinds[kind]) for kind in ("exp_avg", "exp_avg_sq")},
                }
    state.step, state.sums = about["step"], about["sums"]
    return True


def _read(checkpoint: Path) -> tuple[dict, dict[str, dict[str, Tensor]]]:
    """state.json, and the tensors of each file, as they were written. Raises CheckpointError."""
    try:
        about = parsed_table((checkpoint / "state.json").read_bytes(), "state.json")
        if about.get("format") != FORMAT:
            raise CheckpointError(
                f"{checkpoint} was written by another version of this code (format {brief(about.get('format'), 40)}, "
                f"here {FORMAT}). Finish the run with that version, or start in another --run folder."
            )
        if about.keys() - {"sha256"} != {"format", "step", "sums", "settings"} or not _is_sound(about):
            raise ValueError("state.json has other entries than a checkpoint's")
        if "sha256" in about:
            found = {file: file_sha256(checkpoint / f"{file}.safetensors") for file in _FILES}
            found["state"] = _told_sha256({name: value for name, value in about.items() if name != "sha256"})
            if about["sha256"] != found:
                raise ValueError("its contents are not those that its sha256 were made of")
        return about, {file: read_tensors(checkpoint / f"{file}.safetensors")[0] for file in _FILES}
    except CheckpointError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint} is damaged ({brief(error)}). Delete it: the one before it is used then."
        ) from error


def _is_sound(about: dict) -> bool:
    step, sums = about["step"], about["sums"]
    return (
        isinstance(step, int)
        and step >= 0
        and isinstance(sums, dict)
        and all(isinstance(value, int | float) for value in sums.values())
    )


def _told_sha256(about: dict) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _check_moments(checkpoint: Path, moments: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError if the optimizer's memory is of other parameters."""
    for name, value in moments.items():
        kind, _, parameter = name.partition(".")
        expected = () if kind == "step" else shapes.get(parameter)
        if kind not in _MOMENTS or parameter not in shapes or tuple(value.shape) != expected:
            raise CheckpointError(f"{checkpoint} holds another model: its optimizer remembers {brief(name)}")


def save_result(path: Path, average: dict[str, Tensor], described: dict, *, is_main: bool) -> None:
    """The stage's averaged weights as one file, with its settings in the metadata. Complete or absent."""
    whole = {name: _whole(value, is_main) for name, value in average.items()}
    if not is_main:
        return
    try:
        write_result(path, whole, described)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} could not be written ({error}). The last checkpoint is intact; free some space and give the same "
            "command again."
        ) from error


def check_result(path: Path, described: dict) -> bool:
    """Whether a stage is finished. Raises CheckpointError when its result belongs to another run."""
    if not path.exists():
        return False
    try:
        stored = settings_in(path)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    changed = differences({name: stored.get(name) for name in described}, described)
    starts_from = stored.get("starts_from", {})
    for name, digest in starts_from.items() if isinstance(starts_from, dict) else ():
        source = path.parent / name
        if source.exists() and file_sha256(source) != digest:
            changed.append(f"{name} has been trained again since")
    if changed:
        raise CheckpointError(
            f"{path} is finished, with other settings:\n  " + _listed(changed) + "\nUse those, delete the file to "
            "train the stage again, or start in another --run folder."
        )
    return True


def read_part(
    path: Path,
    part: str,
    own: Mapping[str, Tensor],
    *,
    prefix: str,
    keep: Callable[[str], bool] = lambda name: True,
) -> dict[str, Tensor]:
    """What an earlier stage's result holds for `own`, tensors of this model; both named without the prefix.

    Names that `keep` denies are not looked at.  Raises FileNotFoundError, and ValueError where names or shapes differ.
    """
    tensors = read_result(path).tensors
    found = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
    found = {name: value for name, value in found.items() if keep(name)}
    here, there = ({name: tensor.shape for name, tensor in tensors.items()} for tensors in (own, found))
    odd = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    if odd:
        raise ValueError(
            f"{path} does not hold the {part} of this run: {len(odd)} of {len(own)} tensors differ, first "
            f"{brief(odd[0])}. Use the configuration it was trained with, or another --run folder."
        )
    return found


def differences(stored: object, here: object, name: str = "") -> list[str]:
    """Leaves in which two JSON values differ, as lines `a.b: 1 there, 2 here`."""
    if isinstance(stored, dict) and isinstance(here, dict):
        keys = sorted(stored.keys() | here.keys())
        return [
            line
            for key in keys
            for line in differences(stored.get(key), here.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if stored == here else [f"{name}: {stored!r} there, {here!r} here"]


def _listed(lines: list[str]) -> str:
    """The first of them, each on a line of its own."""
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n  ".join([*(brief(line, 80) for line in lines[:_SHOWN]), *more])


def _whole(value: Tensor, is_main: bool) -> Tensor:
    """A tensor of its own, on the CPU. Sharded tensors are gathered by all processes and kept by the main one."""
    value = value.detach()
    if hasattr(value, "full_tensor"):
        value = value.full_tensor()
    return value.cpu().contiguous() if is_main else value


def _fill(into: Tensor, value: Tensor) -> Tensor:
    """Copy a whole tensor into a plain or sharded one."""
    if hasattr(into, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(into.device), into.device_mesh, into.placements)
    return into.copy_(value)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
