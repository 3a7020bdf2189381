"""How a panel is drawn. Series differ in mark and dash as well as colour, so that grey paper will do."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from bnrecal.report.analysis.law import Law
from bnrecal.report.analysis.sections import Section
from bnrecal.report.analysis.time_model import TimeModel
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.store.store import Row
from bnrecal.study.cells import n_updates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Draw = Callable[["Axes"], None]
Laws = Sequence[Law]

INK, MUTED, GRID = "#1d2126", "#5d6571", "#dcdfe4"
COLOURS = ("#1b6ca8", "#c2571b", "#2d7d47", "#7a4fa2", "#8a6d01", "#a8325e", "#3f7f86", "#63686f")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
NEAR = 2.0  # ranges of eval that the network as it stands may lie off and still be drawn
DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)))


def _styles(names: Sequence[str]) -> dict[str, tuple[str, str, object]]:
    looks = zip(cycle(COLOURS), cycle(MARKS), cycle(DASHES), strict=False)
    return dict(zip(names, islice(looks, len(names)), strict=True))


def law(section: Section, laws: Laws) -> Draw:
    """Update and eval against N on a logarithmic axis, and each architecture's fit."""

    def draw(axes: "Axes") -> None:
        counts = sorted({row["n_updates"] for row in section.rows})
        at = np.geomspace(counts[0] * 0.92, counts[-1] * 1.08, 120)
        for arch, (colour, mark, dash) in _styles(section.archs).items():
            mine = [r for r in section.rows if r["arch"] == arch and r["update"] is not None]
            n = [r["n_updates"] for r in mine]
            fit = next((fit for fit in laws if fit.arch == arch), None)
            label = arch
            if fit:
                label = f"{arch}  A {fit.level:.3f}, k0 {fit.warmup:.1f}"
                axes.plot(at, fit.level * (1 - fit.warmup / at), ls=dash, color=colour, lw=1.2)
            axes.plot(n, [r["update"] for r in mine], mark, color=colour, ms=4.5, label=label)
            axes.plot(n, [r["eval"] for r in mine], mark, color=colour, ms=4.5, mfc="none", mew=1)
        _log_axis(axes, counts)
        axes.set_xlabel("updates N (samples / batch size)")
        axes.set_ylabel(f"{section.metric_name} (filled: update, open: eval)")
        _legend(axes, loc="lower right")

    return draw


def collapse(sets: Sequence[tuple[str, Section, Laws]]) -> Draw:
    """Update / A and eval / A against N / k0, and the curve they fall on."""

    def draw(axes: "Axes") -> None:
        names = [f"{fit.arch} {where}" for where, _, laws in sets for fit in laws]
        styles = _styles(names)
        reach = [1.6]
        for where, section, laws in sets:
            for fit in laws:
                colour, mark, _ = styles[f"{fit.arch} {where}"]
                mine = [r for r in section.rows if r["arch"] == fit.arch and r["update"] is not None]
                x = [r["n_updates"] / fit.warmup for r in mine]
                reach += x
                label = f"{fit.arch} {where}" if len(sets) > 1 else fit.arch
                axes.plot(x, [r["update"] / fit.level for r in mine], mark, color=colour, ms=4, label=label)
                axes.plot(
                    x, [r["eval"] / fit.level for r in mine], mark, color=colour, ms=4, mfc="none", mew=0.9
                )
        at = np.geomspace(min(reach) * 0.9, max(reach) * 1.1, 160)
        axes.plot(at, 1 - 1 / at, color=INK, lw=1, label="1 - k0 / N", zorder=1)
        axes.axhline(1, color=MUTED, lw=0.8, ls=(0, (2, 2)), zorder=1)
        _log_axis(
            axes,
            [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500) if min(reach) * 0.9 <= t <= max(reach) * 1.1],
        )
        axes.set_xlabel("updates in warm-ups, N / k0")
        axes.set_ylabel("share of A (filled: update, open: eval)")
        _legend(axes, loc="lower right")

    return draw


def by_samples(section: Section, arch: str, sizes: Sequence[int], uncertainty: Uncertainty) -> Draw:
    """Eval of one architecture against samples, a line for each batch size, moved apart for their bars."""

    def draw(axes: "Axes") -> None:
        counts = sorted({n for _, n in section.settings})
        styles = _styles([str(size) for size in sizes])
        for k, size in enumerate(sizes):
            colour, mark, dash = styles[str(size)]
            mine = sorted(
                (r for r in section.rows if r["arch"] == arch and r["batch_size"] == size),
                key=lambda r: int(r["n_samples"]),
            )
            apart = 1.03 ** (k - (len(sizes) - 1) / 2)
            x = [r["n_samples"] * apart for r in mine]
            _bars(axes, x, mine, uncertainty, colour)
            axes.plot(
                x,
                [r["eval"] for r in mine],
                marker=mark,
                ls=dash,
                color=colour,
                ms=4,
                lw=1,
                label=f"bs {size}",
            )
        if arch in section.stored:
            _stands(axes, section, arch)
        _log_axis(axes, counts)
        axes.set_xlabel("calibration images")
        axes.set_ylabel(f"eval {section.metric_name}")
        _legend(axes, loc="best")

    return draw


