"""A random order of n things without a table of them: place -> thing, one at a time, for any n. And seeds for it.

A Feistel network is a bijection on 2k-bit numbers whatever its round function is; numbers beyond n are sent through
again until they fall below it (cycle walking): a few times at most, since n is no less than a quarter of 4^k. A table
of 47 million places would fill 376 MB in every process and be written anew for every epoch; this needs neither.
"""

from __future__ import annotations

import hashlib

_ROUNDS = 4


def seed_of(*parts: object) -> int:
    """63 bits of anything that can be printed, for torch generators and `place_of`."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little") >> 1


def place_of(place: int, n: int, seed: int) -> int:
    """What stands at `place` (0 .. n - 1) of the order `seed`: a permutation of range(n)."""
    if not 0 <= place < n:
        raise IndexError(f"place {place} of {n}")
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    keys = hashlib.blake2b(f"order {seed}".encode(), digest_size=8 * _ROUNDS).digest()
    value = place
    while True:
        left, right = value >> half, value & ((1 << half) - 1)
        for index in range(_ROUNDS):
            key = int.from_bytes(keys[8 * index : 8 * index + 8], "little")
            left, right = right, left ^ (_mix(right ^ key) & ((1 << half) - 1))
        value = left << half | right
        if value < n:
            return value


def _mix(value: int) -> int:
    """The finishing steps of splitmix64: every bit of the answer hangs on every bit of the question."""
    value &= 0xFFFFFFFFFFFFFFFF
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    value = (value ^ value >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return value ^ value >> 31
