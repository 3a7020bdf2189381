"""`bnrecal report`."""

import gc
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnrecal.cli.messages import write_text
from bnrecal.cli.options import OUT, setting
from bnrecal.errors import BnrecalError
from bnrecal.host.interrupts import Stopped

if TYPE_CHECKING:
    from bnrecal.report.analysis.summary import Report
    from bnrecal.store.store import Store

FORMATS = ("table", "long", "md", "csv", "json", "latex", "html", "images-needed")


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
@click.option("--rows", "in_rows", metavar="AXIS", help="Axis down the tables of trained networks.")
@click.option("--columns", "in_columns", metavar="AXIS", help="Axis across them.  [what varies most]")
@click.option("--figures", type=click.Path(path_type=Path), help="Write every figure there, as SVG and PNG.")
@click.option("--watch", is_flag=True, help="Follow the rows another process writes, until Ctrl-C.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
def report(
    out: Path,
    layout: str,
    published: bool,
    tolerance: float,
    in_rows: str | None,
    in_columns: str | None,
    figures: Path | None,
    watch: bool,
    output: Path | None,
) -> int:
    """Show what a sweep has measured, how certain it is, and what to use.

    table: the published layout and what follows from it; long: a line per cell; md: Markdown; csv,
    json: every column; latex: booktabs tables; html: one page with figures; images-needed: how many
    images each rule needs. Intervals are 95 %, by a bootstrap over evaluation images.
    """
    from bnrecal.report.analysis.published import published_rows
    from bnrecal.report.analysis.summary import make_report
    from bnrecal.store.store import Store

    store = Store(out)
    if watch:
        return _watch(store, published, layout, output, figures)
    gc.disable()  # many small objects, none of which is let go before the end
    try:
        rows = published_rows() if published else store.evaluated()
        if not rows:
            raise BnrecalError(f"--out: no rows in {store.path}; run `bnrecal sweep` first")
        made = make_report(rows, None if published else out, tolerance, in_rows, in_columns)
        if figures is not None:
            _draw(made, figures)
            if layout == "table" and output is None:
                return 0
        text = _rendered(made, layout, to_terminal=output is None)
    finally:
        gc.enable()
    if output is None:
        click.echo(text, nl=False)
        return 0
    write_text(output, text)
    return 0


def _draw(report: "Report", folder: Path) -> None:
    from bnrecal.report.formats.canvas import write_pictures
    from bnrecal.report.formats.figures import pictures_of

    pictures = pictures_of(report)
    if not pictures:
        raise BnrecalError("--figures: too few cells for any figure; two sample counts are the least")
    for path in write_pictures(pictures, folder):
        click.echo(path)


def _watch(store: "Store", published: bool, layout: str, output: Path | None, figures: Path | None) -> int:
    from rich.console import Console

    from bnrecal.report.formats.watch import watch

    if published or output or figures or layout != "table":
        raise BnrecalError(
            "--watch: shows the growing table alone; leave out --format, --published, -o, --figures"
        )
    try:
        watch(store, Console())
    except Stopped as stopped:  # how watching ends
        return stopped.code
    return 0


def _rendered(report: "Report", layout: str, to_terminal: bool) -> str:
    from bnrecal.report.formats import export, images_needed, latex, markdown, page

    renderers = {
        "csv": export.to_csv,
        "json": export.to_json,
        "md": markdown.to_markdown,
        "latex": latex.to_latex,
        "html": page.to_html,
        "images-needed": images_needed.to_images_needed,
    }
    if layout in renderers:
        return renderers[layout](report)
    from rich.console import Console

    from bnrecal.report.formats.terminal import long_layout, published_layout

    console = Console(
        markup=False, no_color=None if to_terminal else True, force_terminal=None if to_terminal else False
    )
    long = layout == "long"
    drawn = long_layout(report.rows, report.uncertainty) if long else published_layout(report)
    with console.capture() as captured:
        console.print(drawn, highlight=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"
