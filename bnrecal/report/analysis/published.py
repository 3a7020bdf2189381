"""What others published (see ORIGIN.md): 33 cells of recalibration as rows, and small and large batches."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from bnrecal.store.store import COLUMNS, SCHEMA_VERSION, Row

PUBLISHED_TASK = "published study"


def published_rows() -> list[Row]:
    """One done row per cell; momentum and order are not stated there."""
    return [_row(cell) for cell in _read("published_recalibration.csv")]


@dataclass(frozen=True)
class SmallBatch:
    """A published top-1 error on ImageNet, in per cent. `line` names the norm as its source does."""

    line: str
    norm: str
    norm_batch: int
    error_pct: float
    network: str
    source: str


def published_small_batches() -> list[SmallBatch]:
    """Errors against the images that one normalisation sees, each with its source."""
    return [
        SmallBatch(line, norm, int(norm_batch), float(error_pct), network, source)
        for line, norm, norm_batch, error_pct, network, source in map(
            dict.values, _read("published_small_batches.csv")
        )
    ]


@dataclass(frozen=True)
class LargeBatch:
    """A published top-1 of a training batch, in `unit`. `line` names network and optimiser."""

    line: str
    batch_size: int
    figure: float
    unit: str


def published_large_batches() -> list[LargeBatch]:
    """Top-1 against the batch of a training, smaller ones first within each line."""
    return [
        LargeBatch(line, int(batch_size), float(figure), unit)
        for line, batch_size, figure, unit in map(dict.values, _read("published_large_batches.csv"))
    ]


def _read(name: str) -> Iterator[dict[str, str]]:
    text = (files("bnrecal.report.analysis") / name).read_text("utf-8")
    yield from csv.DictReader(text.splitlines())


def _row(cell: dict[str, str]) -> Row:
    batch_size, n_samples = int(cell["batch_size"]), int(cell["samples"])
    return dict.fromkeys(COLUMNS) | {
        "schema_version": SCHEMA_VERSION,
        "key": f"published-{cell['arch']}-{batch_size}-{n_samples}",
        "status": "done",
        "task": PUBLISHED_TASK,
        "arch": cell["arch"],
        "batch_size": batch_size,
        "n_samples": n_samples,
        "n_updates": n_samples // batch_size,
        "estimator": "ema",
        "metric": "map50",
        "update": float(cell["update_map50"]),
        "eval": float(cell["eval_map50"]),
        "total_s": float(cell["seconds"]),
        "environment": {},
    }
