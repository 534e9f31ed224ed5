"""`fetch`: get the Qwen engine's weights from where their authors put them. The only code here that uses the network.

    python -m mirrorppr_core fetch --out ComfyUI/models/mirrorppr            prints what it would do
    python -m mirrorppr_core fetch --out ComfyUI/models/mirrorppr --yes      does it; again after a break, it goes on

No node does this, and the registry's archive does not even hold this file. Needs huggingface-hub.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LICENCES = (
    "LICENCES. The model page of MirrorPPR-Face declares no licence, and its program has no licence file: without one, "
    "all rights stay with the authors (SJTU DENG Lab). The paper is recorded as CC BY-NC-SA 4.0. Qwen-Image-Edit is "
    "Apache 2.0. Read the pages before you use the weights for more than trying them, and do not pass them on."
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A repository on the hub, and what to take from it."""

    repo: str
    patterns: tuple[str, ...]
    required: tuple[str, ...]
    folder: str = ""  # below --out


WEIGHTS = Source(
    repo="SJTU-DENG-Lab/MirrorPPR-Face",
    patterns=("mirrorppr_face/*",),
    required=(
        "mirrorppr_face/mae/mae_pretrained.safetensors",
        "mirrorppr_face/rformer/rformer.safetensors",
        "mirrorppr_face/connector/connector.safetensors",
        "mirrorppr_face/lora/lora.safetensors",
    ),
)
# ComfyUI brings its own copy of the base model; only the command line needs this one.
BASE = Source(
    repo="Qwen/Qwen-Image-Edit",
    patterns=("transformer/*", "text_encoder/*", "vae/*", "processor/*"),
    required=("transformer/config.json", "text_encoder/config.json", "vae/config.json"),
    folder="qwen_image_edit",
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a source holds now. commit: the exact version, so that all files are of one."""

    source: Source
    commit: str
    sizes: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.sizes.values())


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("fetch", help="download the Qwen engine's weights (asks first)")
    parser.add_argument("--out", type=Path, required=True, help="where to, e.g. ComfyUI/models/mirrorppr")
    parser.add_argument("--base", action="store_true", help="also Qwen-Image-Edit itself (58 GB), for the command line")
    parser.add_argument("--revision", help="commit of MirrorPPR-Face; default: its latest")
    parser.add_argument("--yes", action="store_true", help="sizes and licences read: download")
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Returns the exit status: 0 downloaded and checked, 2 nothing done. Raises OSError or ValueError."""
    try:
        import huggingface_hub
    except ImportError:
        print("error: fetch needs huggingface-hub: pip install huggingface-hub", file=sys.stderr)
        return 2
    return fetch(options, hub=huggingface_hub)


def fetch(options: Any, *, hub: Any) -> int:
    """The same with the hub's client passed in."""
    revisions = {WEIGHTS: options.revision} | ({BASE: None} if options.base else {})
    plans = [look(source, revision, hub=hub) for source, revision in revisions.items()]
    for plan in plans:
        print(
            f"{plan.source.repo} at {plan.commit[:12]}: {len(plan.sizes)} files, {_gigabytes(plan.total)}",
            file=sys.stderr,
        )
        for name in sorted(plan.sizes):
            print(f"  {_gigabytes(plan.sizes[name]):>9}  {name}", file=sys.stderr)
    print(LICENCES, file=sys.stderr)
    if not options.yes:
        print(
            f"Nothing was downloaded. Add --yes to download {_gigabytes(sum(p.total for p in plans))}.", file=sys.stderr
        )
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    _need_space(options.out, plans)
    for plan in plans:
        _download(plan, options.out / plan.source.folder, hub=hub)
    from ..qwen.files import QwenSet
    from ..qwen.report import describe

    report = describe(QwenSet.from_folder(options.out / "mirrorppr_face"))
    print(json.dumps({"commits": {plan.source.repo: plan.commit for plan in plans}, **report}, indent=1))
    return 0


def look(source: Source, revision: str | None, *, hub: Any) -> Plan:
    """Names and sizes, without downloading. Raises OSError or ValueError with the remedy."""
    try:
        info = hub.HfApi().model_info(source.repo, revision=revision, files_metadata=True)
    except Exception as error:  # the client's errors have no common class of their own
        raise OSError(
            f"cannot read {source.repo} ({type(error).__name__}: {error}). Check the connection and that the page "
            "still exists; files that you have already can simply be copied into the folder."
        ) from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings if _wanted(file.rfilename, source)}
    missing = [name for name in source.required if name not in sizes]
    if missing:
        raise ValueError(
            f"{source.repo} no longer has {', '.join(missing)}: its layout changed. Pass --revision with an older "
            "commit, or update this package."
        )
    return Plan(source=source, commit=info.sha, sizes=sizes)


def _download(plan: Plan, folder: Path, *, hub: Any) -> None:
    try:
        hub.snapshot_download(
            plan.source.repo, revision=plan.commit, allow_patterns=list(plan.source.patterns), local_dir=folder
        )
    except Exception as error:  # as above
        raise OSError(
            f"download of {plan.source.repo} broke off ({type(error).__name__}: {error}). Run the same command again: "
            "it goes on where it stopped."
        ) from error


def _wanted(name: str, source: Source) -> bool:
    return any(name.startswith(pattern.removesuffix("*")) for pattern in source.patterns)


def _need_space(folder: Path, plans: list[Plan]) -> None:
    """Counts what is there already, complete files only."""
    needed = sum(
        size
        for plan in plans
        for name, size in plan.sizes.items()
        if not (folder / plan.source.folder / name).is_file()
    )
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f"{folder} has {_gigabytes(free)} free and {_gigabytes(needed)} are needed: choose another --out")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
