"""The report as one HTML page that needs nothing else: no network, no script, no font file."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from bnrecal.report.analysis.axis_findings import noise_of
from bnrecal.report.analysis.finding import Finding, start_left, window
from bnrecal.report.analysis.preparation import TOPIC
from bnrecal.report.analysis.sections import Block, Section
from bnrecal.report.analysis.summary import PUBLISHED_SOURCE, Chapter, Report
from bnrecal.report.formats.canvas import inline_svg
from bnrecal.report.formats.figures import pictures_of, pictures_of_trained
from bnrecal.report.formats.picture import Picture
from bnrecal.report.formats.terminal import COUNTS_ABREAST, figure
from bnrecal.report.formats.variants import text_tables
from bnrecal.store.store import Row
from bnrecal.study.axes import STORED

MOST_CELLS = 1500  # lines of the table of all cells; more are left to CSV
# Topics of findings in the order of the page, each with its heading.
TOPICS = {
    TOPIC: "First of all",
    "law": "The law behind the update column",
    "start": "What the average still holds",
    "eval": "What eval depends on",
    "noise": "Beyond noise",
    "ranking": "The order of the architectures",
    "orders": "Other orders of the images",
    "time": "What it costs",
}


@dataclass(frozen=True)
class Part:
    """One topic of a chapter: sentences and figures under a heading of their own."""

    topic: str
    heading: str
    findings: list[Finding]
    pictures: list["Drawn"]


@dataclass(frozen=True)
class Drawn:
    """A picture with its panels as SVG; titles and descriptions are text of the page."""

    caption: str
    panels: list[tuple[str, str, str, str]]  # id, title, description, svg


@dataclass(frozen=True)
class Slice:
    """Up to three sample counts of one batch size, so that the table fits a telephone."""

    block: Block
    samples: tuple[int, ...]


def to_html(report: Report) -> str:
    """The page; everything that comes from data is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("bnrecal.report.formats", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "grouped": "{:,}".format, "svg": Markup, "joined": _joined}
    pictures = pictures_of(report)
    trained = [
        {
            "id": f"trained-{number}",
            "variants": one.variants,
            "findings": one.findings,
            "tables": text_tables(one.variants, report.uncertainty),
            "noise": noise_of(one.variants),
            "pictures": [_drawn(p, f"t{number}") for p in pictures_of_trained(report) if _is_of(p, number)],
        }
        for number, one in enumerate(report.trained, 1)
    ]
    chapters = [
        {
            "chapter": chapter,
            "id": f"chapter-{number}",
            "parts": _parts(chapter, _belonging(pictures, report, number), f"p{number}"),
            "slices": _slices(chapter.section),
            "published": _slices(chapter.published) if chapter.published else [],
        }
        for number, chapter in enumerate(report.chapters, 1)
    ]
    standing = {row["key"]: (c, row) for c in report.chapters for row in c.section.stored.values()}
    listed = [*standing.values(), *((c, row) for c in report.chapters for row in c.section.rows)]
    return environment.get_template("page.html.j2").render(
        report=report,
        chapters=chapters,
        trained=trained,
        title=_title(report),
        cells=[_cell(c, row, report) for c, row in listed[:MOST_CELLS]],
        n_cells=len(listed),
        half_width=report.uncertainty.half_width,
        source=PUBLISHED_SOURCE,
        version=version("bnrecal"),
        style=Markup(_style()),
    )


def _is_of(picture: Picture, number: int) -> bool:
    return picture.name == ("trained" if number == 1 else f"trained-{number}")


def _title(report: Report) -> str:
    named = [*(c.section.task for c in report.chapters), *(one.variants.task for one in report.trained)]
    tasks = list(dict.fromkeys(named))
    return ", ".join(tasks[:3]) + (" and others" if len(tasks) > 3 else "")


def _joined(text: str) -> str:
    """The same words, with what belongs on one line held together."""
    for apart in (" %", "A (1 - k0 / N)", " ± "):
        text = text.replace(apart, apart.replace(" ", "\u00a0"))
    return text


def _style() -> str:
    from importlib.resources import files

    return (files("bnrecal.report.formats") / "templates" / "page.css").read_text("utf-8")


def _belonging(pictures: Sequence[Picture], report: Report, number: int) -> list[Picture]:
    """Those of the chapter with this number: their names end in it where there are several chapters."""
    if len(report.chapters) == 1:
        return list(pictures)
    return [picture for picture in pictures if picture.name.rpartition("-")[2] == str(number)]


def _parts(chapter: Chapter, pictures: Sequence[Picture], prefix: str) -> list[Part]:
    parts = []
    for topic, heading in TOPICS.items():
        said = [finding for finding in chapter.findings if finding.topic == topic]
        if topic == "law" and chapter.published_laws:  # the fits stand in a table of both
            said = [Finding(f.topic, f.text) for f in said]
        drawn = [_drawn(picture, prefix) for picture in pictures if picture.topic == topic]
        if said or drawn:
            parts.append(Part(topic, heading, said, drawn))
    return parts


def _drawn(picture: Picture, prefix: str) -> Drawn:
    panels = []
    for k, panel in enumerate(picture.panels):
        name = f"{prefix}-{picture.name}-{k}"
        title = panel.title if len(picture.panels) > 1 else ""
        panels.append((name, title, panel.alt, inline_svg(panel, name)))
    return Drawn(picture.caption, panels)


def _slices(section: Section | None) -> list[Slice]:
    return [
        Slice(block, block.samples[start : start + COUNTS_ABREAST])
        for block in (section.blocks if section else ())
        for start in range(0, len(block.samples), COUNTS_ABREAST)
    ]


def _cell(chapter: Chapter, row: Row, report: Report) -> dict[str, str]:
    """One line of the table of all cells."""
    momentum, section = row["momentum"], chapter.section
    interval = report.uncertainty.interval(row)
    ema = row["estimator"] == "ema" and momentum is not None
    stands = row["estimator"] == STORED
    return {
        "arch": row["arch"],
        "rule": "as it stands" if stands else section.how,
        "bs": "-" if stands else f"{row['batch_size']:,}",
        "images": f"{row['n_samples']:,}",
        "N": f"{row['n_updates']:,}",
        "update": figure(row["update"]),
        "eval": figure(row["eval"]),
        "interval": "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}",
        "start": f"{100 * start_left(momentum, row['n_updates']):.2f} %" if ema else "-",
        "window": f"{window(momentum) * row['batch_size']:,.0f}" if ema else "-" if stands else "all",
        "seconds": "-" if row["recal_s"] is None else f"{row['recal_s']:.2f}",
        "total": "-" if row["total_s"] is None else f"{row['total_s']:.2f}",
    }
