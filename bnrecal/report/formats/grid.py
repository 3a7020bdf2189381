"""A table that fills in: a line per setting, a column per architecture, eval where a cell is done."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bnrecal.report.formats.terminal import figure
from bnrecal.store.store import Row
from bnrecal.study.axes import short_rule

WIDTH = 78  # columns of text that fit any terminal
SETTING_WIDTH = 34  # what rule, batch size, images and seed take of it
Place = tuple[str, str, int, int, int]  # arch, rule, batch size, samples, seed


def place_of(facts: Mapping[str, Any]) -> Place:
    """Where a row or the fields of a cell belong."""
    return facts["arch"], short_rule(facts), facts["batch_size"] or 0, facts["n_samples"], facts["seed"] or 0


def grid_table(
    rows: Sequence[Row],
    planned: Sequence[Place] = (),
    running: frozenset[Place] = frozenset(),
    most_lines: int = 20,
) -> Table:
    """What is done, what runs now ("...") and what is planned ("."), around the latest row.

    With more architectures than fit, the last ones that were written are shown.
    """
    found = {place_of(row): row for row in rows}
    places = list(dict.fromkeys([*planned, *found]))
    archs = list(dict.fromkeys(place[0] for place in places))
    most = max(1, (WIDTH - SETTING_WIDTH) // (max(map(len, ["0.0000", *archs])) + 1))
    if len(archs) > most:
        recent = [*(place_of(row)[0] for row in reversed(rows)), *archs]
        latest = list(dict.fromkeys(recent))[:most]
        archs = [arch for arch in archs if arch in latest]
    settings = list(dict.fromkeys(place[1:] for place in places))
    several_orders = len({setting[3] for setting in settings}) > 1
    now = {place[1:] for place in running} or ({place_of(rows[-1])[1:]} if rows else set())
    focus = max((k for k, setting in enumerate(settings) if setting in now), default=0)
    start = max(0, min(focus - most_lines // 2, len(settings) - most_lines))
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("rule", "bs", "images", *(["seed"] if several_orders else []), *archs):
        table.add_column(heading, justify="left" if heading == "rule" else "right", no_wrap=True)
    for setting in settings[start : start + most_lines]:
        how, size, n, seed = setting
        cells = [_cell(found.get((arch, *setting)), (arch, *setting) in running) for arch in archs]
        facts = (str(size), f"{n:,}", str(seed)) if size else ("", "", "")
        table.add_row(how, *facts[: 3 if several_orders else 2], *cells)
    return table


def _cell(row: Row | None, runs: bool) -> str:
    if row is None:
        return "..." if runs else "."
    return figure(row["eval"]) if row["status"] == "done" else str(row["status"])
