"""`bnrecal verify`."""

from pathlib import Path

import click

from bnrecal.cli.folders import out_option, parted
from bnrecal.cli.messages import complain
from bnrecal.cli.running import Running, running_options
from bnrecal.errors import BnrecalError


@click.command()
@click.argument("words", metavar="[FOLDER] [KEY]...", nargs=-1)
@out_option
@click.option("--sample", type=click.IntRange(min=1), default=3, show_default=True, help="Cells to repeat.")
@click.option("--sample-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws them.")
@click.option(
    "--may-differ",
    "--tolerance",  # its name of old, which elsewhere means eval that one is ready to lose
    "may_differ",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Differences up to this are none; other machines may differ in the last digits.",
)
@click.pass_context
@running_options
def verify(
    context: click.Context,
    /,
    running: Running,
    words: tuple[str, ...],
    out: Path,
    sample: int,
    sample_seed: int,
    may_differ: float,
) -> int:
    """Repeat finished cells and compare their figures with the rows.

    FOLDER is where `bnrecal sweep` has put them. KEY is a key or its first digits; without any, a sample
    is drawn. Nothing is written. Exit code 4 if a figure differs, 3 if a cell could not be repeated.
    """
    from dataclasses import replace

    from bnrecal.store.provenance import row_of_key
    from bnrecal.store.rows import is_evaluated
    from bnrecal.store.store import Store
    from bnrecal.study.axes import label
    from bnrecal.study.cells import is_judgement
    from bnrecal.sweep.verify import FIGURES, drawn, repeated

    out, keys = parted(context, words, out)
    rows = [row for row in Store(out).latest() if is_evaluated(row) or is_judgement(row)]
    if not any(row["status"] == "done" for row in rows):
        raise BnrecalError(f"--out: no finished cells in {Store(out).path}; run `bnrecal sweep` first")
    chosen = [row_of_key(rows, key) for key in keys] or drawn(rows, sample, sample_seed)
    n_different = n_lost = 0
    for found in repeated(
        chosen,
        lambda inputs, threads: replace(running, threads=running.threads or threads).open(inputs, out=out),
    ):
        row = found.row
        if found.again is None:
            n_lost += 1
            said = f"not repeated: {found.error}"
        elif found.differs(may_differ):
            n_different += 1
            said = ", ".join(
                f"{name} {row[name]!r} then, {now!r} now"
                for name, now in found.again.items()
                if name in FIGURES and row.get(name) is not None and now != row[name]
            )
        else:
            said = "equal"
        named = f"{row['arch']} before {row['judge']}" if is_judgement(row) else label(row)
        what = f"{row['key'][:8]}  {named}"
        click.echo(f"{what}: {' '.join(said.split())}")
    if n_different or n_lost:
        equal = len(chosen) - n_different - n_lost
        message = f"{equal} of {len(chosen)} cells equal, {n_different} different, {n_lost} not repeated"
        return complain(message, 4 if n_different else 3)
    return 0
