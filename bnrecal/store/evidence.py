"""Per-image evidence of finished cells: OUT/evidence/KEY.npz, written before the row it belongs to.

It is a side file: where it is missing, a figure has no interval, and nothing else is lost.
"""

import os
import re
import struct
import threading
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bnrecal.errors import BnrecalError
from bnrecal.host.files import appearing

FOLDER = "evidence"
# numpy reads the head of an array by ast.literal_eval, which failed once in a pool of threads with
# CPython 3.11 ("AST constructor recursion depth mismatch"; see cpython#106905): one at a time.
READING = threading.Lock()
Arrays = dict[str, Any]  # numpy arrays by name; numpy itself is imported when they are
# What reading an archive raises that is cut short, overwritten or none at all.
_DAMAGE = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


def path_of(folder: Path, key: str) -> Path | None:
    """Where the evidence of a cell lies; None for a key that is no digest and so names no file."""
    return folder / FOLDER / f"{key}.npz" if re.fullmatch("[0-9a-f]{8,64}", key) else None


def keys(folder: Path) -> frozenset[str]:
    """The cells that have evidence."""
    try:
        return frozenset(name.removesuffix(".npz") for name in os.listdir(folder / FOLDER))
    except OSError:
        return frozenset()


def keep(folder: Path, key: str, arrays: Mapping[str, Any]) -> None:
    """Write the arrays, wholly or not at all."""
    import numpy as np

    path = path_of(folder, key)
    assert path is not None, key
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(path) as work, work.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise BnrecalError(f"--out: cannot write {path}: {error.strerror}") from None


def load(folder: Path, key: str) -> Arrays | None:
    """The arrays of a cell, or None if there are none. Raises BnrecalError, naming it, for a damaged file."""
    path = path_of(folder, key)
    if path is None or not path.exists():
        return None
    import numpy as np

    try:
        with READING, path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return dict(file)
    except _DAMAGE as error:
        raise BnrecalError(f"{path}: damaged: {error}; remove it, its cell then has no interval") from None
