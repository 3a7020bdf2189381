"""Cells and passes: frozen data, known before any tensor exists.

A `Cell` is one point of a study's grid with everything that decides its figures, and nothing that does
not: its `key` is the same on every machine, device and day. A `Pass` is one ordered walk over the
calibration images that serves several cells at once.
"""

import hashlib
import json
from dataclasses import asdict, dataclass

# Raise when a change of code changes figures: finished cells of the old version are then done again.
ALGORITHM = 1

STORED = "stored"  # estimates nothing: the network as it came, which every other cell has to beat
ESTIMATORS = ("ema", "cumulative", "pooled", "exact", STORED)
MOMENTUM = 0.1  # PyTorch's convention: the weight of the newest batch


def n_updates(n_samples: int, batch_size: int | None) -> int:
    """Batches that hold so many images; none where nothing is read."""
    return -(-n_samples // batch_size) if batch_size else 0


@dataclass(frozen=True)
class Cell:
    """One point of a study: the scientific fields of a result row.

    `order_digest` covers the ids of exactly the `n_samples` images the cell reads, in order;
    `weights_digest` the weights file and the path taken through it. `momentum` is None for
    estimators that have none. The `stored` statistics read no images: no batch size, no order, no seed.
    """

    task: str
    metric: str
    data_digest: str
    order_digest: str | None
    arch: str
    weights_digest: str
    batch_size: int | None
    n_samples: int
    estimator: str
    momentum: float | None
    seed: int | None

    @property
    def n_updates(self) -> int:
        """Batches read; the last one is short when n_samples is no multiple of batch_size."""
        return n_updates(self.n_samples, self.batch_size)

    @property
    def key(self) -> str:
        """Digest of the scientific fields and the algorithm version; 20 hex digits."""
        facts = json.dumps({"algorithm": ALGORITHM, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Pass:
    """Cells that one walk over the images serves: they differ in `n_samples` alone.

    Sorted by `n_samples`; all but the last are multiples of the batch size, so that each is a
    prefix of the next.
    """

    cells: tuple[Cell, ...]

    @property
    def first(self) -> Cell:
        return self.cells[0]

    @property
    def n_samples(self) -> int:
        """Images the pass reads."""
        return self.cells[-1].n_samples
