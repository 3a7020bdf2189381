"""Reports for the terminal: the published layout (`table`) and a line per cell (`long`)."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bnrecal.report.analysis.advice import Advice
from bnrecal.report.analysis.axis_findings import noise_of
from bnrecal.report.analysis.law import Law
from bnrecal.report.analysis.preparation import notes_of
from bnrecal.report.analysis.sections import Block, Section
from bnrecal.report.analysis.skipped import skipped_note
from bnrecal.report.analysis.summary import PUBLISHED_SOURCE, Chapter, Report, TrainedChapter
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.report.formats.variants import MOST_WIDE, text_tables
from bnrecal.store.provenance import trained_apart
from bnrecal.store.store import Row
from bnrecal.study.axes import label

MOST_ARCHS = 60  # rows of a table somebody may still read
COUNTS_ABREAST = 3  # sample counts beside each other that fit 80 columns
FOOTNOTE = (
    "update  metric of the update pass: each batch predicted with the statistics\n"
    "        as they stand right after it\n"
    "eval    metric on the evaluation images with the final statistics\n"
    "N       updates (batches); the time beside it is that of a whole cell (update\n"
    "        pass, update metric and evaluation), mean over archs"
)
COST_NOTE = "Cost    of the update pass alone: what re-estimating takes, without evaluation"
INTERVAL_NOTE = "±       half of the 95 % interval of eval: bootstrap over evaluation images"


def published_layout(report: Report) -> RenderableType:
    """A block per batch size; beside each other the sample counts, below them the architectures."""
    parts: list[RenderableType] = []
    for chapter in report.chapters:
        parts.append(Text(chapter.section.title, style="bold"))
        parts += _standing(chapter.section, report.uncertainty)
        for block in chapter.section.blocks:
            parts += _tables(block, _published_block(chapter, block), report.uncertainty)
        parts += _findings(chapter)
        if chapter.published:
            parts.append(Text(f"{PUBLISHED_SOURCE}\n", style="dim"))
    for trained in report.trained:
        parts += _trained(trained, report.uncertainty)
    if not report.chapters:
        return Group(*parts)
    note = [FOOTNOTE, INTERVAL_NOTE] if report.has_intervals else [FOOTNOTE]
    if any(advice.names_cost for advice in report.advice):
        note.append(COST_NOTE)
    parts.append(Text("\n".join([*note, ""]), style="dim"))
    left_out = skipped_note(report.skipped)
    parts += [Text(f"{left_out}\n")] if left_out else []
    parts += [_advice(advice, len(report.advice) > 1) for advice in report.advice]
    return Group(*parts)


def _trained(chapter: TrainedChapter, uncertainty: Uncertainty) -> list[RenderableType]:
    """A table for each block of trained networks, and what changes along each axis."""
    parts: list[RenderableType] = [Text(chapter.variants.title, style="bold")]
    for found in text_tables(chapter.variants, uncertainty):
        apart = 1 if len(found.headers) <= MOST_WIDE + 1 else 0
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, apart, 0, 0))
        for k, heading in enumerate(found.headers):
            table.add_column(heading, justify="right" if k else "left", no_wrap=k > 0)
        for cells in found.rows:
            table.add_row(*cells)
        parts += [Text(found.title), table] if found.title else [table]
    parts += [Text(f"{finding}\n") for finding in chapter.findings]
    parts.append(Text(f"±  {noise_of(chapter.variants)}\n", style="dim"))
    return parts


def _standing(section: Section, uncertainty: Uncertainty) -> list[RenderableType]:
    """The networks with the statistics they came with."""
    if not section.stored:
        return []
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("as they stand")
    table.add_column("eval", no_wrap=True)
    for arch in list(section.stored)[:MOST_ARCHS]:
        table.add_row(arch, _eval(section.stored[arch], uncertainty))
    return [table]


def _published_block(chapter: Chapter, block: Block) -> Block | None:
    blocks = chapter.published.blocks if chapter.published else ()
    return next((b for b in blocks if b.batch_size == block.batch_size), None)


def _tables(block: Block, published: Block | None, uncertainty: Uncertainty) -> list[RenderableType]:
    tables: list[RenderableType] = []
    with_intervals = _with_intervals(block, uncertainty)
    for start in range(0, len(block.samples), COUNTS_ABREAST):
        samples = block.samples[start : start + COUNTS_ABREAST]
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(f"bs {block.batch_size}")
        for n in samples:
            table.add_column(_heading(block, n, with_intervals), justify="right", no_wrap=True)
        for arch in block.archs[:MOST_ARCHS]:
            found = [block.rows.get((arch, n)) for n in samples]
            table.add_row(arch, *(_figures(row, uncertainty) for row in found))
        if published and set(samples) & set(published.samples):
            table.add_section()
            room = 5 if with_intervals else 0
            for k, arch in enumerate(published.archs):
                found = [published.rows.get((arch, n)) for n in samples]
                table.add_row(
                    f"{'published' if not k else ''}\n{arch}" if not k else arch,
                    *(("\n" if not k else "") + _bare(row, room) for row in found),
                    style="dim",
                )
        tables.append(table)
    n_more = len(block.archs) - MOST_ARCHS
    if n_more > 0:
        tables.append(Text(f"and {n_more:,} more architectures: --format long, csv or html\n", style="dim"))
    return tables


def _with_intervals(block: Block, uncertainty: Uncertainty) -> bool:
    return any(uncertainty.interval(row) for row in block.rows.values())


def _heading(block: Block, n_samples: int, with_intervals: bool) -> str:
    seconds = block.seconds(n_samples)
    time = f"{seconds:.1f} s" if seconds is not None else ""
    room = "     " if with_intervals else ""
    return f"{n_samples:,} images\nN {block.n_updates(n_samples):,}, {time}\nupdate    eval{room}"


def _figures(row: Row | None, uncertainty: Uncertainty) -> str:
    if row is None:
        return "-       -"
    return f"{figure(row['update'])}  {_eval(row, uncertainty)}"


def _eval(row: Row, uncertainty: Uncertainty) -> str:
    half = uncertainty.half_width(row)
    interval = "" if half is None else f"±{half:.3f}".replace("±0.", "±.")
    return figure(row["eval"]) + interval


def _bare(row: Row | None, room: int) -> str:
    return (f"{figure(row['update'])}  {figure(row['eval'])}" if row else "-       -") + " " * room


def figure(value: float | None) -> str:
    """A metric to four digits, as the published table gives it."""
    return "-" if value is None else f"{value:.4f}"


def _findings(chapter: Chapter) -> list[RenderableType]:
    """Sentences; beside published laws the fits are a table instead of lines."""
    parts: list[RenderableType] = []
    for finding in chapter.findings:
        if finding.topic == "law" and finding.items and chapter.published_laws:
            parts += [Text(finding.text), _laws(chapter.laws, chapter.published_laws)]
        else:
            parts.append(Text(f"{finding}\n"))
    return parts


def _laws(laws: Sequence[Law], published: Sequence[Law]) -> Table:
    """Both laws side by side, by the name of the architecture."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("\narch", no_wrap=True)
    for heading in ("here\nA", "\nk0", "\nR2", "mean\neval", "published\nA", "\nk0", "\nR2", "mean\neval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for arch in dict.fromkeys(law.arch for law in (*laws, *published)):
        mine = next((law for law in laws if law.arch == arch), None)
        theirs = next((law for law in published if law.arch == arch), None)
        table.add_row(arch, *_law(mine, with_error=True), *_law(theirs, with_error=False))
    return table


def _law(law: Law | None, with_error: bool) -> tuple[str, str, str, str]:
    if law is None:
        return "-", "-", "-", "-"
    level, warmup = f"{law.level:.4f}", f"{law.warmup:.1f}"
    if with_error:
        level, warmup = f"{level}±{law.level_se:.4f}".replace("±0.", "±."), f"{warmup}±{law.warmup_se:.1f}"
    return level, warmup, f"{law.r2:.4f}", f"{law.mean_eval:.4f}"


def _advice(advice: Advice, one_of_several: bool) -> Text:
    head, *reasons = advice.sentences()
    if one_of_several:
        head = f"{advice.task}, {advice.metric}: {head}"
    return Text.assemble((head, "bold"), *(f"\n{reason}" for reason in reasons), "\n")


LONG_COLUMNS = {
    "arch": "arch",
    "rule": "estimator",
    "bs": "batch_size",
    "images": "n_samples",
    "N": "n_updates",
    "update": "update",
    "eval": "eval",
    "±95 %": "interval",
    "recal s": "recal_s",
    "total s": "total_s",
}


def long_layout(rows: Sequence[Row], uncertainty: Uncertainty) -> RenderableType:
    """One line per cell, a table for each task; failed ones with their reason.

    Where networks were trained a line says how, by what not all recipes have in common; that stands above.
    """
    common, hows = trained_apart(rows)
    named = {row["key"]: how for row, how in zip(rows, hows, strict=True) if how}
    parts: list[RenderableType] = []
    for task in dict.fromkeys(row["task"] for row in rows):
        parts.append(Text(task, style="bold"))
        if named and common:
            parts.append(Text(f"trained: {common}"))
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for heading in LONG_COLUMNS:
            numeric = heading not in ("arch", "rule")
            table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
        mine = [row for row in rows if row["task"] == task]
        if named:
            table.add_column("trained", overflow="fold")
        for row in mine:
            trained = [named.get(row["key"], "")] if named else []
            table.add_row(*(_cell(row, name, uncertainty) for name in LONG_COLUMNS.values()), *trained)
        parts.append(table)
        parts += [Text(f"{note}\n") for note in notes_of(mine)]
        for row in mine:
            if row["status"] == "failed":
                name = ", ".join(filter(None, (label(row), named.get(row["key"]))))
                parts.append(Text(f"failed: {name}: {row['error']}"))
    return Group(*parts)


def _cell(row: Row, name: str, uncertainty: Uncertainty) -> str:
    if name == "interval":
        half = uncertainty.half_width(row) if row["status"] == "done" else None
        return "" if half is None else f"{half:.4f}"
    value = row[name]
    if name in ("update", "eval"):
        return figure(value) if row["status"] == "done" else "failed"
    if name.endswith("_s"):
        return "-" if value is None else f"{value:.2f}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
