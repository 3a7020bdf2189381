"""The report as data, before any format: tables, laws, findings, advice and where it all came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bnrecal.report.analysis.advice import Advice, advice_of
from bnrecal.report.analysis.axis_findings import axis_findings
from bnrecal.report.analysis.batch_findings import batch_findings
from bnrecal.report.analysis.by_axes import Variants, variants_of
from bnrecal.report.analysis.finding import Finding
from bnrecal.report.analysis.findings import findings_of, laws_of
from bnrecal.report.analysis.law import Law
from bnrecal.report.analysis.norm_findings import norm_findings
from bnrecal.report.analysis.preparation import TOPIC, notes_of, preparation_of
from bnrecal.report.analysis.published import PUBLISHED_TASK, published_rows
from bnrecal.report.analysis.sections import Section, orders_of, sections_of
from bnrecal.report.analysis.skipped import skipped_note
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.store.store import Row, Store
from bnrecal.study.axes import TOLERANCE

FEWEST_COMMON = 4  # settings shared with the published study before the two stand side by side
PUBLISHED_SOURCE = (
    "Published: 33 cells of the study this project reproduces (a detection supernet on 110,000 images; "
    "Huawei Cloud community, see bnrecal/report/ORIGIN.md). Other networks and images than here: compare "
    "how figures depend on the setting, not the figures."
)


@dataclass(frozen=True)
class Chapter:
    """One experiment, with the published study beside it where both ran the same settings."""

    section: Section
    laws: tuple[Law, ...]
    findings: tuple[Finding, ...]
    published: Section | None
    published_laws: tuple[Law, ...]


@dataclass(frozen=True)
class TrainedChapter:
    """Trained networks on one task, and what changes along their axes."""

    variants: Variants
    findings: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class Report:
    """Rows and what follows from them; each part is worked out when a format asks for it."""

    rows: Sequence[Row]
    uncertainty: Uncertainty
    tolerance: float
    in_rows: str | None = None  # axes of the tables of trained networks, where they are asked for
    in_columns: str | None = None
    skipped: Sequence[Row] = ()  # of cells that --stop-when-sure left out
    folders: tuple[Path, ...] = ()  # of the stores, where the rows are of some

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        return tuple(sections_of(row for row in self.rows if row.get("trained") is None))

    @cached_property
    def chapters(self) -> tuple[Chapter, ...]:
        told = {row["key"] for advice in self.advice for row in advice.choice.stored.values()}
        chapters = []
        for section in self.sections:
            first = preparation_of(section.stored, told)
            chapters.append(_chapter(section, first, self.uncertainty))
            told |= {row["key"] for row in section.stored.values()}
        return tuple(chapters)

    @cached_property
    def trained(self) -> tuple[TrainedChapter, ...]:
        """What was trained, by the axes that vary."""
        found = variants_of(self.rows, self.in_rows, self.in_columns)
        return tuple(_trained(one, self.uncertainty, self.train_s) for one in found)

    @cached_property
    def train_s(self) -> dict[str, float]:
        """What each training took, by its key."""
        rows = [row for folder in self.folders for row in Store(folder).latest()]
        return {row["key"]: row["train_s"] for row in rows if row.get("train_s") is not None}

    @cached_property
    def advice(self) -> tuple[Advice, ...]:
        return tuple(advice_of(self.sections, self.uncertainty, self.tolerance))

    @cached_property
    def provenance(self) -> tuple[tuple[str, str], ...]:
        """What the rows say about when, where and from what they came."""
        left_out = skipped_note(self.skipped)
        return (*_provenance(self.rows), *([("not measured", left_out)] if left_out else ()))

    @cached_property
    def has_intervals(self) -> bool:
        return any(
            self.uncertainty.interval(row)
            for c in self.chapters
            for row in (*c.section.stored.values(), *c.section.rows)
        )


def make_report(
    rows: Sequence[Row],
    folder: Path | Sequence[Path] | None = None,
    tolerance: float = TOLERANCE,
    in_rows: str | None = None,
    in_columns: str | None = None,
    skipped: Sequence[Row] = (),
) -> Report:
    """The report on these rows; `folder`, or several, holds their evidence, if any.

    `in_rows` and `in_columns` name the axes of tables of trained networks; by default what varies most.
    `skipped`: rows of cells that were left out, which are told.
    """
    folders = (folder,) if isinstance(folder, Path) else tuple(folder or ())
    return Report(rows, Uncertainty(folder, rows), tolerance, in_rows, in_columns, skipped, folders)


def _trained(variants: Variants, uncertainty: Uncertainty, train_s: Mapping[str, float]) -> TrainedChapter:
    stored = [point.row for point in variants.points if point.is_stored]
    first = [Finding(TOPIC, text) for text in notes_of(stored)]
    found = (
        *batch_findings(variants, uncertainty, train_s),
        *norm_findings(variants, uncertainty),
        *axis_findings(variants, uncertainty),
    )
    return TrainedChapter(variants, (*first, *found))


def _chapter(section: Section, first: Sequence[Finding], uncertainty: Uncertainty) -> Chapter:
    published = _comparable(section)
    return Chapter(
        section,
        tuple(laws_of(section)),
        (*first, *findings_of(section, uncertainty)),
        published,
        tuple(laws_of(published)) if published else (),
    )


def _comparable(section: Section) -> Section | None:
    """The published study, if this one ran enough of its settings by the same rule and metric."""
    if section.task == PUBLISHED_TASK or (section.metric, section.estimator) != ("map50", "ema"):
        return None
    (published,) = sections_of(published_rows())
    common = set(section.settings) & set(published.settings)
    return published if len(common) >= FEWEST_COMMON else None


def _provenance(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """What the rows say about when, where and from what they came; several values are all named."""
    done = [one for row in rows if row["status"] == "done" for one in orders_of(row)]
    facts: list[tuple[str, str]] = []

    def fact(label: str, values: list[Any]) -> None:
        named = sorted({str(value) for value in values if value not in (None, "")})
        if named:
            shown = ", ".join(named[:4]) + (f" and {len(named) - 4} more" if len(named) > 4 else "")
            facts.append((label, shown))

    environments = [row["environment"] or {} for row in done]
    fact("task", [row["task"] for row in done])
    fact("data digest", [row["data_digest"] for row in done])
    weights = {(r["arch"], r["weights_digest"]) for r in done if r["weights_digest"]}
    fact("weights digest", [f"{arch} {digest}" for arch, digest in weights])
    started = sorted(row["started_at"] for row in done if row["started_at"])
    if started:
        facts.append(("measured (UTC)", f"{started[0][:16]} to {started[-1][:16]}".replace("T", " ")))
    fact("device", [row["device"] for row in done])
    for label, name in _ENVIRONMENT.items():
        fact(label, [e.get(name) for e in environments])
    dirty = [e for e in environments if e.get("git_dirty")]
    fact("code", [_code(e) for e in environments])
    if dirty:
        facts.append(("note", f"{len(dirty)} of {len(done)} cells ran from a changed, uncommitted tree"))
    return facts


def _code(environment: dict[str, Any]) -> str:
    commit = environment.get("git_commit")
    return f"commit {commit[:12]}" if isinstance(commit, str) else ""


_ENVIRONMENT = {
    "processor": "cpu",
    "GPU": "gpu",
    "threads": "threads",
    "platform": "platform",
    "python": "python",
    "bnrecal": "bnrecal",
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
}
