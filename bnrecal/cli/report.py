"""`bnrecal report`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnrecal.cli.options import OUT, setting
from bnrecal.errors import BnrecalError

if TYPE_CHECKING:
    from bnrecal.report.summary import Report

FORMATS = ("table", "long", "md", "csv", "json")


@click.command()
@setting("out", type=click.Path(path_type=Path), default=OUT, help="Folder with rows.", show_default=True)
@click.option("--format", "layout", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("--published", is_flag=True, help="The 33 cells of the published study instead.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.003,
    show_default=True,
    help="Eval the advised setting may fall short by.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
def report(out: Path, layout: str, published: bool, tolerance: float, output: Path | None) -> int:
    """Show what a sweep has measured.

    table: the published layout and what follows from it; long: a line per cell; md: Markdown; csv,
    json: every column.
    """
    from bnrecal.report.published import published_rows
    from bnrecal.report.summary import make_report
    from bnrecal.store import Store

    store = Store(out)
    rows = published_rows() if published else store.latest()
    if not rows:
        raise BnrecalError(f"--out: no rows in {store.path}; run `bnrecal sweep` first")
    made = make_report(rows, None if published else out, tolerance)
    text = _rendered(made, layout, to_terminal=output is None)
    if output is None:
        click.echo(text, nl=False)
        return 0
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise BnrecalError(f"--output: cannot write {output}: {error.strerror}") from None
    return 0


def _rendered(report: "Report", layout: str, to_terminal: bool) -> str:
    from bnrecal.report import export, markdown

    renderers = {"csv": export.to_csv, "json": export.to_json, "md": markdown.to_markdown}
    if layout in renderers:
        return renderers[layout](report)
    from rich.console import Console

    from bnrecal.report.terminal import long_layout, published_layout

    console = Console(
        markup=False, no_color=None if to_terminal else True, force_terminal=None if to_terminal else False
    )
    long = layout == "long"
    drawn = long_layout(report.rows, report.uncertainty) if long else published_layout(report)
    with console.capture() as captured:
        console.print(drawn, highlight=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"
