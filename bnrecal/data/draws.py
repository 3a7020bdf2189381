"""Random numbers that are the same on every machine and with every library version.

numpy promises to keep the raw output of its bit generators, but not how its distributions turn that
into numbers. Everything that decides what an image shows or in which order images come therefore
stands on splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA
2014), integers only: draw j of item i in stream s is a pure function of (s, i, j).
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

UInt64s = NDArray[np.uint64]
Int64s = NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: UInt64s) -> UInt64s:
    """The finaliser of splitmix64; arithmetic is modulo 2**64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def stream_key(*names: object) -> int:
    """A 64-bit stream number for a tuple of names, e.g. `stream_key("garments", 1, "train")`."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def draws(stream: int, items: Int64s, count: int) -> UInt64s:
    """`count` raw 64-bit draws for each item; shape (items, count)."""
    state = _mix(np.uint64(stream) + items.astype(np.uint64) * _GOLDEN)
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    return _mix(state[:, None] + steps)


def permutation(stream: int, n: int) -> Int64s:
    """A fixed permutation of 0..n-1: the items sorted by their first draw. Shape (n,)."""
    return np.argsort(draws(stream, np.arange(n), 1)[:, 0], kind="stable")
