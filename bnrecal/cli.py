"""The command line: reads options, calls the library, prints. The only room that knows click.

Exit codes: 0 all done; 1 a bug of ours; 2 usage or bad input; 3 some cells failed; 130 and 143 when
interrupted or terminated.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from bnrecal.errors import BnrecalError

Command = TypeVar("Command", bound=Callable[..., Any])
STUDY_OPTIONS = ("task", "arch", "bs", "samples", "estimator", "momentum", "seed")
FORMATS = ("table", "long", "md", "csv", "json")
OUT = Path("results")


def main() -> NoReturn:
    """The console script: one line for every mistake the user can mend, and the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        code = cli.main(standalone_mode=False, auto_envvar_prefix=None)
    except BnrecalError as error:
        code = _complain(str(error), 2)
    except click.ClickException as error:
        code = _complain(error.format_message(), 2)
    except (KeyboardInterrupt, click.Abort):
        code = _complain("interrupted; finished cells are kept, the same command does the rest", 130)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        code = 0
    except Exception as error:
        if os.environ.get("BNRECAL_TRACEBACK"):
            raise
        what = f"{type(error).__name__}: {error}"
        code = _complain(f"a bug in bnrecal: {what} (BNRECAL_TRACEBACK=1 shows where)", 1)
    sys.exit(code)


def _complain(message: str, code: int) -> int:
    click.echo(f"bnrecal: {' '.join(message.split())}", err=True)
    return code


def _setting(name: str, **attributes: Any) -> Callable[[Command], Command]:
    """An option that can also be set by BNRECAL_NAME."""
    return click.option(f"--{name}", envvar=f"BNRECAL_{name.upper()}", show_envvar=False, **attributes)


