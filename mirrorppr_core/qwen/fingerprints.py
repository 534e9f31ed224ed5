"""Which network a file holds, told from the names and shapes of its tensors alone.

    fingerprint = MD5 of the sorted, comma-joined strings `NAME` and `NAME:d0_d1_...` of all tensors

This is the rule of DiffSynth-Studio, on which the released program is built; the values below are the ones it accepts.
Type and values of the weights do not enter, so half precision copies keep their fingerprint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

KNOWN = {
    "bc4b4d58554d31694168550738ae8286": "rformer-face",
    "aea189b86b5df7cffc8ec81d76fde9a5": "rformer-pro",
    "49ae821b996dc7e19a5e8d9d4f3c5315": "connector",
    "7dd3640ddce93380be19b6c86f9e7e64": "connector-3584",
    "bc4aeac1e11041ca661685e9ed1e3ead": "mae",
    "7b45ff1c1703e389ef61c8ab12babc4d": "learnable-query",
    "5dbd9a25c517478a8d2f35b01da53e9a": "latent-extractor",
    "0319a1cb19835fb510907dd3367c95ff": "dit",
    "8004730443f55db63092006dd9f7110e": "text-encoder",
    "ed4ea5824d55ec3107b09815e318123a": "vae",
}


def fingerprint(tensors: Mapping[str, Sequence[int]]) -> str:
    """tensors: shape by name."""
    strings = [text for name, shape in tensors.items() for text in (name, f"{name}:{'_'.join(map(str, shape))}")]
    return hashlib.md5(",".join(sorted(strings)).encode(), usedforsecurity=False).hexdigest()
