"""How many images each rule needs at each batch size until more make no difference.

The reference of an architecture is `pooled` over the most images measured, at the largest batch size that it
was measured with there; without `pooled`, the rule that stands in its place first in ESTIMATORS. A count
suffices if eval lies within the tolerance of the reference, for it and for every larger count measured, on
every architecture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bnrecal.report.analysis.sections import Section
from bnrecal.store.store import Row
from bnrecal.study.axes import ESTIMATORS

REFERENCE = "pooled"


@dataclass(frozen=True)
class ImagesNeeded:
    """`needed[rule, batch size]`: images, or None where no count measured suffices."""

    metric_name: str
    reference_rule: str
    reference_images: int
    reference_rows: Mapping[str, Row]  # by architecture
    tolerance: float
    needed: dict[tuple[str, int], int | None]

    @property
    def reference(self) -> dict[str, float]:
        """Eval by architecture."""
        return {arch: row["eval"] for arch, row in self.reference_rows.items()}

    @property
    def rules(self) -> list[str]:
        return list(dict.fromkeys(rule for rule, _ in self.needed))

    @property
    def batch_sizes(self) -> list[int]:
        return sorted({size for _, size in self.needed})


def images_needed(sections: Sequence[Section], tolerance: float) -> list[ImagesNeeded]:
    """One for each task and data that several counts were measured on, in the order of the sections."""
    together: dict[tuple[object, ...], list[Section]] = {}
    for section in sections:
        if section.blocks:
            key = section.task, section.data_digest, section.metric
            together.setdefault(key, []).append(section)
    found = (_of(group, tolerance) for group in together.values())
    return [one for one in found if one is not None]


def _of(sections: Sequence[Section], tolerance: float) -> ImagesNeeded | None:
    places = {name: place for place, name in enumerate(ESTIMATORS)}
    ordered = sorted(sections, key=lambda s: (places.get(s.estimator, len(places)), s.momentum or 0.0))
    best = next((s for s in ordered if s.estimator == REFERENCE), ordered[0])
    most = max(n for _, n in best.settings)
    size = max(size for size, n in best.settings if n == most)
    rows = best.at(size, most)
    reference = {arch: row["eval"] for arch, row in rows.items()}
    if len({n for _, n in best.settings}) < 2:
        return None
    needed = {
        (section.how, block.batch_size): _fewest(section, block.batch_size, reference, tolerance)
        for section in ordered
        for block in section.blocks
    }
    return ImagesNeeded(sections[0].metric_name, best.how, most, rows, tolerance, needed)


def _fewest(section: Section, size: int, reference: dict[str, float], tolerance: float) -> int | None:
    """The fewest images from which on every count measured lies within the tolerance."""
    fewest = None
    for n in sorted((n for s, n in section.settings if s == size), reverse=True):
        rows = section.at(size, n)
        away = [abs(row["eval"] - reference[arch]) for arch, row in rows.items() if arch in reference]
        if len(away) < len(reference) or max(away) > tolerance:
            break
        fewest = n
    return fewest
