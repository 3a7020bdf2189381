"""`bnrecal sweep`."""

import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnrecal.cli import completion
from bnrecal.cli.dry_run import plan_text
from bnrecal.cli.messages import complain, note
from bnrecal.cli.options import OUT, SectionedCommand, gathered, grid_options, input_options, setting
from bnrecal.cli.running import Running, running_options
from bnrecal.errors import BnrecalError
from bnrecal.report.analysis.wording import counted, listed
from bnrecal.study.axes import STORED, USUAL

if TYPE_CHECKING:
    from bnrecal.plan.opened import Opened
    from bnrecal.store.store import Store
    from bnrecal.sweep.plan import Plan

MANY_TRAININGS = 100  # a grid with more is not begun without a word


@click.command(cls=SectionedCommand)
@input_options
@grid_options
@setting("out", type=click.Path(path_type=Path), default=OUT, help="Output folder.", show_default=True)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME=VALUES",
    shell_complete=completion.of("only"),
    help="Only these cells, such as arch=arch1.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="NAME=VALUES",
    shell_complete=completion.of("exclude"),
    help="Not these cells, such as bs=8,16.",
)
@click.option(
    "--retry-failed", is_flag=True, help="The cells that failed before, instead of those without a row."
)
@click.option(
    "--force",
    is_flag=True,
    help="Every cell, finished ones again; their rows go to rows.jsonl.replaced. Not finished trainings, "
    "which would give the same weights.",
)
@click.option("--fail-fast", is_flag=True, help="Stop at the first cell that fails.")
@click.option("--max-failures", type=click.IntRange(min=1), help="Stop when so many cells failed.")
@click.option("--limit", type=click.IntRange(min=1), help="Do at most so many cells now.")
@click.option(
    "--stop-when-sure",
    is_flag=True,
    help="Leave out further architectures and orders of settings that are shown worse; each is told.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done; do nothing.")
@click.option("--yes", is_flag=True, help="Train as many networks as the study asks for, unasked.")
@click.pass_context
@running_options
def sweep(
    context: click.Context,
    /,
    running: Running,
    study: Path | None,
    out: Path,
    only: tuple[str, ...],
    exclude: tuple[str, ...],
    retry_failed: bool,
    force: bool,
    fail_fast: bool,
    max_failures: int | None,
    limit: int | None,
    stop_when_sure: bool,
    dry_run: bool,
    yes: bool,
    **options: Any,
) -> int:
    """Measure a grid of batch size x samples x architecture.

    Finished cells stay in OUT/rows.jsonl; the same command again does only what is missing.
    """
    from bnrecal.plan.opened import open_study
    from bnrecal.store.store import Store
    from bnrecal.study.selection import Choice, conditions
    from bnrecal.sweep import plan as planning

    cut = None if stop_when_sure else limit  # which goes by rounds, and counts what it measures
    choice = Choice(conditions(only, "--only"), conditions(exclude, "--exclude"), retry_failed, force, cut)
    settings, places = gathered(context, study, options)
    opened = open_study(settings, places)
    store = Store(out)
    executor = running.open(opened.study, opened, out)
    plan = planning.plan(opened, store, choice)
    if not any(choice.covers(cell) for cell in plan.cells):
        raise BnrecalError(f"--only, --exclude: they leave none of the study's {len(plan.cells)} cells")
    for text in (*opened.notes, *_unasked(opened, settings), *_other_images(store, plan)):
        note(text)
    if dry_run:
        click.echo(plan_text(plan, store), nl=False)
        return 0
    if not plan.passes:
        _say_preparation(plan, store)
        return _summary(plan, store, choice, Counter())
    if not yes:
        _ask(plan, store)
    store.prepare()
    resolved = store.keep_study(opened.study)
    if force and store.set_aside({cell.key for cell in plan.todo}):
        plan = planning.plan(opened, store, replace(choice, force=False))
    kept = f", {plan.n_kept} kept from before" if plan.n_kept else ""
    click.echo(f"{_counted(plan)}{kept}; study: {resolved}", err=True)
    if running.name != "ray":  # nodes decode for themselves
        _decode(plan)
    most = 1 if fail_fast else max_failures
    rounds = _Rounds(limit) if stop_when_sure else None
    failures = _run(plan, store, executor, resolved, most, rounds)
    _say_preparation(plan, store)
    return _summary(plan, store, choice, failures)


def _unasked(opened: "Opened", settings: "Mapping[str, Any]") -> "Iterator[str]":
    """That a small set has other sizes than the usual ones, where nobody named any."""
    study = opened.study
    if set(study.estimator) == {STORED} or study.task == "tiny" or settings.get("samples") is not None:
        return
    if study.samples != USUAL["samples"]:
        bs = f" and --bs {_listed(study.bs)}" if settings.get("bs") is None else ""
        n = counted(opened.task.n_calibration, "calibration image")
        yield f"of {n} --samples {_listed(study.samples)}{bs} are taken, in place of the usual ones"


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _other_images(store: "Store", plan: "Plan") -> "Iterator[str]":
    """That rows lie here of the same task on other images, which a report sets apart."""
    if store.seen().status.keys() <= {cell.key for cell in plan.cells}:
        return  # the usual case, for which no row need be read
    digests = {(cell.task, cell.data_digest) for cell in plan.cells}
    tasks = {task for task, _ in digests}
    others = {
        row["key"]
        for row in store.evaluated()
        if row["task"] in tasks and (row["task"], row["data_digest"]) not in digests
    }
    if others:
        rows = counted(len(others), "cell")
        yield (
            f"{store.folder} has {rows} of {listed(sorted(tasks))} on other images, or on images made into "
            "input otherwise: they stay, and reports set them apart"
        )


