"""The page's tables of all cells: every row that was evaluated, re-estimated and trained networks apart."""

from collections.abc import Sequence
from dataclasses import dataclass

from bnrecal.report.analysis.by_axes import IMAGES, SIZE
from bnrecal.report.analysis.finding import start_left, window
from bnrecal.report.analysis.sections import Section
from bnrecal.report.analysis.summary import Report, TrainedChapter
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.report.formats.terminal import figure
from bnrecal.store.store import Row
from bnrecal.study.axes import STORED, rule

MOST_CELLS = 1500  # lines of a table; more are left to CSV
FEW_CELLS = 40  # lines that need no folding
TEXTS = ("arch", "rule")  # columns of words, the others are of figures
AS_IT_STANDS = "as it stands"


@dataclass(frozen=True)
class CellTable:
    """Lines of text under headings; `n` counts those that are left out too."""

    id: str
    name: str
    caption: str
    headings: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    n: int

    @property
    def is_long(self) -> bool:
        return len(self.lines) > FEW_CELLS

    def is_text(self, column: int) -> bool:
        return self.headings[column] in TEXTS


def cell_tables(report: Report) -> list[CellTable]:
    """One for all re-estimated networks, one for each task that networks were trained for."""
    standing = {row["key"]: (c.section, row) for c in report.chapters for row in c.section.stored.values()}
    listed = [*standing.values(), *((c.section, row) for c in report.chapters for row in c.section.rows)]
    tables = []
    if listed:
        tables.append(_of_chapters(listed, report))
    for number, chapter in enumerate(report.trained, 1):
        tables.append(_of_trained(chapter, f"cells-trained-{number}", report.uncertainty))
    return tables


def _of_chapters(listed: Sequence[tuple[Section, Row]], report: Report) -> CellTable:
    headings = ["arch", "rule", "bs", "images", "N", "update", "eval"]
    headings += ["95 % interval"] if report.has_intervals else []
    headings += ["start left", "remembers, images", "update pass, s", "total, s"]
    lines = [_line(section, row, report) for section, row in listed[:MOST_CELLS]]
    caption = (
        "Every cell: figures, what an exponential average still holds of its start, how many images it "
        "remembers, and times"
    )
    return CellTable("cells", "All cells", caption, tuple(headings), tuple(lines), len(listed))


def _line(section: Section, row: Row, report: Report) -> tuple[str, ...]:
    momentum = row["momentum"]
    ema = row["estimator"] == "ema" and momentum is not None
    stands = row["estimator"] == STORED
    return (
        row["arch"],
        AS_IT_STANDS if stands else section.how,
        "-" if stands else f"{row['batch_size']:,}",
        f"{row['n_samples']:,}",
        f"{row['n_updates']:,}",
        figure(row["update"]),
        figure(row["eval"]),
        *([_interval(row, report.uncertainty)] if report.has_intervals else []),
        f"{100 * start_left(momentum, row['n_updates']):.2f} %" if ema else "-",
        f"{window(momentum) * row['batch_size']:,.0f}" if ema else "-" if stands else "all",
        *("-" if row[name] is None else f"{row[name]:.2f}" for name in ("recal_s", "total_s")),
    )


def _of_trained(chapter: TrainedChapter, name: str, uncertainty: Uncertainty) -> CellTable:
    """Where each cell lies along the training axes, by which rule it was evaluated, and its figures."""
    variants = chapter.variants
    own = [axis for axis in variants.training_axes if axis not in (SIZE, IMAGES)]
    headings = (*own, "seed", "rule", "bs", "images", "eval", "95 % interval")
    lines = []
    for point in variants.points[:MOST_CELLS]:
        row = point.row
        lines.append(
            (
                *(_said(point.at.get(axis)) for axis in own),
                str(point.training_seed),
                AS_IT_STANDS if point.is_stored else rule(row["estimator"], row["momentum"]),
                "-" if point.is_stored else f"{row['batch_size']:,}",
                f"{row['n_samples']:,}",
                figure(row["eval"]),
                _interval(row, uncertainty),
            )
        )
    caption = f"Every cell of trained networks on {variants.task}; intervals are over evaluation images"
    return CellTable(
        name, "All cells of trained networks", caption, headings, tuple(lines), len(variants.points)
    )


def _interval(row: Row, uncertainty: Uncertainty) -> str:
    interval = uncertainty.interval(row)
    return "-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _said(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
