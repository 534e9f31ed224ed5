"""`make serve`: the real ComfyUI page with our workflow open and its pictures in place, until Ctrl-C."""

from __future__ import annotations

import sys
import time

from demo import prepare, role_of, to_png  # first: it finds our modules
from host import PACK, ROOT, ComfyHost, HostError

TEMPLATE = "retouch_own_photos"
BASE = ROOT / ".host" / "serve"  # kept between runs, with what was saved in the page


def main():
    print("[serve] making the exemplar's after; starting ComfyUI (half a minute on a slow machine)", flush=True)
    pictures = prepare()
    with ComfyHost(packs={PACK: ROOT}, base_dir=BASE) as host:
        for name, role in pictures_of(host.template(PACK, TEMPLATE)).items():
            host.upload_image(name, to_png(getattr(pictures, role)))
        print(f"[serve] open  {host.url}/?template={TEMPLATE}&source={PACK}  and press Run; Ctrl-C here stops it")
        print(f"[serve] results go to {(BASE / 'output').relative_to(ROOT)}/", flush=True)
        while host.is_running:
            time.sleep(0.5)
        raise HostError(f"ComfyUI ended by itself. The end of its log:\n{host.log(40)}")


def pictures_of(workflow: dict) -> dict[str, str]:
    """File name -> role, of every LoadImage node in a UI workflow."""
    loaders = (node for node in workflow["nodes"] if node["type"] == "LoadImage")
    return {node["widgets_values"][0]: role_of(node["title"]) for node in loaders}


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("[serve] stopped")
    except HostError as error:
        sys.exit(f"[serve] {error}")
