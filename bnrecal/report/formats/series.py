"""How series are told apart and set beside each other; by mark and dash as well as colour, for grey paper."""

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from bnrecal.report.analysis.uncertainty import Interval
from bnrecal.report.formats.spacing import focus, lie_apart, mark_size, places

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, GRID, PAPER = "#1d2126", "#5d6571", "#dcdfe4", "#ffffff"
COLOURS = ("#1b6ca8", "#c2571b", "#2d7d47", "#7a4fa2", "#8a6d01", "#a8325e", "#3f7f86", "#63686f")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
POINTS = 270  # of a panel's axis, about
ROW_INCHES = 0.24  # of a setting below another
ROW_POINTS = 72 * ROW_INCHES
HALO: dict[str, Any] = {"mec": PAPER, "mew": 0.6}  # where marks of two colours meet, paper is between them
DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)))


def styles(names: Sequence[str]) -> dict[str, tuple[str, str, object]]:
    looks = zip(cycle(COLOURS), cycle(MARKS), cycle(DASHES), strict=False)
    return dict(zip(names, islice(looks, len(names)), strict=True))


Mark = tuple[int, float, Interval | None]  # place, value, its 95 % interval


def show(
    axes: "Axes", series: Mapping[str, Sequence[Mark]], names: Sequence[str], down: bool = False
) -> None:
    """Series beside each other at named places (below each other if `down`), each with its bars.

    Lines join the marks where no two lines meet. A few values far off do not press the others together: they
    stand at the edge of the axis with their figure.
    """
    marks = [mark for found in series.values() for mark in found]
    if not marks:
        return
    bottom, top = focus([(value, bar) for _, value, bar in marks])
    (axes.set_xlim if down else axes.set_ylim)(bottom, top)
    joined = lie_apart([{k: value for k, value, _ in found} for found in series.values()], top - bottom)
    size = mark_size(len(names), len(series), ROW_POINTS * len(names) if down else POINTS)
    looks = styles(list(series))
    for shift, (name, found) in zip(places(len(series)), series.items(), strict=True):
        colour, mark, dash = looks[name]
        found = sorted(found)
        for k, value, bar in found:
            if not bottom <= value <= top:
                _outside(axes, k + shift, value, (bottom, top), colour, down)
            elif bar:
                at = [k + shift, k + shift]
                axes.plot(*_xy(at, bar, down), color=colour, lw=0.9, alpha=0.75, solid_capstyle="butt")
        xy = _xy([k + shift for k, _, _ in found], [value for _, value, _ in found], down)
        axes.plot(*xy, marker=mark, ls=dash if joined else "", color=colour, ms=size, lw=1, label=name)
    step = 1 if down else -(-len(names) // 7)
    ticks = list(range(len(names)))[::-1][::step][::-1]
    (axes.set_yticks if down else axes.set_xticks)(ticks, [names[k] for k in ticks])
    (axes.set_ylim if down else axes.set_xlim)(
        *((len(names) - 0.5, -0.5) if down else (-0.5, len(names) - 0.5))
    )


def _xy(at: Sequence[float], values: Sequence[float], down: bool) -> tuple[Sequence[float], Sequence[float]]:
    return (values, at) if down else (at, values)


def _outside(
    axes: "Axes", at: float, value: float, ends: tuple[float, float], colour: str, down: bool
) -> None:
    """An arrow at the edge that a value lies beyond, and its figure."""
    is_low = value < ends[0]
    edge = ends[0] if is_low else ends[1]
    x, y = _xy([at], [edge], down)
    arrow = "◂▸" if down else "▾▴"
    sign = arrow[0 if is_low else 1]
    text = f"{sign} {value:.4f}" if is_low or not down else f"{value:.4f} {sign}"
    inward = 3 if is_low else -3
    axes.annotate(
        text,
        (x[0], y[0]),
        (inward, 0) if down else (0, inward),
        textcoords="offset points",
        ha=("left" if is_low else "right") if down else "center",
        va="center" if down else ("bottom" if is_low else "top"),
        color=colour,
        fontsize=8,
    )


def legend(axes: "Axes", loc: Any) -> None:
    many = len(axes.get_legend_handles_labels()[1]) > 4
    axes.legend(
        loc=loc, frameon=False, fontsize=8.5, ncols=2 if many else 1, handlelength=1.6, labelcolor=INK
    )


def legend_above(axes: "Axes") -> None:
    """Off the axes, where no mark can lie below it; what is aligned to the left takes a panel's title too."""
    longest = max(map(len, axes.get_legend_handles_labels()[1]), default=0)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1),
        alignment="left",
        frameon=False,
        fontsize=8.5,
        ncols=1 if longest > 36 else 2 if longest > 16 else 4,
        handlelength=1.6,
        columnspacing=1.2,
        labelcolor=INK,
    )
