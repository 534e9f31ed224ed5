"""ComfyUI-MirrorPPR: hands ComfyUI its nodes, and does nothing for any other importer.

pytest imports this file before every test, as the `__init__.py` of its root folder, where ComfyUI is absent and a
relative import has no parent. Inside ComfyUI `folder_paths` is loaded before any pack. The nodes are imported here
and not inside `comfy_entrypoint`, because ComfyUI prints a full traceback only for errors at import.
"""

import sys

WEB_DIRECTORY = "./nodes/web"  # help pages of the nodes

if __package__ and "folder_paths" in sys.modules:
    from .nodes import comfy_entrypoint  # noqa: F401
