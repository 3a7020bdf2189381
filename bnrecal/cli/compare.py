"""`bnrecal compare`."""

from pathlib import Path

import click

from bnrecal.cli.messages import drawn, write_text
from bnrecal.cli.options import tolerance_option
from bnrecal.errors import BnrecalError


@click.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@tolerance_option("A fall of eval by no more than this is none.")
@click.option("--format", "layout", type=click.Choice(("table", "json")), default="table", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
def compare(before: Path, after: Path, tolerance: float, layout: str, output: Path | None) -> int:
    """Compare two result folders, cell by cell; exit code 4 if eval fell.

    A regression is a fall by more than the tolerance that lies beyond the noise of the evaluation images
    (paired 95 % interval, where both folders hold evidence), or a cell that now fails.
    """
    from bnrecal.report.analysis import compare as room
    from bnrecal.report.analysis.uncertainty import Uncertainty
    from bnrecal.store.store import Store

    rows = []
    for folder in (before, after):
        found = Store(folder).evaluated()
        if not found:
            raise BnrecalError(f"{folder}: no rows there; give two folders that `bnrecal sweep` has written")
        rows.append(found)
    intervals = (Uncertainty(before, rows[0]), Uncertainty(after, rows[1]))
    comparison = room.compare(rows[0], rows[1], intervals, tolerance)
    if not comparison.pairs:
        raise BnrecalError(f"{before} and {after} have no finished cell in common")
    text = room.as_json(comparison) if layout == "json" else drawn(room.as_table(comparison))
    if output is None:
        click.echo(text, nl=False)
    else:
        write_text(output, text)
    return 4 if comparison.regressions else 0
