"""`bnrecal train`."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnrecal.cli.options import SectionedCommand, device_option, gathered, input_options, setting
from bnrecal.errors import BnrecalError
from bnrecal.host.interrupts import Stopped

if TYPE_CHECKING:
    from bnrecal.train.folder import Trained
    from bnrecal.train.loop import Progress
    from bnrecal.train.request import Request

OTHERS_WAIT_S, SUFFERERS_WAIT_S = 5.0, 10.0  # a process that has torch takes seconds to end


@click.command(cls=SectionedCommand)
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for weights, log and checkpoint."
)
@input_options
@setting("arch", help="Architecture to train, where the model names several.")
@device_option
@setting("processes", type=click.IntRange(min=1), default=1, help="Processes that share each step.  [1]")
@setting(
    "process-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    metavar="SECONDS",
    help="How long one may keep the others waiting.  [600]",
)
@click.pass_context
def train(
    context: click.Context,
    /,
    recipe: Path,
    out: Path,
    study: Path | None,
    arch: str | None,
    device: str,
    processes: int,
    process_timeout: float,
    **options: Any,
) -> int:
    """Train a network by a recipe file, on its task or on the images of your options.

    The weights go to OUT/weights.safetensors, for `--weights`. Interrupted, the same command goes on after
    the last finished epoch, to the same bits. With --processes, or started by torchrun, each process takes
    a part of every batch; BatchNorm sees the whole of it, and one process would train the same network.
    """
    from bnrecal.study.inputs import make_inputs
    from bnrecal.train.recipe_file import read_recipe
    from bnrecal.train.request import Request

    file = read_recipe(recipe)
    chosen, places = gathered(context, study, options)
    request = Request(file.recipe, make_inputs({**file.inputs, **chosen}, places), arch or file.arch, out)
    trained = _run(request, device, processes, process_timeout)
    if trained is not None:
        click.echo(f"{trained.weights}: {trained.weights.stat().st_size:,} bytes, SHA-256 {trained.sha256}")
    return 0


def _run(request: "Request", device: str, n: int, timeout_s: float) -> "Trained | None":
    """Train in this process, in several, or as one of torchrun's; None where another one answers."""
    from bnrecal.host.device import choose_device, devices_of
    from bnrecal.train.ranks import from_torchrun, joined

    launched = from_torchrun()
    if launched is None and n == 1:
        return request.run(choose_device(device), _show())
    if launched is None:
        from bnrecal.train.processes import run

        return run(request, devices_of(device, n, "--processes"), _show(), timeout_s)
    if n > 1:
        raise BnrecalError(f"--processes: {n}, under torchrun, which starts them; leave it out")
    rank, n, local = launched
    import torch

    on = torch.device(devices_of(device, local + 1, "torchrun --nproc-per-node")[local])
    with _one_speaks(rank, n), joined(rank, n, on, timeout_s) as ranks:
        trained = request.run(on, _show() if ranks.is_first else lambda _: None, ranks)
    return trained if ranks.is_first else None


@contextmanager
def _one_speaks(rank: int, n: int) -> Iterator[None]:
    """Of processes that fail together, the one that knows why says it, the first one if all know.

    torchrun ends the others as soon as one has ended: so those that only suffer from it wait, and those it
    ends are silent.
    """
    from bnrecal.train.ranks import LostError

    try:
        try:
            yield
        except LostError:
            time.sleep(SUFFERERS_WAIT_S)
            raise
        except BnrecalError as error:
            if not rank:
                raise
            time.sleep(OTHERS_WAIT_S)
            raise BnrecalError(f"process {rank} of {n}: {error}") from None
    except Stopped as stopped:
        if rank or isinstance(stopped.__context__, LostError):
            sys.exit(stopped.code)
        raise


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
