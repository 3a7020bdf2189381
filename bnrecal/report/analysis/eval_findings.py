"""What eval depends on: number of updates, batch size, samples, or nothing beyond noise."""

from collections import defaultdict
from itertools import combinations, pairwise
from math import comb

import numpy as np

from bnrecal.report.analysis.finding import Finding
from bnrecal.report.analysis.sections import Section
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.store.store import Row

FEWEST_WARM = 3  # warm cells of an architecture before their spread says anything
FACTORS = {"n_updates": "N", "batch_size": "batch size", "n_samples": "images"}
DECIDES = {
    "n_updates": "The number of updates N decides.",
    "batch_size": "Batch size decides.",
    "n_samples": "The number of images decides.",
}
CHANCE = 0.01  # a factor is named if chance alone explained as much so rarely
LEADS = 0.15  # more explained than by the next factor, to be called the one that decides
FEWEST_PAIRS = 6  # of sample counts before one direction is more than chance (2^-5 = .03)

ByArch = dict[str, list[Row]]


def eval_findings(section: Section, warm_from: int, uncertainty: Uncertainty) -> list[Finding]:
    by_arch: ByArch = defaultdict(list)
    for row in section.rows:
        by_arch[row["arch"]].append(row)
    warm = {arch: [r for r in rows if r["n_updates"] >= warm_from] for arch, rows in by_arch.items()}
    said = [*_explained(by_arch), *_spread(by_arch, warm)]
    if all(len(rows) >= FEWEST_WARM for rows in warm.values()):
        cells = "cells" if warm == by_arch else "warm cells"
        said += _beyond_noise(warm, cells, uncertainty)
        said += [*_more_images(warm, cells), *_against_update(warm, cells)]
    return said


def explained(by_arch: ByArch) -> dict[str, tuple[float, float]]:
    """Of the variation of eval about each architecture's mean: (share, p) for each factor.

    The share is adjusted R2 of the means over its levels, so many levels gain nothing by themselves; p is
    the F test's. Empty if there is nothing to explain, or too little to explain it with.
    """
    means = {arch: float(np.mean([row["eval"] for row in mine])) for arch, mine in by_arch.items()}
    rows = [(row, row["eval"] - means[arch]) for arch, mine in by_arch.items() for row in mine]
    y = np.array([value for _, value in rows])
    total, freedom = float(y @ y), len(y) - len(by_arch)
    found = {}
    for factor in FACTORS:
        values = np.array([row[factor] for row, _ in rows])
        levels = np.unique(values)
        left = freedom - len(levels) + 1
        if len(levels) < 2 or left < 3 or total == 0:
            return {}
        rest = float(sum(((y[values == v] - y[values == v].mean()) ** 2).sum() for v in levels))
        found[factor] = (1 - (rest / left) / (total / freedom), _chance(total, rest, len(levels) - 1, left))
    return found


def _chance(total: float, rest: float, between: int, within: int) -> float:
    from scipy.stats import f

    if rest <= 0:
        return 0.0
    return float(f.sf(((total - rest) / between) / (rest / within), between, within))


def _explained(by_arch: ByArch) -> list[Finding]:
    found = explained(by_arch)
    if not found:
        return []
    beyond = {factor: share for factor, (share, p) in found.items() if p < CHANCE}
    shares = ", ".join(f"{name} {max(0.0, found[f][0]):.0%}" for f, name in FACTORS.items())
    text = f"Of eval's variation between settings (adjusted R2): {shares}."
    if not beyond:
        return [Finding("eval", f"{text} None is more than chance.")]
    first = max(beyond, key=lambda factor: beyond[factor])
    if beyond[first] - max(share for f, (share, _) in found.items() if f != first) >= LEADS:
        text += f" {DECIDES[first]}"
    else:
        text += " No one of them decides alone."
    return [Finding("eval", text)]


