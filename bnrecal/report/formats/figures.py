"""Which figures a report has, and what each shows; drawing.py draws them, matplotlib is imported there."""

from collections.abc import Sequence
from statistics import median

from bnrecal.report.analysis.durations import spoken
from bnrecal.report.analysis.findings import time_name
from bnrecal.report.analysis.law import Law
from bnrecal.report.analysis.ranking import FEWEST_ARCHS
from bnrecal.report.analysis.sections import Section
from bnrecal.report.analysis.summary import Chapter, Report
from bnrecal.report.analysis.wording import listed
from bnrecal.report.formats import drawing
from bnrecal.report.formats.large_batches import large_batches_picture
from bnrecal.report.formats.picture import Panel, Picture
from bnrecal.report.formats.series import ROW_INCHES
from bnrecal.report.formats.small_batches import small_batches_picture
from bnrecal.report.formats.variant_figures import variants_picture
from bnrecal.study.axes import rule

MOST_ARCHS = 6  # panels of the figure by images
MOST_LINES = 8  # lines in one panel that can still be told apart
MOST_RANKED = 24  # settings side by side


def pictures_of(report: Report) -> list[Picture]:
    """Every figure the rows support, in the order of the findings."""
    found: list[Picture] = []
    for number, chapter in enumerate(report.chapters, 1):
        suffix = f"-{number}" if len(report.chapters) > 1 else ""
        found += _of_chapter(chapter, report, suffix)
    return found + pictures_of_trained(report)


def pictures_of_trained(report: Report) -> list[Picture]:
    """For each task: where norm and norm batch, the training batch, or other numbers of a training varied."""
    pictures: list[Picture | None] = []
    for k, one in enumerate(report.trained, 1):
        about = one.variants, report.uncertainty, f"-{k}" if k > 1 else ""
        pictures += [small_batches_picture(*about), large_batches_picture(*about) or variants_picture(*about)]
    return [picture for picture in pictures if picture is not None]


def _of_chapter(chapter: Chapter, report: Report, suffix: str) -> list[Picture]:
    section = chapter.section
    holding = [law for law in chapter.laws if law.holds()]
    found = []
    if holding:
        found += [_law(chapter, suffix), _collapse(chapter, suffix)]
    if len({n for _, n in section.settings}) > 1:
        found.append(_by_samples(section, report, suffix))
    if len(section.archs) >= FEWEST_ARCHS and 2 <= len(section.settings) <= MOST_RANKED:
        found.append(_ranking(section, report, suffix))
    if time_name(section) and len(section.settings) > 1:
        found.append(_time(section, suffix))
    return found


def _law(chapter: Chapter, suffix: str) -> Picture:
    sides: list[tuple[str, Section, Sequence[Law]]] = []
    if chapter.published:
        sides.append(("published", chapter.published, chapter.published_laws))
    sides.append(
        ("measured here" if chapter.published else chapter.section.how, chapter.section, chapter.laws)
    )
    panels = []
    for title, section, laws in sides:
        fits = "; ".join(
            f"{law.arch}: A {law.level:.3f}, k0 {law.warmup:.1f}, R2 {law.r2:.3f}" for law in laws
        )
        evals = [row["eval"] for row in section.rows]
        alt = (
            f"Update and eval {section.metric_name} against the number of updates, {title}. Update rises "
            f"along A (1 - k0 / N) towards A ({fits}); eval lies between {min(evals):.3f} "
            f"and {max(evals):.3f}."
        )
        panels.append(Panel(title, alt, drawing.law(section, laws)))
    caption = (
        "Update (filled) and eval (open) against the number of updates N, with the fitted law "
        "update = A (1 - k0 / N)."
    )
    return Picture(f"law{suffix}", "law", caption, tuple(panels))


def _collapse(chapter: Chapter, suffix: str) -> Picture:
    sets = [("here", chapter.section, chapter.laws)]
    if chapter.published:
        sets.append(("published", chapter.published, chapter.published_laws))
    n = sum(len(laws) for _, _, laws in sets)
    alt = (
        f"Update divided by A against N divided by k0 for {n} architectures"
        f"{' of both studies' if chapter.published else ''}, with the curve 1 - 1 / x; eval divided by A "
        "beside 1."
    )
    caption = (
        "All cells on one curve: update / A against N / k0 is 1 - k0 / N whatever architecture, batch size "
        "or study (filled); eval / A is drawn open."
    )
    return Picture(f"collapse{suffix}", "law", caption, (Panel("on one curve", alt, drawing.collapse(sets)),))


def _by_samples(section: Section, report: Report, suffix: str) -> Picture:
    archs = section.archs[:MOST_ARCHS]
    sizes = tuple(block.batch_size for block in section.blocks)[:MOST_LINES]
    panels = []
    for arch in archs:
        evals = [row["eval"] for row in section.rows if row["arch"] == arch]
        alt = (
            f"Eval {section.metric_name} of {arch} against calibration images by {section.how}, a mark for "
            f"each batch size ({', '.join(map(str, sizes))}); from {min(evals):.4f} to {max(evals):.4f}."
        )
        panels.append(Panel(arch, alt, drawing.by_samples(section, arch, sizes, report.uncertainty)))
    left = len(section.archs) - len(archs)
    stands = " Dotted: the network as it stands." if set(archs) & section.stored.keys() else ""
    more = f" The first {len(archs)} of {len(section.archs)} architectures." if left else ""
    bars = " Bars: 95 % intervals over evaluation images." if report.has_intervals else ""
    caption = (
        f"Eval against calibration images by {rule(section.estimator, section.momentum)}, a mark for each "
        f"batch size.{bars}{stands}{more} What lies beyond the axis stands at its edge with its figure."
    )
    return Picture(f"eval-by-samples{suffix}", "eval", caption, tuple(panels))


def _ranking(section: Section, report: Report, suffix: str) -> Picture:
    alt = (
        f"Eval {section.metric_name} of {len(section.archs)} architectures at {len(section.settings)} "
        "settings, ordered by the number of updates; marks in the same sequence keep their order."
    )
    bars = " Bars: 95 % intervals." if report.has_intervals else ""
    caption = f"The order of architectures by eval at every setting, by number of updates.{bars}"
    if section.stored:
        evals = listed([f"{arch} {row['eval']:.4f}" for arch, row in section.stored.items()], 8)
        caption += f" As they stand: {evals}."
    height = max(3.5, 1.3 + ROW_INCHES * (len(section.settings) + bool(section.stored)))
    panel = Panel("order of architectures", alt, drawing.ranking(section, report.uncertainty), (4.6, height))
    return Picture(f"ranking{suffix}", "ranking", caption, (panel,))


def _time(section: Section, suffix: str) -> Picture:
    name = time_name(section)
    assert name is not None
    seconds = [median(r[name] for r in section.at(*s).values()) for s in section.settings]
    what = "of the update pass" if name == "recal_s" else "of a cell"
    alt = (
        f"Seconds {what} against calibration images, a mark for each batch size; from {spoken(min(seconds))} "
        f"to {spoken(max(seconds))}."
    )
    caption = f"Time {what}, median over architectures."
    panel = Panel("time", alt, drawing.time(section, name))
    return Picture(f"time{suffix}", "time", caption, (panel,))
