"""How long ComfyUI waits for this pack when it starts: the import, the list of nodes and their schemas, once each.

    .venv/bin/python tests/benchmarks/bench_import.py [--times 5]

Each time is of a fresh Python in which the host's modules, torch among them, are there already, as they are when the
host comes to its packs. Prints JSON: seconds of CPU (the smallest and the median of several), and the modules that the
pack brought which are not its own. For the time of every module: .venv/bin/python -X importtime tests/benchmarks/
bench_import.py --once
"""

import argparse
import asyncio
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / ".host" / "ComfyUI"
PACK = "mirrorppr_pack"


def once() -> dict:
    """Loads the pack in this process, in place of the host."""
    sys.argv[1:] = []  # the host reads the arguments of whoever imports it
    sys.path.insert(0, str(HOST))
    os.chdir(HOST)
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import comfy.sample  # noqa: F401
    import comfy.samplers  # noqa: F401
    import comfy.sd  # noqa: F401
    import comfy_api.latest  # noqa: F401
    import folder_paths  # noqa: F401
    import latent_preview  # noqa: F401

    there = set(sys.modules)
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    pack = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = pack
    began = time.process_time()
    spec.loader.exec_module(pack)
    nodes = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
    for node in nodes:
        node.INPUT_TYPES()
    seconds = time.process_time() - began
    brought = sorted(name for name in set(sys.modules) - there if name.split(".")[0] != PACK)
    return {"cpu_seconds": round(seconds, 3), "nodes": len(nodes), "brought": brought}


def in_a_fresh_python() -> dict:
    done = subprocess.run([sys.executable, __file__, "--once"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="How long ComfyUI waits for this pack when it starts.")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--once", action="store_true", help="in this process, for -X importtime")
    options = parser.parse_args()
    if options.once:
        print(json.dumps(once()))
        return
    runs = [in_a_fresh_python() for _ in range(options.times)]
    seconds = [run["cpu_seconds"] for run in runs]
    print(json.dumps({**runs[-1], "cpu_seconds": {"smallest": min(seconds), "median": statistics.median(seconds)}}))


if __name__ == "__main__":
    main()
