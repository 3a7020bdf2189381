"""How each panel is drawn."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from bnrecal.report.analysis.law import Law
from bnrecal.report.analysis.sections import Section
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.report.formats.series import (
    COLOURS,
    HALO,
    INK,
    MUTED,
    POINTS,
    legend,
    legend_above,
    show,
    styles,
)
from bnrecal.study.cells import n_updates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Draw = Callable[["Axes"], None]
Laws = Sequence[Law]

NEAR = 2.0  # ranges of eval that the network as it stands may lie off and still be drawn


def law(section: Section, laws: Laws) -> Draw:
    """Update and eval against N on a logarithmic axis, and each architecture's fit."""

    def draw(axes: "Axes") -> None:
        counts = sorted({row["n_updates"] for row in section.rows})
        at = np.geomspace(counts[0] * 0.92, counts[-1] * 1.08, 120)
        room = np.log(counts[-1] / counts[0]) * 5 / POINTS  # what a mark takes of the logarithmic axis
        beside = np.exp(room * (np.arange(len(section.archs)) - (len(section.archs) - 1) / 2))
        for shift, (arch, (colour, mark, dash)) in zip(beside, styles(section.archs).items(), strict=True):
            mine = [r for r in section.rows if r["arch"] == arch and r["update"] is not None]
            n = [r["n_updates"] for r in mine]
            fit = next((fit for fit in laws if fit.arch == arch), None)
            label = arch
            if fit:
                label = f"{arch}  A {fit.level:.3f}, k0 {fit.warmup:.1f}"
                axes.plot(at, fit.level * (1 - fit.warmup / at), ls=dash, color=colour, lw=1.2)
            evals = [r["eval"] for r in mine]
            axes.plot(n, [r["update"] for r in mine], mark, color=colour, ms=5, label=label, **HALO)
            axes.plot(np.multiply(n, shift), evals, mark, color=colour, ms=4.5, mfc="none", mew=1)
        _log_axis(axes, counts)
        axes.set_xlabel("updates N (images / batch size)")
        axes.set_ylabel(f"{section.metric_name} (filled: update, open: eval)")
        legend(axes, loc="lower right")

    return draw


def collapse(sets: Sequence[tuple[str, Section, Laws]]) -> Draw:
    """Update / A and eval / A against N / k0, and the curve they fall on."""

    def draw(axes: "Axes") -> None:
        names = [f"{fit.arch} {where}" for where, _, laws in sets for fit in laws]
        looks = styles(names)
        reach = [1.6]
        for where, section, laws in sets:
            for fit in laws:
                colour, mark, _ = looks[f"{fit.arch} {where}"]
                mine = [r for r in section.rows if r["arch"] == fit.arch and r["update"] is not None]
                x = [r["n_updates"] / fit.warmup for r in mine]
                reach += x
                label = f"{fit.arch} {where}" if len(sets) > 1 else fit.arch
                axes.plot(
                    x, [r["update"] / fit.level for r in mine], mark, color=colour, ms=5, label=label, **HALO
                )
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
        legend(axes, loc="lower right")

    return draw


def by_samples(section: Section, arch: str, sizes: Sequence[int], uncertainty: Uncertainty) -> Draw:
    """Eval of one architecture at each count of images, batch sizes beside each other."""

    def draw(axes: "Axes") -> None:
        counts = sorted({n for _, n in section.settings})
        place = {n: k for k, n in enumerate(counts)}
        series = {}
        for size in sizes:
            rows = [r for r in section.rows if r["arch"] == arch and r["batch_size"] == size]
            series[f"bs {size}"] = [(place[r["n_samples"]], r["eval"], uncertainty.interval(r)) for r in rows]
        show(axes, series, [f"{n:,}" for n in counts])
        if arch in section.stored:
            _stands(axes, section, arch)
        axes.set_xlabel("calibration images")
        axes.set_ylabel(f"eval {section.metric_name}")
        legend_above(axes)

    return draw


def _stands(axes: "Axes", section: Section, arch: str) -> None:
    """A line at the network as it stands; where that is far off, only its figure in the legend."""
    value = section.stored[arch]["eval"]
    bottom, top = axes.get_ylim()
    evals = [row["eval"] for row in section.rows if row["arch"] == arch and bottom <= row["eval"] <= top]
    reach = NEAR * max(max(evals) - min(evals), 1e-3)
    if min(evals) - reach <= value <= max(evals) + reach:
        margin = 0.06 * (top - bottom)
        axes.axhline(value, color=INK, lw=1, ls=(0, (1, 1)), zorder=1, label="as it stands")
        axes.set_ylim(min(bottom, value - margin), max(top, value + margin))
    else:
        axes.plot([], [], ls="", label=f"as it stands {value:.4f}, off the axis")


def ranking(section: Section, uncertainty: Uncertainty) -> Draw:
    """Eval of every architecture at every setting, settings below each other by number of updates."""

    def draw(axes: "Axes") -> None:
        settings = sorted(section.settings, key=lambda s: (n_updates(s[1], s[0]), s[1]))
        stands = {"as it stands": section.stored} if section.stored else {}
        cells = {f"bs {size}, {n:,} images": section.at(size, n) for size, n in settings}
        cells = {**stands, **cells}
        series = {
            arch: [
                (k, found[arch]["eval"], uncertainty.interval(found[arch]))
                for k, found in enumerate(cells.values())
                if arch in found
            ]
            for arch in section.archs
        }
        show(axes, series, list(cells), down=True)
        axes.set_ylabel("setting")
        axes.set_xlabel(f"eval {section.metric_name}")
        legend_above(axes)

    return draw


def time(section: Section, name: str) -> Draw:
    """Seconds at each count of images, the median over architectures, batch sizes beside each other."""

    def draw(axes: "Axes") -> None:
        counts = sorted({n for _, n in section.settings})
        series = {
            f"bs {block.batch_size}": [
                (counts.index(n), median(r[name] for r in section.at(block.batch_size, n).values()), None)
                for n in block.samples
            ]
            for block in section.blocks[: len(COLOURS)]
        }
        show(axes, series, [f"{n:,}" for n in counts])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("calibration images")
        axes.set_ylabel("update pass, seconds" if name == "recal_s" else "cell, seconds")
        legend_above(axes)

    return draw


def along(lines: Mapping[str, tuple[list[float], list[float], list[float]]], x: str, y: str) -> Draw:
    """Series beside each other over the values of an axis: (x, y, half widths) each."""

    def draw(axes: "Axes") -> None:
        at = sorted({value for values, _, _ in lines.values() for value in values})
        series = {
            name: [
                (at.index(k), value, (value - half, value + half) if half else None)
                for k, value, half in zip(*line, strict=True)
            ]
            for name, line in lines.items()
        }
        show(axes, series, [f"{value:g}" for value in at])
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        legend_above(axes)

    return draw


def _log_axis(axes: "Axes", ticks: Sequence[float]) -> None:
    """Ticks at these values alone, thinned to what fits."""
    axes.set_xscale("log")
    step = -(-len(ticks) // 7)
    shown = list(ticks)[::-1][::step][::-1]
    axes.set_xticks(shown, [f"{tick:,.0f}" for tick in shown])
    axes.minorticks_off()
