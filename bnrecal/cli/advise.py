"""`bnrecal advise`."""

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnrecal.cli.messages import write_text
from bnrecal.cli.options import SectionedCommand, comma_list, device_option, gathered, input_options, setting

if TYPE_CHECKING:
    from bnrecal.study.study import Study
    from bnrecal.sweep.doubling import Recommendation, Rung


@click.command(cls=SectionedCommand)
@input_options
@setting("arch", callback=comma_list, help="Architectures that must all be served.  [those of the model]")
@setting("estimator", callback=comma_list, help="Which to try.  [pooled,cumulative,ema]")
@setting("bs", callback=comma_list, help="Batch sizes to try.  [64]")
@setting("momentum", callback=comma_list, help="Momenta of ema, comma list.  [0.1]")
@setting("seed", help="Draws the fixed order of the calibration images.  [0]")
@device_option
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.003,
    show_default=True,
    help="Eval the setting may be behind by.",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Begin nothing that would take longer, and end what does.",
)
@click.option("--max-images", type=click.IntRange(min=1), help="Calibration images to read per architecture.")
@click.option("--json", "as_json", is_flag=True, help="The answer for machines.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
@click.pass_context
def advise(
    context: click.Context,
    /,
    study: Path | None,
    device: str,
    tolerance: float,
    max_seconds: float,
    max_images: int | None,
    as_json: bool,
    output: Path | None,
    **options: Any,
) -> int:
    """Find the cheapest setting without a grid: double the images until eval stops improving.

    Works for any task and model. Prints the setting, why it is enough, its cost, and the code to use.
    """
    from bnrecal.host.device import check_device_name
    from bnrecal.plan.opened import open_study
    from bnrecal.sweep import doubling as room

    check_device_name(device)
    settings, places = gathered(context, study, options)
    settings.setdefault("estimator", room.ESTIMATORS)
    opened = open_study(settings, places)
    chosen, task = opened.study, opened.task
    for note in opened.notes:
        click.echo(f"note: {note}", err=True)
    fitting = min(room.BATCH_SIZE, max(1, task.n_calibration // 4))
    sizes = chosen.bs if "bs" in settings else (fitting,)
    budget = room.Budget(max_seconds, max_images)
    found = room.advise(opened, device, tolerance, budget, _show, sizes)
    text = _as_json(found) if as_json else _as_text(found, chosen)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_text(output, text)
    return 0


def _show(rung: "Rung") -> None:
    evals = ", ".join(f"{arch} {value:.4f}" for arch, value in list(rung.evals.items())[:6])
    click.echo(f"{rung.estimator} bs {rung.batch_size}, {rung.n_samples:,} images: eval {evals}", err=True)


def _as_text(found: "Recommendation", study: "Study") -> str:
    lines = [*_table(found), ""]
    lines += [line for said in _sentences(found) for line in textwrap.wrap(said, 79)]
    rung = found.chosen
    if rung is not None:
        momentum = "" if rung.momentum is None else f", momentum={rung.momentum:g}"
        lines += [
            "",
            "    import bnrecal",
            "",
            f"    # batches: of {rung.batch_size} images, shuffled once",
            f'    bnrecal.recalibrate(model, batches, estimator="{rung.estimator}"{momentum}, '
            f"n_samples={rung.n_samples})",
        ]
    return "\n".join(lines) + "\n"


def _table(found: "Recommendation") -> list[str]:
    """Mean eval by images (lines) and rule (columns)."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from bnrecal.report.analysis.sections import METRIC_NAMES

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("images", justify="right")
    several = len({ladder.batch_size for ladder in found.ladders}) > 1
    for ladder in found.ladders:
        how = ladder.estimator if ladder.momentum is None else f"{ladder.estimator} {ladder.momentum:g}"
        table.add_column(f"{how}\nbs {ladder.batch_size}" if several else how, justify="right")
    counts = sorted({rung.n_samples for ladder in found.ladders for rung in ladder.rungs})
    for count in counts:
        evals = [
            next((f"{r.mean_eval:.4f}" for r in ladder.rungs if r.n_samples == count), "")
            for ladder in found.ladders
        ]
        table.add_row(f"{count:,}", *evals)
    console = Console(markup=False, highlight=False, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    n = len(found.archs)
    over = "" if n == 1 else f", mean over {n} architectures"
    head = f"eval {METRIC_NAMES.get(found.metric, found.metric)} on {found.n_evaluation:,} images{over}"
    return [head, *(line.rstrip() for line in captured.get().splitlines() if line.strip())]


def _sentences(found: "Recommendation") -> list[str]:
    """What to use and how sure that is, or why there is no answer."""
    from bnrecal.report.analysis.durations import spoken
    from bnrecal.sweep.doubling import behind

    rung = found.chosen
    best = f"{found.best.estimator}, {found.best.n_samples:,} images"
    if rung is None:
        reasons = ", ".join(
            f"{ladder.estimator}: {ladder.stopped or 'no images left'}" for ladder in found.ladders
        )
        return [
            f"No setting was seen to be enough ({reasons}). The highest so far: {best}, mean eval "
            f"{found.best.mean_eval:.4f}. Give more --max-seconds, --max-images or calibration images."
        ]
    gap = behind(rung, found.best)
    each = "" if len(found.archs) == 1 else " on any architecture"
    said = [f"Use {rung.estimator}, batches of {rung.batch_size}, {rung.n_samples:,} images."]
    if found.shown:
        said.append(
            f"Neither twice as many images nor the best measured ({best}) is better by more than "
            f"{found.tolerance:g}{each}, with 95 % confidence (at most {max(0.0, gap.bound or 0.0):.4f})."
        )
    else:
        reach = "" if gap.bound is None else f": the interval reaches {gap.bound:.4f}"
        said.append(
            f"Neither twice as many images nor the best measured ({best}) is better by more than "
            f"{found.tolerance:g} beyond noise{each}. {found.n_evaluation:,} evaluation images are too few "
            f"to be certain{reach}."
        )
    said.append(
        f"Cost: {spoken(rung.recal_s)} an architecture, {spoken(1000 * rung.recal_s)} for 1,000. "
        f"Found in {spoken(found.seconds)}."
    )
    return said


def _as_json(found: "Recommendation") -> str:
    rung = found.chosen
    facts = {
        "settled": rung is not None,
        "shown": found.shown,
        "tolerance": found.tolerance,
        "archs": list(found.archs),
        "metric": found.metric,
        "setting": None if rung is None else _facts(rung),
        "best": _facts(found.best),
        "rungs": [_facts(rung) for ladder in found.ladders for rung in ladder.rungs],
        "stopped": {f"{lad.estimator} bs {lad.batch_size}": lad.stopped for lad in found.ladders},
        "seconds": round(found.seconds, 3),
    }
    return json.dumps(facts, indent=1) + "\n"


def _facts(rung: "Rung") -> dict[str, Any]:
    return {
        "estimator": rung.estimator,
        "momentum": rung.momentum,
        "batch_size": rung.batch_size,
        "n_samples": rung.n_samples,
        "eval": dict(rung.evals),
        "recal_s": round(rung.recal_s, 6),
    }
