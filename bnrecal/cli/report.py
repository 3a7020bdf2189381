"""`bnrecal report`."""

from pathlib import Path
from typing import Any

import click

from bnrecal.cli.options import OUT, setting
from bnrecal.errors import BnrecalError

FORMATS = ("table", "long", "md", "csv", "json")


@click.command()
@setting("out", type=click.Path(path_type=Path), default=OUT, help="Folder with rows.", show_default=True)
@click.option("--format", "layout", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("--published", is_flag=True, help="The 33 cells of the published study instead.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
def report(out: Path, layout: str, published: bool, output: Path | None) -> int:
    """Show what a sweep has measured.

    table: the published layout and what follows from it; long: a line per cell; md: Markdown; csv,
    json: every column.
    """
    from bnrecal.report.published import published_rows
    from bnrecal.store import Store

    store = Store(out)
    rows = published_rows() if published else store.latest()
    if not rows:
        raise BnrecalError(f"--out: no rows in {store.path}; run `bnrecal sweep` first")
    text = _rendered(rows, layout, to_terminal=output is None)
    if output is None:
        click.echo(text, nl=False)
        return 0
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise BnrecalError(f"--output: cannot write {output}: {error.strerror}") from None
    return 0


def _rendered(rows: list[Any], layout: str, to_terminal: bool) -> str:
    from bnrecal.report import export
    from bnrecal.report.sections import sections_of

    if layout == "csv":
        return export.to_csv(rows)
    if layout == "json":
        return export.to_json(rows) + "\n"
    if layout == "md":
        return export.to_markdown(sections_of(rows))
    from rich.console import Console

    from bnrecal.report.terminal import long_layout, published_layout

    console = Console(
        markup=False, no_color=None if to_terminal else True, force_terminal=None if to_terminal else False
    )
    drawn = long_layout(rows) if layout == "long" else published_layout(sections_of(rows))
    with console.capture() as captured:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"
