"""True values kept beside the rows they were compared with, so that a report needs nothing else."""

import json
from pathlib import Path

from bnrecal.errors import BnrecalError
from bnrecal.host.files import write_whole
from bnrecal.search.truth import MEAN, RUNS, Truth, read_truth

FOLDER = "truth"


def keep_truth(out: Path, name: str, truth: Truth) -> str | None:
    """Write it to OUT/truth/NAME.json, beside what was kept of other architectures under that name.

    What was kept under another name goes; returns that name.
    """
    kept = _entries(truth)
    folder = out / FOLDER
    before = kept_truth(out)
    if before is not None and before[1] == name and _n_runs(before[0]) == _n_runs(truth):
        kept = {**_entries(before[0]), **kept}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.json"):
            if old.name != f"{name}.json":
                old.unlink()
        write_whole(folder / f"{name}.json", (json.dumps(kept, indent=0) + "\n").encode())
    except OSError as error:
        raise BnrecalError(f"--out: cannot write to {out}: {error.strerror}") from None
    return None if before is None or before[1] == name else before[1]


def _entries(truth: Truth) -> dict[str, dict[str, object]]:
    return {
        arch: {MEAN: value, **({RUNS: list(truth.runs[arch])} if arch in truth.runs else {})}
        for arch, value in truth.values.items()
    }


def _n_runs(truth: Truth) -> int:
    return len(next(iter(truth.runs.values()), ()))


def kept_truth(out: Path) -> tuple[Truth, str] | None:
    """(true values, their name) that were kept in this folder, if any were."""
    found = sorted((out / FOLDER).glob("*.json"))
    return (read_truth(found[0], "--out"), found[0].stem) if found else None
