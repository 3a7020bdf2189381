"""What a large training batch costs: the largest that is not worse than the best beyond noise, and its time.

Each batch stands with its best recipe, as somebody would use it who tuned them all: the rate that is right
for 64 images is not the one for 4,096.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import mean
from typing import Any

from bnrecal.report.analysis.axis_findings import Difference, best_setting, difference, scatter_along
from bnrecal.report.analysis.by_axes import AS_IT_STANDS, BATCH, OF_STATISTICS, Group, Point, Variants, said
from bnrecal.report.analysis.finding import Finding
from bnrecal.report.analysis.published import published_large_batches
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.store.provenance import recipe_of
from bnrecal.study.axes import metric_name


@dataclass(frozen=True)
class _Batch:
    """A training batch with the best of its recipes."""

    size: int
    recipe: str  # in words, "" if there is one alone
    points: Mapping[tuple[Any, ...], Point]  # by training seed, architecture and order of images

    @cached_property
    def by_training(self) -> dict[int, float]:
        return Group(tuple(self.points.values())).by_training

    @property
    def eval(self) -> float:
        return mean(self.by_training.values())

    @property
    def name(self) -> str:
        return f"{self.size:,} ({self.recipe + ': ' if self.recipe else ''}{self.eval:.4f})"

    def seconds(self, train_s: Mapping[str, float]) -> float | None:
        """Mean time of its trainings; None where one is not known."""
        keys = {point.row["trained"] for point in self.points.values()}
        return mean(train_s[key] for key in keys) if keys <= train_s.keys() else None


def batch_findings(
    variants: Variants, uncertainty: Uncertainty, train_s: Mapping[str, float]
) -> list[Finding]:
    """One, where the training batch varies; `train_s` is what trainings took, by their key."""
    if BATCH not in variants.axes:
        return []
    setting = best_setting(variants)
    batches = _batches(variants, setting)
    if len(batches) < 2 or len({frozenset(batch.points) for batch in batches}) > 1:
        return []  # other seeds at other batches: nothing is matched
    best = max(batches, key=lambda batch: batch.eval)
    scatter = scatter_along({b.size: [b.by_training[k] for k in sorted(b.by_training)] for b in batches})
    gaps = {
        batch.size: difference(
            [(batch.points[at], best.points[at]) for at in best.points],
            uncertainty,
            scatter,
            len(batches) - 1,
        )
        for batch in batches
        if batch is not best
    }
    larger = [batch for batch in batches if batch.size > best.size]
    equal = [b for b in larger if gaps[b.size].low is not None and not gaps[b.size].is_clear]
    text = _text(best, max(equal, key=lambda b: b.size) if equal else None, larger, gaps, train_s)
    how = AS_IT_STANDS if setting is None else ", ".join(said(k, setting[k]) for k in OF_STATISTICS)
    epochs = {recipe.epochs for p in variants.points if (recipe := recipe_of(p.row)) is not None}
    at = f"at {epochs.pop()} epochs each" if len(epochs) == 1 else "at unequal epochs"
    tuned = ", each with the best of its recipes on the same seeds" if any(b.recipe for b in batches) else ""
    items = tuple(
        f"{b.name}: {gaps[b.size].mean:+.4f} ({gaps[b.size].interval})" for b in batches if b != best
    )
    adjusted = f"; intervals are adjusted for {len(gaps)} comparisons" if len(gaps) > 1 else ""
    found = [Finding("training batch", f"{text} ({at}{tuned}; statistics {how}{adjusted}.)", items)]
    return [*found, *([_published()] if variants.metric == metric_name("top1") else [])]


def _published() -> Finding:
    """What others found; a line for each network and optimiser."""
    lines: dict[tuple[str, str], list[str]] = defaultdict(list)
    for cell in published_large_batches():
        lines[cell.line, cell.unit].append(f"{cell.batch_size:,}: {cell.figure:g}")
    return Finding(
        "published training batches",
        "Published top-1 by training batch, on other networks and images: compare how it falls.",
        tuple(f"{line}: {', '.join(figures)} {unit}" for (line, unit), figures in lines.items()),
    )


def _batches(variants: Variants, setting: Mapping[str, Any] | None) -> list[_Batch]:
    others = [name for name in variants.training_axes if name != BATCH]
    found: dict[int, dict[tuple[Any, ...], dict[tuple[Any, ...], Point]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for point in variants.points:
        if not _is_of(point, setting):
            continue
        recipe = tuple((name, point.at[name]) for name in others if name in point.at)
        key = (point.training_seed, point.row["arch"], point.row["seed"])
        found[point.at[BATCH]][recipe][key] = point
    batches = []
    for size, recipes in sorted(found.items()):
        most = max(map(len, recipes.values()))
        whole = {recipe: points for recipe, points in recipes.items() if len(points) == most}
        recipe = max(whole, key=lambda one: Group(tuple(whole[one].values())).eval)
        words = ", ".join(said(name, value) for name, value in recipe) if len(recipes) > 1 else ""
        batches.append(_Batch(size, words, whole[recipe]))
    return batches


def _is_of(point: Point, setting: Mapping[str, Any] | None) -> bool:
    if setting is None:
        return point.is_stored
    return not point.is_stored and all(point.at[name] == value for name, value in setting.items())


def _text(
    best: _Batch,
    largest: _Batch | None,
    larger: list[_Batch],
    gaps: Mapping[int, Difference],
    train_s: Mapping[str, float],
) -> str:
    """The sentence, for each of its three cases."""
    if not larger:
        return f"Training batch: the largest, {best.name}, scores highest; no smaller one is needed."
    if largest is None:
        worse = min(larger, key=lambda batch: batch.size)
        if gaps[worse.size].low is None:
            return (
                f"Training batch: {best.name} scores highest; nothing says how certain that is against "
                "larger ones."
            )
        return (
            f"Training batch: {best.name} scores highest, and every larger one is worse beyond noise, "
            f"{worse.name} by {-gaps[worse.size].mean:.4f}."
        )
    gap = gaps[largest.size]
    return (
        f"Training batch: {largest.name} is the largest that is not worse beyond noise than the best, "
        f"{best.name}: {gap.mean:+.4f} ({gap.interval}), which is no proof that they are equal."
        f"{_time(best, largest, train_s)}"
    )


def _time(best: _Batch, largest: _Batch, train_s: Mapping[str, float]) -> str:
    first, second = best.seconds(train_s), largest.seconds(train_s)
    if first is None or second is None:
        return " What they took is not known."
    devices = sorted({p.row["device"] for b in (best, largest) for p in b.points.values() if p.row["device"]})
    return f" It trained in {second:.1f} s against {first:.1f} s ({', '.join(devices)})."
