"""Watching: the table of a store that grows, and that of a sweep while it works."""

import io
import re
import signal
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import Opened
from bnrecal.report.formats.grid import grid_table, place_of
from bnrecal.report.formats.watch import watch
from bnrecal.store.store import Store
from bnrecal.study.study import make_study
from bnrecal.sweep.progress import SweepProgress
from tests.executors.processes import PATIENCE_S, start
from tests.report.test_report import row


def shown(table: object, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(table)
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def test_a_grid_fills_in() -> None:
    """Done cells show eval, running ones dots, planned ones a dot, failed ones that word."""
    rows = [row("a", 8, 64, 0.3), row("b", 8, 64, 0.3, status="failed", error="x")]
    planned = [place_of(row(arch, 8, n, 0)) for n in (64, 128) for arch in ("a", "b")]
    text = shown(grid_table(rows, planned, frozenset(planned[2:3])))
    lines = [line.split() for line in text.splitlines() if line.strip().startswith("ema")]
    assert lines == [["ema", "0.1", "8", "64", "0.3100", "failed"], ["ema", "0.1", "8", "128", "...", "."]]


def test_large_grids_show_what_happens_now() -> None:
    """Many settings: the lines around the latest row; many architectures: the latest; 80 columns."""
    rows = [row(f"3-0-2-1-3-2-{k}-1", 8, 64 * n, 0.3) for n in range(1, 60) for k in range(9)]
    text = shown(grid_table(rows, most_lines=10))
    assert "3,776" in text  # 59 x 64
    assert "\n ema 0.1   8      64 " not in text
    assert "3-0-2-1-3-2-8-1" in text
    assert "3-0-2-1-3-2-0-1" not in text
    assert max(map(len, text.splitlines())) <= 80


class Answering(io.StringIO):
    """A file that lets `answer` run when the first line comes."""

    def __init__(self, answer: Callable[[], object]) -> None:
        super().__init__()
        self.answer = answer
        self.answered = False

    def write(self, text: str) -> int:
        if not self.answered:
            self.answered = True
            self.answer()
        return super().write(text)


def test_watching_elsewhere_prints_each_row_once(tmp_path: Path) -> None:
    """Without a terminal a line per row as it comes, those of another writer included."""
    store = Store(tmp_path)
    store.prepare()
    store.append(row("a", 8, 64, 0.1))
    file = Answering(lambda: Store(tmp_path).append(row("b", 8, 64, 0.2, status="failed", error="broke")))
    watch(store, Console(file=file, force_terminal=False), rounds=3, every_s=0.01)
    first, second = file.getvalue().splitlines()
    assert re.fullmatch(r"a .*bs 8 .*n 64.*: update 0\.1000 eval 0\.1100", first)
    assert re.fullmatch(r"b .*bs 8 .*n 64.*: failed: broke", second)


def test_watching_on_a_terminal_shows_table_and_sum(tmp_path: Path) -> None:
    """The last picture holds every row and what it cost."""
    store = Store(tmp_path)
    store.prepare()
    for n in (64, 128):
        store.append(row("a", 8, n, 0.1))
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    watch(store, console, rounds=2, every_s=0.01)
    assert isinstance(console.file, io.StringIO)
    assert "2 cells done, 5.0 s of work; 38 calibration images/s" in console.file.getvalue()


def test_watch_ends_with_130_when_interrupted(tmp_path: Path) -> None:
    """Ctrl-C is how it ends; no traceback, no complaint."""
    store = Store(tmp_path)
    store.prepare()
    store.append(row("a", 8, 64, 0.1))
    running = start("report", "--watch", "--out", tmp_path)
    assert running.stdout is not None
    try:
        assert running.stdout.readline().startswith("a ")
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=PATIENCE_S)
    finally:
        running.kill()  # else a failure above would leave it watching for ever
    assert (running.returncode, err) == (130, "")


def test_a_sweep_on_a_terminal_shows_its_table() -> None:
    """The planned cells from the start, each figure when it comes, and the whole table at the end."""
    cells = cells_of(
        Opened.of(make_study({"task": "tiny", "arch": ["arch1"], "bs": [8], "samples": [64, 128]}))
    )
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    with SweepProgress(console, 200, len(cells), cells) as progress:
        progress.cell(row("arch1", 8, 64, 0.25), 64)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "0.2600" in text
    assert "arch1" in text
    assert "[1/2]" not in text  # lines are for where there is no terminal
