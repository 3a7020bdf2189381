"""Reports of a small store: every format says what the rows say."""

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal.store.store import COLUMNS, SCHEMA_VERSION, Store


def row(arch: str, bs: int, n: int, update: float, **fields: Any) -> dict[str, Any]:
    return dict.fromkeys(COLUMNS) | {
        "schema_version": SCHEMA_VERSION,
        "key": re.sub(r"[^\w.-]", "_", f"x{arch}-{bs}-{n}-{fields.get('momentum', 0.1)}"),
        "status": "done",
        "task": "tiny",
        "data_digest": "d",
        "arch": arch,
        "batch_size": bs,
        "n_samples": n,
        "n_updates": n // bs,
        "estimator": "ema",
        "momentum": 0.1,
        "seed": 0,
        "metric": "map50",
        "update": update,
        "eval": update + 0.01,
        "recal_s": 1.0,
        "update_s": 1.0,
        "eval_s": 0.5,
        "total_s": 2.5,
        "device": "cpu",
        "environment": {"torch": "2"},
        **fields,
    }


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """2 batch sizes, 2 counts, 2 architectures; not every cell of the grid is there."""
    store = Store(tmp_path / "results")
    store.prepare()
    store.append(row("arch1", 8, 64, 0.1234))
    store.append(row("arch2", 8, 64, 0.2234))
    store.append(row("arch1", 8, 128, 0.3234, total_s=3.5))
    store.append(row("arch2", 8, 128, 0.4234, total_s=4.5))
    store.append(row("arch1", 16, 64, 0.5234))
    return store.folder


def test_the_published_layout(bnrecal: Callable[..., Any], stored: Path) -> None:
    """A block per batch size, counts beside each other with their time, two figures per architecture."""
    ran = bnrecal("report", "--out", stored)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].startswith("tiny: mAP@0.5 by ema, momentum 0.1, seed 0 (5 cells")
    first = next(
        k for k, line in enumerate(lines) if line.startswith("bs 8") or line.lstrip().startswith("bs 8")
    )
    assert "64 images" in lines[first - 2]
    assert "128 images" in lines[first - 2]
    assert lines[first - 1].split() == ["N", "8,", "2.5", "s", "N", "16,", "4.0", "s"]
    assert lines[first].split() == ["bs", "8", "update", "eval", "update", "eval"]
    assert lines[first + 2].split() == ["arch1", "0.1234", "0.1334", "0.3234", "0.3334"]
    assert lines[first + 3].split() == ["arch2", "0.2234", "0.2334", "0.4234", "0.4334"]


