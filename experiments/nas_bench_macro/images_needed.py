"""From how many images on does calibration no longer change the ranking?

    python images_needed.py OUT [OUT ...] [--titles A,B] [-o FILE] [--figures FOLDER]

Each OUT is a folder of `bnrecal rank` with eval at several counts of images, and truth. Every judge beside
the reference, eval by most images (of these the closest to the truth): tau-b with the truth, what it lacks
to the reference's over the same resamples of architectures, tau-b between the two orders. For each rule and
batch size with several counts of images: from which on none is told from its largest.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnrecal.report.analysis.judged import Judged, judged_of
from bnrecal.report.formats.canvas import write_pictures
from bnrecal.report.formats.markdown import table
from bnrecal.report.formats.picture import Panel, Picture
from bnrecal.report.formats.series import MUTED, styles
from bnrecal.search.ranking import FEWEST_SURE, Figure, Ranking
from bnrecal.store.store import Store
from bnrecal.store.truth import kept_truth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Ladders = dict[str, dict[int, str]]  # rule, batch size, order -> images -> the judge's name


def ladders_of(judged: Judged) -> Ladders:
    """The judges "eval RULE bs B n N", by rule, batch size and order ("seed S", where there are several)."""
    found: Ladders = defaultdict(dict)
    for judge in judged.judges:
        if judge.name.startswith("eval "):
            rule, _, rest = judge.name.removeprefix("eval ").rpartition(" n ")
            n, _, order = rest.partition(" ")
            found[f"{rule} {order}".strip()][int(n.replace(",", ""))] = judge.name
    return {rule: dict(sorted(rungs.items())) for rule, rungs in found.items()}


def lacks(ranking: Ranking, fewer: str, most: str) -> Figure:
    """tau against the truth at the most images minus that at fewer."""
    if (most, fewer) in ranking.differences:
        return ranking.differences[most, fewer]
    other = ranking.differences[fewer, most]
    return Figure(-other.value, -other.high, -other.low)


def enough(ranking: Ranking, rungs: dict[int, str]) -> int | None:
    """The fewest images from which on no count is told from the largest; None if not even the next to it."""
    *fewer, most = rungs
    found = None
    for n in reversed(fewer):
        if not lacks(ranking, rungs[n], rungs[most]).is_noise:
            break
        found = n
    return found


def reference(ranking: Ranking, ladders: Ladders) -> str:
    """Of the judges by most images the closest to the truth."""
    most = max(n for rungs in ladders.values() for n in rungs)
    found = [rungs[most] for rungs in ladders.values() if most in rungs]
    return max(found, key=lambda name: ranking.against[name].kendall.value)


def text(title: str, judged: Judged) -> str:
    ranking = ranked(judged)
    ladders = ladders_of(judged)
    first = reference(ranking, ladders)
    names = [name for rungs in ladders.values() for name in rungs.values()]
    names += [judge.name for judge in judged.judges if judge.name not in names]
    rows = []
    for name in names:
        tau = ranking.against[name].kendall
        row = [name, f"{tau.value:.3f} [{tau.low:.3f}, {tau.high:.3f}]", "", ""]
        if name != first:
            lack = lacks(ranking, name, first)
            same = ranking.between.get((name, first)) or ranking.between[first, name]
            row[2:] = [f"{lack.value:+.3f} [{lack.low:+.3f}, {lack.high:+.3f}]", f"{same.kendall.value:.3f}"]
        rows.append(row)
    headers = ["judge", "tau-b with the truth", f"lacks to {first}", "tau-b with its order"]
    sentences = [
        f"- {rule}: {_sentence(ranking, rungs)}" for rule, rungs in ladders.items() if len(rungs) > 1
    ]
    return (
        f"## {title}\n\n"
        f"{len(ranking.archs):,} architectures, against {judged.truth}. 95 % intervals over architectures; "
        f"those of differences hold at once.\n\n{table(headers, rows)}\n\n" + "\n".join(sentences) + "\n"
    )


def _sentence(ranking: Ranking, rungs: dict[int, str]) -> str:
    n, most = enough(ranking, rungs), max(rungs)
    if n is None:
        return f"every count is told from {most:,} images beyond noise."
    return f"from {n:,} images on the agreement with the truth is not told from that at {most:,}."


def ranked(judged: Judged) -> Ranking:
    """Raises SystemExit where there are no intervals to compare by."""
    found = judged.ranking
    if found is None or not found.against:
        raise SystemExit("needs the truth: `bnrecal rank --truth FILE` keeps it in the folder")
    if len(found.archs) < FEWEST_SURE:
        raise SystemExit(f"{len(found.archs)} architectures: needs {FEWEST_SURE} for intervals")
    return found


def panel(title: str, judged: Judged, shown: Sequence[int]) -> Panel:
    """tau by images: a colour for each rule and batch size, a line for each order; others across.

    `shown` are the counts of images of all panels.
    """
    ranking = ranked(judged)

    def draw(axes: "Axes") -> None:
        ladders = ladders_of(judged)
        rules = list(dict.fromkeys(_without_order(rule) for rule in ladders))
        looks = styles(rules)
        for rule, rungs in ladders.items():
            name = _without_order(rule)
            colour, mark, _ = looks[name]
            taus = [ranking.against[judge].kendall.value for judge in rungs.values()]
            label = name if name in rules else None
            axes.plot(list(rungs), taus, color=colour, marker=mark, markersize=4, linewidth=1, label=label)
            if label:
                rules.remove(name)  # its other orders look alike
        others = [name for name in ("stored", "bn", "flops") if name in ranking.against]
        others.sort(key=lambda name: ranking.against[name].kendall.value)
        for name in others:
            tau, place = ranking.against[name].kendall.value, "bottom" if name == others[-1] else "top"
            axes.axhline(tau, color=MUTED, linewidth=0.8, linestyle=":")
            axes.annotate(name, (0.99, tau), xycoords=("axes fraction", "data"), ha="right", va=place)
        axes.set_xscale("log", base=2)
        axes.set_xticks(shown, [f"{n:,}" for n in shown], rotation=45)  # matplotlib's own are formulas
        axes.minorticks_off()
        axes.set_xlabel("calibration images")
        axes.set_ylabel("tau-b with the truth")
        axes.set_xlim(min(shown) / 1.3, max(shown) * 1.3)
        axes.set_ylim(-1.15, 0.75)
        axes.legend(
            fontsize=7, loc="lower left", ncols=2, title="re-estimated", title_fontsize=7, frameon=False
        )

    alt = f"{title}: agreement with true accuracies by calibration images."
    return Panel(title, alt, draw, (4.6, 4.2))


def _without_order(rule: str) -> str:
    return rule.partition(" seed ")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, nargs="+")
    parser.add_argument("--titles", help="of the folders, comma list; by default their names")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--figures", type=Path)
    given = parser.parse_args()
    titles = given.titles.split(",") if given.titles else [out.name for out in given.out]
    found = []
    for title, out in zip(titles, given.out, strict=True):
        kept = kept_truth(out)
        found.append((title, judged_of(Store(out).latest(), *(kept or (None, None)))))
    parts = ["# How many images a ranking needs\n", *(text(*one) for one in found)]
    if given.output:
        given.output.write_text("\n".join(parts), "utf-8")
    else:
        print("\n".join(parts), end="")
    if given.figures:
        caption = "Agreement with the truth by calibration images."
        counts = {n for _, judged in found for rungs in ladders_of(judged).values() for n in rungs}
        panels = tuple(panel(*one, sorted(counts)) for one in found)
        write_pictures([Picture("ranking-by-images", "ranking", caption, panels)], given.figures)


if __name__ == "__main__":
    main()
