"""Result rows on disk: append-only JSON Lines, one object a line.

A row is written by one `write` and flushed to the disk (fsync) under a file lock, so a row that was
reported is there whatever happens next. A crash in mid-write leaves at most an unfinished last line,
which the next writer sets aside; damage anywhere else is an error that names the line.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bnrecal.errors import BnrecalError
from bnrecal.host.files import append_whole, sync_folder, write_whole
from bnrecal.host.interrupts import shielded
from bnrecal.store.claims import Claims
from bnrecal.store.rows import COLUMNS, SCHEMA_VERSION, Row, finite_or_none, is_evaluated, line_of, parse_row
from bnrecal.study.cells import TRAIN
from bnrecal.study.study import Study

__all__ = ["COLUMNS", "ROWS_FILE", "SCHEMA_VERSION", "Row", "Store", "finite_or_none"]

ROWS_FILE = "rows.jsonl"
LOCK_TIMEOUT_S = 30.0


@dataclass
class _Seen:
    """What the file held when it was last read on: enough to decide what is left to do."""

    file: tuple[int, int] | None = None  # device and inode: another one after rows were set aside
    size: int = 0  # bytes read, up to a line end
    n_lines: int = 0
    status: dict[str, str] = field(default_factory=dict)  # of each key: done once done, else the last
    n_rows: dict[str, int] = field(default_factory=dict)  # rows of each key
    done_s: float = 0.0  # time the done rows took
    done_samples: int = 0  # calibration images of the done rows
    trained_s: float = 0.0  # the same of trainings, over all epochs
    trained_samples: int = 0

    def add(self, row: Row) -> None:
        key = row["key"]
        if self.status.get(key) != "done":
            self.status[key] = row["status"]
        self.n_rows[key] = self.n_rows.get(key, 0) + 1
        if row["status"] == "done" and is_evaluated(row):
            self.done_s += row["total_s"]
            self.done_samples += row["n_samples"]
        elif row["status"] == "done" and row["kind"] == TRAIN:
            self.trained_s += row["train_s"]
            self.trained_samples += row["n_samples"]


@dataclass
class Store:
    """The rows of one output folder."""

    folder: Path
    _seen: _Seen = field(default_factory=_Seen, init=False, repr=False, compare=False)

    @property
    def path(self) -> Path:
        return self.folder / ROWS_FILE

    def claims(self) -> Claims:
        """The cells one sweep takes from others that work on the same folder."""
        return Claims(self.folder / "claims")

    def rows(self) -> list[Row]:
        """All rows, oldest first, without an unfinished last line.

        Raises BnrecalError, naming file and line, for damage elsewhere or rows of another schema.
        """
        return list(self._parsed(self._bytes_from(0), 0))

    def latest(self) -> list[Row]:
        """One row per key, in the order keys first appeared: the done one if there is one, else the last."""
        by_key: dict[str, Row] = {}
        for row in self.rows():
            if by_key.get(row["key"], {}).get("status") != "done":
                by_key[row["key"]] = row
        return list(by_key.values())

    def evaluated(self) -> list[Row]:
        """Those of `latest` that are of evaluated networks: what reports are made of."""
        return [row for row in self.latest() if is_evaluated(row)]

    def seen(self) -> _Seen:
        """What the file holds now; reads only what was written since the last call."""
        seen = self._seen
        try:
            now = self.path.stat()
        except FileNotFoundError:
            self._seen = _Seen()
            return self._seen
        except OSError as error:
            raise BnrecalError(f"--out: {self.path} cannot be read: {error.strerror}") from None
        if seen.file != (now.st_dev, now.st_ino) or now.st_size < seen.size:
            seen = self._seen = _Seen(file=(now.st_dev, now.st_ino))
        if now.st_size > seen.size:
            text = self._bytes_from(seen.size)
            for row in self._parsed(text, seen.n_lines):
                seen.add(row)
            seen.n_lines += text.count(b"\n")
            seen.size += len(text)
        return seen

    def done_keys(self) -> set[str]:
        return {key for key, status in self.seen().status.items() if status == "done"}

    def prepare(self) -> None:
        """Make the folder and see that it can be written, so that no work is done in vain."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked(), self.path.open("ab"):
                sync_folder(self.folder)
        except OSError as error:
            raise BnrecalError(f"--out: cannot write to {self.folder}: {error.strerror}") from None

    def keep_study(self, study: Study) -> Path:
        """Write the resolved study beside the rows, as a study file of its own; returns its path."""
        values = study.model_dump(mode="json", exclude_none=True)
        tables = values.pop("train", {})
        of = {"[train]": [tables] if tables else []} if isinstance(tables, dict) else {"[[train]]": tables}
        text = _lines(values) + "".join(
            f"\n{head}\n{_lines(table)}" for head, each in of.items() for table in each
        )
        path = self.folder / f"study-{hashlib.sha256(text.encode()).hexdigest()[:8]}.toml"
        try:
            if not path.exists() or path.read_bytes() != text.encode():
                write_whole(path, text.encode())
        except OSError as error:
            raise BnrecalError(f"--out: cannot write to {self.folder}: {error.strerror}") from None
        return path

    def append(self, row: Row) -> bool:
        """Add one row and return when it is on the disk; False if this cell was done already.

        Raises BnrecalError when the disk does not take it; the file is then as it was.
        """
        line = line_of(row)
        parse_row(line, f"{self.path}: a row to be written")
        try:
            with self._locked(), shielded():
                self._set_torn_line_aside()
                if row["status"] == "done" and self.seen().status.get(row["key"]) == "done":
                    return False
                append_whole(self.path, line)
        except OSError as error:
            raise BnrecalError(f"--out: cannot write {self.path}: {error.strerror}") from None
        return True

    def set_aside(self, keys: Collection[str]) -> int:
        """Move the rows of these cells to rows.jsonl.replaced, so that they are to be done again."""
        try:
            with self._locked(), shielded():
                self._set_torn_line_aside()
                old = [(line, parse_row(line, str(self.path))["key"]) for line in self._lines()]
                moved = [line for line, key in old if key in keys]
                if moved:
                    append_whole(Path(f"{self.path}.replaced"), b"".join(line + b"\n" for line in moved))
                    write_whole(self.path, b"".join(line + b"\n" for line, key in old if key not in keys))
        except OSError as error:
            raise BnrecalError(f"--out: cannot write {self.path}: {error.strerror}") from None
        return len(moved)

    def _lines(self) -> list[bytes]:
        return [line for line in self._bytes_from(0).split(b"\n") if line]

    def _bytes_from(self, start: int) -> bytes:
        """The whole lines from byte `start` on."""
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                text = file.read()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise BnrecalError(f"--out: {self.path} cannot be read: {error.strerror}") from None
        return text[: text.rfind(b"\n") + 1]

    def _parsed(self, text: bytes, lines_before: int) -> Iterator[Row]:
        path = str(self.path)
        for n, line in enumerate(text.split(b"\n"), lines_before + 1):
            if line:
                yield parse_row(line, f"{path} line {n}")

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
            append_whole(Path(f"{self.path}.torn"), file.read() + b"\n")
            file.truncate(start)


def _lines(values: Mapping[str, object]) -> str:
    return "".join(f"{name} = {_toml(value)}\n" for name, value in values.items())


def _toml(value: object) -> str:
    """A value of a study as TOML, which JSON is but for two kinds of character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
