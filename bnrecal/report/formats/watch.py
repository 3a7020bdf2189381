"""Follow a store that another process fills: the table grows on a terminal, elsewhere a line per row."""

import time
from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from bnrecal.report.analysis.durations import spoken
from bnrecal.report.analysis.wording import counted
from bnrecal.report.formats.grid import grid_table
from bnrecal.report.formats.terminal import figure
from bnrecal.store.provenance import trained_how
from bnrecal.store.rows import SKIPPED, is_evaluated
from bnrecal.store.store import Row, Store
from bnrecal.study.axes import label
from bnrecal.study.cells import is_judgement, trained_name

EVERY_S = 1.0


def watch(store: Store, console: Console, rounds: int | None = None, every_s: float = EVERY_S) -> None:
    """Show the rows as they come, until interrupted (or for so many rounds)."""
    if not console.is_terminal:
        _lines(store, console, rounds, every_s)
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for _ in _rounds(rounds, every_s):
            live.update(picture(store.evaluated(), console.height), refresh=True)


def picture(rows: Sequence[Row], height: int) -> RenderableType:
    """The table of what is there, and one line that sums it up.

    Networks of several recipes have one place in such a table: where some were trained, the latest lines.
    """
    if not rows:
        return Text("no rows yet")
    most_lines = max(5, height - 6)
    if any(row.get("trained") is not None for row in rows):
        return Group(Text("\n".join(lines_of(rows)[-most_lines:])), Text(summary(rows)))
    return Group(grid_table(rows, most_lines=most_lines), Text(summary(rows)))


def summary(rows: Sequence[Row]) -> str:
    done = [row for row in rows if row["status"] == "done"]
    failed = f", {len(rows) - len(done)} failed" if len(done) < len(rows) else ""
    seconds = sum(row["total_s"] or 0.0 for row in done)
    images = sum(row["n_samples"] for row in done)
    speed = f"; {images / seconds:,.0f} calibration images/s over all they cost" if seconds else ""
    return f"{counted(len(done), 'cell')} done{failed}, {spoken(seconds)} of work{speed}"


def _lines(store: Store, console: Console, rounds: int | None, every_s: float) -> None:
    seen = 0
    for _ in _rounds(rounds, every_s):
        rows = store.rows()
        for text in lines_of(rows)[seen:]:
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        seen = max(seen, len(rows))


def lines_of(rows: Sequence[Row]) -> list[str]:
    """Each row in one line; of a recipe what differs from the defaults or from others."""
    return [line(row, how) for row, how in zip(rows, trained_how(rows), strict=True)]


def line(row: Row, trained: str = "") -> str:
    """One row in one line; `trained` says how its network was."""
    if row["status"] == SKIPPED:
        return f"{label(row, ('estimator',))}: skipped: {row['reason']}"
    if is_judgement(row):
        head = ", ".join(filter(None, (f"{row['arch']} before {row['judge']}", trained)))
    elif is_evaluated(row):
        head = ", ".join(filter(None, (label(row, ("estimator",)), trained)))
    else:
        head = f"trained {trained_name(row['arch'])}: {trained}"
    if row["status"] == "failed":
        return f"{head}: failed: {row['error']}"
    if is_judgement(row):
        return f"{head}: {row['score']:.6g}"
    if not is_evaluated(row):
        loss = "" if row["loss"] is None else f"loss {figure(row['loss'])}, "
        return f"{head}: {loss}{row['train_s']:.0f} s"
    update = "" if row["update"] is None else f"update {figure(row['update'])} "
    return f"{head}: {update}eval {figure(row['eval'])}"


def _rounds(rounds: int | None, every_s: float) -> Iterator[int]:
    n = 0
    while rounds is None or n < rounds:
        if n:
            time.sleep(every_s)
        yield n
        n += 1