def _stands(axes: "Axes", section: Section, arch: str) -> None:
    """A line at the network as it stands; where that is far off, only its figure in the legend."""
    value = section.stored[arch]["eval"]
    if is_near(section, [arch]):
        axes.axhline(value, color=INK, lw=1, ls=(0, (1, 1)), zorder=1, label="as it stands")
    else:
        axes.plot([], [], ls="", label=f"as it stands {value:.4f}, off the axis")


def is_near(section: Section, archs: Sequence[str]) -> bool:
    """Whether the networks as they stand fit the axis of the others without pressing them together."""
    evals = [row["eval"] for row in section.rows if row["arch"] in archs]
    reach = NEAR * max(max(evals) - min(evals), 1e-3)
    found = [section.stored[arch]["eval"] for arch in archs if arch in section.stored]
    return all(min(evals) - reach <= value <= max(evals) + reach for value in found)


def ranking(section: Section, uncertainty: Uncertainty) -> Draw:
    """Eval of every architecture at every setting, settings by number of updates."""

    def draw(axes: "Axes") -> None:
        settings = sorted(section.settings, key=lambda s: (n_updates(s[1], s[0]), s[1]))
        stands = bool(section.stored) and is_near(section, section.archs)
        for arch, (colour, mark, dash) in _styles(section.archs).items():
            found = [(k, section.at(*s)[arch]) for k, s in enumerate(settings) if arch in section.at(*s)]
            x, mine = [float(k) for k, _ in found], [row for _, row in found]
            _bars(axes, x, mine, uncertainty, colour)
            axes.plot(
                x, [r["eval"] for r in mine], marker=mark, ls=dash, color=colour, ms=4, lw=1, label=arch
            )
            if stands and arch in section.stored:
                axes.plot([-1.0], [section.stored[arch]["eval"]], mark, color=colour, ms=5, mfc="none")
        labels = [f"{size} x {n_updates(n, size):,}" for size, n in settings]
        labels = ["as it stands", *labels] if stands else labels
        axes.set_xticks(
            range(-1 if stands else 0, len(settings)), labels, rotation=60, ha="right", rotation_mode="anchor"
        )
        axes.set_xlabel("setting: batch size x updates")
        axes.set_ylabel(f"eval {section.metric_name}")
        _legend(axes, loc="best")

    return draw


def time(section: Section, name: str, model: TimeModel | None) -> Draw:
    """Seconds against samples, a line for each batch size."""

    def draw(axes: "Axes") -> None:
        sizes = [block.batch_size for block in section.blocks][: len(COLOURS)]
        for size, (colour, mark, dash) in zip(sizes, _styles(list(map(str, sizes))).values(), strict=True):
            counts = [n for s, n in section.settings if s == size]
            seconds = [median(r[name] for r in section.at(size, n).values()) for n in counts]
            axes.plot(counts, seconds, mark, color=colour, ms=4.5, label=f"bs {size}")
            at = np.linspace(min(counts), max(counts), 40)
            line = [model.seconds(n, n / size) for n in at] if model else np.interp(at, counts, seconds)
            axes.plot(at, line, ls=dash, color=colour, lw=1)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("calibration images")
        axes.set_ylabel("update pass, seconds" if name == "recal_s" else "cell, seconds")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="x", nbins=5)
        _legend(axes, loc="upper left")

    return draw


def _bars(
    axes: "Axes", x: Sequence[float], rows: Sequence[Row], uncertainty: Uncertainty, colour: str
) -> None:
    for at, row in zip(x, rows, strict=True):
        interval = uncertainty.interval(row)
        if interval:
            axes.plot([at, at], interval, color=colour, lw=0.9, alpha=0.75, solid_capstyle="butt")


def along(lines: Mapping[str, tuple[list[float], list[float], list[float]]], x: str, y: str) -> Draw:
    """Lines with bars, (x, y, half widths) each; x is logarithmic where it spans more than a factor of 4.

    Lines stand a little beside each other, so that no bar lies on another.
    """

    def draw(axes: "Axes") -> None:
        ticks = sorted({value for at, _, _ in lines.values() for value in at})
        is_wide = ticks[0] > 0 and ticks[-1] > 4 * ticks[0]
        for k, (name, (colour, mark, dash)) in enumerate(_styles(list(lines)).items()):
            at, values, halves = lines[name]
            beside = (k - (len(lines) - 1) / 2) * 0.01
            shifted = [
                v * (ticks[-1] / ticks[0]) ** beside if is_wide else v + (ticks[-1] - ticks[0]) * beside
                for v in at
            ]
            look: dict[str, Any] = {
                "color": colour,
                "marker": mark,
                "ls": dash,
                "ms": 4.5,
                "lw": 1.3,
                "capsize": 2,
            }
            axes.errorbar(shifted, values, yerr=halves, label=name, **look)
        if is_wide:
            _log_axis(axes, ticks)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        _legend(axes, loc="best")

    return draw


def _log_axis(axes: "Axes", ticks: Sequence[float]) -> None:
    """Ticks at these values alone, thinned to what fits."""
    axes.set_xscale("log")
    step = -(-len(ticks) // 7)
    shown = list(ticks)[::-1][::step][::-1]
    axes.set_xticks(shown, [f"{tick:,.0f}" for tick in shown])
    axes.minorticks_off()


def _legend(axes: "Axes", loc: Any) -> None:
    many = len(axes.get_legend_handles_labels()[1]) > 4
    axes.legend(
        loc=loc, frameon=False, fontsize=8.5, ncols=2 if many else 1, handlelength=1.6, labelcolor=INK
    )
