import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnrecal.errors import BnrecalError
from bnrecal.store import COLUMNS, SCHEMA_VERSION, Store


def row(key: str, **fields: Any) -> dict[str, Any]:
    return dict.fromkeys(COLUMNS) | {
        "schema_version": SCHEMA_VERSION,
        "key": key,
        "status": "done",
        **fields,
    }


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    """Oldest first, unknown fields kept; an absent file is an empty store."""
    store = Store(tmp_path)
    assert store.rows() == []
    rows = [row("a", update=0.1 + 0.2), row("b", remark="kept")]
    for r in rows:
        store.append(r)
    assert store.rows() == rows
    assert store.done_keys() == {"a", "b"}


def test_latest_prefers_what_is_done(tmp_path: Path) -> None:
    """A failed cell done later counts as done, and no later failure undoes it."""
    store = Store(tmp_path)
    for key, status in [("a", "failed"), ("a", "done"), ("a", "failed"), ("b", "failed")]:
        store.append(row(key, status=status))
    assert [(r["key"], r["status"]) for r in store.latest()] == [("a", "done"), ("b", "failed")]


@settings(max_examples=30, deadline=None)
@given(torn=st.binary(min_size=1, max_size=9000).filter(lambda b: b"\n" not in b))
def test_a_torn_last_line_is_set_aside(tmp_path_factory: pytest.TempPathFactory, torn: bytes) -> None:
    """A crash in mid-write loses that line alone: readers skip it, the next writer moves it away."""
    store = Store(tmp_path_factory.mktemp("store"))
    store.append(row("a"))
    with store.path.open("ab") as file:
        file.write(torn)
    assert store.done_keys() == {"a"}
    store.append(row("b"))
    assert [r["key"] for r in store.rows()] == ["a", "b"]
    assert Path(f"{store.path}.torn").read_bytes() == torn + b"\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 2: damaged"),
        ("[]", "line 2: row of schema None"),
        (json.dumps({"schema_version": 99}), "line 2: row of schema 99"),
        (json.dumps({"schema_version": SCHEMA_VERSION}), "line 2: not a result row.*lacks key"),
        (json.dumps(row("x", status="maybe")), "line 2: not a result row.*'maybe'"),
    ],
)
def test_damage_in_the_middle_is_reported_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    """Never dropped silently: file, line and what is wrong."""
    store = Store(tmp_path)
    good = json.dumps(row("a"))
    store.path.write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(BnrecalError, match=message):
        store.rows()


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """A file in the way of the output folder is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BnrecalError, match=r"--out: cannot write to .*file"):
        Store(tmp_path / "file" / "out").prepare()


def test_a_short_write_is_no_success(tmp_path: Path) -> None:
    """A file that may not grow: append says so in one line, and the store stays readable."""
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from bnrecal.store import Store; from tests.test_store import row\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "store = Store(Path(sys.argv[1])); store.append(row('a'))\n"
        "size = store.path.stat().st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))\n"
        "store.append(row('b'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "BnrecalError: --out: cannot write" in done.stderr
    assert Store(tmp_path).done_keys() == {"a"}
