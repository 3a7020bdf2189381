"""Rows arranged as the published study lays them out, as data that every format renders.

A section is one experiment (same task, data, order seed, estimator, momentum); a block is one batch
size of it; a column of the block one sample count.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from bnrecal.store import Row

METRIC_NAMES = {"map50": "mAP@0.5", "top1": "top-1"}


@dataclass(frozen=True)
class Block:
    """One batch size: `rows[arch, n_samples]` is missing where the cell is not done."""

    batch_size: int
    samples: tuple[int, ...]
    archs: tuple[str, ...]
    rows: dict[tuple[str, int], Row]

    def seconds(self, n_samples: int) -> float | None:
        """Mean time of a cell with this sample count over the architectures; None if none is done."""
        times = [row["total_s"] for (_, n), row in self.rows.items() if n == n_samples]
        return mean(times) if times else None

    def n_updates(self, n_samples: int) -> int:
        return -(-n_samples // self.batch_size)


@dataclass(frozen=True)
class Section:
    """One experiment and its blocks, smallest batch size first."""

    task: str
    metric: str
    estimator: str
    momentum: float | None
    seed: int | None
    blocks: tuple[Block, ...]
    n_done: int
    n_failed: int

    @property
    def title(self) -> str:
        how = self.estimator if self.momentum is None else f"{self.estimator}, momentum {self.momentum:g}"
        failed = f", {self.n_failed} failed" if self.n_failed else ""
        cells = f"{self.n_done} cells{failed}"
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.task}: {METRIC_NAMES.get(self.metric, self.metric)} by {how}{seed} ({cells})"


def sections_of(rows: Iterable[Row]) -> list[Section]:
    """Sections in the order their first rows were written. Failed cells count and show nowhere else."""
    apart = ("task", "data_digest", "metric", "estimator", "momentum", "seed")
    together: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        together[tuple(row[name] for name in apart)].append(row)
    return [_section(group) for group in together.values()]


def _section(rows: Sequence[Row]) -> Section:
    first = rows[0]
    done = [row for row in rows if row["status"] == "done"]
    archs = tuple(sorted({row["arch"] for row in done}))
    blocks = []
    for batch_size in sorted({row["batch_size"] for row in done}):
        mine = {(r["arch"], r["n_samples"]): r for r in done if r["batch_size"] == batch_size}
        samples = tuple(sorted({n for _, n in mine}))
        blocks.append(Block(batch_size, samples, archs, mine))
    return Section(
        first["task"],
        first["metric"],
        first["estimator"],
        first["momentum"],
        first["seed"],
        tuple(blocks),
        len(done),
        len(rows) - len(done),
    )