@dataclass(frozen=True)
class _Rounds:
    """What --stop-when-sure asks for: at most `limit` cells measured."""

    limit: int | None


def _counted(plan: Any) -> str:
    n = len(plan.trainings)
    trained = f"{counted(n, 'network')} to train, " if n else ""
    walks = counted(len(plan.passes) - n, "pass", "passes")
    return f"{trained}{counted(len(plan.cells_to_do), 'cell')} in {walks}"


def _ask(plan: Any, store: Any) -> None:
    """A grid of trainings grows by multiplication: many of them are asked for, with their cost."""
    from bnrecal.sweep.plan import estimated_s

    if len(plan.trainings) <= MANY_TRAININGS:
        return
    hours = estimated_s(plan, store) / 3600
    what = f"the study trains {len(plan.trainings):,} networks, about {hours:,.1f} hours"
    if not sys.stdin.isatty():
        raise BnrecalError(f"[train]: {what}; give --yes if that is meant")
    if not click.confirm(f"{what}; go on?", err=True):
        raise BnrecalError(f"[train]: {what}; nothing was done")


def _decode(plan: Any) -> None:
    """Decode what the cache does not hold yet, before any time is taken."""
    from rich.console import Console

    from bnrecal.sweep import plan as planning
    from bnrecal.sweep.progress import decoding

    started = time.perf_counter()
    with decoding(Console(stderr=True)) as on_decoded:
        n_decoded = planning.prepare(plan, on_decoded)
    if n_decoded:
        seconds = time.perf_counter() - started
        click.echo(
            f"decoded {n_decoded:,} images in {seconds:.1f} s, {n_decoded / seconds:,.0f} a second", err=True
        )


def _run(
    plan: Any, store: Any, executor: Any, resolved: Path, max_failures: int | None, rounds: "_Rounds | None"
) -> Counter[str]:
    """Do the plan's cells; returns how many failed, by kind of failure."""
    from rich.console import Console

    from bnrecal.sweep.progress import SweepProgress
    from bnrecal.sweep.sure import sure
    from bnrecal.sweep.sweep import sweep as run_sweep

    def waiting(n: int) -> None:
        click.echo(f"another sweep has taken {n} of these cells; waiting for it", err=True)

    def measured(some: Any) -> Any:
        return run_sweep(some, store, executor, progress.images, waiting, resolved.name, progress.note)

    n_images = plan.n_images + plan.n_trained_on + len(plan.cells_to_do) * plan.n_evaluation
    failures: Counter[str] = Counter()
    with (
        SweepProgress(
            Console(stderr=True), n_images, len(plan.todo), plan.cells_to_do, plan.opened.recipes
        ) as progress,
        executor,
        closing(
            measured(plan) if rounds is None else sure(plan, store, measured, resolved.name, rounds.limit)
        ) as rows,
    ):
        for row in rows:
            progress.cell(row, plan.n_evaluation)
            if row["status"] == "failed":
                failures[row["failure"]] += 1
            if max_failures is not None and failures.total() >= max_failures:
                click.echo(f"stopped after {failures.total()} failures", err=True)
                break
    return failures


def _say_preparation(plan: Any, store: Any) -> None:
    """How the images would fit better, where the networks as they stand of this study say it."""
    from bnrecal.report.analysis.preparation import notes_of

    keys = {cell.key for cell in plan.cells if cell.estimator == STORED}
    rows = [row for row in store.evaluated() if row["key"] in keys] if keys else []
    for said in notes_of(rows):
        note(said)


def _summary(plan: Any, store: Any, choice: Any, failures: Counter[str]) -> int:
    """Say what failed, now or before, and the command that does only that again; the exit code."""
    from bnrecal.sweep.plan import trainings_under

    status = store.seen().status
    n_skipped = sum(status.get(cell.key) == "skipped" for cell in plan.cells if choice.covers(cell))
    if n_skipped:
        click.echo(
            f"{counted(n_skipped, 'cell')} left out, of settings shown worse; "
            "the same command without --stop-when-sure measures them",
            err=True,
        )
    of = [cell for cell in plan.cells if choice.covers(cell)]
    under = trainings_under(of)
    failed, lost = ([c for c in cells if status.get(c.key) == "failed"] for cells in (of, under))
    if not failed and not lost:
        done = f"all {len(of):,} cells are" if len(of) > 1 else "the one cell is"
        said = f"{done} done; " if not plan.passes else ""
        click.echo(f"{said}see `{shlex.join(_report_of(store.folder))}`", err=True)
        return 0
    kinds = ", ".join(f"{n} {kind}" for kind, n in failures.items())
    study = str(store.keep_study(plan.study))
    again = shlex.join(["bnrecal", "sweep", "--study", study, "--out", str(store.folder), "--retry-failed"])
    n, n_of, things = (len(failed), len(of), "cells") if failed else (len(lost), len(under), "trainings")
    what = f"{n} of {n_of} {things} failed{f' ({kinds})' if kinds else ''}"
    return complain(f"{what}; these alone again: {again}", 3)


def _report_of(folder: Path) -> list[str]:
    return ["bnrecal", "report", *([] if folder == OUT else [str(folder)])]
