"""What the rows of an experiment say: sentences that appear only when their numbers support them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median, stdev

from bnrecal.report.analysis.contention import contention_of
from bnrecal.report.analysis.durations import spoken
from bnrecal.report.analysis.eval_findings import eval_findings
from bnrecal.report.analysis.finding import Finding, start_left, warm_from, window
from bnrecal.report.analysis.law import Law, fit_law
from bnrecal.report.analysis.ranking import Ranking, rank
from bnrecal.report.analysis.sections import Section, orders_of
from bnrecal.report.analysis.time_model import Part, TimeModel, fit_time
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.store.store import Row

AGREES = 0.02  # A and the mean eval metric
SAME_TAU = 0.999
NO_INTERVALS = Uncertainty(None)


def findings_of(section: Section, uncertainty: Uncertainty = NO_INTERVALS) -> list[Finding]:
    """Short paragraphs about one experiment, most important first."""
    if not section.rows:
        alone = "Nothing was re-estimated here: only the networks as they stand were measured."
        return [Finding("eval", alone)] if section.stored else []
    laws = laws_of(section)
    return [
        *_law(section, laws),
        *_start(section),
        *eval_findings(section, warm_from(section, laws), uncertainty),
        *_ranking(rank(section, uncertainty)),
        *_orders(section),
        *contention_of(section),
        *_time(section),
    ]


def laws_of(section: Section) -> list[Law]:
    """The law of each architecture that has enough cells with an update metric."""
    with_update = _with_update(section)
    return [law for arch, rows in sorted(with_update.items()) if (law := fit_law(arch, rows))]


def _with_update(section: Section) -> dict[str, list[Row]]:
    by_arch: dict[str, list[Row]] = defaultdict(list)
    for row in section.rows:
        if row["update"] is not None:
            by_arch[row["arch"]].append(row)
    return by_arch


def _law(section: Section, laws: Sequence[Law]) -> list[Finding]:
    with_update = _with_update(section)
    if not with_update:
        return []
    if not laws:
        few = "Too few cells to say how the update metric depends on the number of updates N."
        return [Finding("law", few)]
    fits = tuple(
        f"{law.arch}: A {law.level:.4f} ± {law.level_se:.4f}, k0 {law.warmup:.1f} ± {law.warmup_se:.1f}, "
        f"R2 {law.r2:.4f}; mean eval {law.mean_eval:.4f}"
        for law in laws
    )
    if not all(law.holds() for law in laws):
        return [Finding("law", "update = A (1 - k0 / N) does not describe these cells well:", fits)]
    said = [Finding("law", "update = A (1 - k0 / N), N the number of updates (± standard error):", fits)]
    gap = _largest_gap_at_equal_n(with_update.values())
    if gap is not None:
        text = f"Cells of equal N differ in update by {gap:.4f} at most: batch size matters through N alone."
        reach = min(
            max(r["update"] for r in rows) - min(r["update"] for r in rows) for rows in with_update.values()
        )
        if gap <= reach / 5:
            said.append(Finding("law", text))
    apart = max(abs(law.level - law.mean_eval) for law in laws)
    if apart <= AGREES:
        text = (
            f"A is the mean eval metric within {apart:.4f}: update measures how long the average took to "
            "warm up (about k0 batches), not the calibrated network. Do not choose by the update column."
        )
        said.append(Finding("law", text))
    return said


def _largest_gap_at_equal_n(groups: Iterable[Sequence[Row]]) -> float | None:
    """Largest difference of update between cells of one architecture with equal N; None without pairs."""
    gaps = []
    for rows in groups:
        by_n: dict[int, list[float]] = defaultdict(list)
        for row in rows:
            by_n[row["n_updates"]].append(row["update"])
        gaps += [max(values) - min(values) for values in by_n.values() if len(values) > 1]
    return max(gaps, default=None)


def _start(section: Section) -> list[Finding]:
    """How much of mean 0 and variance 1 the moving average still holds, and what it remembers."""
    momentum = section.momentum
    if section.estimator != "ema" or momentum is None:
        return []
    counts = sorted({row["n_updates"] for row in section.rows})
    told = [n for n in counts if start_left(momentum, n) >= 5e-5]
    said = []
    if told:
        shares = ", ".join(f"{_percent(start_left(momentum, n))} after {n:,}" for n in told)
        rest = "; under 0.01 % after more" if len(told) < len(counts) else ""
        text = f"Of the start (mean 0, variance 1) the average still holds, by updates: {shares}{rest}."
        said.append(Finding("start", text))
    sizes = sorted({row["batch_size"] for row in section.rows})
    images = ", ".join(f"{window(momentum) * size:,.0f} at bs {size}" for size in sizes)
    text = f"The average remembers about {window(momentum):.0f} batches; in images: {images}."
    return [*said, Finding("start", text)]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else f"{100 * share:.2f} %"


def _ranking(ranking: Ranking | None) -> list[Finding]:
    if ranking is None:
        return []
    size, n = ranking.reference
    where = f"bs {size}, {n:,} images, of highest mean eval"
    n_archs, n_others = len(ranking.order), len(ranking.taus)
    text = (
        f"The order of the {n_archs} architectures by eval at the best-calibrated setting ({where}) is kept "
        f"by {ranking.keeping} of the {n_others} other settings"
    )
    lowest = min(ranking.taus, key=lambda s: ranking.taus[s])
    if ranking.taus[lowest] < SAME_TAU:
        at = f"bs {lowest[0]}, {lowest[1]:,} images"
        text += f"; Kendall's tau is {ranking.taus[lowest]:.2f} at the least ({at})."
    else:
        text += ": Kendall's tau is 1 in each."
    said = [Finding("ranking", text)]
    if ranking.untold:
        pairs = " and ".join(f"{a} from {b}" for a, b in ranking.untold[:3])
        more = f" (and {len(ranking.untold) - 3} more pairs)" if len(ranking.untold) > 3 else ""
        said.append(Finding("ranking", f"Even there eval does not tell {pairs}{more} beyond noise."))
    if ranking.update_taus:
        kept = sum(tau > SAME_TAU for tau in ranking.update_taus.values())
        text = f"Ranked by update instead, {kept} of {len(ranking.update_taus)} settings give that order."
        said.append(Finding("ranking", text))
    return said


def _orders(section: Section) -> list[Finding]:
    """How far another order of the images moves a cell."""
    spreads = []
    for row in section.rows:
        orders = orders_of(row)
        if len(orders) > 1:
            spreads.append((stdev(one["eval"] for one in orders), len(orders), row))
    if not spreads:
        return []
    spread, n, row = max(spreads, key=lambda item: item[0])
    fewest = min(n for _, n, _ in spreads)
    orders_said = f"{fewest}" if fewest == n else f"{fewest} to {max(n for _, n, _ in spreads)}"
    text = (
        f"Over {orders_said} orders of the calibration images eval of a cell has a standard deviation of "
        f"{median(s for s, _, _ in spreads):.4f} (median over cells; at most {spread:.4f}, {row['arch']} at "
        f"bs {row['batch_size']}, {row['n_samples']:,} images). The table shows means over orders."
    )
    return [Finding("orders", text)]


def time_name(section: Section) -> str | None:
    """The column that costs are read from: the update pass alone, or all there is; None if neither."""
    for name in ("recal_s", "total_s"):
        if section.rows and all(row[name] is not None for row in section.rows):
            return name
    return None


def time_model_of(section: Section) -> TimeModel | None:
    """Of the median over architectures at each setting."""
    name = time_name(section)
    if name is None:
        return None
    settings = [section.at(*setting) for setting in section.settings]
    return fit_time(
        [
            (row["n_samples"], row["n_updates"], median(r[name] for r in cells.values()))
            for cells in settings
            for row in list(cells.values())[:1]
        ]
    )


def _time(section: Section) -> list[Finding]:
    name, model = time_name(section), time_model_of(section)
    if name is None:
        return []
    if model is None:
        return [Finding("time", "Too few settings to split time into parts per cell, image and batch.")]
    what = "Time of the update pass" if name == "recal_s" else "Time of a cell"
    if not model.holds():
        text = (
            f"{what} does not follow fixed + per image + per batch here (R2 {model.r2:.2f}): times are noisy."
        )
        return [Finding("time", text)]
    told = [_part(part) for part in model.parts if part.told]
    untold = [part.name.replace("fixed", "a fixed part") for part in model.parts if not part.told]
    noise = f"; {' and '.join(untold)}: not told from 0" if untold else ""
    return [Finding("time", f"{what}: {' + '.join(told)}{noise} (R2 {model.r2:.2f}).")]


def _part(part: Part) -> str:
    if part.name == "fixed":
        return f"{spoken(part.seconds)} fixed"
    return f"{1000 * part.seconds:.2g} ms {part.name}"
