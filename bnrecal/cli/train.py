"""`bnrecal train`."""

from pathlib import Path
from typing import Any

import click

from bnrecal.cli.options import SectionedCommand, gathered, input_options
from bnrecal.errors import BnrecalError


@click.command(cls=SectionedCommand)
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for weights and log.")
@input_options
@click.pass_context
def train(context: click.Context, /, recipe: Path, out: Path, study: Path | None, **options: Any) -> int:
    """Train the embedded supernet by a recipe file, on its task or on the images of your options.

    The weights go to OUT/weights.safetensors, for `--model supernet --weights`.
    """
    import hashlib

    from bnrecal import tasks
    from bnrecal.study.inputs import make_inputs
    from bnrecal.train.loop import train as run
    from bnrecal.train.recipe import read_recipe

    settings = read_recipe(recipe)
    chosen, places = gathered(context, study, options)
    inputs = make_inputs({"task": settings.task, **chosen}, places)
    if inputs.model != "supernet" or inputs.weights is not None:
        raise BnrecalError(
            "--model: train makes weights for the supernet, from scratch; leave the option out"
        )

    def show(epoch: dict[str, Any]) -> None:
        click.echo(
            f"epoch {epoch['epoch']}/{epoch['of']}: loss {epoch['loss']:.4f}, "
            f"{epoch['images_per_s']:,} images/s",
            err=True,
        )

    try:
        path = run(settings, tasks.of(inputs), out, show)
    except OSError as error:
        raise BnrecalError(f"--out: cannot write to {out}: {error.strerror}") from None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    click.echo(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {digest}")
    return 0
