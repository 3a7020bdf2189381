"""The 33 cells of the published study as rows (see ORIGIN.md), for the same tables and findings."""

import csv
from importlib.resources import files

from bnrecal.store.store import COLUMNS, SCHEMA_VERSION, Row

PUBLISHED_TASK = "published study"


def published_rows() -> list[Row]:
    """One done row per cell; momentum and order are not stated there."""
    text = (files("bnrecal.report.analysis") / "published_recalibration.csv").read_text("utf-8")
    return [_row(cell) for cell in csv.DictReader(text.splitlines())]


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
