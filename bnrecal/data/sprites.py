"""The embedded sprite sheets: Fashion-MNIST garments (see fashion_mnist/ORIGIN.md)."""

import functools
import hashlib
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)
SIDE = 28  # pixels
_SHEETS = {"train": "train.png", "val": "test.png"}  # scenes of a split use one sheet alone
_SPRITES_PER_ROW = 50


def _sheet_bytes(split: str) -> bytes:
    return (files("bnrecal.data") / "fashion_mnist" / _SHEETS[split]).read_bytes()


@functools.cache
def sprites(split: str) -> NDArray[np.uint8]:
    """All sprites of a split; shape (10 classes, sprites per class, 28, 28), grey, 0 is background."""
    import io

    from PIL import Image

    sheet = np.asarray(Image.open(io.BytesIO(_sheet_bytes(split))))
    rows = sheet.shape[0] // SIDE
    cut = sheet.reshape(rows, SIDE, _SPRITES_PER_ROW, SIDE).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(cut).reshape(len(CLASSES), -1, SIDE, SIDE)


@functools.cache
def sheets_digest() -> str:
    """SHA-256 (hex) over both sheet files: part of what identifies the composed data."""
    digest = hashlib.sha256()
    for split in _SHEETS:
        digest.update(_sheet_bytes(split))
    return digest.hexdigest()
