"""The figure of small batches: error against the images one normalisation sees, large to small, as Wu & He
(2018) draw it, and what others published beside it. Each line is named where it ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnrecal.report.analysis.axis_findings import half_width, noise_of
from bnrecal.report.analysis.by_axes import Group, Variants
from bnrecal.report.analysis.norm_findings import BN, RE_ESTIMATED, SIZE, Contenders, contenders
from bnrecal.report.analysis.published import published_small_batches
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.report.formats.picture import Panel, Picture
from bnrecal.report.formats.series import COLOURS, DASHES, INK, MARKS, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCHES = (6.4, 4.4)
MOST_PANELS = 3
LABEL_POINTS = 8.5
NAMES = {
    BN: "BN",
    RE_ESTIMATED: "BN re-estimated",
    "brn": "BRN",
    "cbn": "CBN",
    "naive-cbn": "naive CBN",
    "evalnorm": "BN, EvalNorm",
    "gn": "GN",
    "ln": "LN",
    "in": "IN",
    "frozen": "frozen",
    "mabn": "MABN",
}
# each norm looks the same in every panel
_COLOUR = dict(zip((BN, RE_ESTIMATED, "gn", "brn", "cbn", "in", "naive-cbn", "ln"), COLOURS, strict=True))
_COLOUR["evalnorm"] = INK
_MARK = dict(zip((BN, RE_ESTIMATED, "gn", "brn", "cbn", "in", "naive-cbn", "ln"), MARKS, strict=True))
_DASH = {RE_ESTIMATED: DASHES[1], "naive-cbn": DASHES[1], "evalnorm": DASHES[2]}


@dataclass(frozen=True)
class Drawn:
    """One line: errors in per cent by norm batch, None for a norm that has none, with half widths."""

    label: str
    norm: str
    at: Mapping[int | None, tuple[float, float]]
    hollow: bool = False


def small_batches_picture(variants: Variants, uncertainty: Uncertainty, suffix: str) -> Picture | None:
    """A panel for each combination of the other axes, then one of what was published.

    None where norm and norm batch do not both vary, where more than three combinations do, or where the
    metric is no share of right answers.
    """
    groups = contenders(variants)
    sizes = sorted({size for group in groups for size in group.sizes}, reverse=True)
    if not 1 <= len(groups) <= MOST_PANELS or len(sizes) < 2 or variants.metric != "top-1":
        return None
    panels = []
    for group in groups:
        title = f"measured here, {group.of or variants.task}"
        panels.append(_panel(title, _measured(group, uncertainty), sizes))
    published = _published()
    panels.append(_panel("published: ImageNet", published, sorted({32, 16, 8, 4, 2}, reverse=True)))
    caption = (
        "Top-1 error against the images that one normalisation sees, large to small; bars: "
        f"{noise_of(variants)}. Norms that look at one image at a time have no norm batch: flat lines. "
        "Last panel: other networks on ImageNet, ResNet-50 by Wu & He (2018), Wu & Johnson (2021) and the "
        "code of MABN (2020), Inception-v3 (hollow) by Ioffe (2017); compare shapes, not levels."
    )
    return Picture(f"small-batches{suffix}", "trained", caption, tuple(panels))


def _measured(group: Contenders, uncertainty: Uncertainty) -> list[Drawn]:
    drawn = []
    for name, by_size in group.lines().items():
        at: dict[int | None, tuple[float, float]] = {}
        for size, points in by_size.items():
            cells = Group(tuple(points))
            at[size] = 100 * (1 - cells.eval), 100 * (half_width(cells, uncertainty) or 0.0)
        drawn.append(Drawn(NAMES.get(name, name), name, at))
    return [line for line in drawn if line.at]


def _published() -> list[Drawn]:
    together: dict[tuple[str, str, str, str], dict[int | None, tuple[float, float]]] = {}
    for row in published_small_batches():
        at = together.setdefault((row.line, row.norm, row.network, row.source), {})
        at[row.norm_batch] = row.error_pct, 0.0
    return [
        Drawn(f"{line}, {source}", norm, at, hollow=network != "ResNet-50")
        for (line, norm, network, source), at in together.items()
    ]


def _panel(title: str, lines: Sequence[Drawn], sizes: Sequence[int]) -> Panel:
    told = "; ".join(f"{line.label}: {_told(line)}" for line in lines)
    alt = f"Top-1 error in per cent against {SIZE}, large to small, {title}. {told}."

    def draw(axes: "Axes") -> None:
        ends = [(_line(axes, line, sizes, k - len(lines) / 2), line) for k, line in enumerate(lines)]
        axes.set_xscale("log", base=2)
        axes.set_xlim(sizes[0] * 1.15, sizes[-1] / 1.15)  # large to small
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel("images one normalisation sees")
        axes.set_ylabel("top-1 error, %")
        _label(axes, ends, sizes[0])

    return Panel(title, alt, draw, INCHES)


def _told(line: Drawn) -> str:
    def one(size: int | None, value: float) -> str:
        return f"{value:.1f} at any" if size is None else f"{size} {value:.1f}"

    ordered = sorted(line.at, key=lambda size: -(size or 0))
    return ", ".join(one(size, line.at[size][0]) for size in ordered)


def _line(axes: "Axes", line: Drawn, sizes: Sequence[int], beside: float) -> tuple[float, float]:
    """Draw it, `beside` the others so that no bar lies on another; where it ends on the right."""
    colour = _COLOUR.get(line.norm, MUTED)
    if None in line.at:
        value, half = line.at[None]
        axes.axhline(value, color=colour, lw=1.2, ls=(0, (1, 1.5)), zorder=1.5)
        middle = sizes[0] / 2 ** (0.5 + 0.08 * beside)
        axes.errorbar([middle], [value], yerr=[half] if half else None, color=colour, lw=1.2, capsize=2)
        return sizes[-1] / 1.1, value
    at = sorted((size for size in line.at if size is not None), reverse=True)
    values, halves = zip(*(line.at[size] for size in at), strict=True)
    shown = [size / 2 ** (0.03 * beside) for size in at] if any(halves) else at
    few = len(at) == 2 and at[0] > 2 * at[1]  # nothing is known between them
    look: dict[str, Any] = {
        "color": colour,
        "marker": _MARK.get(line.norm, "h"),
        "ls": _DASH.get(line.norm, "-"),
        "mfc": "white" if line.hollow else colour,
        "ms": 5,
        "lw": 0.8 if few else 1.6 if line.norm in (BN, RE_ESTIMATED) else 1.2,
        "capsize": 2,
    }
    axes.errorbar(shown, values, yerr=halves if any(halves) else None, zorder=3, **look)
    return shown[-1], values[-1]


def _label(axes: "Axes", ends: Sequence[tuple[tuple[float, float], Drawn]], largest: int) -> None:
    """Each name at the right edge, at its line's end or as near as the others leave room, joined to it.

    A point on the left has its name beside it, without the source: there is room for that alone.
    """
    for (x, y), line in ends:
        if x == largest:
            axes.annotate(
                line.label.partition(",")[0],
                (x, y),
                xytext=(8, 0),
                textcoords="offset points",
                fontsize=LABEL_POINTS,
                color=_COLOUR.get(line.norm, MUTED),
                va="center",
            )
    ends = [end for end in ends if end[0][0] != largest]
    low, high = axes.get_ylim()
    height_points = axes.bbox.height * 72 / axes.figure.dpi
    room = (high - low) / height_points * LABEL_POINTS * 1.25
    order = sorted(ends, key=lambda end: end[0][1])
    places = apart([y for (_, y), _ in order], room, low, high)
    for ((x, y), line), place in zip(order, places, strict=True):
        colour = _COLOUR.get(line.norm, MUTED)
        axes.annotate(
            line.label,
            (x, y),
            xytext=(1.035, (place - low) / (high - low)),
            textcoords="axes fraction",
            fontsize=LABEL_POINTS,
            color=colour,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "lw": 0.6,
                "alpha": 0.6,
                "shrinkA": 1,
                "shrinkB": 3,
            },
        )


def apart(values: Sequence[float], room: float, low: float, high: float) -> list[float]:
    """Places for labels, `room` apart at least and as near to these ascending values as that allows.

    Neighbours that touch are moved as one around their mean (pool adjacent violators), then all into [low,
    high] as far as they fit.
    """
    clusters: list[list[float]] = []  # [sum of values less their offsets, how many]
    for value in values:
        clusters.append([value, 1])
        while len(clusters) > 1:
            (total, n), (total_2, n_2) = clusters[-2:]
            first, second = total / n - (n - 1) * room / 2, total_2 / n_2 - (n_2 - 1) * room / 2
            if second - (first + (n - 1) * room) >= room:
                break
            clusters[-2:] = [[total + total_2, n + n_2]]
    places = [total / n + (k - (n - 1) / 2) * room for total, n in clusters for k in range(int(n))]
    for k in range(len(places)):  # from below, then from above
        places[k] = max(places[k], low + k * room)
    for k in range(len(places)):
        places[-1 - k] = min(places[-1 - k], high - k * room)
    return places
