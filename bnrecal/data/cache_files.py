"""The files of cached images: records written in place, and room made by removing sets used longest ago.

A set is a folder images-DIGEST of the user's cache. Its file `lock` says by its time when the set was last
used; a shared lock on `held` keeps other processes from removing it.
"""

import contextlib
import fcntl
import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnrecal.errors import BnrecalError
from bnrecal.host.files import cache_folder

DEFAULT_LIMIT_GB = 50.0


def cache_limit_bytes() -> float:
    """BNRECAL_CACHE_LIMIT in GB (10^9 bytes); 50 if nothing is said."""
    text = os.environ.get("BNRECAL_CACHE_LIMIT", "")
    try:
        limit = float(text) if text else DEFAULT_LIMIT_GB
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise BnrecalError(f"--cache-limit: {text!r}; allowed: a number of GB, 0 to cache nothing")
    return limit * 1e9


def write_records(path: Path, records: NDArray[np.void], positions: NDArray[np.int64]) -> None:
    """Those at `positions`, sorted, into their places of the file; makes it and its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab"), open(path, "r+b") as file:
        if os.fstat(file.fileno()).st_size != records.nbytes:
            os.ftruncate(file.fileno(), records.nbytes)
        runs = np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1)
        for run in runs if len(positions) else ():
            first = int(run[0])
            write_all(file.fileno(), records[first : int(run[-1]) + 1].tobytes(), first * records.itemsize)


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def read_records(path: Path, kind: np.dtype[np.void], n: int) -> NDArray[np.void]:
    """The records of a file; zeros where there is none of this size."""
    try:
        if path.stat().st_size == n * kind.itemsize:
            return np.fromfile(path, kind)
    except OSError:
        pass
    return np.zeros(n, kind)


def bytes_of(path: Path) -> int:
    """The file's length; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def make_room(folder: Path, needed: int) -> bool:
    """Whether so many more bytes may be kept in this set, once sets used longer ago were removed."""
    limit = cache_limit_bytes()
    own = _bytes_on_disk(folder)
    if own + needed > limit:
        return False
    others = [f for f in cache_folder().glob("images-*") if f != folder]
    taken = {other: _bytes_on_disk(other) for other in others}
    for other in sorted(others, key=_last_used):
        if own + needed + sum(taken.values()) <= limit:
            break
        if _remove_unless_in_use(other):
            del taken[other]
    return own + needed + sum(taken.values()) <= limit


def _bytes_on_disk(folder: Path) -> int:
    total = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            total += path.stat().st_blocks * 512
    return total


def _last_used(folder: Path) -> float:
    try:
        return (folder / "lock").stat().st_mtime
    except OSError:
        return 0.0


def _remove_unless_in_use(folder: Path) -> bool:
    try:
        with open(folder / "held", "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return False
    return True