def _list(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """A comma list; its items are checked by the study."""
    return None if value is None else tuple(item.strip() for item in value.split(","))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bnrecal")
def cli() -> None:
    """Run BatchNorm recalibration studies: how many images, at which batch size, at what cost."""


@cli.command()
@_setting("study", type=click.Path(path_type=Path), help="A study file (TOML); options win over it.")
@_setting("task", help="garments (default) or tiny.")
@_setting("arch", callback=_list, help="Architectures, comma list.  [arch1,arch2,arch3]")
@_setting("bs", callback=_list, help="Batch sizes, comma list.  [8,16,32,64]")
@_setting("samples", callback=_list, help="Calibration images, comma list.  [2560,5120,10240]")
@_setting("estimator", callback=_list, help="ema, cumulative, pooled, exact; comma list.  [ema]")
@_setting("momentum", callback=_list, help="Momenta of ema, comma list.  [0.1]")
@_setting("seed", help="Draws the fixed order of the calibration images.  [0]")
@_setting("device", default="auto", help="auto, cpu, cuda or cuda:i.", show_default=True)
@_setting("out", type=click.Path(path_type=Path), default=OUT, help="Output folder.", show_default=True)
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
    from bnrecal.store import Store

    chosen = _study(context, study, options)
    check_device_name(device)
    store = Store(out)
    plan = room.plan(chosen, store, limit)
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


def _study(context: click.Context, file: Path | None, options: dict[str, Any]) -> Any:
    """The study from options and environment over the study file over the defaults."""
    from bnrecal.study import make_study, read_study_file

    settings = read_study_file(file) if file else {}
    places = {name: f"{file}: {name}" for name in settings}
    for name in STUDY_OPTIONS:
        if options[name] is not None:
            settings[name] = options[name]
            from_environment = context.get_parameter_source(name) == click.core.ParameterSource.ENVIRONMENT
            places[name] = f"BNRECAL_{name.upper()}" if from_environment else f"--{name}"
    return make_study(settings, {**{name: f"--{name}" for name in STUDY_OPTIONS}, **places})


def _show_plan(plan: Any, store: Any) -> None:
    from bnrecal.sweep import estimated_s

    for todo in plan.passes:
        cell = todo.first
        counts = ", ".join(f"{c.n_samples:,}" for c in todo.cells)
        click.echo(f"{cell.arch}  bs {cell.batch_size:>3}  {cell.estimator}  samples {counts}")
    n_evaluated = sum(_n_evaluation(cell.task) for cell in plan.todo)
    click.echo(
        f"{len(plan.todo)} of {len(plan.cells)} cells to do in {len(plan.passes)} passes: "
        f"{plan.n_images:,} images to calibrate with, {n_evaluated:,} to evaluate; "
        f"about {estimated_s(plan, store):.0f} s"
    )


def _n_evaluation(task: str) -> int:
    from bnrecal import tasks

    return tasks.get(task).n_evaluation


def _run(plan: Any, store: Any, device: str) -> int:
    from rich.console import Console

    from bnrecal import sweep as room
    from bnrecal.progress import SweepProgress

    n_images = plan.n_images + sum(_n_evaluation(cell.task) for cell in plan.todo)
    n_failed = 0
    with SweepProgress(Console(stderr=True), n_images, len(plan.todo)) as progress:
        for row in room.sweep(plan.passes, store, device, progress.images):
            progress.cell(row, _n_evaluation(row["task"]))
            n_failed += row["status"] == "failed"
    if n_failed:
        return _complain(f"{n_failed} cells failed; the same command does them again", 3)
    return 0


@cli.command()
@_setting("out", type=click.Path(path_type=Path), default=OUT, help="Folder with rows.", show_default=True)
@click.option("--format", "layout", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("--published", is_flag=True, help="The 33 cells of the published study instead.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
def report(out: Path, layout: str, published: bool, output: Path | None) -> int:
    """Show what a sweep has measured.

    table: the published layout and what follows from it; long: a line per cell; md: Markdown; csv,
    json: every column.
    """
    from bnrecal.report.published import published_rows
    from bnrecal.store import Store

    store = Store(out)
    rows = published_rows() if published else store.latest()
    if not rows:
        raise BnrecalError(f"--out: no rows in {store.path}; run `bnrecal sweep` first")
    text = _rendered(rows, layout, to_terminal=output is None)
    if output is None:
        click.echo(text, nl=False)
        return 0
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise BnrecalError(f"--output: cannot write {output}: {error.strerror}") from None
    return 0


def _rendered(rows: list[Any], layout: str, to_terminal: bool) -> str:
    from bnrecal.report import export
    from bnrecal.report.sections import sections_of

    if layout == "csv":
        return export.to_csv(rows)
    if layout == "json":
        return export.to_json(rows) + "\n"
    if layout == "md":
        return export.to_markdown(sections_of(rows))
    from rich.console import Console

    from bnrecal.report.terminal import long_layout, published_layout

    console = Console(
        markup=False, no_color=None if to_terminal else True, force_terminal=None if to_terminal else False
    )
    drawn = long_layout(rows) if layout == "long" else published_layout(sections_of(rows))
    with console.capture() as captured:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


@cli.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for weights and log.")
def train(recipe: Path, out: Path) -> int:
    """Train the embedded supernet from a recipe file."""
    import hashlib

    from bnrecal import tasks
    from bnrecal.tasks.garments import Garments
    from bnrecal.train.recipe import read_recipe

    settings = read_recipe(recipe)
    task = tasks.get(settings.task)
    assert isinstance(task, Garments)
    from bnrecal.train.loop import train as run

    def show(epoch: dict[str, Any]) -> None:
        click.echo(
            f"epoch {epoch['epoch']}/{epoch['of']}: loss {epoch['loss']:.4f}, "
            f"{epoch['images_per_s']:,} images/s",
            err=True,
        )

    try:
        path = run(settings, task, out, show)
    except OSError as error:
        raise BnrecalError(f"--out: cannot write to {out}: {error.strerror}") from None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    click.echo(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {digest}")
    return 0
