"""What the import of the pack brings: our own modules and nothing heavy. How long it takes says bench_import.py."""

import sys

import pytest
from host import COMFYUI, ROOT

sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
import bench_import  # noqa: E402

pytestmark = pytest.mark.host

# Each takes a tenth of a second or more, or is an extra that most people do not have.
ONLY_WHEN_NEEDED = (
    "OpenEXR", "accelerate", "bitsandbytes", "cv2", "diffusers", "huggingface_hub", "imageio", "matplotlib",
    "mediapipe", "pandas", "peft", "png", "ray", "scipy", "skimage", "sympy", "tensorboard", "tifffile",
    "torch._dynamo", "torch._inductor", "torch.distributed", "torchmetrics", "torchvision", "transformers",
)  # fmt: skip
NEVER = ("mirrorppr_core", "nodes", "training", "tests")  # under our own name the pack would be there twice


@pytest.fixture(scope="module")
def brought() -> list[str]:
    if not COMFYUI.exists():
        pytest.skip("the real ComfyUI is not installed here: run `make setup`")
    return bench_import.in_a_fresh_python()["brought"]


def test_the_pack_brings_no_heavy_module_when_it_is_imported(brought):
    heavy = [name for name in brought if any(name == one or name.startswith(f"{one}.") for one in ONLY_WHEN_NEEDED)]
    assert not heavy


def test_the_pack_is_imported_once_and_under_the_hosts_name(brought):
    assert not [name for name in brought if name.split(".")[0] in NEVER and name != "nodes"]


def test_importing_starts_no_network_no_other_process_and_no_database(brought):
    assert not {
        name for name in brought if name.split(".")[0] in ("urllib3", "requests", "httpx", "sqlite3", "subprocess")
    }
