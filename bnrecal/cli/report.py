"""`bnrecal report`."""

import gc
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnrecal.cli.folders import chosen, out_option, rows_of
from bnrecal.cli.messages import note, write_text
from bnrecal.cli.options import tolerance_option
from bnrecal.errors import BnrecalError
from bnrecal.host.interrupts import Stopped

if TYPE_CHECKING:
    from bnrecal.report.analysis.summary import Report
    from bnrecal.store.rows import Row

BY_SUFFIX = {
    "": "table",
    ".txt": "table",
    ".csv": "csv",
    ".htm": "html",
    ".html": "html",
    ".json": "json",
    ".md": "md",
    ".tex": "latex",
}
LAYOUTS_OF_RANKINGS = {"table": "text", "md": "md", "json": "json"}  # and of searches, as these call them
FORMATS = ("table", "long", "md", "csv", "json", "latex", "html", "images-needed")


@click.command()
@click.argument("folders", metavar="[FOLDER]...", nargs=-1, type=click.Path(path_type=Path))
@out_option
@click.option(
    "--format", "layout", type=click.Choice(FORMATS), help="[table, or what the name of -o FILE ends in]"
)
@click.option("--published", is_flag=True, help="The 33 cells of the published study instead.")
@tolerance_option("Eval the advised setting may fall short by.")
@click.option("--rows", "in_rows", metavar="AXIS", help="Axis down the tables of trained networks.")
@click.option("--columns", "in_columns", metavar="AXIS", help="Axis across them.  [what varies most]")
@click.option("--figures", type=click.Path(path_type=Path), help="Write every figure there, as SVG and PNG.")
@click.option("--watch", is_flag=True, help="Follow the rows another process writes, until Ctrl-C.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to a file.  [the terminal; of html FOLDER/report.html]",
)
@click.pass_context
def report(
    context: click.Context,
    /,
    folders: tuple[Path, ...],
    out: Path,
    layout: str | None,
    published: bool,
    tolerance: float,
    in_rows: str | None,
    in_columns: str | None,
    figures: Path | None,
    watch: bool,
    output: Path | None,
) -> int:
    """Show what a sweep has measured, how certain it is, and what to use.

    FOLDER is one that `bnrecal sweep --out FOLDER` has written; of several the rows make one report.

    table: the published layout and what follows from it; long: a line per cell; md: Markdown; csv,
    json: every column; latex: booktabs tables; html: one page with figures; images-needed: how many
    images each rule needs. Intervals are 95 %, by a bootstrap over evaluation images. Of a folder of
    `bnrecal rank` or `search`, table, md and json show the ranking or the search.
    """
    from bnrecal.report.analysis.published import published_rows
    from bnrecal.report.analysis.summary import make_report
    from bnrecal.store.store import Store

    layout = layout or _layout_of(output)
    if published and folders:
        raise BnrecalError(f"--published: shows the published study alone; leave out {folders[0]}")
    of = chosen(context, folders, out)
    if watch:
        return _watch(of, published, layout, output, figures)
    gc.disable()  # many small objects, none of which is let go before the end
    try:
        latest = {} if published else {folder: Store(folder).latest() for folder in of}
        ranked = None if published else _searched_or_ranked(latest, layout, figures)
        if ranked is not None:
            _hand_over(ranked, output, of, is_page=False)
            return 0
        _say_what_is_left_out(latest)
        rows, skipped = (published_rows(), []) if published else rows_of(latest)
        made = make_report(rows, None if published else of, tolerance, in_rows, in_columns, skipped)
        if figures is not None:
            _draw(made, figures)
            if layout == "table" and output is None:
                return 0
        text = _rendered(made, layout, to_terminal=output is None)
    finally:
        gc.enable()
    _hand_over(text, output, () if published else of, is_page=layout == "html")
    return 0


