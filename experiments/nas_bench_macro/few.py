"""A part of a set of class folders: python few.py SET OUT N links N images of each class, drawn by name."""

import os
import random
import sys
from pathlib import Path


def main(whole: str, part: str, n: str) -> None:
    for folder in sorted(path for path in Path(whole).iterdir() if path.is_dir()):
        names = sorted(path.name for path in folder.iterdir())
        there = Path(part) / folder.name
        there.mkdir(parents=True, exist_ok=True)
        for name in random.Random(0).sample(names, int(n)):
            if not (there / name).exists():
                os.symlink((folder / name).resolve(), there / name)


if __name__ == "__main__":
    main(*sys.argv[1:])
