"""What the rows of an experiment say: sentences that appear only when their numbers support them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from bnrecal.report.law import Law, fit_law
from bnrecal.report.sections import Section
from bnrecal.store import Row

WARM = 0.002  # of the starting statistics left: an exponential average this far on is as good as warm
AGREES = 0.02  # A and the mean eval metric
FEWEST_WARM = 3  # warm cells of an architecture before their spread says anything


def findings_of(section: Section) -> list[str]:
    """Short paragraphs about one experiment, most important first."""
    rows = [row for block in section.blocks for row in block.rows.values()]
    by_arch: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_arch[row["arch"]].append(row)
    with_update = {arch: [r for r in mine if r["update"] is not None] for arch, mine in by_arch.items()}
    laws = [law for arch, mine in sorted(with_update.items()) if (law := fit_law(arch, mine))]
    return [*_law(laws, with_update), *_start(section, rows), *_eval(section, by_arch)]


def _law(laws: Sequence[Law], by_arch: dict[str, list[Row]]) -> list[str]:
    if not laws:
        return ["Too few cells to say how the update metric depends on the number of updates N."]
    fits = "\n".join(
        f"  {law.arch}: A {law.level:.4f} +- {law.level_se:.4f}, k0 {law.warmup:.1f} +- {law.warmup_se:.1f}, "
        f"R2 {law.r2:.4f}; mean eval {law.mean_eval:.4f}"
        for law in laws
    )
    if not all(law.holds() for law in laws):
        return [f"update = A (1 - k0 / N) does not describe these cells well:\n{fits}"]
    said = [f"update = A (1 - k0 / N), N the number of updates:\n{fits}"]
    gap = _largest_gap_at_equal_n(by_arch.values())
    if gap is not None:
        said.append(f"Cells of equal N differ by {gap:.4f} at most: batch size matters through N alone.")
    apart = max(abs(law.level - law.mean_eval) for law in laws)
    if apart <= AGREES:
        said.append(
            f"A is the mean eval metric within {apart:.4f}: update measures how long the average took to "
            "warm up (about k0 batches), not the calibrated network. Do not choose by the update column."
        )
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


def _start(section: Section, rows: Sequence[Row]) -> list[str]:
    """How much of mean 0 and variance 1 the moving average still holds, and what it remembers."""
    if section.estimator != "ema" or section.momentum is None or not rows:
        return []
    keep = 1 - section.momentum
    fewest = min(row["n_updates"] for row in rows)
    left = keep**fewest
    window = (2 - section.momentum) / section.momentum
    sizes = sorted({row["batch_size"] for row in rows})
    images = ", ".join(f"{window * size:,.0f} at bs {size}" for size in sizes)
    said = [f"The average remembers about {window:.0f} batches; in images: {images}."]
    if left > WARM:
        said.insert(0, f"After {fewest} updates {left:.1%} of the start (mean 0, variance 1) is still in it.")
    return said


def _eval(section: Section, by_arch: dict[str, list[Row]]) -> list[str]:
    """How far eval moves once the average is warm, and by how much the others fall short."""
    keep = 1 - section.momentum if section.estimator == "ema" and section.momentum else 0.0
    warm = {a: [r for r in rows if keep ** r["n_updates"] <= WARM] for a, rows in by_arch.items()}
    if any(len(rows) < FEWEST_WARM for rows in warm.values()) or not warm:
        return []
    spread = max(max(r["eval"] for r in rows) - min(r["eval"] for r in rows) for rows in warm.values())
    which = "Over all cells" if warm == by_arch else "Over the cells that are warm"
    said = [f"{which} eval varies by {spread:.4f} at most on each architecture."]
    short = [
        (max(r["eval"] for r in warm[arch]) - row["eval"], row)
        for arch, rows in by_arch.items()
        for row in rows
        if row not in warm[arch]
    ]
    if short:
        loss, row = max(short, key=lambda item: item[0])
        where = f"{row['arch']} at bs {row['batch_size']}, {row['n_samples']:,} samples"
        said.append(f"Of the others the worst is {where}: {loss:.4f} below its best.")
    return said
