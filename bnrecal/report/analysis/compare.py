"""Two sets of results, cell by cell: did eval fall?

Cells are matched by what was asked for (task, architecture, recipe, rule, batch size, samples, seed), not by
their keys, so that other weights, data or code can be compared. Where both evaluated the same images the
interval of the difference is paired.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bnrecal.report.analysis.preparation import notes_of
from bnrecal.report.analysis.uncertainty import Interval, Uncertainty, percentile_interval
from bnrecal.report.analysis.wording import counted
from bnrecal.store.provenance import recipe_of
from bnrecal.store.store import Row
from bnrecal.study.axes import SAME_CELL, STORED, rule
from bnrecal.study.recipes import label, varied_fields

Place = tuple[object, ...]


@dataclass(frozen=True)
class Pair:
    """One cell in both sets. `verdict`: same, fell, rose, noise, regression or failed."""

    task: str
    arch: str
    recipe: str | None  # how it was trained, where a study did: what tells it from the others
    rule: str
    batch_size: int | None
    n_samples: int
    seed: int | None
    before: float
    after: float | None  # None: done before, failed after
    low: float | None  # interval of after - before
    high: float | None
    paired: bool
    verdict: str

    @property
    def change(self) -> float | None:
        return None if self.after is None else self.after - self.before


@dataclass(frozen=True)
class Comparison:
    pairs: tuple[Pair, ...]
    only_before: int
    only_after: int
    tolerance: float
    notes: tuple[str, ...]

    @property
    def regressions(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.verdict in ("regression", "failed")]


def compare(
    before: Sequence[Row], after: Sequence[Row], intervals: tuple[Uncertainty, Uncertainty], tolerance: float
) -> Comparison:
    """A regression is a fall of eval by more than `tolerance` whose interval, if there is one, excludes 0.

    So is a cell that was done before and has failed since.
    """
    old = {_place(row): row for row in before if row["status"] == "done"}
    new = {_place(row): row for row in after}
    both = _as_the_grid(old, [place for place in old if place in new])
    recipes = {place: recipe_of(old[place]) for place in both}
    varied = varied_fields([recipe for recipe in recipes.values() if recipe is not None])
    names = {place: None if found is None else label(found, varied) for place, found in recipes.items()}
    pairs = tuple(_pair(old[at], new[at], names[at], intervals, tolerance) for at in both)
    notes = []
    for name, what in (
        ("weights_digest", "weights"),
        ("data_digest", "data"),
        ("order_digest", "orders of images"),
    ):
        n = sum(old[place][name] != new[place][name] for place in both)
        if n:
            notes.append(f"{what} differ in {counted(n, 'cell')}")
    for rows, which in ((before, "first"), (after, "second")):
        notes += [f"in the {which}: {note.rstrip('.')}" for note in notes_of(rows)]
    return Comparison(pairs, len(old) - len(both), len(new) - len(both), tolerance, tuple(notes))


def _as_the_grid(rows: Mapping[Place, Row], places: Sequence[Place]) -> list[Place]:
    """As tables read: by task, training, rule, order of the images, batch size, samples, then architecture.

    Tasks, trainings and rules come as the rows do, the networks as they stand first.
    """
    names = ("task", "recipe", "estimator", "momentum")
    first: dict[tuple[str, str], int] = {}
    for place in places:
        for name in names:
            first.setdefault((name, repr(rows[place].get(name))), len(first))

    def at(place: Place) -> tuple[object, ...]:
        row = rows[place]
        task, recipe, estimator, momentum = (first[name, repr(row.get(name))] for name in names)
        stands = row["estimator"] == STORED
        numbers = (row["seed"] or 0, row["batch_size"] or 0, row["n_samples"])
        return (task, recipe, not stands, estimator, momentum, *numbers, row["arch"])

    return sorted(places, key=at)


def _place(row: Row) -> Place:
    recipe = row.get("recipe")
    trained = None if recipe is None else json.dumps(recipe, sort_keys=True)
    return *(row[name] for name in SAME_CELL), trained


def _pair(
    old: Row,
    new: Row,
    recipe: str | None,
    intervals: tuple[Uncertainty, Uncertainty],
    tolerance: float,
) -> Pair:
    interval, paired = (None, False) if new["status"] != "done" else _interval(old, new, intervals)
    after = new["eval"] if new["status"] == "done" else None
    low, high = interval or (None, None)
    return Pair(
        old["task"],
        old["arch"],
        recipe,
        rule(old["estimator"], old["momentum"]),
        old["batch_size"],
        old["n_samples"],
        old["seed"],
        old["eval"],
        after,
        low,
        high,
        paired,
        _verdict(old["eval"], after, interval, tolerance),
    )


def _interval(old: Row, new: Row, intervals: tuple[Uncertainty, Uncertainty]) -> tuple[Interval | None, bool]:
    """Of the change, and whether it is paired; unpaired, the resamples of one are put in another order."""
    one, two = intervals[0].figures(old), intervals[1].figures(new)
    if one is None or two is None:
        return None, False
    if old["data_digest"] == new["data_digest"]:
        return percentile_interval(two - one), True
    return percentile_interval(two[::-1] - one), False


def _verdict(before: float, after: float | None, interval: Interval | None, tolerance: float) -> str:
    if after is None:
        return "failed"
    change = after - before
    if change == 0:
        return "same"
    if interval and interval[0] <= 0 <= interval[1]:
        return "noise"
    if change < -tolerance:
        return "regression"
    return "fell" if change < 0 else "rose"


def verdict_of(comparison: Comparison) -> str:
    """One sentence: what became of the cells."""
    counts = {name: sum(p.verdict == name for p in comparison.pairs) for name in _WORDS}
    said = ", ".join(f"{n} {_WORDS[name]}" for name, n in counts.items() if n)
    apart = [
        f"{counted(n, 'cell')} only {where}"
        for n, where in ((comparison.only_before, "in the first"), (comparison.only_after, "in the second"))
        if n
    ]
    n, allowed = (
        len(comparison.pairs),
        f"regression: eval lower by more than {comparison.tolerance:g}, beyond noise",
    )
    first = [f"{counted(n, 'cell')} in both: {said} ({allowed})", *_largest_fall(comparison)]
    return "; ".join([*first, *apart, *comparison.notes]) + "."


def _largest_fall(comparison: Comparison) -> list[str]:
    """Which of several cells fell most; nothing where none fell."""
    fallen = [pair for pair in comparison.pairs if pair.change is not None and pair.change < 0]
    if len(comparison.pairs) < 2 or not fallen:
        return []
    most = min(fallen, key=lambda pair: pair.change or 0.0)
    at = "as it stands" if most.batch_size is None else f"bs {most.batch_size:,}, {most.n_samples:,} images"
    name = most.arch if most.recipe is None else f"{most.arch}, {most.recipe}"
    how = "" if most.batch_size is None else f" by {most.rule},"
    return [f"the largest fall is {-(most.change or 0.0):.4f}, {name}{how} {at}"]


_WORDS = {
    "same": "the same",
    "noise": "differ within noise",
    "fell": "fell within the tolerance",
    "rose": "rose",
    "regression": "regressed",
    "failed": "failed since",
}


def as_json(comparison: Comparison) -> str:
    facts = {
        "tolerance": comparison.tolerance,
        "n_regressions": len(comparison.regressions),
        "only_before": comparison.only_before,
        "only_after": comparison.only_after,
        "notes": list(comparison.notes),
        "cells": [{**asdict(pair), "change": pair.change} for pair in comparison.pairs],
    }
    return json.dumps(facts, indent=1) + "\n"


def as_table(comparison: Comparison) -> RenderableType:
    """A line per cell, in the order of the grid, and the verdict."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("arch", "rule", "bs", "images", "before", "after", "change", "95 %", ""):
        table.add_column(
            heading, justify="left" if heading in ("arch", "rule", "") else "right", overflow="fold"
        )
    for pair in comparison.pairs:
        table.add_row(*_line(pair))
    return Group(table, Text(verdict_of(comparison)))


def _line(pair: Pair) -> list[str]:
    how = pair.rule.replace(", momentum ", " ")
    after = "failed" if pair.after is None else f"{pair.after:.4f}"
    change = "" if pair.change is None else f"{pair.change:+.4f}"
    interval = "" if pair.low is None or pair.high is None else f"{pair.low:+.4f} {pair.high:+.4f}"
    word = "" if pair.verdict == "same" else pair.verdict
    return [
        pair.arch if pair.recipe is None else f"{pair.arch}, {pair.recipe}",
        how,
        "" if pair.batch_size is None else f"{pair.batch_size:,}",
        "" if pair.batch_size is None else f"{pair.n_samples:,}",
        f"{pair.before:.4f}",
        after,
        change,
        interval,
        word,
    ]
