"""`bnrecal example`."""

from pathlib import Path

import click

from bnrecal.host.examples import EXAMPLES, write_example


@click.command()
@click.argument("name", required=False)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace files that exist.")
def example(name: str | None, folder: Path | None, force: bool) -> int:
    """Write the experiment NAME into FOLDER (by default a folder of that name).

    Without NAME the experiments are listed.
    """
    if name is None:
        for each, (what, _) in EXAMPLES.items():
            click.echo(f"{each:18}{what}")
        return 0
    folder = folder or Path(name)
    for path in write_example(name, folder, force):
        click.echo(path)
    click.echo(f"next: cd {folder} && {EXAMPLES[name][1]}", err=True)
    return 0
