"""The report's tables and sentences in LaTeX: booktabs, a fragment to \\input."""

import unicodedata
from collections.abc import Sequence

from bnrecal.report.analysis.axis_findings import noise_of
from bnrecal.report.analysis.law import Law
from bnrecal.report.analysis.sections import Block
from bnrecal.report.analysis.summary import Chapter, Report, TrainedChapter
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.report.formats.terminal import COUNTS_ABREAST, figure
from bnrecal.report.formats.variants import text_tables
from bnrecal.store.store import Row

PREAMBLE = "% needs \\usepackage{booktabs}"
SPECIAL = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": "'",
    "±": r"$\pm$",
}


def to_latex(report: Report) -> str:
    """A table per batch size, the laws, and the findings as paragraphs."""
    parts = [PREAMBLE]
    for chapter in report.chapters:
        parts += _chapter(chapter, report.uncertainty)
    for trained in report.trained:
        parts += _trained(trained, report.uncertainty)
    for advice in report.advice:
        head, *reasons = advice.sentences()
        parts.append(rf"\paragraph{{{escape(head)}}} {escape(' '.join(reasons))}")
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text from data as LaTeX prints it, never as a command.

    Any engine with any font must take it: accents go, what has no ASCII form becomes a question mark.
    """
    shown = []
    for c in " ".join(text.split()):
        plain = unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode()
        shown.append(SPECIAL.get(c) or "".join(SPECIAL.get(p, p) for p in plain if p.isprintable()) or "?")
    return "".join(shown).replace("--", "-{}-")  # an option, not a dash


def _chapter(chapter: Chapter, uncertainty: Uncertainty) -> list[str]:
    title = chapter.section.title
    parts = []
    if chapter.section.stored:
        body = [
            f"{escape(arch)} & {_figures(row, uncertainty)[1]}"
            for arch, row in chapter.section.stored.items()
        ]
        parts.append(_table(_tabular("lr", ["arch & eval"], body), f"{title}; as they stand."))
    for block in chapter.section.blocks:
        for start in range(0, len(block.samples), COUNTS_ABREAST):
            samples = block.samples[start : start + COUNTS_ABREAST]
            parts.append(
                _table(_block(block, samples, uncertainty), f"{title}; batch size {block.batch_size}.")
            )
    if chapter.laws:
        caption = "update $= A (1 - k_0 / N)$, $N$ the number of updates; $\\pm$ standard error."
        parts.append(_table(_laws(chapter), caption, escaped=True))
    for finding in chapter.findings:
        if not (finding.topic == "law" and finding.items):  # their lines are the table above
            parts.append(escape(" ".join([finding.text, *finding.items])))
    return parts


def _trained(chapter: TrainedChapter, uncertainty: Uncertainty) -> list[str]:
    parts = []
    for found in text_tables(chapter.variants, uncertainty):
        caption = ". ".join(filter(None, [chapter.variants.title, found.title]))
        body = [" & ".join([escape(name), *map(_with_bar, cells)]) for name, *cells in found.rows]
        headers = [" & ".join(map(escape, found.headers))]
        tabular = _tabular("l" + "r" * (len(found.headers) - 1), headers, body)
        parts.append(_table(tabular, f"{caption}; +- {noise_of(chapter.variants)}."))
    return parts + [escape(" ".join([f.text, *f.items])) for f in chapter.findings]


def _with_bar(figure: str) -> str:
    value, _, half = figure.partition("±")
    return f"{escape(value)} $\\pm$ {escape(half)}" if half else escape(value)


def _table(tabular: str, caption: str, escaped: bool = False) -> str:
    said = caption if escaped else escape(caption)
    top = "\\begin{table}[htbp]\n\\centering\\small\\setlength{\\tabcolsep}{4pt}"
    return f"{top}\n\\caption{{{said}}}\n{tabular}\n\\end{{table}}"


def _block(block: Block, samples: Sequence[int], uncertainty: Uncertainty) -> str:
    heads, rules, names = [""], [], ["arch"]
    for k, n in enumerate(samples):
        heads.append(
            rf"\multicolumn{{2}}{{c}}{{{n:,} images, $N = {block.n_updates(n):,}$}}".replace(",", "{,}")
        )
        rules.append(rf"\cmidrule(lr){{{2 * k + 2}-{2 * k + 3}}}")
        names += ["update", "eval"]
    lines = [" & ".join(heads).replace("images{,}", "images,"), "".join(rules), " & ".join(names)]
    body = []
    for arch in block.archs:
        found = [block.rows.get((arch, n)) for n in samples]
        cells = [text for row in found for text in _figures(row, uncertainty)]
        body.append(" & ".join([escape(arch), *cells]))
    return _tabular("l" + "rr" * len(samples), lines, body)


def _tabular(columns: str, head: Sequence[str], body: Sequence[str]) -> str:
    top = [f"{line} \\\\" if "cmidrule" not in line else line for line in head]
    rows = [f"{line} \\\\" for line in body]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *top,
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _figures(row: Row | None, uncertainty: Uncertainty) -> tuple[str, str]:
    if row is None:
        return "--", "--"
    half = uncertainty.half_width(row)
    interval = "" if half is None else rf"\,{{\scriptsize$\pm${half:.3f}}}"
    return figure(row["update"]).replace("-", "--"), figure(row["eval"]) + interval


def _laws(chapter: Chapter) -> str:
    body = [_law(law, "here") for law in chapter.laws] if chapter.published_laws else []
    body += [_law(law, "published") for law in chapter.published_laws]
    body = body or [_law(law, "") for law in chapter.laws]
    return _tabular("lrrrr", ["arch & $A$ & $k_0$ & $R^2$ & mean eval"], body)


def _law(law: Law, where: str) -> str:
    name = escape(f"{law.arch} {where}".strip())
    level, warmup = (
        rf"{law.level:.4f} $\pm$ {law.level_se:.4f}",
        rf"{law.warmup:.1f} $\pm$ {law.warmup_se:.1f}",
    )
    return f"{name} & {level} & {warmup} & {law.r2:.4f} & {law.mean_eval:.4f}"
