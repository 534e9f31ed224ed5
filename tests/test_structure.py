"""The shape of the repository: who may import whom, what stands where, what is published and what never is."""

from __future__ import annotations

import ast
import fnmatch
import json
import re
import subprocess
from pathlib import Path

import pytest
from host import ROOT

TOP_LEVEL = {
    "__init__.py", "nodes", "mirrorppr_core", "workflows", "training", "requirements.txt", "README.md", "tests",
    "pyproject.toml", "LICENSE", "Makefile", ".ci", ".gitignore", ".comfyignore",
}  # fmt: skip
COMFYUI_MODULES = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "latent_preview", "server"}
OURS = {"nodes", "mirrorppr_core", "training"}
MAX_LINES = 420
MAX_FUNCTION = 55  # but for the schemas of nodes, which are tables

# Folders from the bottom up: each imports only what stands before it. "" is the files beside the folders.
ORDER = {
    "mirrorppr_core": (
        "", "geometry", "motion", "faces", "bodies", "operations", "networks", "mini", "qwen", "albums", "commands",
    ),
    "nodes": ("sockets", "", "qwen"),
    "training": (
        "data", "recipes", "shards", "released", "runs", "evaluation", "locator", "body", "tools", "mini", "qwen", "",
    ),
}  # fmt: skip
ENTRY = ("mirrorppr_core/__main__.py", "nodes/__init__.py")  # they start what stands on top

# What the registry's scanner flags in a published file. A flagged version is not offered to users.
TRIPWIRES = {
    "starts processes": r"\bsubprocess\b|\bos\.(system|popen|exec\w+|spawn\w+)\b",
    # Scanners look for the bare word: `model.eval()` is caught too, write `model.train(False)`.
    "runs text as code": r"\b(eval|exec|__import__)\s*\(|\bimportlib\.import_module\b",
    "unpickles": r"\b(c?pickle|dill|marshal|shelve)\b|\btorch\.load\b",
    "reaches the network": r"\b(urllib|requests|httpx|aiohttp|socket|huggingface_hub)\b",
    "reads or changes the environment": r"\bos\.(environ|getenv|putenv)\b",
    "opens a database": r"\bsqlite3?\b",
}


def files() -> list[Path]:
    """What git has or would take, relative to the root."""
    try:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a git clone: git lists the files")
    return sorted({Path(name) for name in listed.split("\0") if name and (ROOT / name).exists()})


def python_files(folder: str) -> list[Path]:
    return [path for path in files() if path.suffix == ".py" and path.parts[0] == folder]


