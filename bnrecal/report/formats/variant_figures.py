"""The figure of trained networks: eval against what was trained, as they stand and re-estimated."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bnrecal.report.analysis.axis_findings import best_setting, half_width, noise_of
from bnrecal.report.analysis.by_axes import (
    AS_IT_STANDS,
    HOW,
    IMAGES,
    Point,
    Variants,
    grouped,
    named,
    place_of,
    said,
)
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.report.formats.drawing import along
from bnrecal.report.formats.picture import Panel, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LINES = 8  # that can still be told apart
Line = tuple[list[float], list[float], list[float]]  # x, eval, half widths (0 where unknown)


def variants_picture(variants: Variants, uncertainty: Uncertainty, suffix: str) -> Picture | None:
    """Eval along the training axis of most numbers; None where no number varies.

    One panel with a line for each rule where nothing else varies in training, otherwise a panel for the
    networks as they stand and one for the best setting of the statistics, a line for each kind of network.
    """
    x = _numbers(variants)
    if x is None:
        return None
    others = [name for name in variants.training_axes if name != x]
    stored = [point for point in variants.points if point.is_stored]
    if not others:
        sides = {"": {AS_IT_STANDS: stored, **_by_rule(variants)}}
    else:
        sides = {AS_IT_STANDS: _by_kind(stored, others)}
        best = best_setting(variants)
        if best is not None:
            mine = [p for p in variants.points if all(p.at.get(n) == v for n, v in best.items())]
            sides[", ".join(said(n, v) for n, v in best.items())] = _by_kind(mine, others)
    panels = tuple(
        _panel(title, _lines(groups, x, uncertainty), x, variants)
        for title, groups in sides.items()
        if groups
    )
    caption = f"Eval against {x}; bars: {noise_of(variants)}."
    return Picture(f"trained{suffix}", "trained", caption, panels)


def _numbers(variants: Variants) -> str | None:
    """The training axis with most numbers, two at least."""
    counts = {
        name: sum(isinstance(v, int | float) and not isinstance(v, bool) for v in variants.axes[name])
        for name in variants.training_axes
    }
    name = max(counts, key=lambda n: counts[n], default=None)
    return name if name is not None and counts[name] > 1 else None


def _by_rule(variants: Variants) -> dict[str, list[Point]]:
    """Of each rule the cells of most images."""
    found: dict[str, list[Point]] = {}
    for how in variants.axes.get(HOW, (None,)):
        mine = [p for p in variants.points if not p.is_stored and (how is None or p.at[HOW] == how)]
        if mine:
            most = max(point.at[IMAGES] for point in mine)
            name = f"{mine[0].at[HOW]}, {said(IMAGES, most)}"
            found[name] = [point for point in mine if point.at[IMAGES] == most]
    return found


def _by_kind(points: Sequence[Point], others: Sequence[str]) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(named(others, place_of(point, others)), []).append(point)
    return dict(list(found.items())[:MOST_LINES])


def _lines(groups: Mapping[str, list[Point]], x: str, uncertainty: Uncertainty) -> dict[str, Line]:
    lines = {}
    for name, points in groups.items():
        at: dict[Any, Any] = grouped(
            (p for p in points if isinstance(p.at.get(x), int | float)), lambda p: p.at[x]
        )
        values = sorted(at)
        halves = [half_width(at[value], uncertainty) or 0.0 for value in values]
        lines[name] = ([float(v) for v in values], [at[v].eval for v in values], halves)
    return {name: line for name, line in lines.items() if line[0]}


def _panel(title: str, lines: Mapping[str, Line], x: str, variants: Variants) -> Panel:
    told = "; ".join(
        f"{name}: " + ", ".join(f"{v:g} {y:.3f}" for v, y in zip(line[0], line[1], strict=True))
        for name, line in lines.items()
    )
    alt = f"{variants.metric} against {x}{f', {title}' if title else ''}. {told}."

    def draw(axes: "Axes") -> None:
        along(lines, x, f"eval {variants.metric}")(axes)

    return Panel(title or f"eval along {x}", alt, draw)
