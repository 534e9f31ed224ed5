"""Retouch Album: one operation on a whole folder of photos, written to the output folder under their own names."""

from __future__ import annotations

import json
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
from comfy_api.latest import io

from ..mirrorppr_core.albums.doubt import ranked
from ..mirrorppr_core.albums.journal import Journal
from ..mirrorppr_core.albums.photos import SUFFIXES, check_apart, find_photos
from ..mirrorppr_core.albums.run import ON_ERROR, run_album, settings_of
from ..mirrorppr_core.albums.sheet import FOLDER, draw_album_sheet
from ..mirrorppr_core.file_writing import replacing
from ..mirrorppr_core.mini.editor import RetouchConfig
from ..mirrorppr_core.mini.files import check_one_set
from ..mirrorppr_core.photo_saving import FORMATS, Saving
from .sockets import (
    CATEGORY,
    ConnectorSocket,
    DiTSocket,
    OperationSocket,
    face_input,
    found_by,
    pictures_to_image,
    strength_input,
)

_NONE = "(put a folder of photos into ComfyUI/input)"


class RetouchAlbum(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        folders = album_folders() or [_NONE]
        return io.Schema(
            node_id="MirrorPPR_RetouchAlbum",
            display_name="Retouch Album (MirrorPPR)",
            category=CATEGORY,
            **found_by("batch", "folder", "portrait", "retouch"),
            description="Gives every photo of a folder the retouch of an operation and writes them to the output "
            "folder under their own names. Stopped at any moment, the same run goes on where it was.",
            inputs=[
                DiTSocket.Input("dit", tooltip="From Load MirrorPPR or Load DiT."),
                ConnectorSocket.Input("connector", tooltip="From the same set as the DiT."),
                OperationSocket.Input("operation", tooltip="From Extract Operation, extracted with the same set."),
                io.Combo.Input(
                    "folder", options=folders, tooltip="A folder with photos inside ComfyUI's input folder."
                ),
                io.String.Input(
                    "name",
                    default="album",
                    tooltip="Folder for the results inside ComfyUI's output folder: letters, digits, space, - and _.",
                ),
                strength_input(
                    "How far to go. Start with 1, as in the exemplar.",
                ),
                face_input(
                    "Whose face, where a photo shows several. With only such photos are left unchanged and "
                    "named in the report.",
                ),
                io.Combo.Input(
                    "on_error",
                    options=list(ON_ERROR),
                    default=ON_ERROR[0],
                    tooltip="A photo that cannot be retouched: skip writes it unchanged and says why, stop ends there.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default=Saving.format,
                    optional=True,
                    tooltip="Of the results. png keeps every bit, 8 or 16; same gives each photo back in its own "
                    "format, a JPEG with its own quality. EXIF, XMP, profile and resolution go along.",
                ),
            ],
            outputs=[
                io.Image.Output("sheet", display_name="sheet", tooltip="All results, the most doubtful first."),
                io.String.Output("report", display_name="report", tooltip="What was done, and what to look at."),
                io.Int.Output("count", display_name="count", tooltip="How many photos were retouched."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, folder=None, **others) -> str:
        """Another run when a photo was added or changed."""
        place = Path(folder_paths.get_input_directory()) / (folder or "")
        if folder not in album_folders():
            return ""
        return json.dumps([(p.name, p.stat().st_mtime_ns) for p in sorted(place.iterdir()) if p.is_file()])

    @classmethod
    def execute(cls, dit, connector, operation, folder, name, strength, face, on_error, format="png") -> io.NodeOutput:
        check_one_set(connector=connector.set_id, dit=dit.set_id)
        if folder not in album_folders():
            raise ValueError(f"folder={folder!r}: choose one of the folders with photos in ComfyUI's input folder")
        out = _results_folder(name)
        config, saving = RetouchConfig(strength=strength, face=face), Saving(format=format)
        album = find_photos([Path(folder_paths.get_input_directory()) / folder], saving=saving)
        check_apart(album, out)
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
        journal = Journal(out / FOLDER / "journal.jsonl", settings_of(operation, config, saving))
        bar, rows = comfy.utils.ProgressBar(len(album.photos)), []
        for step in run_album(
            album,
            lambda photo: dit.retouch(photo, operation, connector.connector, config),
            out=out,
            journal=journal,
            on_error=on_error,
            operation_notes=operation.notes,
            saving=saving,
        ):
            rows.append(step.row)
            _tell(f"photo {step.number} of {step.total}", cls.hidden.unique_id)
            bar.update_absolute(step.number)
            comfy.model_management.throw_exception_if_processing_interrupted()
        sheet = draw_album_sheet(rows, out)
        with replacing(out / FOLDER / "sheet.png") as stream:
            sheet.save(stream, format="PNG")
        retouched = sum("error" not in row for row in rows)
        return io.NodeOutput(pictures_to_image([sheet]), _report(rows, album.passed_over, name), retouched)


def album_folders() -> list[str]:
    """Folders inside the host's input folder that hold pictures."""
    base = Path(folder_paths.get_input_directory())
    inside = sorted(path for path in base.iterdir() if path.is_dir()) if base.is_dir() else []
    return [path.name for path in inside if any(one.suffix.lower() in SUFFIXES for one in path.iterdir())]


def _results_folder(name: str) -> Path:
    if not name or not name.replace("-", "").replace("_", "").replace(" ", "").isalnum() or name != name.strip():
        raise ValueError(f"name={name!r}: a folder's name of letters, digits, spaces, - and _, for example wedding")
    return Path(folder_paths.get_output_directory()) / name


def _tell(text: str, node_id: str | None) -> None:
    """Words on the node while it works, on hosts that show them."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if node_id and hasattr(server, "send_progress_text"):
        server.send_progress_text(text, node_id)


def _report(rows: list[dict], passed_over: dict[str, int], name: str) -> str:
    failed = [row for row in rows if "error" in row]
    lines = [f"{len(rows) - len(failed)} of {len(rows)} photos retouched, in output/{name}"]
    if passed_over:
        lines.append("not pictures: " + ", ".join(f"{count} {suffix}" for suffix, count in passed_over.items()))
    for row in ranked(rows):
        notes = [row["error"]] if "error" in row else row["notes"]
        if notes or row["doubt"] > 0.5:
            lines.append(f"{row['output']} (doubt {row['doubt']:.2f}): {'; '.join(notes) or 'look at the face'}")
    return "\n".join(lines)