def imports(path: Path) -> set[str]:
    """Modules that a file imports; relative ones resolved, with a dot before them: `.mirrorppr_core.flow`."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            package = path.parent.parts[: len(path.parent.parts) - node.level + 1]
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {"." + ".".join([*package, module]) for module in modules}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


def module_of(path: Path) -> str:
    """training/runs/loop.py -> training.runs.loop; a folder's door is the folder."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def arrows() -> dict[Path, set[Path]]:
    """Which of our files each of our files imports."""
    ours = {module_of(path): path for folder in sorted(OURS) for path in python_files(folder)}
    found: dict[Path, set[Path]] = {}
    for path in ours.values():
        found[path] = set()
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if not isinstance(node, ast.ImportFrom):
                continue
            above = path.parent.parts[: len(path.parent.parts) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            found[path] |= {ours[name if name in ours else base] for name in names if name in ours or base in ours}
        found[path].discard(path)
    return found


def room(path: Path) -> str:
    """The folder below the top in which a file stands; the shared border of the nodes is a room of its own."""
    if path == Path("nodes/sockets.py"):
        return "sockets"
    return path.parts[1] if len(path.parts) > 2 else ""


def top(name: str) -> str:
    """The outermost part of a module's name; a relative one keeps its dot."""
    return ("." if name.startswith(".") else "") + name.lstrip(".").split(".")[0]


def archive() -> list[Path]:
    """The files of the registry archive: git's, minus .comfyignore."""
    patterns = [line for line in (ROOT / ".comfyignore").read_text().splitlines() if line and line[0] != "#"]
    return [path for path in files() if not any(ignores(pattern, path) for pattern in patterns)]


def ignores(pattern: str, path: Path) -> bool:
    """The subset of .gitignore patterns that we use: `folder/` and file names, both from the root."""
    if pattern.endswith("/"):
        return path.as_posix().startswith(pattern)
    return fnmatch.fnmatchcase(path.as_posix(), pattern)


def node_ids() -> list[ast.expr | None]:
    """The `node_id` argument of every io.Schema in nodes/."""
    ids = []
    for path in python_files("nodes"):
        for call in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", getattr(call.func, "id", "")) == "Schema":
                ids.append(next((word.value for word in call.keywords if word.arg == "node_id"), None))
    return ids


def node_types(workflow: dict) -> set[str]:
    """Of a UI workflow (a list of nodes) or an API workflow (nodes by id)."""
    if "nodes" in workflow:
        return {node["type"] for node in workflow["nodes"]}
    return {node["class_type"] for node in workflow.values()}


def workflows() -> dict[Path, dict]:
    paths = [path for path in files() if path.parts[0] == "workflows" and path.suffix == ".json"]
    return {path: json.loads((ROOT / path).read_text()) for path in paths}


def test_the_top_level_holds_exactly_what_the_readme_names():
    assert {path.parts[0] for path in files()} == TOP_LEVEL


def test_core_knows_neither_comfyui_nor_nodes_nor_training():
    for path in python_files("mirrorppr_core"):
        for name in imports(path):
            assert top(name) not in COMFYUI_MODULES | OURS, f"{path} imports {name}: inside core, relative only"
            assert not name.startswith(".") or top(name) == ".mirrorppr_core", f"{path} imports {name}"


def test_core_reads_no_arguments_but_in_its_command_line():
    for path in python_files("mirrorppr_core"):
        if path.as_posix() not in ("mirrorppr_core/__main__.py", "mirrorppr_core/commands/cli.py"):
            assert "argparse" not in imports(path), f"{path} reads arguments"
            assert "sys.argv" not in (ROOT / path).read_text(), f"{path} reads arguments"


def test_nodes_import_core_relatively_and_never_training():
    for path in python_files("nodes"):
        for name in imports(path):
            assert top(name) not in OURS, f"{path} imports {name}: ComfyUI finds our modules only relatively"
            assert not name.startswith(".") or top(name) in (".nodes", ".mirrorppr_core"), f"{path} imports {name}"


def test_training_imports_core_and_never_nodes_or_comfyui():
    for path in python_files("training"):
        for name in imports(path):
            assert top(name) not in COMFYUI_MODULES | {"nodes", "tests"}, f"{path} imports {name}"
            assert not name.startswith(".") or top(name) == ".training", f"{path} imports {name}"


def test_folders_import_downwards_only():
    for path, imported in arrows().items():
        for other in imported:
            if path.parts[0] != other.parts[0] or path.as_posix() in ENTRY:
                continue
            order = ORDER[path.parts[0]]
            assert order.index(room(other)) <= order.index(room(path)), f"{path} imports {other}: it stands above"


def test_every_folder_has_its_place_in_the_order():
    for folder, order in ORDER.items():
        rooms = {room(path) for path in python_files(folder)}
        assert rooms == set(order), f"{folder}: {sorted(rooms ^ set(order))}"


def test_no_two_files_import_each_other_not_even_over_others():
    left = {path: set(others) for path, others in arrows().items()}
    while True:
        ends = {path for path, others in left.items() if not others & left.keys()}
        if not ends:
            break
        for path in ends:
            del left[path]
    assert not left, f"circle among {sorted(path.as_posix() for path in left)}"


def test_programs_of_training_lean_on_folders_and_hardly_on_each_other():
    between = [
        (path.name, other.name)
        for path, imported in arrows().items()
        for other in imported
        if path.parts[0] == other.parts[0] == "training" and not room(path) and not room(other)
    ]
    assert len(between) < 90, sorted(between)


def test_every_folder_says_what_belongs_in_it():
    for path in {path.parent / "__init__.py" for folder in OURS for path in python_files(folder)}:
        assert (ROOT / path).is_file(), f"{path} is missing: it says what belongs there and how to add one more"
        text = ast.get_docstring(ast.parse((ROOT / path).read_text()))
        assert text and "\n" in text, f"{path} says too little"


def test_file_names_do_not_repeat_their_folder():
    for folder in sorted(OURS):
        for path in python_files(folder):
            inside = path.parent.parts[1:]
            assert not any(path.stem.startswith(f"{name}_") for name in inside), f"{path}"


def test_names_of_test_files_are_unique():
    """pytest imports them by name alone: two of one name stop the whole run."""
    names = [path.name for path in files() if path.parts[0] == "tests" and path.name.startswith("test_")]
    assert not {name for name in names if names.count(name) > 1}


def test_functions_are_short_enough_to_read():
    for folder in sorted(OURS):
        for path in python_files(folder):
            for node in ast.walk(ast.parse((ROOT / path).read_text())):
                if isinstance(node, ast.FunctionDef) and node.name != "define_schema":
                    length = node.end_lineno - node.lineno + 1
                    assert length <= MAX_FUNCTION, f"{path}: {node.name} has {length} lines"


@pytest.mark.parametrize("danger", TRIPWIRES)
def test_nothing_in_the_registry_archive(danger):
    for path in archive():
        if path.suffix in (".py", ".js"):
            hit = re.search(TRIPWIRES[danger], (ROOT / path).read_text())
            assert not hit, f"{path} {danger}: {hit[0]!r}"


def test_the_registry_archive_holds_the_pack_and_no_pickles():
    published = archive()
    assert {path.parts[0] for path in published} == TOP_LEVEL - {
        "tests", "training", "Makefile", ".ci", ".gitignore", ".comfyignore"
    }  # fmt: skip
    assert {path.suffix for path in published}.isdisjoint({".pt", ".pth", ".ckpt", ".bin", ".pkl", ".onnx", ".ipynb"})


def test_node_ids_are_literals_and_unique():
    ids = node_ids()
    assert ids, "nodes/ defines no node"
    assert all(isinstance(name, ast.Constant) and isinstance(name.value, str) for name in ids)
    names = [name.value for name in ids]
    assert len(set(names)) == len(names)
    assert all(name.startswith("MirrorPPR_") for name in names), "the prefix keeps our ids apart from other packs'"


def test_workflows_name_nodes_of_ours_that_exist():
    ours = {name.value for name in node_ids()}
    assert workflows()
    for path, workflow in workflows().items():
        used = {name for name in node_types(workflow) if name.startswith("MirrorPPR")}
        assert used and used <= ours, f"{path} names {used - ours or 'no node of ours'}"


@pytest.mark.host
def test_the_host_knows_every_node_of_the_api_workflows(host):
    known = host.object_info()
    for path, workflow in workflows().items():
        if "nodes" not in workflow:
            assert node_types(workflow) <= set(known), f"{path} names unknown nodes"


def test_requirements_are_those_of_pyproject_and_leave_torch_to_the_host():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = [line for line in lines if line and line[0] != "#"]
    assert f"dependencies = {json.dumps(required)}" in (ROOT / "pyproject.toml").read_text()
    assert not any(line.startswith("torch") for line in required)


def test_python_files_are_short_enough_to_read():
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in files() if path.suffix == ".py"}
    assert not {path: length for path, length in lengths.items() if length > MAX_LINES}


