"""`bnrecal recalibrate`."""

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bnrecal.cli import single
from bnrecal.cli.messages import UNBROKEN, complain, say
from bnrecal.cli.options import SectionedCommand, device_option, input_options


@click.command(cls=SectionedCommand)
@input_options
@single.with_options(
    single.ARCH, single.BATCH, single.COUNT, *single.RULE, single.SEED, single.FROZEN, device_option
)
@single.output("The file to write: safetensors, the weights with their new statistics.")
@single.with_options(single.FORCE, *single.SHOWN)
@click.pass_context
def recalibrate(
    context: click.Context,
    /,
    study: Path | None,
    device: str,
    frozen: str | None,
    output: Path,
    force: bool,
    even_if_worse: bool,
    every: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Re-estimate one network's statistics and write its weights.

    Prints the metric before and after, and how far each layer's statistics moved. Where the metric fell
    beyond the noise of the evaluation images nothing is written (exit code 3) but with --even-if-worse.
    """
    from bnrecal.networks.saved_weights import check_free

    check_free(output, force, "--output")
    rule = single.frozen_of(frozen)
    opened = single.one_setting(context, study, options)
    return write_recalibrated(opened, device, output, Writing(force, even_if_worse, every, as_json), rule)


@dataclass(frozen=True)
class Writing:
    """How the result is written and shown."""

    force: bool = False
    even_if_worse: bool = False
    every: bool = False  # layer is shown
    as_json: bool = False


def write_recalibrated(
    opened: Any, device: str, output: Path, how: Writing, frozen: Any = "auto", weights: str | None = None
) -> int:
    """Do what this opened study of one cell asks for, print what came of it, and give the exit code.

    The file's header calls its weights `weights`.
    """
    from bnrecal.host.device import choose_device
    from bnrecal.host.threads import threads_fitting
    from bnrecal.measure.one_network import recalibrate_one

    with threads_fitting():
        found = recalibrate_one(opened, choose_device(device), say, frozen)
    written = how.even_if_worse or found.verdict != "worse"
    if written:
        study = opened.study if weights is None else opened.study.model_copy(update={"weights": weights})
        found.write(output, study, how.force)
        click.echo(f"written: {output}, {output.stat().st_size:,} bytes", err=True)
    if how.as_json:
        facts = {**found.to_dict(), "written": written, "output": str(output) if written else None}
        click.echo(json.dumps(facts, indent=1))
    else:
        _print(found, how.every)
    return 0 if written else complain(f"{output} was not written; --even-if-worse writes it", 3)


def _print(found: Any, every: bool) -> None:
    """What comes first, the verdict, the metric before and after, and the layers."""
    from bnrecal.recalibration.shown import MOST_LAYERS, alone, table

    if found.prepared is not None:  # what is to be done first is said first
        click.echo(textwrap.fill(f"First {found.prepared.better.remedy}", 80, **UNBROKEN))
        click.echo("With the images as they are:")
    click.echo(_verdict(found))
    click.echo(_summary(found))
    click.echo("\n".join(table(found.shifts, None if every else MOST_LAYERS, " (--all)")))
    for line in alone(found.report.left_alone):
        click.echo(line)


def _verdict(found: Any) -> str:
    """What the new statistics do to the metric; the first line, or under what must come first."""
    change = f"{found.after - found.before:+.4f}"
    if found.interval is None:
        return f"{change}: too few evaluation images to say how certain that is"
    interval = f"95 % interval {found.interval[0]:+.4f} to {found.interval[1]:+.4f}"
    if found.verdict == "worse":
        return f"WORSE: {change} ({interval}): keep the old statistics"
    if found.verdict == "better":
        return f"Better: {change} ({interval})"
    if found.before == found.after == 0:
        return "Not shown to help: the metric is 0 either way; are the classes the network's?"
    return f"Not shown to help: {change} ({interval})"


def _summary(found: Any) -> str:
    from bnrecal.study.axes import metric_name

    cell = found.cell
    momentum = "" if cell.momentum is None else f", momentum {cell.momentum}"
    return (
        f"{cell.arch} on {cell.task}: {metric_name(cell.metric)} {found.before:.4f} before, "
        f"{found.after:.4f} after\n"
        f"{cell.estimator}{momentum}, {cell.n_samples:,} images in batches of {cell.batch_size}, "
        f"seed {cell.seed}: {found.report.seconds:.1f} s\n"
    )
