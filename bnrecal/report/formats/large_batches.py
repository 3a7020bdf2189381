"""The figure of large batches: what training with them costs, by optimiser, and what others published."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnrecal.report.analysis.axis_findings import best_setting, half_width, noise_of
from bnrecal.report.analysis.by_axes import (
    AS_IT_STANDS,
    BATCH,
    OF_STATISTICS,
    Group,
    Point,
    Variants,
    named,
    place_of,
    said,
)
from bnrecal.report.analysis.published import published_large_batches
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.report.formats.picture import Panel, Picture
from bnrecal.report.formats.series import COLOURS, DASHES, MARKS, MUTED, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCHES = (6.4, 4.8)
OPTIMISER = ("optimizer", "trust coefficient")  # what makes a line; of everything else the best is taken
FEWEST = 3  # batches at which a recipe stands to be drawn as a rule of its own


@dataclass(frozen=True)
class Drawn:
    """One line: top-1 in per cent by training batch, with half widths (0 where unknown)."""

    label: str
    at: Mapping[int, tuple[float, float]]
    kind: int  # its colour and mark; -1 for a recipe that is no optimiser's best
    as_it_stands: bool = False
    is_beside: bool = False  # its re-estimated twin, which has the name in the legend


def large_batches_picture(variants: Variants, uncertainty: Uncertainty, suffix: str) -> Picture | None:
    """Top-1 against the training batch, each optimiser with the best of its recipes at each batch.

    None where the training batch does not vary, or the metric is no share of right answers.
    """
    if BATCH not in variants.axes or variants.metric != "top-1":
        return None
    setting = best_setting(variants)
    lines = _measured(variants, uncertainty, setting)
    caption = (
        f"Top-1 against the images of a step; bars: {noise_of(variants)}. Each point is the best of its "
        "recipes at that batch, by the mean of its trainings. Last panel: as published, with other networks; "
        "compare how it falls, not levels."
    )
    if setting is not None:
        how = ", ".join(said(name, setting[name]) for name in OF_STATISTICS)
        caption += f" Filled: statistics re-estimated ({how}); open, dashed: the same {AS_IT_STANDS}."
    panels = (_panel(f"measured here, {variants.task}", lines), _panel("published", _published()))
    return Picture(f"large-batches{suffix}", "trained", caption, panels)


def _measured(variants: Variants, uncertainty: Uncertainty, setting: Mapping[str, Any] | None) -> list[Drawn]:
    kinds = [name for name in variants.training_axes if name in OPTIMISER]
    others = [name for name in variants.training_axes if name != BATCH]
    estimated = [p for p in variants.points if setting is not None and _is_at(p, setting)]
    stored = [point for point in variants.points if point.is_stored]
    places = sorted({place_of(p, kinds) for p in variants.points}, key=lambda at: variants.ranks(kinds, at))
    lines = []
    for points, as_it_stands in ((estimated, False), (stored, True)):
        for k, place in enumerate(places):
            mine = [p for p in points if place_of(p, kinds) == place]
            if mine:
                label = named(kinds, place) or "the best recipe"
                is_beside = as_it_stands and bool(estimated)
                label += f", {AS_IT_STANDS}" if is_beside else ""
                lines.append(Drawn(label, _best(mine, others, uncertainty), k, as_it_stands, is_beside))
    return lines + _rules(estimated or stored, others, lines, uncertainty)


def _is_at(point: Point, setting: Mapping[str, Any]) -> bool:
    return not point.is_stored and all(point.at[name] == value for name, value in setting.items())


def _recipes(points: Sequence[Point], others: Sequence[str]) -> dict[tuple[Any, ...], dict[int, Group]]:
    found: dict[tuple[Any, ...], dict[int, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        found[place_of(point, others)][point.at[BATCH]].append(point)
    return {
        place: {size: Group(tuple(cells)) for size, cells in by_size.items()}
        for place, by_size in found.items()
    }


def _best(
    points: Sequence[Point], others: Sequence[str], uncertainty: Uncertainty
) -> dict[int, tuple[float, float]]:
    """Of each batch the recipe of the highest mean, among those of most trainings."""
    at_size: dict[int, list[Group]] = defaultdict(list)
    for by_size in _recipes(points, others).values():
        for size, group in by_size.items():
            at_size[size].append(group)
    best = {}
    for size, groups in sorted(at_size.items()):
        most = max(len(group.by_training) for group in groups)
        whole = [group for group in groups if len(group.by_training) == most]
        best[size] = _figures(max(whole, key=lambda group: group.eval), uncertainty)
    return best


def _rules(
    points: Sequence[Point], others: Sequence[str], lines: Sequence[Drawn], uncertainty: Uncertainty
) -> list[Drawn]:
    """Recipes that stand at several batches unchanged and are not the best at all of them."""
    found = []
    for place, by_size in _recipes(points, others).items():
        at = {size: _figures(group, uncertainty) for size, group in sorted(by_size.items())}
        if len(at) >= FEWEST and not any(line.at.items() >= at.items() for line in lines):
            found.append(Drawn(f"{named(others, place)} at every batch", at, -1))
    return found if len(found) == 1 else []  # a grid of rates has too many for one figure


def _figures(group: Group, uncertainty: Uncertainty) -> tuple[float, float]:
    return 100 * group.eval, 100 * (half_width(group, uncertainty) or 0.0)


def _published() -> list[Drawn]:
    by_line: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    for cell in published_large_batches():
        if cell.unit == "%":
            by_line[cell.line][cell.batch_size] = cell.figure, 0.0
    return [Drawn(line, at, k) for k, (line, at) in enumerate(by_line.items())]


def _panel(title: str, lines: Sequence[Drawn]) -> Panel:
    told = "; ".join(
        f"{line.label}: {', '.join(f'{size:,} {value:.1f}' for size, (value, _) in line.at.items())}"
        for line in lines
    )
    alt = f"Top-1 in per cent against the {BATCH}, {title}. {told}."

    def draw(axes: "Axes") -> None:
        for k, line in enumerate(lines):
            _draw(axes, line, k - len(lines) / 2)
        sizes = sorted({size for line in lines for size in line.at})
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel("images of a step")
        axes.set_ylabel("top-1, %")
        legend_above(axes)

    return Panel(title, alt, draw, INCHES)


def _draw(axes: "Axes", line: Drawn, beside: float) -> None:
    """`beside` the others, so that no bar lies on another."""
    values, halves = zip(*line.at.values(), strict=True)
    has_bars = any(halves)
    colour = COLOURS[line.kind % len(COLOURS)] if line.kind >= 0 else MUTED
    look: dict[str, Any] = {
        "color": colour,
        "marker": MARKS[line.kind % len(MARKS)] if line.kind >= 0 else "",
        "ls": DASHES[1] if line.as_it_stands else DASHES[2] if line.kind < 0 else "-",
        "mfc": "white" if line.as_it_stands else colour,
        "lw": 1.0 if line.as_it_stands or line.kind < 0 else 1.5,
        "ms": 5,
        "capsize": 2,
    }
    label = None if line.is_beside else line.label
    shown = [size * 2 ** (0.02 * beside) if has_bars else size for size in line.at]
    axes.errorbar(shown, values, yerr=halves if has_bars else None, label=label, **look)