def _spread(by_arch: ByArch, warm: ByArch) -> list[Finding]:
    """How far eval moves once the average is warm, and by how much the others fall short."""
    if any(len(rows) < FEWEST_WARM for rows in warm.values()) or not warm:
        cells = "cells" if warm == by_arch else "cells with a warm average"
        return [Finding("eval", f"Too few {cells} to say how far eval moves among them.")]
    spread = max(max(r["eval"] for r in rows) - min(r["eval"] for r in rows) for rows in warm.values())
    which = "Over all cells" if warm == by_arch else "Over the cells that are warm"
    said = [Finding("eval", f"{which} eval varies by {spread:.4f} at most on each architecture.")]
    short = [
        (max(r["eval"] for r in warm[arch]) - row["eval"], row)
        for arch, rows in by_arch.items()
        for row in rows
        if row not in warm[arch]
    ]
    if short:
        loss, row = max(short, key=lambda item: item[0])
        where = f"{row['arch']} at bs {row['batch_size']}, {row['n_samples']:,} images"
        compared = "below" if loss > 0 else "above"
        text = f"Of the others the worst is {where}: {abs(loss):.4f} {compared} its highest warm cell."
        said.append(Finding("eval", text))
    return said


def _beyond_noise(warm: ByArch, cells: str, uncertainty: Uncertainty) -> list[Finding]:
    """How many differences between warm cells have an interval without 0."""
    apart: list[float] = []
    n_pairs = 0
    for rows in warm.values():
        for one, other in combinations(rows, 2):
            interval = uncertainty.difference(one, other)
            if interval is None:
                return []
            n_pairs += 1
            if interval[0] > 0 or interval[1] < 0:
                apart.append(abs(one["eval"] - other["eval"]))
    if not n_pairs:
        return []
    by_chance = 0.05 * n_pairs
    text = f"Of {n_pairs} pairs of {cells} {len(apart)} differ beyond noise (95 % paired intervals; "
    text += f"chance alone gives about {by_chance:.0f})"
    if len(apart) > 2 * by_chance:
        text += f", by {max(apart):.4f} at most."
    else:
        text += ": nothing to choose between them by eval."
    return [Finding("noise", text)]


def _more_images(warm: ByArch, cells: str) -> list[Finding]:
    """Whether a larger sample count at the same batch size helps or harms, where nearly all pairs agree."""
    by_counts: dict[tuple[int, int], list[float]] = defaultdict(list)
    for rows in warm.values():
        at = {(r["batch_size"], r["n_samples"]): r["eval"] for r in rows}
        counts = sorted({n for _, n in at})
        for few, many in pairwise(counts):
            both = [size for size, n in at if n == few and (size, many) in at]
            by_counts[few, many] += [at[size, many] - at[size, few] for size in both]
    said = []
    for (few, many), changes in sorted(by_counts.items()):
        for word, agreeing in (
            ("lower", sum(c < 0 for c in changes)),
            ("higher", sum(c > 0 for c in changes)),
        ):
            if len(changes) >= FEWEST_PAIRS and _sign_chance(agreeing, len(changes)) < 0.05 < agreeing:
                text = (
                    f"With {many:,} images eval is {word} than with {few:,} in {agreeing} of {len(changes)} "
                    f"pairs of {cells}, by {abs(float(np.mean(changes))):.4f} on average."
                )
                said.append(Finding("eval", text))
    return said


def _sign_chance(agreeing: int, n: int) -> float:
    """Probability of so many or more of n by the toss of a coin, either side."""
    return min(1.0, float(2 * sum(comb(n, k) for k in range(agreeing, n + 1))) / float(2**n))


def _against_update(warm: ByArch, cells: str) -> list[Finding]:
    """Whether, over warm cells, a higher update metric goes with a lower eval metric."""
    pairs = [
        (
            row["update"] - np.mean([r["update"] for r in rows]),
            row["eval"] - np.mean([r["eval"] for r in rows]),
        )
        for rows in warm.values()
        if all(r["update"] is not None for r in rows)
        for row in rows
    ]
    if len(pairs) < 2 * FEWEST_PAIRS:
        return []
    from scipy.stats import pearsonr

    update, evaluated = np.array(pairs).T
    if update.std() == 0 or evaluated.std() == 0:
        return []
    found = pearsonr(update, evaluated)
    r, p = float(found.statistic), float(found.pvalue)
    if p >= CHANCE or r >= 0:
        return []
    text = f"Over all {cells} a higher update metric goes with a lower eval metric"
    return [Finding("eval", f"{text} (r = {r:.2f} within architectures).")]
