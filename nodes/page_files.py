"""Where the host finds what the page shows of us beside nodes: subgraph blueprints, and names in other languages.

The host looks for `*/subgraphs/*.json` and `*/locales/LANGUAGE/*.json` in its folders of custom nodes (its
app/subgraph_manager.py and app/custom_node_manager.py), that is at the top of a pack. Our top level stays as it is, so
nodes/page/ is made one more of these folders: it holds one folder, ours, with nothing in it that could be loaded as a
node. The host reads its list of packs before it loads the first one, and this runs while we are loaded.
"""

from __future__ import annotations

from pathlib import Path

import folder_paths

PAGE = Path(__file__).parent / "page"


def register_page_files() -> None:
    folder_paths.add_model_folder_path("custom_nodes", str(PAGE))
