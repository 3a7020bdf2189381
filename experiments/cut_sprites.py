"""Cut the two sprite sheets of bnrecal/data/fashion_mnist from the original Fashion-MNIST files.

    python experiments/cut_sprites.py FOLDER

FOLDER holds the four IDX files as published (`train-images-idx3-ubyte.gz`, ...), for one the folder
that Debian's package `dataset-fashion-mnist` installs. Needs numpy and Pillow.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SHEETS = {"train": ("train", 500), "test": ("t10k", 125)}  # sheet: (file prefix, sprites per class)
SPRITES_PER_ROW = 50
OUT = Path(__file__).parent.parent / "bnrecal" / "data" / "fashion_mnist"


def read_idx(path: Path) -> np.ndarray:
    """An IDX file: two zero bytes, type, number of dimensions, then big-endian sizes and data."""
    raw = gzip.decompress(path.read_bytes())
    n_dims = raw[3]
    shape = np.frombuffer(raw, ">i4", n_dims, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * n_dims).reshape(shape)


def main(folder: Path) -> None:
    for sheet, (prefix, per_class) in SHEETS.items():
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
        sprites = np.concatenate([images[labels == c][:per_class] for c in range(10)])
        rows = len(sprites) // SPRITES_PER_ROW
        grid = sprites.reshape(rows, SPRITES_PER_ROW, 28, 28).transpose(0, 2, 1, 3)
        path = OUT / f"{sheet}.png"
        Image.fromarray(grid.reshape(rows * 28, SPRITES_PER_ROW * 28)).save(path, optimize=True)
        print(f"{path.name}: {len(sprites)} sprites, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