@pytest.mark.parametrize("layout", ["table", "long"])
def test_tables_fit_eighty_columns(
    bnrecal: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """The default grid's report, architectures named by their choices included."""
    monkeypatch.setenv("COLUMNS", "80")
    store = Store(tmp_path / "results")
    store.prepare()
    for arch in ("arch1", "3-0-2-1-3-2-0-1"):
        for bs in (8, 64):
            for n in (2560, 5120, 10240, 20480):
                store.append(row(arch, bs, n, 0.5))
    text = bnrecal("report", "--out", store.folder, "--format", layout).out
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert text.count("20,480") + text.count("20480") >= 2


def test_csv_and_json_carry_every_column(bnrecal: Callable[..., Any], stored: Path) -> None:
    """Each row with all columns and exact values."""
    rows = Store(stored).rows()
    as_json = json.loads(bnrecal("report", "--out", stored, "--format", "json").out)
    assert as_json == rows
    text = bnrecal("report", "--out", stored, "--format", "csv").out
    as_csv = list(csv.DictReader(io.StringIO(text)))
    assert list(as_csv[0]) == list(COLUMNS)
    assert [float(r["update"]) for r in as_csv] == [r["update"] for r in rows]
    assert json.loads(as_csv[0]["environment"]) == {"torch": "2"}


def test_markdown_tables_hold_the_figures(bnrecal: Callable[..., Any], stored: Path) -> None:
    """One table per batch size, written to a file with -o; nothing on stdout."""
    ran = bnrecal("report", "--out", stored, "--format", "md", "-o", "table.md")
    assert (ran.code, ran.out) == (0, "")
    text = Path("table.md").read_text()
    assert text.count("### batch size") == 2
    cells = [c.strip() for line in text.splitlines() if line.startswith("| arch1") for c in line.split("|")]
    assert cells == [
        "",
        "arch1",
        "0.1234",
        "0.1334",
        "0.3234",
        "0.3334",
        "",
        "",
        "arch1",
        "0.5234",
        "0.5334",
        "",
    ]


def test_experiments_stand_apart(bnrecal: Callable[..., Any], stored: Path) -> None:
    """Rows of another momentum are another section, never mixed into a block."""
    Store(stored).append(row("arch1", 8, 64, 0.9999, momentum=0.5))
    out = bnrecal("report", "--out", stored).out
    assert "momentum 0.1" in out
    assert "momentum 0.5" in out
    assert out.count("0.9999") == 1


def test_failed_cells_count_in_no_average(bnrecal: Callable[..., Any], stored: Path) -> None:
    """A failed cell is a dash in the table, counted in the title, with its reason in the long form."""
    failed = row("arch2", 16, 64, 0.0, status="failed", error="out of luck", total_s=None)
    Store(stored).append(failed | {"update": None, "eval": None})
    table = bnrecal("report", "--out", stored).out
    assert "(5 cells, 1 failed)" in table
    assert (
        "failed: arch2 bs 16 n 64: out of luck" in bnrecal("report", "--out", stored, "--format", "long").out
    )


def test_a_network_whose_cell_as_it_stands_failed_is_named(bnrecal: Callable[..., Any], stored: Path) -> None:
    """In the title, in terminal and Markdown; repeated with success it is not, and its eval is shown."""
    fields = {"estimator": "stored", "momentum": None, "batch_size": None, "n_samples": 0, "seed": None}
    fields |= {"n_updates": 0, "order_digest": None, "update": None, "recal_s": 0.0}
    cell = row("arch2", 16, 64, 0.1, key="ffee") | fields
    Store(stored).append(cell | {"status": "failed", "error": "out of luck", "eval": None, "total_s": None})
    for options in ((), ("--format", "md")):
        shown = bnrecal("report", "--out", stored, *options).out
        assert "; failed: arch2 as it stands)" in shown
    path = stored / "rows.jsonl"
    kept = path.read_text().splitlines()[:-1]
    path.write_text("\n".join(kept) + "\n")
    Store(stored).append(cell)
    shown = bnrecal("report", "--out", stored).out
    assert "; failed:" not in shown
    assert "as they stand" in shown


def test_an_empty_store_says_what_to_do(bnrecal: Callable[..., Any]) -> None:
    """No rows: one line that names the remedy, exit code 2."""
    ran = bnrecal("report")
    assert ran.code == 2
    assert "run `bnrecal sweep` first" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["sweep", "--help"], ["sweep", "--dry-run"], ["report", "--out", "OUT"]],
)
def test_no_torch_where_nothing_is_computed(stored: Path, arguments: list[str]) -> None:
    """Help, a dry run and reports import neither torch nor pandas."""
    given = [str(stored) if a == "OUT" else a for a in arguments]
    code = (
        "import sys; sys.argv[1:] = " + repr(given) + "\n"
        "from bnrecal.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'pandas', 'scipy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_names_from_data_are_shown_as_they_are(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """Brackets, pipes and HTML in a name are text in the terminal and in Markdown, never markup."""
    store = Store(tmp_path / "results")
    store.prepare()
    store.append(row("[red]a|<b>", 8, 64, 0.5))
    assert "[red]a|<b>" in bnrecal("report", "--out", store.folder).out
    assert "\\[red\\]a\\|\\<b\\>" in bnrecal("report", "--out", store.folder, "--format", "md").out


def test_a_thousand_architectures_are_not_all_listed(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """The terminal shows the first 60 of a block and says how many more; csv has every row."""
    store = Store(tmp_path / "many")
    store.prepare()
    for k in range(70):
        store.append(row(f"a{k:03}", 8, 2560, 0.4))
    out = bnrecal("report", "--out", "many").out
    assert "a059" in out
    assert "a060" not in out.partition("and 10 more architectures")[0]
    assert "and 10 more architectures: --format long, csv or html" in out
    assert bnrecal("report", "--out", "many", "--format", "csv").out.count("\n") == 71
