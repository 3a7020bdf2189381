"""Makes again what README, docs/ and results/ show of the studies that are kept: `make results`.

    python experiments/results.py [FOLDER]

Nothing is measured: the rows under results/ are read, and reports, figures and tables written from them,
study by study. In Markdown files what stands between <!-- NAME --> and <!-- /NAME --> is replaced by the
block of that name. FOLDER is where to write, by default this repository.
"""

import re
import runpy
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from bnrecal.report.analysis.images_needed import images_needed
from bnrecal.report.analysis.summary import Report, make_report
from bnrecal.report.formats.canvas import write_pictures
from bnrecal.report.formats.figures import pictures_of
from bnrecal.report.formats.images_needed import needed_table, to_images_needed
from bnrecal.report.formats.markdown import laws_table, side_by_side, table, to_markdown
from bnrecal.report.formats.page import to_html
from bnrecal.store.store import Store
from bnrecal.study.axes import TOLERANCE

ROOT = Path(__file__).parent.parent
Texts = dict[str, Callable[[Report], str]]


def averages(report: Report) -> str:
    """The table of averaged weights, by the study's own script."""
    script: dict[str, Any] = runpy.run_path(str(ROOT / "experiments/averaging/table.py"))
    text: str = script["text_of"](ROOT / "results/averaging", ROOT / "results/averaging_copied")
    return text


# What is written of a study beside its figures, where that is not report.md alone.
OTHERS: dict[str, Texts] = {
    "averaging": {"table.md": averages},
    "images_needed": {"table.md": to_images_needed},
    "published_grid": {"report.md": to_markdown, "report.html": to_html},
}
# Every folder with rows, and what is written of it; figures are, where the folder has some.
TEXTS: dict[str, Texts] = {
    rows.parent.name: OTHERS.get(rows.parent.name, {"report.md": to_markdown})
    for rows in sorted((ROOT / "results").glob("*/rows.jsonl"))
}


def has_figures(study: str) -> bool:
    return (ROOT / "results" / study / "figures").is_dir()


def needed() -> str:
    (found,) = images_needed(report_of("images_needed").sections, TOLERANCE)
    return needed_table(found)


def law() -> str:
    return laws_table(report_of("published_grid").chapters[0])


def published() -> str:
    chapter = report_of("published_grid").chapters[0]
    assert chapter.published is not None
    return side_by_side(chapter.section, chapter.published)


def given_back() -> str:
    """The first finding of the training study: what re-estimation gives back, with intervals."""
    finding = report_of("norm_batch").trained[0].findings[0]
    return "\n".join([finding.text, "", *(f"- {item}" for item in finding.items)])


def distances() -> str:
    """Largest distance of any architecture from pooled statistics of all images, by batch size."""
    sections = {section.estimator: section for section in report_of("fashion_mnist").sections}
    whole = {size: sections["pooled"].at(size, 60_000) for size in (8, 16, 64)}

    def largest(rule: str, sizes: tuple[int, ...], n: int) -> str:
        found = [
            abs(row["eval"] - whole[size][arch]["eval"])
            for size in sizes
            for arch, row in sections[rule].at(size, n).items()
        ]
        return f"{max(found):.4f}"

    columns = [("ema", (size,)) for size in (8, 16, 64)]
    columns += [(rule, (8, 16, 64)) for rule in ("cumulative", "pooled")]
    headers = ["images", *(f"{rule} bs {sizes[0]}" for rule, sizes in columns[:3])]
    headers += ["cumulative (worst bs)", "pooled (worst bs)"]
    counts = sorted({n for _, n in sections["pooled"].settings})
    return table(headers, [[f"{n:,}", *(largest(*column, n) for column in columns)] for n in counts])


BLOCKS = {
    "distances": distances,
    "given-back": given_back,
    "images-needed": needed,
    "law": law,
    "published": published,
}


@cache
def report_of(study: str) -> Report:
    folder = ROOT / "results" / study
    return make_report(Store(folder).evaluated(), folder)


def texts(study: str) -> dict[str, str]:
    """The text files of a study, by name."""
    report = report_of(study)
    return {name: write(report) for name, write in TEXTS[study].items()}


def pages() -> list[Path]:
    """The Markdown files that hold blocks."""
    every = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "results").rglob("*.md")]
    return sorted(path for path in every if marks(path.read_text("utf-8")))


def marks(text: str) -> list[str]:
    """The names of a text's blocks. Raises KeyError for one that is not known."""
    found = re.findall(r"^<!-- ([\w-]+) -->$", text, re.MULTILINE)
    return [name for name in found if BLOCKS[name]]


def filled(text: str) -> str:
    """The same text with every block made again."""
    for name in dict.fromkeys(marks(text)):
        opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
        block = f"{opening}\n\n{BLOCKS[name]().strip()}\n\n{closing}"
        text = re.sub(f"{opening}\n.*?{closing}", lambda _, block=block: block, text, flags=re.DOTALL)
    return text


def write(folder: Path = ROOT) -> None:
    for study in TEXTS:
        target = folder / "results" / study
        target.mkdir(parents=True, exist_ok=True)
        for name, text in texts(study).items():
            (target / name).write_text(text, "utf-8")
            print(f"results/{study}/{name}")
        if has_figures(study):
            for path in write_pictures(pictures_of(report_of(study)), target / "figures"):
                print(path.relative_to(folder))
    for page in pages():
        target = folder / page.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(filled(page.read_text("utf-8")), "utf-8")
        print(page.relative_to(ROOT))


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
