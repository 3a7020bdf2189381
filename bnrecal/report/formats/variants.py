"""Tables of trained networks as cells of text, for every format to set in its way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bnrecal.report.analysis.axis_findings import half_width
from bnrecal.report.analysis.by_axes import AS_IT_STANDS, OF_STATISTICS, Block, Group, Variants
from bnrecal.report.analysis.uncertainty import Uncertainty

MOST_WIDE = 5  # columns of figures with four decimals


@dataclass(frozen=True)
class TextTable:
    """A title, headers and rows; the first column names the row, the others hold figures."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def text_tables(variants: Variants, uncertainty: Uncertainty) -> list[TextTable]:
    """One for each block; the network as it stands is the first row, or the first column."""
    return [_table(variants, block, uncertainty) for block in variants.blocks]


def _table(variants: Variants, block: Block, uncertainty: Uncertainty) -> TextTable:
    stored_as_row = variants.rows in OF_STATISTICS
    row_values, column_values = (
        _present(variants, name, {at[k] for at in block.groups} | (set(block.stored) if lies else set()))
        for k, name, lies in ((0, variants.rows, not stored_as_row), (1, variants.columns, stored_as_row))
    )
    places = 4 if len(column_values) <= MOST_WIDE else 3  # so that tables fit 80 columns

    def text(group: Group | None) -> str:
        if group is None:
            return "-"
        half = half_width(group, uncertainty)
        return f"{group.eval:.{places}f}" + ("" if half is None else f"±{half:.3f}".replace("0.", "."))

    rows = [
        (_heading(row, row_values), *(text(block.groups.get((row, column))) for column in column_values))
        for row in row_values
    ]
    headers = [
        f"{variants.rows} \\ {variants.columns}".strip(" \\"),
        *(_heading(value, column_values) for value in column_values),
    ]
    if block.stored and stored_as_row:
        rows.insert(0, (AS_IT_STANDS, *_stored_row(block, column_values, text)))
    elif block.stored:
        headers.insert(1, AS_IT_STANDS)
        rows = [
            (name, text(block.stored.get(value)), *cells)
            for value, (name, *cells) in zip(row_values, rows, strict=True)
        ]
    return TextTable(block.title, tuple(headers), tuple(rows))


def _stored_row(block: Block, columns: Sequence[Any], text: Callable[[Group | None], str]) -> list[str]:
    """One figure for each column; where the columns are of statistics too it stands in the first alone."""
    if None in block.stored:
        return [text(block.stored[None]), *[""] * (len(columns) - 1)]
    return [text(block.stored.get(column)) for column in columns]


def _present(variants: Variants, name: str, found: set[Any]) -> Sequence[Any]:
    """The axis's values that are there; last None, where some have no place along it."""
    values = [value for value in variants.axes.get(name, ()) if value in found]
    return [*values, None] if None in found and None not in values else values or [None]


def _heading(value: Any, values: Sequence[Any]) -> str:
    """None: the figure alone, or those that the axis means nothing to, beside others."""
    if value is None:
        return "eval" if len(values) == 1 else "any"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
