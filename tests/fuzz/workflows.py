"""Workflows with odd values, sent to the real ComfyUI: our nodes answer with a sentence, and the host lives.

python tests/fuzz/workflows.py --count 300      part of `make fuzz`
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(_TESTS / "helpers"), str(_TESTS / "load"), str(_TESTS.parent)]

from host import PACK, ROOT, ComfyHost, HostError  # noqa: E402
from load import prompt, upload  # noqa: E402
from mutations import odd_tree  # noqa: E402
from watched import MOST_WORDS  # noqa: E402

SENTENCES = ("ValueError", "FileNotFoundError", "FileExistsError", "OSError", "PictureError", "AlbumStopped")
COUNT = 300


@dataclass(frozen=True)
class Answer:
    """ending: refused, error or success.  faults: what must not be."""

    number: int
    ending: str
    faults: tuple[str, ...]


def odd_workflow(draw: random.Random) -> dict:
    """A sound workflow with one to three inputs of our nodes replaced, removed, renamed or connected elsewhere."""
    graph = prompt(draw.randrange(7))
    graph["8"] = {
        "class_type": "MirrorPPR_FieldPreview",
        "inputs": {"field": ["6", 1], "style": "arrows", "close_up": True},
    }
    graph["9"] = {
        "class_type": "MirrorPPR_SaveOperation",
        "inputs": {"operation": ["5", 0], "name": "fuzz", "pictures": "none"},
    }
    for _ in range(draw.choice((1, 1, 2, 3))):
        node = draw.choice([one for one in graph.values() if one["class_type"].startswith("MirrorPPR")])
        if not node["inputs"]:
            continue
        if draw.random() < 0.35:
            node["inputs"][draw.choice(sorted(node["inputs"]))] = [draw.choice(sorted(graph)), draw.randrange(5)]
        else:
            node["inputs"] = odd_tree(node["inputs"], draw)
    return graph


def answers(host: ComfyHost, count: int, *, first: int = 0) -> Iterator[Answer]:
    """One Answer for each workflow."""
    upload(host)
    known = _files(host)
    for number in range(first, first + count):
        graph = odd_workflow(random.Random(f"workflows {number}"))
        ending, faults = _sent(host, graph)
        for path in _files(host) - known:
            if not path.startswith(("output/", "temp/", "user/", "comfyui.log")):
                faults.append(f"{path} was written")
        known = _files(host)
        yield Answer(number, ending, tuple(faults))
        if not host.is_running:
            raise HostError("the host is gone")


def _sent(host: ComfyHost, graph: dict) -> tuple[str, list[str]]:
    queued = host.queue(graph)
    if queued.prompt_id is None:
        words = [
            f"{error.get('message', '')} {error.get('details', '')}"
            for node in queued.node_errors.values()
            if str(node.get("class_type", "")).startswith("MirrorPPR")
            for error in node["errors"]
            # The host's own validation fails on links to outputs that are not there: no code of ours is in its trace.
            if PACK in "".join(error.get("extra_info", {}).get("traceback", []))
        ]
        return "refused", [f"validation failed by itself: {one[:200]}" for one in words]
    run = host.wait(queued.prompt_id, 300)
    if run.status == "success" or not run.error.get("node_type", "").startswith("MirrorPPR"):
        return run.status, []
    faults = []
    kind = run.error["exception_type"].rpartition(".")[2]
    if kind not in SENTENCES:
        faults.append(f"traceback of {run.error['node_type']}: {kind}: {run.complaint[:200]}")
    if len(run.complaint) > MOST_WORDS:
        faults.append(f"a message of {len(run.complaint)} characters: {run.complaint[:80]}")
    return run.status, faults


def _files(host: ComfyHost) -> set[str]:
    return {
        path.relative_to(host.base_dir).as_posix()
        for path in host.base_dir.rglob("*")
        if path.is_file() and "custom_nodes" not in path.parts
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    endings: dict[str, int] = {}
    faulty = 0
    with ComfyHost(packs={PACK: ROOT}) as host:
        for answer in answers(host, options.count, first=options.first):
            endings[answer.ending] = endings.get(answer.ending, 0) + 1
            if answer.faults:
                faulty += 1
                print(f"FAULT workflows {answer.number}: {'; '.join(answer.faults)}", flush=True)
    print(f"workflows: {options.count} cases, {json.dumps(endings)}, {faulty} faults")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
