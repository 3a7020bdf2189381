"""`bnrecal train`."""

from pathlib import Path
from typing import Any

import click

from bnrecal.errors import BnrecalError


@click.command()
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
