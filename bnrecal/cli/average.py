"""`bnrecal average`."""

import tempfile
from pathlib import Path
from typing import Any

import click

from bnrecal.cli import single
from bnrecal.cli.options import SectionedCommand, device_option, input_options
from bnrecal.cli.recalibrate import Writing, write_recalibrated
from bnrecal.errors import BnrecalError


@click.command(cls=SectionedCommand)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@single.output("The file to write: safetensors.")
@single.FORCE
@click.option(
    "--then",
    type=click.Choice(["recalibrate"]),
    help="Also re-estimate the average's statistics, by the options of `bnrecal recalibrate`.",
)
@input_options
@single.with_options(single.ARCH, single.BATCH, single.COUNT, *single.RULE, single.SEED, device_option)
@single.with_options(*single.SHOWN)
@click.pass_context
def average(
    context: click.Context,
    /,
    files: tuple[Path, ...],
    output: Path,
    force: bool,
    then: str | None,
    study: Path | None,
    device: str,
    even_if_worse: bool,
    every: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Average the weights of checkpoint FILES of one network.

    Fractions are averaged in float64, whole numbers are the last file's. The running statistics of
    BatchNorm do not belong to averaged weights: `--then recalibrate` estimates them anew.
    """
    from bnrecal.integrations.averaging import average_files, has_statistics, write_average
    from bnrecal.networks.saved_weights import check_free

    if then is None:
        _refuse_without_then(context)
    elif options.get("weights") is not None:
        raise BnrecalError("--weights: the average is what is recalibrated; leave the option out")
    check_free(output, force, "--output")
    mean = average_files(files)
    if then is None:
        write_average(mean, output, files, force)
        click.echo(f"{output}: the mean of {len(files)} files, {output.stat().st_size:,} bytes")
        if has_statistics(mean):
            click.echo(
                "its running statistics are means too and do not belong to its weights: --then recalibrate",
                err=True,
            )
        return 0
    with tempfile.TemporaryDirectory() as folder:
        # a name that says in the header of the result what was recalibrated, whatever folder this is
        beside = Path(folder) / "average.safetensors"
        write_average(mean, beside, files, force=False)
        chosen = single.one_setting(context, study, {**options, "weights": str(beside)})
        how = Writing(force, even_if_worse, every, as_json)
        names = ", ".join(path.name for path in files)
        return write_recalibrated(chosen, device, output, how, weights=f"mean of {names}")


def _refuse_without_then(context: click.Context) -> None:
    """Options that only a recalibration reads are a misunderstanding without one."""
    own = {"files", "output", "force", "then"}
    for parameter in context.command.params:
        name = str(parameter.name)
        given = context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        if name not in own and given:
            raise BnrecalError(f"{parameter.opts[0]}: goes with --then recalibrate alone")