# Ways around the one writer. A checkpoint writes into a folder of its own, made new under a random name.
OWN_WRITING = re.compile(
    r"""\bopen\([^)\n]*["'][wax]\+?b?["']|\.write_(text|bytes)\(|\.touch\(|\bshutil\.(copy\w*|move)\("""
    r"""|\b(np\.save\w*|\.save|save_file)\((?!stream|content|buffer|path, )[a-z_.]*(out|folder|path|options)\b"""
)
WRITERS = {"mirrorppr_core/file_writing.py", "training/runs/checkpoints.py"}


def test_every_file_is_written_by_the_one_writer():
    for folder in sorted(OURS):
        for path in python_files(folder):
            if path.as_posix() not in WRITERS:
                hit = OWN_WRITING.search((ROOT / path).read_text())
                assert not hit, f"{path} writes by itself: {hit[0]!r}, use mirrorppr_core/file_writing.py"


def test_nothing_unpickles_anywhere():
    for folder in sorted(OURS):
        for path in python_files(folder):
            hit = re.search(r"\btorch\.(load|save)\(|\bpickle\b\.|allow_pickle=True", (ROOT / path).read_text())
            assert not hit, f"{path} has {hit[0]!r}: store tensors as safetensors"


def test_no_file_names_a_folder_of_one_machine_or_a_package_registry():
    machine = re.compile(r"(?<![\w.])/(work|root|farm|home|tmp|Users)/")
    registry = re.compile(r"https?://[^\s)\">]*(pypi|pythonhosted|npmjs|debian)")
    for path in files():
        text = (ROOT / path).read_bytes().decode("utf-8", errors="ignore")
        if path.suffix not in (".safetensors", ".png", ".jpg", ".npz"):
            assert not (hit := machine.search(text) or registry.search(text)), f"{path} names {hit[0]}"
