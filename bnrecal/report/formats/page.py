"""The report as one HTML page that needs nothing else: no network, no font file, and no script to be read.

Its own script sorts and filters the rows of long tables; it is part of the page, and nothing else may run.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from bnrecal.report.analysis.axis_findings import noise_of
from bnrecal.report.analysis.finding import Finding
from bnrecal.report.analysis.images_needed import images_needed
from bnrecal.report.analysis.preparation import TOPIC
from bnrecal.report.analysis.sections import Block, Section
from bnrecal.report.analysis.summary import PUBLISHED_SOURCE, Chapter, Report
from bnrecal.report.formats.all_cells import CellTable, cell_tables
from bnrecal.report.formats.canvas import inline_svg
from bnrecal.report.formats.figures import pictures_of, pictures_of_trained
from bnrecal.report.formats.images_needed import NOT_REACHED, NOT_RUN, sentence
from bnrecal.report.formats.picture import Picture
from bnrecal.report.formats.terminal import COUNTS_ABREAST, figure
from bnrecal.report.formats.variants import text_tables

MOST_TABLES = 6  # of one chapter; more are folded
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

    @property
    def is_early(self) -> bool:
        """Whether it stands before the tables: what comes before the law, and the law where it is drawn."""
        place, law = list(TOPICS).index(self.topic), list(TOPICS).index("law")
        return place < law or (place == law and bool(self.pictures))

    @property
    def wide(self) -> list["Drawn"]:
        """Pictures of several panels, which take the whole width."""
        return [drawn for drawn in self.pictures if len(drawn.panels) > 1]

    @property
    def single(self) -> list["Drawn"]:
        """Pictures of one panel, which stand beside the sentences."""
        return [drawn for drawn in self.pictures if len(drawn.panels) == 1]


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
            "topic": "trained",
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
    tables = cell_tables(report)
    return environment.get_template("page.html.j2").render(
        report=report,
        chapters=chapters,
        trained=trained,
        title=_title(report),
        cell_tables=tables,
        needed=_needed(report),
        contents=_contents(report, chapters, trained, tables),
        half_width=report.uncertainty.half_width,
        source=PUBLISHED_SOURCE,
        most_tables=MOST_TABLES,
        not_run=NOT_RUN,
        not_reached=NOT_REACHED,
        version=version("bnrecal"),
        style=Markup(_template("page.css")),
        script=Markup(_template("page.js")),
        script_hash=_hash(_template("page.js")),
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


def _template(name: str) -> str:
    from importlib.resources import files

    return (files("bnrecal.report.formats") / "templates" / name).read_text("utf-8")


def _hash(text: str) -> str:
    """What the page's own policy knows its script by: no other can run in it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _needed(report: Report) -> list[dict[str, Any]]:
    """Tables of images needed, where several rules can be compared."""
    return [
        {"sentence": sentence(one), "found": one}
        for one in images_needed(report.sections, report.tolerance)
        if len(one.rules) > 1
    ]


def _contents(
    report: Report,
    chapters: Sequence[dict[str, Any]],
    trained: Sequence[dict[str, Any]],
    tables: Sequence[CellTable],
) -> list[tuple[str, str]]:
    """(anchor, words) of every section; of a single chapter its topics too."""
    found = [("use", "What to use")] if report.advice else []
    found += [("needed", "Images needed")] if _needed(report) else []
    for one in chapters:
        found.append((one["id"], one["chapter"].section.title))
        if len(chapters) == 1:
            found += [(f"{one['id']}-{part.topic}", part.heading) for part in one["parts"]]
    found += [(one["id"], one["variants"].title) for one in trained]
    found += [(table.id, table.name) for table in tables]
    return [*found, ("origin", "Where this comes from")] if report.provenance else found


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
