"""Markdown, LaTeX, figures and the HTML page: each parsed back from what was written."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bnrecal.report.analysis.published import published_rows
from bnrecal.report.formats.latex import escape as latex_escape
from bnrecal.store import evidence
from bnrecal.store.store import Store
from tests.executors.processes import PATIENCE_S
from tests.report.kept import rows_of
from tests.report.test_report import row

NASTY = "<script>alert(1)</script>&\"'$x_1$ \\input{x} %#{}~^|`"


def images_right(seed: int, share: float, n: int = 400) -> Any:
    """One bit an image, `share` of them right, the same images hard for all."""
    import numpy as np

    return (np.random.default_rng(seed).permutation(n) < share * n).astype(np.uint8)


def study(folder: Path, archs: tuple[str, ...] = ("arch1", "arch2", "arch3")) -> Path:
    """The published grid with made-up figures that follow the law, and evidence for each."""
    store = Store(folder)
    store.prepare()
    for k, arch in enumerate(archs):
        for bs in (8, 16, 32, 64):
            for n in (2560, 5120, 10240):
                level = 0.4 + 0.05 * k
                shown = level - (0.05 if n // bs == 40 else 0)
                key = f"{k:04x}{bs:08x}{n:08x}"
                evidence.keep(folder, key, {"correct": images_right(k, shown)})
                fields = {"key": key, "eval": shown, "recal_s": n / 1000, "weights_digest": f"w{k}"}
                store.append(
                    row(arch, bs, n, level * (1 - 15 * bs / n), started_at="2026-01-01T00:00", **fields)
                )
    return folder


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("study") / "results")


class Outline(HTMLParser):
    """What a page is made of, as far as these tests ask."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.cells: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)
        if self.cells and {"td", "th"} & set(self.open):
            self.cells[-1] += data


def html_of(bnrecal: Callable[..., Any], folder: Path, *arguments: str) -> str:
    ran = bnrecal("report", "--out", folder, "--format", "html", *arguments)
    assert ran.code == 0, ran.err
    return str(ran.out)


def test_the_page_needs_nothing_else(bnrecal: Callable[..., Any], stored: Path) -> None:
    """No address to load from, no file beside it, no script but its own; below 1 MB."""
    text = html_of(bnrecal, stored)
    page = Outline(text)
    assert len(text.encode()) < 1_000_000
    assert not {tag for tag, _ in page.tags} & {
        "iframe",
        "img",
        "object",
        "embed",
        "audio",
        "video",
    }
    for tag, given in page.tags:
        for name, value in given.items():
            if name in ("href", "src", "srcset", "action", "xlink:href") and value:
                assert value.startswith(("#", "data:,")), (tag, name, value)
    style = re.search(r"<style>(.*?)</style>", text, re.S)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "prefers-color-scheme: dark" in style[1]
    assert "@media print" in style[1]
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (str(given["content"]) for tag, given in page.tags if given.get("http-equiv"))
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    )
    assert not [name for _, given in page.tags for name in given if name.startswith("on")]


def test_the_page_can_be_read_without_seeing_it(bnrecal: Callable[..., Any], stored: Path) -> None:
    """Language, one h1, headings in order, captions, header cells with scope, figures described, ids once."""
    page = Outline(html_of(bnrecal, stored))
    tags = page.tags
    assert ("html", {"lang": "en"}) in tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    n_tables = sum(tag == "table" for tag, _ in tags)
    assert n_tables == sum(tag == "caption" for tag, _ in tags) > 0
    assert all(given.get("scope") for tag, given in tags if tag == "th")
    pictures = [given for tag, given in tags if given.get("role") == "img"]
    assert len(pictures) == sum(tag == "svg" for tag, _ in tags) >= 8
    assert all(len(given["aria-label"] or "") > 40 for given in pictures)
    ids = [given["id"] for _, given in tags if "id" in given]
    assert len(ids) == len(set(ids))
    named = [given["aria-labelledby"] for _, given in tags if "aria-labelledby" in given]
    assert set(named) <= set(ids)


