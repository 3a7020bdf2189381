"""Whether settings agree on which architecture is better: Kendall's tau against one reference setting."""

from dataclasses import dataclass
from itertools import pairwise

from bnrecal.report.analysis.sections import Section
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.store.store import Row

FEWEST_ARCHS = 3  # an order of two says too little
Setting = tuple[int, int]  # batch size, samples


@dataclass(frozen=True)
class Ranking:
    """`taus[setting]` of eval, `update_taus` of the update metric, both against eval at `reference`.

    `untold` are neighbours in the reference's order whose difference has an interval with 0 in it; None
    without intervals.
    """

    reference: Setting
    order: tuple[str, ...]  # best first
    taus: dict[Setting, float]
    update_taus: dict[Setting, float]
    untold: tuple[tuple[str, str], ...] | None

    @property
    def keeping(self) -> int:
        """Settings, the reference apart, with the reference's order."""
        return sum(tau > 1 - 1e-9 for tau in self.taus.values())


def rank(section: Section, uncertainty: Uncertainty) -> Ranking | None:
    """Against the setting of highest mean eval; None with too few architectures or settings."""
    archs = section.archs
    complete = {s: cells for s in section.settings if len(cells := section.at(*s)) == len(archs)}
    if len(archs) < FEWEST_ARCHS or len(complete) < 2:
        return None
    reference = max(complete, key=lambda s: sum(row["eval"] for row in complete[s].values()))
    best = complete[reference]
    order = tuple(sorted(archs, key=lambda arch: -best[arch]["eval"]))
    others = {s: cells for s, cells in complete.items() if s != reference}
    taus = {s: _tau(cells, "eval", best) for s, cells in others.items()}
    with_update = {s: c for s, c in complete.items() if all(r["update"] is not None for r in c.values())}
    update_taus = {s: _tau(cells, "update", best) for s, cells in with_update.items()}
    return Ranking(reference, order, taus, update_taus, _untold(order, best, uncertainty))


def _tau(cells: dict[str, Row], name: str, best: dict[str, Row]) -> float:
    """Kendall's tau-b; 0 where all are equal."""
    from bnrecal.metrics.rank_correlation import kendall

    archs = sorted(best)
    return kendall([cells[a][name] for a in archs], [best[a]["eval"] for a in archs])


def _untold(
    order: tuple[str, ...], best: dict[str, Row], uncertainty: Uncertainty
) -> tuple[tuple[str, str], ...] | None:
    untold = []
    for better, worse in pairwise(order):
        interval = uncertainty.difference(best[better], best[worse])
        if interval is None:
            return None
        if interval[0] <= 0:
            untold.append((better, worse))
    return tuple(untold)
