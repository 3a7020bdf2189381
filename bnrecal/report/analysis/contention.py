"""Which times were taken while other processes wanted the same processors."""

from bnrecal.report.analysis.finding import Finding
from bnrecal.report.analysis.sections import Section, orders_of
from bnrecal.store.store import Row

SHORT = 0.25  # processors a pass may lack beside its threads before its times count as disturbed


def lacking(row: Row) -> float | None:
    """Processors missing for each thread to have had one: threads - cpus_left, at least 0.

    None where the row does not say, and for passes on a GPU, which its threads do not work for.
    """
    threads, left = (row["environment"] or {}).get("threads"), row.get("cpus_left")
    on_gpu = str(row["device"] or "").startswith("cuda")
    if on_gpu or left is None or not isinstance(threads, int):
        return None
    return max(0.0, threads - float(left))


def is_disturbed(row: Row) -> bool:
    """Whether other processes left the pass fewer processors than it has threads, by SHORT or more."""
    short = lacking(row)
    return short is not None and short >= SHORT


def contention_of(section: Section) -> list[Finding]:
    """That times were taken under contention, if they were."""
    rows = [one for row in section.rows for one in orders_of(row) if one["status"] == "done"]
    disturbed = [row for row in rows if is_disturbed(row)]
    if not disturbed:
        return []
    worst = max(disturbed, key=lambda row: lacking(row) or 0.0)
    threads = worst["environment"]["threads"]
    text = (
        f"Times of {len(disturbed)} of {len(rows)} cells were taken under contention: other processes, those "
        f"of the same sweep included, left {worst['cpus_left']:.2f} processors to "
        f"{threads} thread{'s'[: threads != 1]} at the least ({worst['arch']} at bs {worst['batch_size']}, "
        f"{worst['n_samples']:,} images). Measure again on a quiet machine before comparing times."
    )
    return [Finding("time", text)]
