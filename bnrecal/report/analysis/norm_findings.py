"""Every normalisation against BatchNorm as it stands, at each norm batch, and BatchNorm re-estimated."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from bnrecal.report.analysis.axis_findings import (
    FEWEST_TRAININGS,
    Difference,
    Pairs,
    best_setting,
    by_training,
    difference,
    scatter_within,
)
from bnrecal.report.analysis.by_axes import NORM, OF_STATISTICS, Point, Variants, named, place_of
from bnrecal.report.analysis.finding import Finding
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.study.recipe import TRAINED_AS

SIZE = "norm batch"
BN, RE_ESTIMATED = "bn", "bn re-estimated"


@dataclass(frozen=True)
class Contenders:
    """Networks that differ by norm and norm batch alone; `of` names what they share, "" for nothing."""

    of: str
    stored: Mapping[str, Mapping[int | None, Sequence[Point]]]  # norm -> norm batch, None: it has none
    re_estimated: Mapping[int | None, Sequence[Point]]  # of bn, at the best setting of the statistics

    @property
    def sizes(self) -> list[int]:
        """Norm batches of bn, the largest first."""
        return sorted((size for size in self.stored.get(BN, {}) if size is not None), reverse=True)

    def lines(self) -> dict[str, Mapping[int | None, Sequence[Point]]]:
        """bn, bn re-estimated, and then the others."""
        rest = {norm: at for norm, at in self.stored.items() if norm != BN}
        again = {RE_ESTIMATED: self.re_estimated} if self.re_estimated else {}
        return {BN: self.stored.get(BN, {}), **again, **rest}


def contenders(variants: Variants) -> list[Contenders]:
    """Those of each combination of the other axes; empty where norm and norm batch do not both vary."""
    if NORM not in variants.training_axes or SIZE not in variants.training_axes:
        return []
    others = [name for name in variants.training_axes if name not in (NORM, SIZE)]
    best = best_setting(variants) or {}
    found: dict[Any, list[Point]] = {}
    for point in variants.points:
        found.setdefault(place_of(point, others), []).append(point)
    places = sorted(found, key=lambda place: variants.ranks(others, place))
    return [_contenders(variants, named(others, place), found[place], best) for place in places]


def _contenders(variants: Variants, of: str, points: Sequence[Point], best: Mapping[str, Any]) -> Contenders:
    stored: dict[str, dict[int | None, list[Point]]] = {norm: {} for norm in variants.axes[NORM]}
    again: dict[int | None, list[Point]] = {}
    for point in points:
        size = point.at.get(SIZE)
        if point.is_stored:
            stored[point.at[NORM]].setdefault(size, []).append(point)
        elif point.at[NORM] == BN and all(point.at[name] == best[name] for name in OF_STATISTICS):
            again.setdefault(size, []).append(point)
    return Contenders(of, {norm: at for norm, at in stored.items() if at}, again)


Gaps = Mapping[str, tuple[Difference, int]]  # contender -> its difference from bn, trainings it is over


def comparisons(variants: Variants, uncertainty: Uncertainty) -> Iterator[tuple[Contenders, int, Gaps]]:
    """Every contender against bn as it stands at the same norm batch, the largest first.

    Intervals hold for all comparisons of these networks at once. They take one scatter for all networks that
    were trained apart, and another for the same networks evaluated otherwise, which scatter far less.
    """
    for group in contenders(variants):
        pairs = {
            size: {name: matched(points, group.stored[BN][size]) for name, points in _at(group, size)}
            for size in group.sizes
        }
        each = [p for at in pairs.values() for p in at.values() if p]
        scatter = {
            same: scatter_within(
                by_training(p)
                for at in pairs.values()
                for name, p in at.items()
                if p and _is_bn(name) == same
            )
            for same in (True, False)
        }
        for size, at in pairs.items():
            gaps = {
                name: (difference(p, uncertainty, scatter[_is_bn(name)], len(each)), len(by_training(p)))
                for name, p in at.items()
                if p
            }
            yield group, size, gaps


def _is_bn(name: str) -> bool:
    """Whether this is bn's own networks, evaluated otherwise."""
    return name == RE_ESTIMATED or TRAINED_AS.get(name) == BN


def norm_findings(variants: Variants, uncertainty: Uncertainty) -> list[Finding]:
    """One for each norm batch: who is better there than bn as it stands, who is worse, who not told apart."""
    found = list(comparisons(variants, uncertainty))
    n = {group.of: sum(len(gaps) for g, _, gaps in found if g.of == group.of) for group, _, _ in found}
    return [_finding(group, size, gaps, n[group.of]) for group, size, gaps in found if gaps]


def _at(group: Contenders, size: int) -> Iterator[tuple[str, Sequence[Point]]]:
    """The others that were measured at this norm batch; who has none stands at each."""
    for name, at in group.lines().items():
        points = at.get(size, at.get(None))
        if name != BN and points:
            yield name, points


def matched(points: Sequence[Point], base: Sequence[Point]) -> Pairs:
    """Cells of the same training seed and architecture."""
    of = {(p.training_seed, p.row["arch"]): p for p in base}
    at = [(p, (p.training_seed, p.row["arch"])) for p in points]
    return [(point, of[key]) for point, key in at if key in of]


def _finding(group: Contenders, size: int, gaps: Gaps, n_comparisons: int) -> Finding:
    better: list[tuple[float, str]] = []
    worse, same = list(better), list(better)
    over: set[str] = set()
    for name, (gap, _) in gaps.items():
        text = f"{name} {gap.mean:+.4f}"
        if gap.low is not None and gap.high is not None:
            text += f" ({gap.low:+.4f} to {gap.high:+.4f})"
            over.add(gap.interval.partition(" over ")[2])
        place = (better if gap.mean > 0 else worse) if gap.is_clear else same
        place.append((gap.mean, text))
    level = mean(p.row["eval"] for p in group.stored[BN][size])
    parts = [
        f"{word}: {', '.join(text for _, text in sorted(items, reverse=True))}"
        for word, items in (("better beyond noise", better), ("worse", worse), ("not told apart", same))
        if items
    ]
    certain = f"95 % intervals over {' and '.join(sorted(over))}" if over else "nothing says how certain"
    if min(n for _, n in gaps.values()) < FEWEST_TRAININGS:
        certain += "; other seeds may differ more"
    flat = [norm for norm, at in group.stored.items() if None in at and norm in gaps]
    alike = f"; the same networks at every {SIZE}: {', '.join(flat)}" if flat else ""
    where = f"{SIZE} {size}" + (f", {group.of}" if group.of else "")
    return Finding(
        f"norms at {where}",
        f"At {where}, against bn as it stands ({level:.4f}): {'; '.join(parts)} ({certain}, adjusted for "
        f"{n_comparisons} comparisons{alike}).",
    )
