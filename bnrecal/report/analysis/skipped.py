"""Cells that a sweep left out because their settings were shown worse: said wherever rows are reported."""

from collections.abc import Sequence

from bnrecal.report.analysis.wording import counted, listed
from bnrecal.store.store import Row
from bnrecal.study.axes import short_rule


def skipped_note(rows: Sequence[Row]) -> str | None:
    """How many, of which settings, and what that means for the tables; None where there are none."""
    if not rows:
        return None
    settings = dict.fromkeys(
        f"{short_rule(row)}, bs {row['batch_size']:,}, {row['n_samples']:,} images" for row in rows
    )
    has = "was" if len(rows) == 1 else "were"
    return (
        f"{counted(len(rows), 'cell')} {has} left out by --stop-when-sure, of "
        f"{counted(len(settings), 'setting')} shown worse in a round before "
        f"({listed(list(settings), most=4)}). A mean over several orders is that of those measured."
    )
