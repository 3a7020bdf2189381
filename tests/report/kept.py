"""The kept studies, for tests of how a report looks."""

import shutil
from pathlib import Path

RESULTS = Path(__file__).parents[2] / "results"
LONG = "images_needed"  # 429 cells: their intervals take most of a minute to compute


def rows_of(study: str, folder: Path) -> Path:
    """Where the study is; of the longest one a copy without evidence, in `folder`."""
    if study != LONG:
        return RESULTS / study
    shutil.copy(RESULTS / study / "rows.jsonl", folder)
    return folder
