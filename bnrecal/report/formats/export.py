"""Reports for machines: CSV and JSON of every row, with the interval of eval where there is evidence."""

import json

from bnrecal.report.analysis.summary import Report
from bnrecal.store.store import COLUMNS, Row


def to_json(report: Report) -> str:
    return json.dumps(_rows(report), indent=1) + "\n"


def to_csv(report: Report) -> str:
    """Every row with the columns of the store; objects (`environment`, `inputs`) as JSON."""
    import pandas as pd

    rows = _rows(report)
    flat = [
        {name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()}
        for row in rows
    ]
    extra = sorted({name for row in rows for name in row} - set(COLUMNS))
    text: str = pd.DataFrame(flat, columns=[*COLUMNS, *extra]).to_csv(index=False)
    return text


def _rows(report: Report) -> list[Row]:
    """The rows as stored, and `eval_low` and `eval_high` (95 %) for those with evidence."""
    found = []
    for row in report.rows:
        interval = report.uncertainty.interval(row) if row["status"] == "done" else None
        bounds = {} if interval is None else {"eval_low": interval[0], "eval_high": interval[1]}
        found.append({**row, **bounds})
    return found
