"""Writes the subgraph blueprint "Retouch by example": load, extract and retouch as one node of the page's library.

The page takes a blueprint as a workflow that holds a single node, whose type is the subgraph that it defines. Where
hosts look for it says nodes/page_files.py.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path

BLUEPRINT = "Retouch by example"
FOLDER = Path("nodes") / "page" / "ComfyUI-MirrorPPR" / "subgraphs"
ABOUT = (
    "Gives a portrait the retouch that a before/after pair of another photo shows. before, after: one photo and its "
    "retouched copy; query: the portrait to retouch. The photo's own pixels are moved, nothing is repainted."
)
COLUMN, GAP = 330, 80
NODES = ("MirrorPPR_Load", "MirrorPPR_ExtractOperation", "MirrorPPR_RetouchSampler")
INSIDE = (  # node, output, node, input
    (0, "extractor", 1, "extractor"),
    (0, "dit", 2, "dit"),
    (0, "connector", 2, "connector"),
    (1, "operation", 2, "operation"),
)
INPUTS = (("before", 1), ("after", 1), ("query", 2), ("strength", 2), ("face", 2))
OUTPUTS = (("image", 2, "image"), ("field", 2, "field"), ("mask", 2, "mask"), ("exemplar notes", 1, "notes"),
           ("notes", 2, "notes"))  # fmt: skip
INPUT_SIDE, OUTPUT_SIDE = -10, -20  # ids by which a subgraph's links name its own sockets
_HEIGHTS = (160, 320, 640)


def name_of(*parts: str) -> str:
    """An id that is the same whenever the blueprint is written."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join((BLUEPRINT, *parts))))


def blueprint(info: dict) -> dict:
    """info: of the host, by node."""
    nodes = [_node(number, kind, info[kind]) for number, kind in enumerate(NODES)]
    links: list[dict] = []

    def link(source: int, output: int, target: int, slot: int, kind: str) -> int:
        number = len(links) + 1
        links.append({"id": number, "origin_id": source, "origin_slot": output, "target_id": target,
                      "target_slot": slot, "type": kind})  # fmt: skip
        return number

    for source, output, target, name in INSIDE:
        out, into = _slot(nodes[source], "outputs", output), _slot(nodes[target], "inputs", name)
        number = link(source + 1, out[0], target + 1, into[0], out[1]["type"])
        out[1]["links"].append(number)
        into[1]["link"] = number
    inputs, outputs = [], []
    for number, (name, target) in enumerate(INPUTS):
        at, slot = _slot(nodes[target], "inputs", name)
        slot["link"] = link(INPUT_SIDE, number, target + 1, at, slot["type"])
        inputs.append({"id": name_of("in", name), "name": name, "type": slot["type"], "linkIds": [slot["link"]],
                       "pos": [-60, 100 + 20 * number]})  # fmt: skip
    for number, (name, source, output) in enumerate(OUTPUTS):
        at, slot = _slot(nodes[source], "outputs", output)
        slot["links"].append(link(source + 1, at, OUTPUT_SIDE, number, slot["type"]))
        place = [3 * (COLUMN + GAP) + 20, 100 + 20 * number]
        outputs.append({"id": name_of("out", name), "name": name, "type": slot["type"],
                        "linkIds": [slot["links"][-1]], "pos": place})  # fmt: skip
    return _whole(nodes, links, inputs, outputs)


def _whole(nodes: list[dict], links: list[dict], inputs: list[dict], outputs: list[dict]) -> dict:
    state = {"lastGroupId": 0, "lastNodeId": len(nodes), "lastLinkId": len(links), "lastRerouteId": 0}
    right = 3 * (COLUMN + GAP)
    inner = {
        "id": name_of("subgraph"), "version": 1, "state": state, "revision": 0, "config": {}, "name": BLUEPRINT,
        "inputNode": {"id": INPUT_SIDE, "bounding": [-160, 80, 120, 40 + 20 * len(inputs)]},
        "outputNode": {"id": OUTPUT_SIDE, "bounding": [right, 80, 140, 40 + 20 * len(outputs)]},
        "inputs": inputs, "outputs": outputs, "widgets": [], "nodes": nodes, "groups": [], "links": links, "extra": {},
    }  # fmt: skip
    sockets = [{"name": one["name"], "type": one["type"], "link": None} for one in inputs]
    for socket in sockets[3:]:
        socket["widget"] = {"name": socket["name"]}
    shown = [{"name": one["name"], "type": one["type"], "links": None} for one in outputs]
    outer = {
        "id": 1, "type": inner["id"], "pos": [100, 100], "size": [COLUMN, 260], "flags": {}, "order": 0, "mode": 0,
        "title": BLUEPRINT, "inputs": sockets, "outputs": shown, "properties": {"cnr_id": "mirrorppr"},
        "widgets_values": [1.0, "only"],
    }  # fmt: skip
    return {
        "id": name_of("workflow"), "revision": 0, "last_node_id": 1, "last_link_id": 0, "nodes": [outer], "links": [],
        "groups": [], "definitions": {"subgraphs": [inner]}, "config": {},
        "extra": {"BlueprintDescription": ABOUT}, "version": 0.4,
    }  # fmt: skip


def _node(number: int, kind: str, about: dict) -> dict:
    sockets, widgets, values = [], [], []
    for need in ("required", "optional"):
        for name, declared in about["input"].get(need, {}).items():
            options = declared[1] if len(declared) > 1 else {}
            choice = isinstance(declared[0], list)
            slot = {"name": name, "type": "COMBO" if choice else declared[0], "link": None}
            if need == "optional":
                slot["shape"] = 7
            if choice or declared[0] in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"):
                widgets.append(slot | {"widget": {"name": name}})
                values.append(options.get("default", (declared[0] if choice else options.get("options", [""]))[0]))
            else:
                sockets.append(slot)
    outputs = [
        {"name": name, "type": kind, "links": []}
        for name, kind in zip(about["output_name"], about["output"], strict=True)
    ]
    return {
        "id": number + 1, "type": kind, "pos": [number * (COLUMN + GAP), 60], "size": [COLUMN, _HEIGHTS[number]],
        "flags": {}, "order": number, "mode": 0, "inputs": sockets + widgets, "outputs": outputs,
        "properties": {"Node name for S&R": kind, "cnr_id": "mirrorppr"}, "widgets_values": values,
    }  # fmt: skip


def _slot(node: dict, side: str, name: str) -> tuple[int, dict]:
    return next((index, one) for index, one in enumerate(node[side]) if one["name"] == name)


def write_blueprint(root: Path, info: dict, say: Callable[[str], None]) -> None:
    path = root / FOLDER / f"{BLUEPRINT}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(blueprint(info), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    say(f"[templates] {path.relative_to(root)}")
