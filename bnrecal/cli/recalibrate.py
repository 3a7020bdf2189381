"""`bnrecal recalibrate`."""

import json
from pathlib import Path
from typing import Any

import click

from bnrecal.cli import single
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
    every: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Re-estimate one network's statistics and write its weights.

    Prints the metric before and after, and how far each layer's statistics moved.
    """
    from bnrecal.networks.saved_weights import check_free

    check_free(output, force, "--output")
    found = write_recalibrated(single.one_setting(context, study, options), device, output, force)
    show(found, output, every, as_json)
    return 0


def write_recalibrated(
    opened: Any, device: str, output: Path, force: bool, weights: str | None = None
) -> Any:
    """Do what this opened study of one cell asks for; the file's header calls its weights `weights`."""
    from bnrecal.host.device import choose_device
    from bnrecal.measure.one_network import recalibrate_one

    found = recalibrate_one(opened, choose_device(device), lambda stage: click.echo(stage, err=True))
    study = opened.study if weights is None else opened.study.model_copy(update={"weights": weights})
    found.write(output, study, force)
    click.echo(f"written: {output}, {output.stat().st_size:,} bytes", err=True)
    return found


def show(found: Any, output: Path, every: bool, as_json: bool) -> None:
    """Print the metric before and after, and the layers."""
    from bnrecal.recalibration.shown import MOST_LAYERS, table

    if as_json:
        click.echo(json.dumps({**found.to_dict(), "output": str(output)}, indent=1))
        return
    click.echo(_summary(found))
    click.echo("\n".join(table(found.shifts, None if every else MOST_LAYERS, " (--all)")))
    for name, reason in found.report.left_alone.items():
        click.echo(f"left alone: {name or 'the model'}: {reason}")


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
