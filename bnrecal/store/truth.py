"""True values kept beside the rows they were compared with, so that a report needs nothing else."""

import json
from collections.abc import Collection
from pathlib import Path

from bnrecal.errors import BnrecalError
from bnrecal.host.files import write_whole
from bnrecal.search.truth import MEAN, RUNS, Truth, read_truth

FOLDER = "truth"


def keep_truth(out: Path, name: str, truth: Truth, archs: Collection[str]) -> None:
    """Write what is known of `archs` to OUT/truth/NAME.json, instead of what was kept before."""
    kept = {
        arch: {MEAN: truth.values[arch], **({RUNS: list(truth.runs[arch])} if arch in truth.runs else {})}
        for arch in archs
        if arch in truth.values
    }
    folder = out / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.json"):
            if old.name != f"{name}.json":
                old.unlink()
        write_whole(folder / f"{name}.json", (json.dumps(kept, indent=0) + "\n").encode())
    except OSError as error:
        raise BnrecalError(f"--out: cannot write to {out}: {error.strerror}") from None


def kept_truth(out: Path) -> tuple[Truth, str] | None:
    """(true values, their name) that were kept in this folder, if any were."""
    found = sorted((out / FOLDER).glob("*.json"))
    return (read_truth(found[0], "--out"), found[0].stem) if found else None
