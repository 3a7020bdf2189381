"""The report in Markdown, in the published layout."""

from collections.abc import Sequence

from bnrecal.report.analysis.axis_findings import noise_of
from bnrecal.report.analysis.finding import Finding
from bnrecal.report.analysis.law import Law
from bnrecal.report.analysis.sections import Block, Section
from bnrecal.report.analysis.summary import PUBLISHED_SOURCE, Chapter, Report, TrainedChapter
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.report.formats.terminal import figure
from bnrecal.report.formats.variants import text_tables
from bnrecal.store.store import Row
from bnrecal.study.cells import n_updates

NOTE = (
    "*update*: metric of the update pass, each batch predicted with the statistics as they stand right "
    "after it. *eval*: metric on the evaluation images with the final statistics{interval}. "
    "*N*: updates (batches). The time beside it is that of a whole cell (update pass, update metric and "
    "evaluation), mean over architectures."
)
INTERVAL = ", ± half of its 95 % interval (bootstrap over evaluation images)"


def to_markdown(report: Report) -> str:
    """A heading per experiment, a table per batch size, what follows, and what to use."""
    parts = []
    for advice in report.advice:
        parts += ["## What to use" + (f": {escape(advice.task)}" if len(report.advice) > 1 else "")]
        parts += [" ".join([f"**{escape(advice.sentences()[0])}**", *map(escape, advice.sentences()[1:])])]
    for chapter in report.chapters:
        parts += _chapter(chapter, report.uncertainty)
    for trained in report.trained:
        parts += _trained(trained, report.uncertainty)
    if report.chapters:
        parts.append(NOTE.format(interval=INTERVAL if report.has_intervals else ""))
    if report.provenance:
        parts.append("## Where this comes from")
        parts.append("\n".join(f"- {escape(label)}: {escape(value)}" for label, value in report.provenance))
    return "\n\n".join(parts) + "\n"


def _chapter(chapter: Chapter, uncertainty: Uncertainty) -> list[str]:
    parts = [f"## {escape(chapter.section.title)}"]
    if chapter.section.stored:
        parts.append(f"### as they stand\n\n{_standing(chapter.section, uncertainty)}")
    parts += [f"### batch size {b.batch_size}\n\n{_block(b, uncertainty)}" for b in chapter.section.blocks]
    parts.append("### Findings")
    parts += map(_finding, chapter.findings)
    if chapter.published:
        parts += ["### Published beside measured", PUBLISHED_SOURCE, laws_table(chapter)]
        parts.append(side_by_side(chapter.section, chapter.published))
    return parts


def _trained(chapter: TrainedChapter, uncertainty: Uncertainty) -> list[str]:
    parts = [f"## {escape(chapter.variants.title)}"]
    for found in text_tables(chapter.variants, uncertainty):
        heading = f"### {escape(found.title)}\n\n" if found.title else ""
        parts.append(heading + table([escape(h) for h in found.headers], [list(row) for row in found.rows]))
    parts += ["### Findings", *map(_finding, chapter.findings)]
    parts.append(f"±: {noise_of(chapter.variants)}.")
    return parts


def _finding(finding: Finding) -> str:
    return "\n".join([escape(finding.text), "", *(f"- {escape(item)}" for item in finding.items)]).strip()


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, figures to the right."""
    from tabulate import tabulate

    align = ("left", *["right"] * (len(headers) - 1))
    text: str = tabulate(rows, headers, tablefmt="github", colalign=align, disable_numparse=True)
    return text


def _block(block: Block, uncertainty: Uncertainty) -> str:
    headers = ["arch"]
    for n in block.samples:
        seconds = block.seconds(n)
        time = f", {seconds:.1f} s" if seconds is not None else ""
        headers += [f"{n:,} images (N {block.n_updates(n):,}{time}): update", "eval"]
    rows = []
    for arch in block.archs:
        found = [block.rows.get((arch, n)) for n in block.samples]
        cells = [text for row in found for text in (_metric(row, "update"), _eval(row, uncertainty))]
        rows.append([escape(arch), *cells])
    return table(headers, rows)


def _standing(section: Section, uncertainty: Uncertainty) -> str:
    rows = [[escape(arch), _eval(row, uncertainty)] for arch, row in section.stored.items()]
    return table(["arch", "eval"], rows)


def laws_table(chapter: Chapter) -> str:
    """The fits here, and those of the published study."""
    headers = ["update = A (1 - k0 / N)", "A", "k0", "R2", "mean eval"]
    rows = [_law(law, "here") for law in chapter.laws]
    rows += [_law(law, "published") for law in chapter.published_laws]
    return table(headers, rows)


def _law(law: Law, where: str) -> list[str]:
    level, warmup = f"{law.level:.4f} ± {law.level_se:.4f}", f"{law.warmup:.1f} ± {law.warmup_se:.1f}"
    return [f"{escape(law.arch)} {where}", level, warmup, f"{law.r2:.4f}", f"{law.mean_eval:.4f}"]


def side_by_side(here: Section, published: Section) -> str:
    """update / eval of every setting of either study."""
    archs = list(dict.fromkeys((*here.archs, *published.archs)))
    headers = ["bs", "images", "N"]
    headers += [f"{escape(arch)} {where}" for arch in archs for where in ("published", "here")]
    rows = []
    for size, n in sorted(set(here.settings) | set(published.settings)):
        both = [(published.at(size, n).get(arch), here.at(size, n).get(arch)) for arch in archs]
        cells = [_pair(row) for pair in both for row in pair]
        rows.append([str(size), f"{n:,}", f"{n_updates(n, size):,}", *cells])
    return table(headers, rows)


def _pair(row: Row | None) -> str:
    return "-" if row is None else f"{_metric(row, 'update')} / {_metric(row, 'eval')}"


def _metric(row: Row | None, name: str) -> str:
    return figure(row[name] if row else None)


def _eval(row: Row | None, uncertainty: Uncertainty) -> str:
    half = uncertainty.half_width(row) if row else None
    return _metric(row, "eval") + ("" if half is None else f" ± {half:.4f}")


def escape(text: str) -> str:
    """Text from data as Markdown shows it, never as markup."""
    return "".join("\\" + c if c in "\\`*_{}[]<>#|" else c for c in " ".join(text.split()))
