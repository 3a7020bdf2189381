"""Result folders as people name them: `bnrecal report FOLDER` as well as `--out FOLDER`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnrecal.cli.options import OUT, setting
from bnrecal.errors import BnrecalError
from bnrecal.report.analysis.wording import listed

if TYPE_CHECKING:
    from bnrecal.store.rows import Row

out_option = setting(
    "out", type=click.Path(path_type=Path), default=OUT, help="The same as FOLDER.", show_default=True
)


def chosen(context: click.Context, folders: Sequence[Path], out: Path) -> tuple[Path, ...]:
    """The folders named, else that of --out, its variable or its default."""
    if folders and context.get_parameter_source("out") == click.core.ParameterSource.COMMANDLINE:
        raise BnrecalError(f"--out: {out}: the same as FOLDER, which is {folders[0]}; give one of them")
    return tuple(folders) or (out,)


def parted(context: click.Context, words: Sequence[str], out: Path) -> tuple[Path, list[str]]:
    """(the folder, the keys) among the words of a command that takes both, in any order.

    A word that names a folder is one; so is any with a slash, which no key has.
    """
    folders = [Path(word) for word in words if "/" in word or (word and Path(word).is_dir())]
    if len(folders) > 1:
        raise BnrecalError(f"FOLDER: {folders[0]} and {folders[1]}; one is looked at here")
    (folder,) = chosen(context, folders, out)
    return folder, [word for word in words if not word or Path(word) not in folders]


def rows_of(folders: "Mapping[Path, Sequence[Row]]") -> "tuple[list[Row], list[Row]]":
    """(one row for each cell of an evaluated network, those of cells that were left out), of folders with the
    latest rows of each.

    Of a cell that several folders hold a done row, if there is one; a cell is left out if none measured it.
    Raises BnrecalError for a folder without a row of the first kind.
    """
    from bnrecal.store.rows import SKIPPED, is_evaluated
    from bnrecal.store.store import ROWS_FILE

    found: dict[str, Any] = {}
    skipped: dict[str, Any] = {}
    for folder, rows in folders.items():
        skipped |= {row["key"]: row for row in rows if row["status"] == SKIPPED}
        measured = [row for row in rows if is_evaluated(row)]
        if not measured:
            no = "no rows of evaluated networks" if rows else "no rows"
            raise BnrecalError(f"{no} in {folder / ROWS_FILE}; run `bnrecal sweep` first{_others()}")
        for row in measured:
            if found.get(row["key"], {}).get("status") != "done":
                found[row["key"]] = row
    return list(found.values()), [row for key, row in skipped.items() if key not in found]


def _others() -> str:
    """Folders here, or one below, that do hold rows."""
    from bnrecal.store.store import ROWS_FILE

    found = sorted(path.parent for depth in ("*", "*/*") for path in Path().glob(f"{depth}/{ROWS_FILE}"))
    return f", or name a folder that has some: {listed([str(path) for path in found])}" if found else ""
