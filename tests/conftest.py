"""What tests share: the import path, and the real ComfyUI, started once per run."""

import os
import sys
from pathlib import Path

import pytest
from host import COMFYUI, PACK, ROOT, ComfyHost

sys.path.insert(0, str(ROOT))  # `import mirrorppr_core`, however pytest was started


@pytest.fixture(scope="session")
def host():
    """The real ComfyUI with this repository as a pack, and two packs that only tests use beside it."""
    if not COMFYUI.exists():
        reason = "the real ComfyUI is not installed here: run `make setup`"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    packs_of_tests = Path(__file__).parent / "helpers" / "packs"
    packs = {PACK: ROOT, "mirrorppr-probe": packs_of_tests / "probe", "tiny-qwen": packs_of_tests / "tiny_qwen_shim"}
    with ComfyHost(packs=packs) as running:
        yield running
