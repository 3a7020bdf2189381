import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnrecal.errors import BnrecalError
from bnrecal.store.rows import line_of, parse_row
from bnrecal.store.store import COLUMNS, SCHEMA_VERSION, Store
from bnrecal.study.study import Study, read_study_file


def row(key: str, **fields: Any) -> dict[str, Any]:
    """A row as a sweep writes it, for one cell of the tiny task."""
    return dict.fromkeys(COLUMNS) | {
        "schema_version": SCHEMA_VERSION,
        "key": key,
        "status": "done",
        "task": "tiny",
        "arch": "arch1",
        "batch_size": 8,
        "n_samples": 64,
        "n_updates": 8,
        "estimator": "ema",
        "momentum": 0.1,
        "seed": 0,
        "metric": "map50",
        "update": 0.25,
        "eval": 0.5,
        "recal_s": 1.0,
        "update_s": 1.0,
        "eval_s": 1.0,
        "total_s": 3.0,
        "environment": {},
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
        (json.dumps(row("x", batch_size="8")), "line 2: not a result row.*batch_size '8'.*integer"),
        (json.dumps(row("x", batch_size=0)), "line 2: not a result row.*batch_size 0"),
        (json.dumps(row("x", eval=None)), "line 2: not a result row.*has no eval"),
        (json.dumps(row("x", eval=float("nan"))), "line 2: damaged"),
        (json.dumps(row("../../x")), r"line 2: not a result row.*key '../../x'"),
        (json.dumps(row("x", environment=[])), r"line 2: not a result row.*environment \[\]"),
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
        "from bnrecal.store.store import Store; from tests.store.test_store import row\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "store = Store(Path(sys.argv[1])); store.append(row('a'))\n"
        "size = store.path.stat().st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))\n"
        "store.append(row('b'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "BnrecalError: --out: cannot write" in done.stderr
    store = Store(tmp_path)
    assert [r["key"] for r in store.rows()] == ["a"]
    assert store.path.read_bytes().endswith(b"\n")
    assert not Path(f"{store.path}.torn").exists()


@settings(max_examples=100, deadline=None)
@given(value=st.floats(-1e12, 1e12))
def test_figures_come_back_to_the_last_bit(value: float) -> None:
    """Through JSON and its checked reading, any float is the same float."""
    (back,) = [parse_row(line_of(row("a", eval=value)).rstrip(), "here")["eval"]]
    assert math.copysign(1, back) == math.copysign(1, value)
    assert back == value


def test_a_cell_is_never_done_twice(tmp_path: Path) -> None:
    """Whoever comes second writes nothing, though it opened the store before the first had written."""
    first, second = Store(tmp_path), Store(tmp_path)
    assert second.done_keys() == set()
    assert first.append(row("a", eval=0.1))
    assert not second.append(row("a", eval=0.2))
    assert [r["eval"] for r in first.rows()] == [0.1]


def test_rows_of_an_older_schema_are_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No older schema exists, so one is made up: 0 called `eval` otherwise; its rows read as today's."""
    old = row("a", schema_version=0, accuracy=0.5)
    del old["eval"]
    (tmp_path / "rows.jsonl").write_text(json.dumps(old) + "\n")
    with pytest.raises(BnrecalError, match="line 1: row of schema 0"):
        Store(tmp_path).rows()
    migrate = {0: lambda r: {n: v for n, v in r.items() if n != "accuracy"} | {"eval": r["accuracy"]}}
    monkeypatch.setattr("bnrecal.store.rows.MIGRATIONS", migrate)
    (read,) = Store(tmp_path).rows()
    assert read == row("a")


def test_rows_set_aside_are_to_be_done_again(tmp_path: Path) -> None:
    """They move to another file; stores opened before notice, and append where the others are."""
    store, other = Store(tmp_path), Store(tmp_path)
    for key in "abc":
        store.append(row(key))
    assert other.done_keys() == {"a", "b", "c"}
    assert store.set_aside({"b", "z"}) == 1
    assert other.done_keys() == store.done_keys() == {"a", "c"}
    assert other.append(row("b"))
    assert [r["key"] for r in store.rows()] == ["a", "c", "b"]
    assert json.loads(Path(f"{store.path}.replaced").read_text()) == row("b")


def test_a_store_of_100_000_rows_is_read_at_once(tmp_path: Path) -> None:
    """What is done is known at little more than the cost of parsing JSON: 10,000 rows here, side by side."""
    lines = [line_of(row(f"{k:020d}")) for k in range(10_000)]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(lines))

    def parse() -> int:
        return len({json.loads(line)["key"] for line in lines})

    def read() -> int:
        return len(Store(tmp_path).done_keys())

    def cpu_s(work: Callable[[], int]) -> float:
        started = time.process_time()
        assert work() == 10_000
        return time.process_time() - started

    rounds = [(cpu_s(read), cpu_s(parse)) for _ in range(5)]
    assert min(read_s for read_s, _ in rounds) < 6 * min(parse_s for _, parse_s in rounds)


def test_a_kept_study_is_toml_whatever_its_strings_hold(tmp_path: Path) -> None:
    """Characters that JSON and TOML write differently come back."""
    study = Study(task='caf\u00e9 "\\ \U0001f600 \x7f \t')
    assert read_study_file(Store(tmp_path).keep_study(study))["task"] == study.task
