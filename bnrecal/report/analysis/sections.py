"""Rows arranged as the published study lays them out, as data that every format renders.

A section is one experiment (same task, data, estimator, momentum), in one or several orders of the
images; a block is one batch size of it; a column of the block one sample count.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import mean
from typing import Any

from bnrecal.report.analysis.wording import counted, listed
from bnrecal.store.provenance import inputs_of
from bnrecal.store.store import Row
from bnrecal.study.axes import EXPERIMENT, RULE, STORED, metric_name, rule
from bnrecal.study.cells import n_updates
from bnrecal.study.inputs import Inputs


@dataclass(frozen=True)
class Block:
    """One batch size: `rows[arch, n_samples]` is missing where the cell is not done."""

    batch_size: int
    samples: tuple[int, ...]
    archs: tuple[str, ...]
    rows: dict[tuple[str, int], Row]

    def seconds(self, n_samples: int) -> float | None:
        """Mean time of a cell with this sample count over the architectures; None if none is done."""
        found = [row["total_s"] for (_, n), row in self.rows.items() if n == n_samples]
        times = [seconds for seconds in found if seconds is not None]
        return mean(times) if times else None

    def n_updates(self, n_samples: int) -> int:
        return n_updates(n_samples, self.batch_size)


@dataclass(frozen=True)
class Section:
    """One experiment and its blocks, smallest batch size first.

    `seeds` are those of its orders of images; a cell run in several orders stands as their mean.
    """

    task: str
    data_digest: str | None
    metric: str
    estimator: str
    momentum: float | None
    seeds: tuple[int, ...]
    blocks: tuple[Block, ...]
    n_done: int
    n_failed: int
    stored: dict[str, Row] = field(default_factory=dict)  # the networks as they stand, by architecture
    failed_stored: tuple[str, ...] = ()  # architectures whose cell as they stand failed

    @property
    def title(self) -> str:
        failed = f", {self.n_failed} failed" if self.n_failed else ""
        cells = f"{counted(self.n_done, 'cell')}{failed}"
        if self.failed_stored:
            stand = "it stands" if len(self.failed_stored) == 1 else "they stand"
            cells += f"; failed: {listed(self.failed_stored)} as {stand}"
        if self.estimator == STORED:
            return f"{self.task}: {self.metric_name} as they stand ({cells})"
        return f"{self.task}: {self.metric_name} by {self.how}{_seeds(self.seeds)} ({cells})"

    @property
    def metric_name(self) -> str:
        return metric_name(self.metric)

    @property
    def how(self) -> str:
        return rule(self.estimator, self.momentum)

    @cached_property
    def rows(self) -> list[Row]:
        """Every done cell, several orders of it as one."""
        return [row for block in self.blocks for row in block.rows.values()]

    @cached_property
    def archs(self) -> tuple[str, ...]:
        return tuple(sorted({row["arch"] for row in self.rows}))

    def at(self, batch_size: int, n_samples: int) -> dict[str, Row]:
        """The cells of one setting, by architecture."""
        return self._by_setting.get((batch_size, n_samples), {})

    @cached_property
    def _by_setting(self) -> dict[tuple[int, int], dict[str, Row]]:
        found: dict[tuple[int, int], dict[str, Row]] = defaultdict(dict)
        for row in self.rows:
            found[row["batch_size"], row["n_samples"]][row["arch"]] = row
        return found

    @property
    def settings(self) -> list[tuple[int, int]]:
        """(batch size, samples) of every column, as the tables show them."""
        return [(block.batch_size, n) for block in self.blocks for n in block.samples]


def _seeds(seeds: Sequence[int]) -> str:
    if not seeds:
        return ""
    return f", seed {seeds[0]}" if len(seeds) == 1 else f", {len(seeds)} orders (seeds {_ranges(seeds)})"


def _ranges(seeds: Sequence[int]) -> str:
    whole = len(seeds) == seeds[-1] - seeds[0] + 1
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def sections_of(rows: Iterable[Row]) -> list[Section]:
    """Sections in the order their first rows were written. Failed cells count and show nowhere else.

    The networks as they stand belong to every section on the same task and data; where there is none, they
    are a section without blocks.
    """
    stored: dict[tuple[object, ...], dict[str, Row]] = defaultdict(dict)
    standing: dict[tuple[object, ...], list[Row]] = defaultdict(list)  # failed ones too
    together: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in _images_told_apart(_told_apart(list(rows))):
        experiment = tuple(row[name] for name in EXPERIMENT)
        if row["estimator"] != STORED:
            together[*experiment, *(row[name] for name in RULE)].append(row)
            continue
        standing[experiment].append(row)
        if row["status"] == "done":
            stored[experiment][row["arch"]] = row
    known = {key[: len(EXPERIMENT)] for key in together}
    return [
        *(
            _section(group, stored[key[: len(EXPERIMENT)]], standing[key[: len(EXPERIMENT)]])
            for key, group in together.items()
        ),
        *(_standing(group, stored[key]) for key, group in standing.items() if key not in known),
    ]


def _standing(rows: Sequence[Row], stored: dict[str, Row]) -> Section:
    first = rows[0]
    n_failed = len(rows) - len(stored)
    return Section(
        first["task"],
        first["data_digest"],
        first["metric"],
        STORED,
        None,
        (),
        (),
        len(stored),
        n_failed,
        dict(sorted(stored.items())),
    )


def _section(rows: Sequence[Row], stored: dict[str, Row], standing: Sequence[Row]) -> Section:
    first = rows[0]
    done = [row for row in rows if row["status"] == "done"]
    by_cell: dict[tuple[int, str, int], list[Row]] = defaultdict(list)
    for row in done:
        by_cell[row["batch_size"], row["arch"], row["n_samples"]].append(row)
    blocks = []
    archs = tuple(sorted({row["arch"] for row in done}))
    for batch_size in sorted({row["batch_size"] for row in done}):
        mine = {(arch, n): _mean(found) for (size, arch, n), found in by_cell.items() if size == batch_size}
        samples = tuple(sorted({n for _, n in mine}))
        blocks.append(Block(batch_size, samples, archs, mine))
    return Section(
        first["task"],
        first["data_digest"],
        first["metric"],
        first["estimator"],
        first["momentum"],
        tuple(sorted({row["seed"] for row in done if row["seed"] is not None})),
        tuple(blocks),
        len(done),
        len(rows) - len(done),
        {arch: stored[arch] for arch in archs if arch in stored},
        tuple(sorted({row["arch"] for row in standing} & set(archs) - stored.keys())),
    )


def _told_apart(rows: Sequence[Row]) -> list[Row]:
    """Where one name stands for several sets of weights, the name gains their digest."""
    weights: dict[str, set[str | None]] = defaultdict(set)
    for row in rows:
        weights[row["arch"]].add(row["weights_digest"])
    return [
        {**row, "arch": f"{row['arch']} ({str(row['weights_digest'])[:6]})"}
        if len(weights[row["arch"]]) > 1
        else row
        for row in rows
    ]


def _images_told_apart(rows: Sequence[Row]) -> list[Row]:
    """Where one task stands for several sets of images, its name gains the setting that tells them apart.

    If no single one does, because files were changed, say, the first digits of their digest.
    """
    firsts: dict[tuple[str, str], dict[str | None, Row]] = defaultdict(dict)
    for row in rows:
        firsts[row["task"], row["metric"]].setdefault(row["data_digest"], row)
    names: dict[tuple[str, str | None], str] = {}
    for (task, _), by_digest in firsts.items():
        if len(by_digest) > 1:
            told = _told_by_setting([inputs_of(row) for row in by_digest.values()])
            told = told or [f"images {str(digest)[:6]}" for digest in by_digest]
            names |= {(task, digest): f"{task} ({how})" for digest, how in zip(by_digest, told, strict=True)}
    return [
        {**row, "task": names[at]} if (at := (row["task"], row["data_digest"])) in names else row
        for row in rows
    ]


def _told_by_setting(inputs: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """The first field of `Inputs` that says something else of each, as words; None if there is none."""
    for name in Inputs.model_fields:
        if name in ("task", "model", "weights"):
            continue
        values = [_worded(name, of.get(name)) for of in inputs]
        if len(set(values)) == len(values) and "" not in values:
            return [f"{name.replace('_', ' ')} {value}" for value in values]
    return None


def _worded(name: str, value: object) -> str:
    if isinstance(value, list | tuple):
        return ("x" if name == "image_size" else ",").join(map(str, value))
    return "" if value is None else str(value)


def _mean(rows: list[Row]) -> Row:
    """One row, or the mean over several orders with the rows themselves under `orders`."""
    if len(rows) == 1:
        return rows[0]
    figures = {}
    for name in ("update", "eval", "recal_s", "update_s", "eval_s", "total_s"):
        values = [row[name] for row in rows if row[name] is not None]
        figures[name] = mean(values) if len(values) == len(rows) else None
    return {**rows[0], **figures, "seed": None, "orders": rows}


def orders_of(row: Row) -> list[Row]:
    """The rows a cell stands for: itself, or one for each order of the images."""
    found: list[Row] = row.get("orders") or [row]
    return found
