"""`bnrecal recalibrate`."""

import json
from pathlib import Path
from typing import Any

import click

from bnrecal.cli import single
from bnrecal.cli.messages import complain
from bnrecal.cli.options import SectionedCommand, device_option, input_options


@click.command(cls=SectionedCommand)
@input_options
@single.with_options(single.ARCH, single.BATCH, single.COUNT, *single.RULE, single.SEED, device_option)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="The file to write: safetensors, the weights with their new statistics.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--even-if-worse", is_flag=True, help="Write the file even where the metric fell beyond noise.")
@click.option("--all", "every", is_flag=True, help="Show every layer, not the ten that changed most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def recalibrate(
    context: click.Context,
    /,
    study: Path | None,
    device: str,
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
    from bnrecal.host.device import choose_device
    from bnrecal.measure.one_network import recalibrate_one
    from bnrecal.networks.saved_weights import check_free

    check_free(output, force, "--output")
    opened = single.one_setting(context, study, options)
    found = recalibrate_one(opened, choose_device(device), lambda stage: click.echo(stage, err=True))
    written = even_if_worse or found.verdict != "worse"
    if written:
        found.write(output, opened.study, force)
        click.echo(f"written: {output}, {output.stat().st_size:,} bytes", err=True)
    if as_json:
        facts = {**found.to_dict(), "written": written, "output": str(output) if written else None}
        click.echo(json.dumps(facts, indent=1))
    else:
        _print(found, every)
    return 0 if written else complain(f"{output} was not written; --even-if-worse writes it", 3)


def _print(found: Any, every: bool) -> None:
    click.echo(_verdict(found))
    click.echo(_summary(found))
    click.echo(table(found.shifts, None if every else 10))
    for name, reason in found.report.left_alone.items():
        click.echo(f"left alone: {name or 'the model'}: {reason}")


def _verdict(found: Any) -> str:
    """What the new statistics do to the metric; the first line."""
    change = f"{found.after - found.before:+.4f}"
    if found.interval is None:
        return f"{change}: too few evaluation images to say how certain that is"
    interval = f"95 % interval {found.interval[0]:+.4f} to {found.interval[1]:+.4f}"
    if found.verdict == "worse":
        return f"WORSE: {change} ({interval}): leave the statistics as they are"
    if found.verdict == "better":
        return f"Better: {change} ({interval})"
    return f"Not shown to help: {change} ({interval})"


def _summary(found: Any) -> str:
    names = {"map50": "mAP@0.5", "top1": "top-1"}
    cell = found.cell
    momentum = "" if cell.momentum is None else f", momentum {cell.momentum}"
    return (
        f"{cell.arch} on {cell.task}: {names.get(cell.metric, cell.metric)} {found.before:.4f} before, "
        f"{found.after:.4f} after\n"
        f"{cell.estimator}{momentum}, {cell.n_samples:,} images in batches of {cell.batch_size}, "
        f"seed {cell.seed}: {found.report.seconds:.1f} s\n"
    )


def table(shifts: list[Any], most: int | None) -> str:
    """The layers' changes in at most 80 columns, the largest first."""
    rows = [f"{'':40}  {'mean moved by':>13}  {'variance by':>14}"]
    rows.append(f"{'layer':34} {'chan.':>5}  {'rms':>6} {'worst':>6}  {'typical':>7} {'range':>12}")
    for shift in shifts[:most]:
        name = shift.layer or "the model itself"
        name = name if len(name) <= 34 else f"...{name[-31:]}"
        if shift.size == float("inf"):
            tail = "from NaN, infinity or a negative variance"
        else:
            ends = f"{_short(shift.var_lowest)}-{_short(shift.var_highest)}"
            mean = f"{_short(shift.mean):>6} {_short(shift.mean_worst):>6}"
            tail = f"{mean}  {_short(shift.var_ratio):>7} {ends:>12}"
        rows.append(f"{name:34} {shift.n_channels:>5}  {tail}")
    if most is not None and len(shifts) > most:
        rows.append(f"and {len(shifts) - most} layers that changed less (--all)")
    rows.append("")
    rows.append("mean: distance in old standard deviations, over the channels of a layer;")
    rows.append("variance: new by old, geometric mean over the channels, lowest and highest.")
    return "\n".join(rows)


def _short(value: float) -> str:
    """Three significant digits, at most five characters below a million."""
    if value >= 1e5 or 0 < value < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
