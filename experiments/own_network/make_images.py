"""Writes images/train/CLASS/*.png and images/val/CLASS/*.png: garments as a folder of one's own.

python experiments/own_network/make_images.py [FOLDER] [--per-class 200]
"""

import argparse
from pathlib import Path

from PIL import Image

from bnrecal.data.sprites import CLASSES, sprites


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("images"))
    parser.add_argument("--per-class", type=int, default=200)
    given = parser.parse_args()
    for split in ("train", "val"):
        for name, garments in zip(CLASSES, sprites(split), strict=True):
            target = given.folder / split / name
            target.mkdir(parents=True, exist_ok=True)
            for k, garment in enumerate(garments[: given.per_class]):
                Image.fromarray(garment).save(target / f"{k:03}.png")


if __name__ == "__main__":
    main()
