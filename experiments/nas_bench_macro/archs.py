"""Architectures for a study of rankings: python archs.py N [SEED] prints N different networks, comma list.

Each by its first name: an identity that changes no shape may stand anywhere in its stage, and the benchmark's
6,561 names are 3,969 networks.
"""

import random
import sys
from itertools import product

from supernet import STAGES, canonical


def networks() -> list[str]:
    """Every network once, in order."""
    names = ("".join(digits) for digits in product("012", repeat=sum(STAGES)))
    return sorted({canonical(name) for name in names})


def main(n: int = 200, seed: int = 0) -> None:
    print(",".join(random.Random(seed).sample(networks(), n)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
