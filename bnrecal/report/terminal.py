"""Reports for the terminal: the published layout (`table`) and a line per cell (`long`)."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bnrecal.report.findings import findings_of
from bnrecal.report.sections import Block, Section
from bnrecal.store import Row

COUNTS_ABREAST = 3  # sample counts beside each other that fit 80 columns
FOOTNOTE = (
    "update  metric of the update pass: each batch predicted with the statistics\n"
    "        as they stand right after it\n"
    "eval    metric on the evaluation images with the final statistics\n"
    "N       updates (batches); the time is that of one cell alone, mean over archs"
)


def published_layout(sections: Sequence[Section]) -> RenderableType:
    """A block per batch size; beside each other the sample counts, below them the architectures."""
    parts: list[RenderableType] = []
    for section in sections:
        parts.append(Text(section.title, style="bold"))
        parts += [table for block in section.blocks for table in _tables(block)]
        parts += [Text(f"{finding}\n") for finding in findings_of(section)]
    parts.append(Text(FOOTNOTE, style="dim"))
    return Group(*parts)


def _tables(block: Block) -> list[Table]:
    tables = []
    for start in range(0, len(block.samples), COUNTS_ABREAST):
        samples = block.samples[start : start + COUNTS_ABREAST]
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(f"bs {block.batch_size}")
        for n in samples:
            table.add_column(_heading(block, n), justify="right", no_wrap=True)
        for arch in block.archs:
            table.add_row(arch, *(_figures(block.rows.get((arch, n))) for n in samples))
        tables.append(table)
    return tables


def _heading(block: Block, n_samples: int) -> str:
    seconds = block.seconds(n_samples)
    time = f"{seconds:.1f} s" if seconds is not None else ""
    return f"{n_samples:,} samples\nN {block.n_updates(n_samples):,}, {time}\nupdate    eval"


def _figures(row: Row | None) -> str:
    if row is None:
        return "-       -"
    return f"{figure(row['update'])}  {figure(row['eval'])}"


def figure(value: float | None) -> str:
    """A metric to four digits, as the published table gives it."""
    return "-" if value is None else f"{value:.4f}"


LONG_COLUMNS = {
    "task": "task",
    "arch": "arch",
    "rule": "estimator",
    "bs": "batch_size",
    "samples": "n_samples",
    "N": "n_updates",
    "update": "update",
    "eval": "eval",
    "recal s": "recal_s",
    "total s": "total_s",
}


def long_layout(rows: Sequence[Row]) -> RenderableType:
    """One line per cell, failed ones with their reason."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in LONG_COLUMNS:
        numeric = heading not in ("task", "arch", "rule")
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row, name) for name in LONG_COLUMNS.values()))
    failed = [row for row in rows if row["status"] == "failed"]
    reasons = [
        Text(f"failed: {r['arch']} bs {r['batch_size']} samples {r['n_samples']}: {r['error']}")
        for r in failed
    ]
    return Group(table, *reasons)


def _cell(row: Row, name: str) -> str:
    value = row[name]
    if name in ("update", "eval"):
        return figure(value) if row["status"] == "done" else "failed"
    if name.endswith("_s"):
        return "-" if value is None else f"{value:.2f}"
    return str(value)
