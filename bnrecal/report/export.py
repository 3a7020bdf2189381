"""Reports for files and machines: Markdown in the published layout, CSV and JSON of every row."""

import json
from collections.abc import Sequence

from bnrecal.report.findings import findings_of
from bnrecal.report.sections import Block, Section
from bnrecal.report.terminal import figure
from bnrecal.store import COLUMNS, Row


def to_json(rows: Sequence[Row]) -> str:
    return json.dumps(list(rows), indent=1)


def to_csv(rows: Sequence[Row]) -> str:
    """Every row with the columns of the store; `environment` as a JSON object in its cell."""
    import pandas as pd

    flat = [{**row, "environment": json.dumps(row["environment"])} for row in rows]
    extra = sorted({name for row in rows for name in row} - set(COLUMNS))
    text: str = pd.DataFrame(flat, columns=[*COLUMNS, *extra]).to_csv(index=False)
    return text


def to_markdown(sections: Sequence[Section]) -> str:
    """A heading per experiment and a table per batch size."""
    parts = []
    for section in sections:
        parts.append(f"## {escape(section.title)}")
        parts += [f"### batch size {b.batch_size}\n\n{_markdown_block(b)}" for b in section.blocks]
        parts += [_markdown_finding(finding) for finding in findings_of(section)]
    return "\n\n".join(parts) + "\n"


def _markdown_block(block: Block) -> str:
    from tabulate import tabulate

    headers, columns = ["arch"], [[escape(arch) for arch in block.archs]]
    for n in block.samples:
        seconds = block.seconds(n)
        time = f", {seconds:.1f} s" if seconds is not None else ""
        headers += [f"{n:,} samples (N {block.n_updates(n):,}{time}): update", "eval"]
        found = [block.rows.get((arch, n)) for arch in block.archs]
        columns += [
            [_metric(row, "update") for row in found],
            [_metric(row, "eval") for row in found],
        ]
    rows = list(zip(*columns, strict=True))
    align = ("left", *["right"] * (len(headers) - 1))
    text: str = tabulate(rows, headers, tablefmt="github", colalign=align, disable_numparse=True)
    return text


def _markdown_finding(finding: str) -> str:
    """A sentence, and its indented lines, if any, as a list."""
    head, *lines = finding.splitlines()
    return "\n".join([escape(head), "", *(f"- {escape(line.strip())}" for line in lines)]).strip()


def _metric(row: Row | None, name: str) -> str:
    return figure(row[name] if row else None)


def escape(text: str) -> str:
    """Text from data as Markdown shows it, never as markup."""
    return "".join("\\" + c if c in "\\`*_{}[]<>#|" else c for c in text)
