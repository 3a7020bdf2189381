"""`bnrecal train`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnrecal.cli.options import SectionedCommand, device_option, gathered, input_options, setting
from bnrecal.errors import BnrecalError

if TYPE_CHECKING:
    from bnrecal.networks.network import NetworkSource
    from bnrecal.train.loop import Progress


@click.command(cls=SectionedCommand)
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for weights, log and checkpoint."
)
@input_options
@setting("arch", help="Architecture to train, where the model names several.")
@device_option
@click.pass_context
def train(
    context: click.Context,
    /,
    recipe: Path,
    out: Path,
    study: Path | None,
    arch: str | None,
    device: str,
    **options: Any,
) -> int:
    """Train a network by a recipe file, on its task or on the images of your options.

    The weights go to OUT/weights.safetensors, for `--weights`. Interrupted, the same command goes on after
    the last finished epoch, to the same bits.
    """
    from bnrecal import networks, tasks
    from bnrecal.host.device import choose_device
    from bnrecal.study.inputs import make_inputs
    from bnrecal.train.loop import train as run
    from bnrecal.train.recipe_file import read_recipe

    file = read_recipe(recipe)
    chosen, places = gathered(context, study, options)
    inputs = make_inputs({**file.inputs, **chosen}, places)
    on = choose_device(device)
    task = tasks.of(inputs)
    source = networks.of(inputs, task)
    name = _arch(source, arch or file.arch, file.recipe.sampling)
    learner = source.learner(name, file.recipe.seed)
    trained = run(file.recipe, task, learner, out, on, _show())
    click.echo(f"{trained.weights}: {trained.weights.stat().st_size:,} bytes, SHA-256 {trained.sha256}")
    return 0


def _arch(source: "NetworkSource", name: str | None, sampling: str) -> str | None:
    """The one architecture to train, None for a whole supernet."""
    if sampling != "none":
        if name is not None:
            raise BnrecalError(
                f"--arch: {name!r}: sampling {sampling} trains the whole supernet; leave it out"
            )
        return None
    if name is None and len(source.names) > 1:
        raise BnrecalError(
            f"--arch: a recipe without sampling trains one architecture of {len(source.names)}; "
            f"give one of {', '.join(source.names[:12])}"
        )
    return name or str(source.names[0])


def _show() -> Callable[["Progress"], None]:
    """A line an epoch on stderr; on a terminal the running epoch as well."""
    live = sys.stderr.isatty()

    def show(now: "Progress") -> None:
        if now.note is not None:
            click.echo(now.note, err=True)
        if now.loss != now.loss:  # nothing was trained yet
            if now.epoch:
                click.echo(f"{now.epoch} of {now.epochs} epochs were done before", err=True)
            return
        ended = now.step == now.steps
        if not (ended or live):
            return
        text = (
            f"epoch {now.epoch}/{now.epochs}: loss {now.loss:.4f}, {now.images_per_s:,.0f} images/s, "
            f"{_duration(now.left_s)} left"
        )
        click.echo(f"\r{text:78}" if live else text, err=True, nl=ended)

    return show


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
