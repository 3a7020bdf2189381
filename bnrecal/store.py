"""Result rows on disk: append-only JSON Lines, one object a line.

A row is written by one `write` and flushed to the disk (fsync) under a file lock, so a row that was
reported is there whatever happens next. A crash in mid-write leaves at most an unfinished last line,
which the next writer sets aside; damage anywhere else is an error that names the line.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnrecal.errors import BnrecalError
from bnrecal.study import Study

SCHEMA_VERSION = 1
ROWS_FILE = "rows.jsonl"
LOCK_TIMEOUT_S = 30.0

Row = dict[str, Any]

# The columns every row has, in the order tables and files show them. Readers keep unknown ones.
# `update` is null for estimator "exact", which has no pass in which images come after one another.
# Times in seconds: recal_s the update pass alone up to this sample count, images decoded, device
# synchronised; update_s the extra forwards and scoring for `update`; eval_s evaluation and scoring;
# total_s what this cell alone would have cost.
COLUMNS = (
    "schema_version",
    "key",
    "status",
    "task",
    "data_digest",
    "order_digest",
    "arch",
    "weights_digest",
    "batch_size",
    "n_samples",
    "n_updates",
    "estimator",
    "momentum",
    "seed",
    "metric",
    "update",
    "eval",
    "recal_s",
    "update_s",
    "eval_s",
    "total_s",
    "device",
    "started_at",
    "error",
    "environment",
)


@dataclass(frozen=True)
class Store:
    """The rows of one output folder."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / ROWS_FILE

    def rows(self) -> list[Row]:
        """All rows, oldest first, without an unfinished last line.

        Raises BnrecalError, naming file and line, for damage elsewhere or rows of another schema.
        """
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BnrecalError(f"--out: {self.path} cannot be read: {error.strerror}") from None
        whole, _, _ = text.rpartition(b"\n")
        return [_parse(line, f"{self.path} line {n}") for n, line in enumerate(whole.split(b"\n"), 1) if line]

    def latest(self) -> list[Row]:
        """One row per key, in the order keys first appeared: the done one if there is one, else the last."""
        by_key: dict[str, Row] = {}
        for row in self.rows():
            if by_key.get(row["key"], {}).get("status") != "done":
                by_key[row["key"]] = row
        return list(by_key.values())

    def done_keys(self) -> set[str]:
        return {row["key"] for row in self.rows() if row["status"] == "done"}

    def prepare(self) -> None:
        """Make the folder and see that it can be written, so that no work is done in vain."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked(), self.path.open("ab"):
                pass
        except OSError as error:
            raise BnrecalError(f"--out: cannot write to {self.folder}: {error.strerror}") from None

    def keep_study(self, study: Study) -> Path:
        """Write the resolved study beside the rows, as a study file of its own; returns its path."""
        values = study.model_dump(mode="json", exclude_none=True)
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())  # TOML
        path = self.folder / f"study-{hashlib.sha256(text.encode()).hexdigest()[:8]}.toml"
        work = path.with_suffix(".part")
        work.write_text(text, "utf-8")
        work.replace(path)
        return path

    def append(self, row: Row) -> None:
        """Add one row and return when it is on the disk."""
        line = json.dumps({name: row.get(name) for name in COLUMNS} | row, allow_nan=False)
        try:
            with self._locked():
                self._set_torn_line_aside()
                with self.path.open("ab") as file:
                    file.write(line.encode() + b"\n")
                    file.flush()  # raises where the disk takes only a part
                    os.fsync(file.fileno())
        except OSError as error:
            raise BnrecalError(f"--out: cannot write {self.path}: {error.strerror}") from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(f"{self.path}.lock", timeout=LOCK_TIMEOUT_S)
        try:
            lock.acquire()
        except Timeout:
            raise BnrecalError(f"{self.path}: held by another process for {LOCK_TIMEOUT_S:.0f} s") from None
        try:
            yield
        finally:
            lock.release()

    def _set_torn_line_aside(self) -> None:
        """Move an unfinished last line (a crash in mid-write) to rows.jsonl.torn."""
        if not self.path.exists():
            return
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start = size
            while start > 0:  # step back to the last line end
                back = min(start, 4096)
                file.seek(start - back)
                at = file.read(back).rfind(b"\n")
                if at >= 0:
                    start = start - back + at + 1
                    break
                start -= back
            if start == size:
                return
            file.seek(start)
            torn = file.read()
            with Path(f"{self.path}.torn").open("ab") as aside:
                aside.write(torn + b"\n")
            file.truncate(start)


def _parse(line: bytes, place: str) -> Row:
    try:
        row: Row = json.loads(line)
    except ValueError:
        raise BnrecalError(f"{place}: damaged, not a JSON object; mend or remove this line") from None
    version = row.get("schema_version") if isinstance(row, dict) else None
    if version != SCHEMA_VERSION:
        raise BnrecalError(
            f"{place}: row of schema {version!r}, this bnrecal reads schema {SCHEMA_VERSION}; "
            "use another --out folder or the bnrecal that wrote it"
        )
    missing = [name for name in COLUMNS if name not in row]
    if missing or row["status"] not in ("done", "failed"):
        what = f"lacks {', '.join(missing)}" if missing else f"has status {row['status']!r}"
        raise BnrecalError(f"{place}: not a result row of schema {SCHEMA_VERSION}: {what}")
    return row


def finite_or_none(value: float | None) -> float | None:
    """JSON has no NaN: a figure that is none is null."""
    return value if value is not None and math.isfinite(value) else None
