"""Writes the workflow templates that need no pictures of the user: workflows/NAME.json, each with a thumbnail.

    .venv/bin/python tests/environment/make_templates.py

A template is written down (templates.py) as nodes, values and connections; where inputs, outputs and widgets stand is
asked of the real host, so a template cannot name what does not exist. Each is then run as it opens, and its thumbnail
is what it made. Nodes stand apart far enough for both ways in which the page draws them.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

from blueprint import BLUEPRINT, write_blueprint
from host import PACK, ComfyHost
from templates import TEMPLATES, Template

THUMBNAIL_PX = 400
COLUMN, GAP_X, GAP_Y, HEADER = 330, 60, 70, 60
WIDGET_PX, SLOT_PX, TITLE_PX = 32, 22, 40  # a widget as the taller of the two ways draws it
PICTURE_PX = 320  # of nodes that show one
SHOWS_A_PICTURE = (
    "MirrorPPR_RetouchSampler",  # while it works
    "LoadImage",
    "PreviewImage",
    "SaveImage",
    "MirrorPPR_Compare",
    "MirrorPPR_FieldPreview",
    "MirrorPPR_ExplainOperation",
)
_FILES = "https://huggingface.co/Comfy-Org/{}/resolve/main/split_files/{}/{}"
MODELS = {
    kind: {"name": name, "url": _FILES.format(project, folder, name), "directory": folder}
    for kind, project, folder, name in (
        ("UNETLoader", "Qwen-Image-Edit_ComfyUI", "diffusion_models", "qwen_image_edit_fp8_e4m3fn.safetensors"),
        ("CLIPLoader", "Qwen-Image_ComfyUI", "text_encoders", "qwen_2.5_vl_7b_fp8_scaled.safetensors"),
        ("VAELoader", "Qwen-Image_ComfyUI", "vae", "qwen_image_vae.safetensors"),
    )
}
MUTED = 2  # a node's mode on the page
COLOURS = ("#3f789e", "#8A8", "#b58b2a", "#88A", "#a1309b")


@dataclass
class Layout:
    """A workflow of the page, under construction."""

    info: dict
    nodes: list[dict] = field(default_factory=list)
    links: list[list] = field(default_factory=list)
    groups: list[dict] = field(default_factory=list)
    by_name: dict[str, dict] = field(default_factory=dict)

    def add(self, name: str, kind: str, values: dict, title: str | None, at: tuple[int, int]) -> int:
        """Returns the height."""
        node = {"id": len(self.nodes) + 1, "type": kind, "pos": list(at), "flags": {}, "order": len(self.nodes),
                "mode": 0, "inputs": [], "outputs": [], "properties": self._properties(kind)}  # fmt: skip
        if title:
            node["title"] = title
        if kind == "MarkdownNote":
            node |= {"widgets_values": [values["text"]], "color": "#432", "bgcolor": "#653"}
            height = 80 + 18 * (len(values["text"]) // 45 + values["text"].count("\n"))
        else:
            height = self._fill(node, values)
        node["size"] = [COLUMN, height]
        self.nodes.append(node)
        self.by_name[name] = node
        return height

    def _properties(self, kind: str) -> dict:
        if kind == "MarkdownNote":
            return {}
        ours = kind.startswith("MirrorPPR")
        return {"Node name for S&R": kind, "cnr_id": "mirrorppr" if ours else "comfy-core"}

    def _fill(self, node: dict, values: dict) -> int:
        about = self.info[node["type"]]
        unknown = set(values) - set(about["input"].get("required", {})) - set(about["input"].get("optional", {}))
        if unknown:
            raise ValueError(f"{node['type']} has no input {sorted(unknown)}")
        sockets, widgets, settings = [], [], []
        for need in ("required", "optional"):
            for name, declared in about["input"].get(need, {}).items():
                kind, options = declared[0], declared[1] if len(declared) > 1 else {}
                is_widget = isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
                is_widget = is_widget and not options.get("forceInput")
                slot = {"name": name, "type": "COMBO" if isinstance(kind, list) else kind, "link": None}
                if need == "optional":
                    slot["shape"] = 7
                if not is_widget:
                    sockets.append(slot)
                    continue
                widgets.append(slot | {"widget": {"name": name}})
                settings.append(values.get(name, _usual(kind, options)))
                if options.get("control_after_generate"):
                    settings.append("fixed")
                if options.get("image_upload"):
                    widgets.append(
                        {"name": "upload", "type": "IMAGEUPLOAD", "widget": {"name": "upload"}, "link": None}
                    )
                    settings.append("image")
        node["inputs"] = sockets + widgets
        names = about.get("output_name") or about["output"]
        node["outputs"] = [{"name": n, "type": t, "links": []} for n, t in zip(names, about["output"], strict=True)]
        node["widgets_values"] = settings
        rows = max(len(sockets), len(node["outputs"]))
        picture = PICTURE_PX if node["type"] in SHOWS_A_PICTURE else 0
        text = 110 if node["type"] == "PreviewAny" else 0
        declared = [one for need in ("required", "optional") for one in about["input"].get(need, {}).values()]
        lines = sum(90 for one in declared if len(one) > 1 and one[1].get("multiline"))
        return TITLE_PX + SLOT_PX * rows + WIDGET_PX * len(widgets) + picture + text + lines

    def connect(self, source: str, output: str, target: str, name: str) -> None:
        start, end = self.by_name[source], self.by_name[target]
        slot = next(i for i, one in enumerate(start["outputs"]) if one["name"] == output)
        socket = next(i for i, one in enumerate(end["inputs"]) if one["name"] == name)
        number = len(self.links) + 1
        self.links.append([number, start["id"], slot, end["id"], socket, start["outputs"][slot]["type"]])
        start["outputs"][slot]["links"].append(number)
        end["inputs"][socket]["link"] = number

    def finished(self, name: str) -> dict:
        return {
            "id": f"00000000-0000-4000-8000-{hash_of(name):012x}", "revision": 0,
            "last_node_id": len(self.nodes), "last_link_id": len(self.links), "nodes": self.nodes, "links": self.links,
            "groups": self.groups, "config": {}, "extra": {}, "version": 0.4,
        }  # fmt: skip


def hash_of(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest()[:12], 16)


def _usual(kind, options: dict):
    if isinstance(kind, list):
        return options.get("default", kind[0] if kind else "")
    if kind == "COMBO":
        return options.get("default", (options.get("options") or [""])[0])
    return options.get("default", {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}[kind])


def lay_out(template: Template, info: dict) -> dict:
    """Groups side by side, nodes of a group in columns."""
    layout, left = Layout(info), 40
    for number, (title, columns) in enumerate(template.groups):
        start, tallest = left, 0
        for column in columns:
            top = HEADER + GAP_Y
            for name in column:
                spec = template.nodes[name]
                top += layout.add(name, spec.kind, spec.values, spec.title, (left, top)) + GAP_Y
            tallest, left = max(tallest, top), left + COLUMN + GAP_X
        frame = [start - 20, 20, left - start - GAP_X + 40, tallest - 20]
        group = {"id": number + 1, "title": title, "color": COLOURS[number % len(COLOURS)], "font_size": 24}
        layout.groups.append({**group, "bounding": frame, "flags": {}})
        left += 20
    for link in template.links:
        layout.connect(*link)
    for name in template.muted:
        layout.by_name[name]["mode"] = MUTED
    return layout.finished(template.name)


def api_of(workflow: dict, info: dict) -> dict:
    """The same as a prompt."""
    source = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] == "MarkdownNote" or node["mode"] == MUTED:
            continue
        settings, inputs = iter(node["widgets_values"]), {}
        declared = {
            **info[node["type"]]["input"].get("required", {}),
            **info[node["type"]]["input"].get("optional", {}),
        }
        for slot in node["inputs"]:
            if "widget" in slot:
                value = next(settings)
                if slot["name"] != "upload":
                    inputs[slot["name"]] = value
                options = declared.get(slot["name"], [None, {}])
                if len(options) > 1 and options[1].get("control_after_generate"):
                    next(settings)
            if slot["link"] is not None:
                inputs[slot["name"]] = source[slot["link"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def write(template: Template, host: ComfyHost, info: dict, say: Callable[[str], None]) -> None:
    workflow = lay_out(template, info)
    path = ROOT / "workflows" / f"{template.name}.json"
    path.write_text(json.dumps(workflow, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    run = host.run(api_of(workflow, info), timeout_s=600)
    if run.status != "success":
        raise SystemExit(f"{template.name}: {run.complaint}")
    shown = next(node["id"] for node in workflow["nodes"] if node is not None and node.get("title") == template.shows)
    picture = Image.open(io.BytesIO(host.images(run, str(shown))[0])).convert("RGB")
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    if template.banner:
        pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=24)
        pen.rectangle((0, picture.height - 50, picture.width, picture.height), fill=(24, 24, 24))
        pen.text((12, picture.height - 40), template.banner, fill=(235, 235, 235), font=font)
    picture.save(path.with_suffix(".jpg"), quality=85)
    say(f"[templates] {path.relative_to(ROOT)}, {len(workflow['nodes'])} nodes")


def finish_drawn_by_hand(name: str, words: str) -> None:
    """Templates that need the user's own photos or models: whose nodes they use, and a thumbnail of the two samples."""
    path = ROOT / "workflows" / f"{name}.json"
    workflow = json.loads(path.read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if "Note" not in node["type"]:
            node["properties"]["cnr_id"] = "mirrorppr" if node["type"].startswith("MirrorPPR") else "comfy-core"
            if node["type"] in MODELS:
                node["properties"]["models"] = [MODELS[node["type"]]]
    path.write_text(json.dumps(workflow, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page = Image.new("RGB", (THUMBNAIL_PX, THUMBNAIL_PX * 5 // 8), (24, 24, 24))
    for column, sample in enumerate(("portrait_a", "portrait_b")):
        with Image.open(ROOT / "nodes" / "samples" / f"{sample}.jpg") as picture:
            small = picture.resize((THUMBNAIL_PX // 2, THUMBNAIL_PX // 2))
        page.paste(small, (column * THUMBNAIL_PX // 2, 0))
    font = ImageFont.load_default(size=24)
    ImageDraw.Draw(page).text((12, THUMBNAIL_PX // 2 + 10), words, fill=(235, 235, 235), font=font)
    page.save(path.with_suffix(".jpg"), quality=85)


def main(names: list[str]) -> None:
    finish_drawn_by_hand("retouch_own_photos", "with your own photos")
    finish_drawn_by_hand("qwen_retouch", "the paper's Qwen engine")
    with ComfyHost(packs={PACK: ROOT}) as host:
        if not names or BLUEPRINT in names:
            write_blueprint(ROOT, host.object_info(), print)
        for template in TEMPLATES:
            if not names or template.name in names:
                if template.prepare:
                    template.prepare(host)
                write(template, host, host.object_info(), print)


if __name__ == "__main__":
    main(sys.argv[1:])
