"""Damage to files, drawn from a seed: what disks, networks, editors and ill will do to bytes and to JSON."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

_ODD_BYTES = (b"\x00", b"\xff", b"\n", b'"', b"[", b"{", b"\x80", b"NaN", b"-1", b"1e999", b"../", b"\x00" * 64)
_ODD_INTEGERS = (0, 1, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000)
_ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**40, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "x",
    "y" * 5000, "../../a", "/etc/passwd", "\x00", "\ud800", [], {}, [[]], [None] * 3, {"a": 1}, [1e30] * 4, "1", "NaN",
)  # fmt: skip


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The content with one to three kinds of damage; never the content itself."""
    changed = content
    while changed == content:
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            changed = draw.choice(_KINDS)(changed, draw)
    return changed


def flipped(content: bytes, draw: random.Random) -> bytes:
    """A single bit."""
    if not content:
        return b"\x01"
    place, bit = draw.randrange(len(content)), 1 << draw.randrange(8)
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def flipped_early(content: bytes, draw: random.Random) -> bytes:
    """A single bit of the first kilobyte, where headers are."""
    return flipped(content[:1024], draw) + content[1024:]


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def without_a_piece(content: bytes, draw: random.Random) -> bytes:
    begin, length = _piece(content, draw)
    return content[:begin] + content[begin + length :]


def with_a_piece_twice(content: bytes, draw: random.Random) -> bytes:
    begin, length = _piece(content, draw)
    return content[: begin + length] + content[begin:]


def with_a_piece_blank(content: bytes, draw: random.Random) -> bytes:
    begin, length = _piece(content, draw)
    return content[:begin] + draw.choice((b"\x00", b"\xff")) * length + content[begin + length :]


def with_pieces_exchanged(content: bytes, draw: random.Random) -> bytes:
    length = 1 + draw.randrange(1 + len(content) // 4)
    first, second = (draw.randrange(max(1, len(content) - length)) for _ in range(2))
    mixed = bytearray(content)
    mixed[first : first + length], mixed[second : second + length] = (
        content[second : second + length],
        content[first : first + length],
    )
    return bytes(mixed)


def with_odd_bytes(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.choice(_ODD_BYTES) + content[place + draw.randrange(2) :]


def with_an_odd_integer(content: bytes, draw: random.Random) -> bytes:
    """A length, a count, a size: four or two bytes of either order."""
    place = draw.randrange(max(1, min(len(content), 2048)))
    word = struct.pack(draw.choice(("<I", ">I")), draw.choice(_ODD_INTEGERS))[: draw.choice((2, 4))]
    return content[:place] + word + content[place + len(word) :]


def random_bytes(content: bytes, draw: random.Random) -> bytes:
    return draw.randbytes(draw.randrange(2000))


_KINDS = (
    flipped, flipped, flipped_early, cut, without_a_piece, with_a_piece_twice, with_a_piece_blank,
    with_pieces_exchanged, with_odd_bytes, with_an_odd_integer, random_bytes,
)  # fmt: skip


def odd_tree(tree: Any, draw: random.Random) -> Any:
    """JSON with one value, name or entry replaced, removed, doubled or nested."""
    tree = json.loads(json.dumps(tree))
    places = list(_places(tree))
    holder, key = draw.choice(places)
    action = draw.choice(("replace", "replace", "replace", "remove", "rename", "nest", "exchange"))
    if action == "remove":
        del holder[key]
    elif action == "rename" and isinstance(holder, dict):
        holder[draw.choice(("x", "", "type", key + "s"))] = holder.pop(key)
    elif action == "nest":
        holder[key] = [holder[key]]
    elif action == "exchange":
        other, name = draw.choice(places)
        holder[key] = json.loads(json.dumps(other[name]))  # a copy: nothing may hold itself
    else:
        holder[key] = draw.choice(_ODD_VALUES)
    return tree


def odd_json(content: bytes, draw: random.Random) -> bytes:
    """The same for JSON text; at times nested beyond all reason."""
    if draw.random() < 0.03:
        return draw.choice((b"[", b'{"a":')) * 20_000
    text = json.dumps(odd_tree(json.loads(content), draw))
    return text.encode("utf-8", "surrogatepass")


def odd_safetensors(content: bytes, draw: random.Random) -> bytes:
    """Another header over the same numbers: kinds, shapes, places, names, and the JSON inside the metadata."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    told = header.get("__metadata__", {})
    inner = [name for name in ("config", "operation", "training", "mirrorppr_config") if name in told]
    if inner and draw.random() < 0.5:
        name = draw.choice(inner)
        told[name] = odd_json(told[name].encode(), draw).decode("utf-8", "replace")
    else:
        header = odd_tree(header, draw)
    text = json.dumps(header).encode("utf-8", "replace")
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def shuffled_numbers(content: bytes, draw: random.Random) -> bytes:
    """The numbers of a safetensors file in another order: all finite, every shape right."""
    begin = 8 + int.from_bytes(content[:8], "little")
    numbers = [content[place : place + 2] for place in range(begin, len(content), 2)]
    draw.shuffle(numbers)
    return content[:begin] + b"".join(numbers)


def _piece(content: bytes, draw: random.Random) -> tuple[int, int]:
    begin = draw.randrange(len(content) + 1)
    return begin, draw.randrange(1 + min(len(content) - begin, draw.choice((4, 64, 1024, len(content)))))


def _places(tree: Any) -> Any:
    """Every (dictionary or list, key) of a tree."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])