def test_the_page_holds_every_figure_of_the_store(bnrecal: Callable[..., Any], stored: Path) -> None:
    """Each row's line in the table of all cells, with interval, start left and images remembered."""
    page = Outline(html_of(bnrecal, stored))
    cells = [" ".join(cell.split()) for cell in page.cells]
    listed = json.loads(bnrecal("report", "--out", stored, "--format", "json").out)
    for one in listed:
        line = [
            f"{one['update']:.4f}",
            f"{one['eval']:.4f}",
            f"{one['eval_low']:.4f} to {one['eval_high']:.4f}",
        ]
        assert any(cells[k : k + 3] == line for k in range(len(cells))), line
    assert "1.48 %" in cells  # (1 - .1)^40
    assert "1,216" in cells  # 19 batches of 64
    said = " ".join(" ".join(page.text).split())
    assert "Do not choose by the update column." in said
    assert "What to use" in said
    assert "Published" in said
    assert "0.4965" in cells[cells.index("arch1 published") + 1]  # the published law beside


def test_names_from_data_never_become_markup(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """A script in a name is text in the page, in figures and in Markdown."""
    folder = study(tmp_path / "results", (NASTY, "b", "c"))
    text = html_of(bnrecal, folder)
    page = Outline(text)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert text.count("alert(1)") == text.count("alert(1)&lt;/script&gt;") > 0
    assert "<script>alert(1)</script>" in "".join(page.text)
    markdown = bnrecal("report", "--out", folder, "--format", "md").out
    assert "<script>" not in markdown.replace("\\<script\\>", "")


def test_the_law_stands_before_the_tables_where_it_holds(
    bnrecal: Callable[..., Any], stored: Path, tmp_path: Path
) -> None:
    """Its figure is the first thing of a study; where there is none the tables are."""
    text = html_of(bnrecal, stored)
    assert text.index('id="chapter-1-law"') < text.index("<svg") < text.index('id="chapter-1-table"')
    assert text.index('id="chapter-1-table"') < text.index('id="chapter-1-start"')
    other = html_of(bnrecal, rows_of("images_needed", tmp_path))
    assert other.index('id="chapter-1-table"') < other.index('id="chapter-1-law"')
    assert other.index("16 tables: update and eval") < other.index('id="chapter-1-law"')


def test_a_store_of_one_cell_still_has_a_page(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """No figure, no law, no advice: the table and what can be said."""
    store = Store(tmp_path / "one")
    store.prepare()
    store.append(row("arch1", 8, 64, 0.25))
    page = Outline(html_of(bnrecal, store.folder))
    assert "0.2500" in [cell.strip() for cell in page.cells]
    assert "svg" not in {tag for tag, _ in page.tags}
    ran = bnrecal("report", "--out", store.folder, "--figures", "pictures")
    assert ran.code == 2
    assert "--figures: too few cells" in ran.err


def test_figures_are_written_as_svg_and_png(
    bnrecal: Callable[..., Any], stored: Path, tmp_path: Path
) -> None:
    """Every figure twice, axes labelled; the same rows give the same SVG, byte by byte."""
    ran = bnrecal("report", "--out", stored, "--figures", "one")
    assert ran.code == 0
    written = [Path(line) for line in ran.out.split()]
    names = {path.stem for path in written}
    assert names == {"law", "collapse", "eval-by-samples", "ranking", "time"}
    for name in names:
        ET.parse(f"one/{name}.svg")
        with Image.open(f"one/{name}.png") as image:
            assert image.width >= 700
    bnrecal("report", "--out", stored, "--figures", "two")
    assert all(Path(f"one/{n}.svg").read_bytes() == Path(f"two/{n}.svg").read_bytes() for n in names)


def test_every_axis_has_a_label_and_series_differ_without_colour() -> None:
    """Axes say what they show; no two series of a panel share mark and dash."""
    from matplotlib.figure import Figure

    from bnrecal.report.analysis.summary import make_report
    from bnrecal.report.formats.figures import pictures_of

    pictures = pictures_of(make_report(published_rows()))
    assert {picture.name for picture in pictures} == {"law", "collapse", "eval-by-samples", "ranking", "time"}
    for picture in pictures:
        for panel in picture.panels:
            axes = Figure().add_subplot()
            panel.draw(axes)
            assert axes.get_xlabel()
            assert axes.get_ylabel()
            handles, labels = axes.get_legend_handles_labels()
            looks = [(h.get_marker(), str(h.get_linestyle())) for h in handles]
            assert len(set(looks)) == len(labels)


def test_latex_keeps_text_text() -> None:
    """Every special character is printed, none commands; what has no ASCII form is a question mark."""
    assert latex_escape("a_b & 50% {x}") == r"a\_b \& 50\% \{x\}"
    assert latex_escape("\\input{x}") == r"\textbackslash{}input\{x\}"
    assert latex_escape("é日") == "e?"


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """The fragment in a plain article with booktabs, names of every special character included."""
    folder = study(tmp_path / "results", (NASTY, "ümläut 日本", "c"))
    ran = bnrecal("report", "--out", folder, "--format", "latex", "-o", "tables.tex")
    assert ran.code == 0
    Path("paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{tables}\\end{document}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert Path("paper.pdf").stat().st_size > 10_000


def test_latex_holds_the_figures(bnrecal: Callable[..., Any], stored: Path) -> None:
    """A booktabs table a batch size, a line an architecture, as many columns as its head says."""
    text = bnrecal("report", "--out", stored, "--format", "latex").out
    tables = re.findall(r"\\begin\{tabular\}\{(.*?)\}(.*?)\\end\{tabular\}", text, re.S)
    assert len(tables) == 4 + 1  # batch sizes, laws
    for columns, body in tables:
        assert body.count("\\toprule") == body.count("\\midrule") == body.count("\\bottomrule") == 1
        lines = [line for line in body.splitlines() if line.startswith("arch")]
        assert all(line.count("&") == len(columns) - 1 for line in lines)
    assert "0.3500\\," in text  # eval of arch1 at 40 updates, with its interval
    assert "0.4965 $\\pm$ 0.0011" in text  # the published law


def test_markdown_sets_published_beside_measured(bnrecal: Callable[..., Any], stored: Path) -> None:
    """Cells and laws of both, where the measured study ran the same settings; intervals in the tables."""
    text = bnrecal("report", "--out", stored, "--format", "md").out
    line = next(line for line in text.splitlines() if line.startswith("| 16 ") and " 2,560 " in line)
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[4:6] == ["0.4400 / 0.4964", "0.3625 / 0.4000"]
    assert "| arch1 published" in text
    assert re.search(r"\| 0\.4000 ± 0\.0\d{3} \|", text)


def test_the_terminal_sets_published_beside_measured(
    bnrecal: Callable[..., Any], stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 80 columns: both tables, both laws, intervals and what to use; not for another study."""
    monkeypatch.setenv("COLUMNS", "80")
    text = bnrecal("report", "--out", stored).out
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "0.4400  0.4964" in text
    assert "±.0" in text
    assert re.search(r"arch1 +0\.4\S+±\.\d{4} +15\.0±\S+ +1\.0000 +\S+ +0\.4965 +18\.8 +0\.9987", text)
    assert "Use ema, momentum 0.1, batches of" in text


def test_other_studies_stand_alone(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """Another rule, or too few common settings: no published cells in the report."""
    store = Store(tmp_path / "results")
    store.prepare()
    for n in (2560, 5120, 10240):
        store.append(row("arch1", 16, n, 0.3))
        store.append(row("arch1", 8, n, 0.3, estimator="pooled", momentum=None))
    assert "published" not in bnrecal("report", "--out", store.folder).out.lower()


def test_csv_has_the_interval(bnrecal: Callable[..., Any], stored: Path) -> None:
    """Two columns more than the store, around eval; without evidence none."""
    import csv
    import io

    found = list(csv.DictReader(io.StringIO(bnrecal("report", "--out", stored, "--format", "csv").out)))
    assert all(float(r["eval_low"]) < float(r["eval"]) < float(r["eval_high"]) for r in found)
    plain = csv.DictReader(io.StringIO(bnrecal("report", "--published", "--format", "csv").out))
    assert "eval_low" not in (plain.fieldnames or [])


def as_it_stands(folder: Path, k: int, arch: str, share: float) -> None:
    """Append the network with the statistics it came with."""
    key = f"{k:04x}ffffffffffffffff"
    evidence.keep(folder, key, {"correct": images_right(k, share)})
    facts = {"estimator": "stored", "momentum": None, "seed": None, "n_updates": 0, "order_digest": None}
    made = row(arch, 8, 64, 0.1, key=key, eval=share, recal_s=0.0, weights_digest=f"w{k}", **facts)
    Store(folder).append(made | {"batch_size": None, "n_samples": 0, "update": None})


@pytest.fixture(scope="module")
def with_baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = study(tmp_path_factory.mktemp("baseline") / "results")
    for k in range(3):
        as_it_stands(folder, k, f"arch{k + 1}", 0.1234 + 0.25 * k)
    return folder


def test_every_format_shows_the_networks_as_they_stand(
    bnrecal: Callable[..., Any], with_baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figure of each, with its interval, before what was re-estimated; in 80 columns on a terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    shown = {
        kind: bnrecal("report", "--out", with_baseline, "--format", kind).out
        for kind in ("table", "long", "md", "latex", "html", "csv", "json")
    }
    for kind, text in shown.items():
        assert "0.1234" in text, kind
        assert "None" not in text, kind
    assert re.search(r"as they stand +eval\n.*\n arch1 +0\.1234±\.0\d\d", shown["table"])
    assert max(map(len, shown["table"].splitlines())) <= 80
    assert re.search(r"### as they stand\n\n.*\n.*\n\| arch1 +\| +0\.1234 ± 0\.0\d{3} \|", shown["md"])
    assert "as they stand.}" in shown["latex"]
    page = Outline(shown["html"])
    assert "as they stand" in "".join(page.text)
    cells = [" ".join(cell.split()) for cell in page.cells]
    assert cells.count("as it stands") == 3
    assert cells[cells.index("as it stands") + 1] == "-"


def test_a_store_without_them_says_nothing_of_them(bnrecal: Callable[..., Any], stored: Path) -> None:
    """Rows of before: no table, no line, no word on what re-estimating does."""
    for kind in ("table", "md", "latex", "html"):
        text = bnrecal("report", "--out", stored, "--format", kind).out
        text = " ".join(text.split()).replace("statistics as they stand right", "")
        text = text.replace("the network as it stands was not measured", "")  # said by the advice
        assert "as they stand" not in text
        assert "as it stands" not in text


def test_a_store_of_networks_as_they_stand_alone(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """A network without BatchNorm, say: its figure in every format, no advice, no figure file."""
    store = Store(tmp_path / "alone")
    store.prepare()
    as_it_stands(store.folder, 1, "grouped", 0.4321)
    for kind in ("table", "long", "md", "latex", "html", "csv", "json"):
        ran = bnrecal("report", "--out", store.folder, "--format", kind)
        assert ran.code == 0, ran.err
        assert "0.432" in ran.out
        assert "Use " not in ran.out
    table = bnrecal("report", "--out", store.folder).out
    assert "tiny: mAP@0.5 as they stand (1 cell)" in table
    assert "only the networks as they stand were measured" in table
    assert bnrecal("report", "--out", store.folder, "--figures", "pictures").code == 2


def test_figures_draw_them_where_they_fit(with_baseline: Path) -> None:
    """Near the others: a line; far off: its figure in the legend, and the axis is left to the others."""
    from matplotlib.figure import Figure

    from bnrecal.report.analysis.summary import make_report
    from bnrecal.report.formats.figures import pictures_of

    pictures = {p.name: p for p in pictures_of(make_report(Store(with_baseline).latest(), with_baseline))}
    for panel, expected in zip(
        pictures["eval-by-samples"].panels,
        ("as it stands 0.1234, off the axis", "as it stands", "as it stands 0.6234, off the axis"),
        strict=True,
    ):
        axes = Figure().add_subplot()
        panel.draw(axes)
        assert expected in axes.get_legend_handles_labels()[1]
        low, high = axes.get_ylim()
        assert not low <= 0.1234 <= high
    assert "Dotted: the network as it stands." in pictures["eval-by-samples"].caption
    assert "As they stand: arch1 0.1234, arch2 0.3734" in pictures["ranking"].caption