def _layout_of(output: Path | None) -> str:
    """What the file's name ends in."""
    suffix = output.suffix.lower() if output else ""
    if suffix not in BY_SUFFIX:
        known = ", ".join(filter(None, BY_SUFFIX))
        raise BnrecalError(f"-o {output}: ends in {suffix!r}; allowed: {known}, or --format")
    return BY_SUFFIX[suffix]


def _searched_or_ranked(latest: "Mapping[Path, list[Row]]", layout: str, figures: Path | None) -> str | None:
    """The report of a folder of `bnrecal search` or `rank`, in the layouts that show it."""
    from bnrecal.cli.search import search_figures, search_report
    from bnrecal.report.analysis.judged import judged_of
    from bnrecal.report.formats.judged import rendered
    from bnrecal.store.searched import keys_of_search
    from bnrecal.store.truth import kept_truth
    from bnrecal.study.cells import is_judgement

    if len(latest) > 1 or layout not in LAYOUTS_OF_RANKINGS:
        return None
    layout = LAYOUTS_OF_RANKINGS[layout]
    ((folder, rows),) = latest.items()
    if figures is not None and (drawn := search_figures(folder, figures)) is not None:
        return drawn
    searched = search_report(folder, layout)
    if searched is not None:
        asked = keys_of_search(folder)
        rows = [row for row in rows if row["key"] not in asked]  # of a ranking in the same folder
        if layout == "json" or not any(map(is_judgement, rows)):
            return searched
    kept = kept_truth(folder)
    if kept is None and not any(map(is_judgement, rows)):
        return None
    truth, name = kept or (None, None)
    if figures is not None:
        raise BnrecalError(f"--figures: {folder} holds a ranking, which has none; a search has two")
    ranked = rendered(judged_of(rows, truth, name), layout)
    return ranked if searched is None else f"{searched}\n{ranked}"


def _say_what_is_left_out(latest: "Mapping[Path, list[Row]]") -> None:
    """A note for each folder that holds a ranking or a search, in a report that shows cells alone."""
    from bnrecal.store.searched import kept_search
    from bnrecal.study.cells import is_judgement

    for folder, rows in latest.items():
        what = "a search" if kept_search(folder) else "a ranking" if any(map(is_judgement, rows)) else None
        if what is not None:
            layouts = ", ".join(LAYOUTS_OF_RANKINGS)
            note(f"{folder} holds {what}; `bnrecal report {folder}` shows it ({layouts}), this shows cells")


def _hand_over(text: str, output: Path | None, folders: Sequence[Path], is_page: bool) -> None:
    """To the file, or to stdout; a page, which no terminal shows, to a file beside the rows.

    Several folders' page comes to lie here. Redirected or piped it goes where it is sent.
    """
    if output is not None:
        write_text(output, text)
    elif is_page and sys.stdout.isatty():
        path = (folders[0] if len(folders) == 1 else Path()) / "report.html"
        write_text(path, text)
        click.echo(f"{path}: open it in a browser")
    else:
        click.echo(text, nl=False)


def _draw(report: "Report", folder: Path) -> None:
    from bnrecal.report.formats.canvas import write_pictures
    from bnrecal.report.formats.figures import pictures_of

    pictures = pictures_of(report)
    if not pictures:
        raise BnrecalError("--figures: too few cells for any figure; two sample counts are the least")
    for path in write_pictures(pictures, folder):
        click.echo(path)


def _watch(
    folders: Sequence[Path], published: bool, layout: str, output: Path | None, figures: Path | None
) -> int:
    from rich.console import Console

    from bnrecal.report.formats.watch import watch
    from bnrecal.store.store import Store

    if published or output or figures or layout != "table":
        raise BnrecalError(
            "--watch: shows the growing table alone; leave out --format, --published, -o, --figures"
        )
    if len(folders) > 1:
        raise BnrecalError(f"--watch: follows one folder, not {len(folders)}")
    try:
        watch(Store(folders[0]), Console())
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
