"""A digest of the code that decides what a pair looks like: another digest may mean other pixels."""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from pathlib import Path

import mirrorppr_core

# The two packages may lie in different places: Ray unpacks each on its own.
_PACKAGES = {
    "mirrorppr_core": Path(mirrorppr_core.__file__).parent,
    "training": Path(__file__).resolve().parents[1],
}
# These only name, check or find; or they are imported and never run for a pair.
_NO_PIXELS = {"training.shards.spec", "training.shards.code_version", "mirrorppr_core.mini.files"}
_START = "training.shards.pair_maker"


@lru_cache(maxsize=1)
def code_version() -> str:
    """Twelve digits of every file that the pair maker imports."""
    files = sorted(code_files().items())
    text = "".join(f"{name}\n{path.read_text(encoding='utf-8')}" for name, path in files)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def code_files() -> dict[str, Path]:
    """Module -> file, for the pair maker and all of ours that it imports, directly or not."""
    waiting, found = [_START], {}
    while waiting:
        module = waiting.pop()
        package, _, rest = module.partition(".")
        path = (_PACKAGES[package] / rest.replace(".", "/")).with_suffix(".py") if package in _PACKAGES else None
        if module in found or module in _NO_PIXELS or path is None or not path.is_file():
            continue
        found[module] = path
        above = module.split(".")[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                near = above[: len(above) - node.level + 1] if node.level else []
                base = ".".join([*near, *([node.module] if node.module else [])])
                waiting += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return found
