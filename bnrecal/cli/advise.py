"""`bnrecal advise`."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnrecal.cli.messages import UNBROKEN, complain, note, write_text
from bnrecal.cli.options import (
    OUT,
    SectionedCommand,
    along,
    gathered,
    input_options,
    setting,
    tolerance_option,
)
from bnrecal.cli.running import Running, running_options
from bnrecal.report.analysis.wording import counted
from bnrecal.study.axes import MOST

if TYPE_CHECKING:
    from bnrecal.report.analysis.advice import Advice
    from bnrecal.report.analysis.choice import Gap, Setting
    from bnrecal.store.rows import Row
    from bnrecal.sweep.doubling import Climbed


@click.command(cls=SectionedCommand)
@input_options
@along("arch", "Architectures that must all be served.  [those of the model]")
@along("estimator", "Which to try.  [pooled,cumulative,ema]")
@along("batch_size", "Batch sizes to try.  [64]")
@along("momentum")
@along("seed")
@setting(
    "out",
    type=click.Path(path_type=Path),
    default=OUT / "advise",
    help="Folder for the rows.",
    show_default=True,
)
@tolerance_option("Eval the setting may be behind by.")
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
@running_options
def advise(
    context: click.Context,
    /,
    running: Running,
    study: Path | None,
    out: Path,
    tolerance: float,
    max_seconds: float,
    max_images: int | None,
    as_json: bool,
    output: Path | None,
    **options: Any,
) -> int:
    """Find the cheapest setting without a grid: double the images until eval stops improving.

    Works for any task and model, on the network as it stands first. What is measured stays in
    OUT/rows.jsonl, so the same command goes on where it was stopped; `bnrecal report --out OUT` says the
    same. Prints what to do, why, its cost, and the code to use.
    """
    from bnrecal.plan.opened import open_study
    from bnrecal.report.analysis.summary import make_report
    from bnrecal.store.store import Store
    from bnrecal.sweep import doubling as room

    settings, places = gathered(context, study, options)
    settings.setdefault("estimator", room.ESTIMATORS)
    settings["samples"] = (MOST,)  # enough for any batch; the ladders say which
    opened = open_study(settings, places)
    task = opened.task
    for text in opened.notes:
        note(text)
    fitting = min(room.BATCH_SIZE, max(1, task.n_calibration // 4))
    sizes = opened.study.bs if "bs" in settings else (fitting,)
    store = Store(out)
    with running.open(opened.study, opened) as executor:
        budget = room.Budget(max_seconds, max_images)
        found = room.climb(opened, store, executor, tolerance, budget, _show, sizes)
    (advice,) = make_report(found.rows, store.folder, tolerance).advice or (None,)
    text = _as_json(found, advice) if as_json else _as_text(found, advice, task.n_evaluation)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_text(output, text)
    if found.failed:
        row = found.failed[0]
        n = counted(len(found.failed), "cell")
        return complain(f"{n} failed; the first, {row['arch']}: {row['error']}", 3)
    return 0


def _show(row: "Row") -> None:
    from bnrecal.study.axes import label

    said = f"eval {row['eval']:.4f}" if row["status"] == "done" else f"failed: {row['error']}"
    click.echo(f"{label(row, ('estimator',))}: {said}", err=True)


def _as_text(found: "Climbed", advice: "Advice | None", n_evaluation: int) -> str:
    from bnrecal.report.analysis.preparation import notes_of

    lines = [*_table(found, n_evaluation), ""]
    too_little = "Too little was measured to advise anything."
    said = advice.sentences() if advice else [*notes_of(found.rows), too_little]
    lines += [
        line for sentence in [*said, *_unfinished(found)] for line in textwrap.wrap(sentence, 79, **UNBROKEN)
    ]
    if advice is not None and advice.verdict == "use":
        rung = advice.choice.chosen
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


def _table(found: "Climbed", n_evaluation: int) -> list[str]:
    """Mean eval by images (lines) and rule (columns), the networks as they stand first."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from bnrecal.study.axes import metric_name

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("images", justify="right")
    climbed = [ladder for ladder in found.ladders if ladder.rungs]
    several = len({ladder.batch_size for ladder in climbed}) > 1
    for ladder in climbed:
        how = ladder.name if several else ladder.name.rpartition(" bs ")[0]
        table.add_column(how.replace(" bs ", "\nbs "), justify="right")
    for count in sorted({rung.n_samples for ladder in climbed for rung in ladder.rungs}):
        evals = [
            next((f"{r.mean_eval:.4f}" for r in ladder.rungs if r.n_samples == count), "")
            for ladder in climbed
        ]
        table.add_row(f"{count:,}", *evals)
    console = Console(markup=False, highlight=False, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    archs = {row["arch"] for row in found.rows}
    over = "" if len(archs) == 1 else f", mean over {counted(len(archs), 'architecture')}"
    metric = found.rows[0]["metric"]
    head = f"eval {metric_name(metric)} on {n_evaluation:,} images{over}"
    stored = [row["eval"] for row in found.rows if row["estimator"] == "stored"]
    stands = [f"as it stands: {sum(stored) / len(stored):.4f}"] if stored else []
    return [head, *stands, *(line.rstrip() for line in captured.get().splitlines() if line.strip())]


def _unfinished(found: "Climbed") -> list[str]:
    """Where the climb ended for want of time or images, or by a failure, and what would go on."""
    ends = ("out of", "all images")
    cut = [f"{lad.name} {lad.stopped}" for lad in found.ladders if lad.stopped.startswith(ends[0])]
    said = []
    if cut:
        said.append(f"The climb was cut short ({', '.join(cut)}): give more --max-seconds or --max-images.")
    said += [f"{lad.name}: {lad.stopped}." for lad in found.ladders if " failed at " in lad.stopped]
    return said


def _as_json(found: "Climbed", advice: "Advice | None") -> str:
    from bnrecal.report.analysis.preparation import notes_of

    choice = advice.choice if advice else None
    stored: Mapping[str, Row] = choice.stored if choice else {}
    facts = {
        "verdict": advice.verdict if advice else None,
        "settled": bool(choice and (choice.doubled or (choice.chosen is not choice.best and choice.shown))),
        "shown": bool(choice and choice.shown),
        "tolerance": choice.tolerance if choice else None,
        "archs": sorted({row["arch"] for row in found.rows}),
        "metric": found.rows[0]["metric"],
        "stored": {arch: row["eval"] for arch, row in stored.items()},
        "setting": None if choice is None or not choice.archs else _facts(choice.chosen),
        "best": None if choice is None else _facts(choice.best),
        "harmed": [] if choice is None else _gaps(choice.harmed),
        "helped": [] if choice is None else _gaps(choice.helped),
        "behind": [] if choice is None else _gaps(choice.behind),
        "sentences": advice.sentences() if advice else [],
        "preparation": " ".join(notes_of(found.rows)) or None,
        "rungs": [_facts(rung) for ladder in found.ladders for rung in ladder.rungs],
        "stopped": {ladder.name: ladder.stopped for ladder in found.ladders},
        "seconds": round(found.seconds, 3),
    }
    return json.dumps(facts, indent=1) + "\n"


def _facts(rung: "Setting") -> dict[str, Any]:
    return {
        "estimator": rung.estimator,
        "momentum": rung.momentum,
        "batch_size": rung.batch_size,
        "n_samples": rung.n_samples,
        "eval": {arch: row["eval"] for arch, row in rung.rows.items()},
        "recal_s": round(rung.seconds("recal_s"), 6),
    }


def _gaps(found: "Sequence[Gap]") -> list[dict[str, Any]]:
    return [{"arch": one.arch, "by": one.eval, "interval": one.interval} for one in found]
