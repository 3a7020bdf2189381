"""`bnrecal sweep`."""

import time
from pathlib import Path
from typing import Any

import click

from bnrecal.cli.messages import complain
from bnrecal.cli.options import (
    OUT,
    SectionedCommand,
    device_option,
    gathered,
    grid_options,
    input_options,
    setting,
)


@click.command(cls=SectionedCommand)
@input_options
@grid_options
@device_option
@setting("out", type=click.Path(path_type=Path), default=OUT, help="Output folder.", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Do at most so many cells now.")
@click.option("--dry-run", is_flag=True, help="Show what would be done; do nothing.")
@click.pass_context
def sweep(
    context: click.Context,
    /,
    study: Path | None,
    device: str,
    out: Path,
    limit: int | None,
    dry_run: bool,
    **options: Any,
) -> int:
    """Measure a grid of batch size x samples x architecture.

    Finished cells stay in OUT/rows.jsonl; the same command again does only what is missing.
    """
    from bnrecal import sweep as room
    from bnrecal.device import check_device_name, choose_device
    from bnrecal.plan import complete_study
    from bnrecal.store import Store

    chosen = complete_study(*gathered(context, study, options))
    check_device_name(device)
    store = Store(out)
    plan = room.plan(chosen, store, limit)
    for note in plan.notes:
        click.echo(f"note: {note}", err=True)
    if dry_run:
        _show_plan(plan, store)
        return 0
    if device.startswith("cuda"):
        choose_device(device)  # refuse before anything is written
    if not plan.passes:
        click.echo(f"all {len(plan.cells)} cells are done; see `bnrecal report`", err=True)
        return 0
    store.prepare()
    resolved = store.keep_study(chosen)
    n_kept = len(plan.cells) - len(plan.todo)
    kept = f", {n_kept} kept from before" if n_kept else ""
    click.echo(f"{len(plan.todo)} cells in {len(plan.passes)} passes{kept}; study: {resolved}", err=True)
    return _run(plan, store, device)


def _show_plan(plan: Any, store: Any) -> None:
    from bnrecal.sweep import estimated_s

    for todo in plan.passes:
        cell = todo.first
        counts = ", ".join(f"{c.n_samples:,}" for c in todo.cells)
        click.echo(f"{cell.arch}  bs {cell.batch_size:>3}  {cell.estimator}  samples {counts}")
    n_evaluated = len(plan.todo) * plan.n_evaluation
    click.echo(
        f"{len(plan.todo)} of {len(plan.cells)} cells to do in {len(plan.passes)} passes: "
        f"{plan.n_images:,} images to calibrate with, {n_evaluated:,} to evaluate; "
        f"about {estimated_s(plan, store):.0f} s"
    )


def _run(plan: Any, store: Any, device: str) -> int:
    from rich.console import Console

    from bnrecal import sweep as room
    from bnrecal.progress import SweepProgress

    started = time.perf_counter()
    n_decoded = room.prepare(plan, lambda _: None)
    if n_decoded:
        seconds = time.perf_counter() - started
        click.echo(
            f"decoded {n_decoded:,} images in {seconds:.1f} s, {n_decoded / seconds:,.0f} a second", err=True
        )
    n_images = plan.n_images + len(plan.todo) * plan.n_evaluation
    n_failed = 0
    with SweepProgress(Console(stderr=True), n_images, len(plan.todo), plan.todo) as progress:
        for row in room.sweep(plan, store, device, progress.images):
            progress.cell(row, plan.n_evaluation)
            n_failed += row["status"] == "failed"
    if n_failed:
        return complain(f"{n_failed} cells failed; the same command does them again", 3)
    return 0
