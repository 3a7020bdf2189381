"""What a sweep shows while it works: on a terminal the table filling in, elsewhere a line per cell.

Everything goes to stderr; stdout is kept for answers.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from bnrecal.report.formats.grid import Place, grid_table, place_of
from bnrecal.store.rows import SKIPPED, Row, is_evaluated
from bnrecal.study.axes import label, varied
from bnrecal.study.cells import AnyPass, Cell, JudgePass, TrainingPass, is_judgement, trained_name
from bnrecal.study.recipe import Recipe
from bnrecal.study.recipes import label as variant
from bnrecal.study.recipes import varied_fields

FINAL_LINES = 40  # of the table that stays when a sweep ends
JUDGED_EVERY_S = 10.0  # a line that says how far judgements are, where there is no terminal


class _ImagesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} images/s", style="progress.data.speed")


@contextmanager
def decoding(console: Console) -> Iterator[Callable[[int], None]]:
    """On a terminal a line that counts while images are decoded; give it how many were just done."""
    columns = (TextColumn("decoding images"), TextColumn("{task.completed:,.0f}"), _ImagesPerSecond())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None, visible=False)  # nothing is shown if nothing is missing
        yield lambda n: progress.update(task, advance=n, visible=True)


class SweepProgress:
    """Counts images (calibration and evaluation) towards `n_images`, and cells towards `n_cells`.

    With `cells`, those to do, a terminal shows their table as it fills in; where networks are trained by
    `recipes`, a line for each.
    """

    def __init__(
        self,
        console: Console,
        n_images: int,
        n_cells: int,
        cells: Sequence[Cell] = (),
        recipes: Sequence[Recipe] = (),
    ) -> None:
        self.console, self.n_images, self.n_cells = console, n_images, n_cells
        self.n_done = 0
        self.images_done = 0
        self.started = self.judged_said = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            _ImagesPerSecond(),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=20,
        )
        self.task = self.bar.add_task("starting", total=n_images)
        self.is_of_trained = bool(recipes)
        self.planned = [] if recipes else [place_of(vars(cell)) for cell in cells]
        self.varied_in_training = varied_fields(recipes)
        self.varied = varied(vars(cell) for cell in cells)  # what a line has to say to name one cell
        self.rows: list[Row] = []
        self.running: frozenset[Place] = frozenset()
        self.live = Live(get_renderable=self._picture, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()
            if self.is_of_trained:  # a place of the table would be of several cells; each had its line
                return
            self.console.print(self._table(FINAL_LINES))

    def images(self, todo: AnyPass, n: int, said: str = "", /) -> None:
        """`n` more calibration images of this pass are done."""
        self.images_done += n
        if isinstance(todo, TrainingPass):
            what = f"{todo.training.name}, {self._variant(todo.training.recipe)}: {said}"
        elif isinstance(todo, JudgePass):
            what = f"judge {todo.first.judge}"
        else:
            self.running = frozenset(place_of(vars(cell)) for cell in todo.cells)
            size = todo.first.batch_size
            what = f"{todo.first.arch} as it stands" if size is None else f"{todo.first.arch} bs {size}"
        self.bar.update(self.task, advance=n, description=what)

    def note(self, said: str) -> None:
        """A line beside those of the cells."""
        self.console.print(f"note: {said}", markup=False, highlight=False, soft_wrap=True)

    def _variant(self, recipe: Recipe) -> str:
        return variant(recipe, self.varied_in_training)

    def cell(self, row: Row, n_evaluated: int) -> None:
        """A cell is on disk; `n_evaluated` images were evaluated for it."""
        self.n_done += 1
        if row["status"] == SKIPPED:
            self._skipped(row, n_evaluated)
            return
        if is_judgement(row):
            self._judged(row)
            return
        if not is_evaluated(row):
            self._trained(row)
            return
        self.images_done += n_evaluated
        self.bar.update(self.task, advance=n_evaluated)
        head = f"[{self.n_done}/{self.n_cells}] {label(row, self.varied)}"
        if row.get("recipe") is not None:
            head += f", {self._variant(Recipe(**row['recipe']))}"
        if row["status"] == "failed":
            tail = f"failed: {row['error']}"
        else:
            update = "" if row["update"] is None else f"update {row['update']:.4f} "
            recal = f" recal {row['recal_s']:.2f} s" if row["recal_s"] else ""
            tail = f"{update}eval {row['eval']:.4f}{recal}"
        self.rows.append(row)
        if not self.console.is_terminal:
            tail += f", {self._left()}"
        if not (self.console.is_terminal and self.planned) or row["status"] == "failed":
            self.console.print(f"{head}: {tail}", markup=False, highlight=False, soft_wrap=True)

    def _skipped(self, row: Row, n_evaluated: int) -> None:
        """A line for a cell that is left out, with the reason; its images are no longer to come."""
        self.n_images -= n_evaluated
        self.bar.update(self.task, total=self.n_images)
        self.rows.append(row)
        head = f"[{self.n_done}/{self.n_cells}] {label(row, self.varied)}"
        self.console.print(f"{head}: skipped, {row['reason']}", markup=False, highlight=False, soft_wrap=True)

    def _judged(self, row: Row) -> None:
        """A thousand judgements may take a second, or an hour: a line now and then, and for what failed."""
        head = f"[{self.n_done}/{self.n_cells}] {row['arch']} before {row['judge']}"
        if row["status"] == "failed":
            line = f"{head}: failed: {row['error']}"
        elif self.console.is_terminal:
            self.bar.update(self.task, description=head)
            return
        elif time.monotonic() - self.judged_said >= JUDGED_EVERY_S:
            line = f"{head}: {row['score']:.6g}"
        else:
            return
        self.judged_said = time.monotonic()
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _trained(self, row: Row) -> None:
        """A line for a network that is trained, or could not be."""
        name = trained_name(row["arch"])
        head = f"[{self.n_done}/{self.n_cells}] trained {name}: {self._variant(Recipe(**row['recipe']))}"
        tail = f"loss {row['loss']:.4f}, {row['train_s']:.0f} s" if row["status"] == "done" else "failed"
        if row["status"] == "failed":
            tail += f": {row['error']}"
        elif not self.console.is_terminal:
            tail += f", {self._left()}"
        self.console.print(f"{head}: {tail}", markup=False, highlight=False, soft_wrap=True)

    def _picture(self) -> RenderableType:
        """The table as far as the terminal is high, and the line below it."""
        if not self.planned:
            return self.bar
        return Group(self._table(max(3, self.console.height - 7)), self.bar)

    def _table(self, most_lines: int) -> RenderableType:
        return grid_table(self.rows, self.planned, self.running, most_lines)

    def _left(self) -> str:
        """Time left at the speed so far."""
        passed = time.monotonic() - self.started
        seconds = passed / max(1, self.images_done) * (self.n_images - self.images_done)
        return f"{seconds:.0f} s left"
