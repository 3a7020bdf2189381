"""What a sweep shows while it works: a live line on a terminal, one plain line per cell elsewhere.

Everything goes to stderr; stdout is kept for answers.
"""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from bnrecal.store import Row
from bnrecal.study import Pass


class _ImagesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} images/s", style="progress.data.speed")


class SweepProgress:
    """Counts images (calibration and evaluation) towards `n_images`, and cells towards `n_cells`."""

    def __init__(self, console: Console, n_images: int, n_cells: int) -> None:
        self.console, self.n_images, self.n_cells = console, n_images, n_cells
        self.n_done = 0
        self.images_done = 0
        self.started = time.monotonic()
        self.live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            _ImagesPerSecond(),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=20,
            disable=not console.is_terminal,
        )
        self.task = self.live.add_task("starting", total=n_images)

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.live.stop()

    def images(self, todo: Pass, n: int) -> None:
        """`n` more calibration images of this pass are done."""
        self.images_done += n
        what = f"{todo.first.arch} bs {todo.first.batch_size}"
        self.live.update(self.task, advance=n, description=what)

    def cell(self, row: Row, n_evaluated: int) -> None:
        """A cell is on disk; `n_evaluated` images were evaluated for it."""
        self.n_done += 1
        self.images_done += n_evaluated
        self.live.update(self.task, advance=n_evaluated)
        head = f"[{self.n_done}/{self.n_cells}] {row['arch']} bs {row['batch_size']} n {row['n_samples']}"
        if row["status"] == "failed":
            tail = f"failed: {row['error']}"
        else:
            update = "" if row["update"] is None else f"update {row['update']:.4f} "
            tail = f"{update}eval {row['eval']:.4f} recal {row['recal_s']:.2f} s"
        if not self.console.is_terminal:
            tail += f", {self._left()}"
        self.console.print(f"{head}: {tail}", markup=False, highlight=False, soft_wrap=True)

    def _left(self) -> str:
        """Time left at the speed so far."""
        passed = time.monotonic() - self.started
        seconds = passed / max(1, self.images_done) * (self.n_images - self.images_done)
        return f"{seconds:.0f} s left"
