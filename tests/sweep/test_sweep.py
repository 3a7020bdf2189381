"""Sweeps from the command line on the tiny task: what they write, keep, resume and refuse."""

import json
import os
import re
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal.networks import embedded
from bnrecal.store.store import COLUMNS, SCHEMA_VERSION, Store
from tests.executors.processes import PATIENCE_S, TINY, Hanging, start, until

SMALL = ("--task", "tiny", "--arch", "arch1", "--bs", "8", "--samples", "32,64")


def test_the_tiny_sweep_gives_every_cell(bnrecal: Callable[..., object]) -> None:
    """12 cells with all columns, figures in range, times that add up, and an allow-listed environment."""
    ran = bnrecal("sweep", "--task", "tiny")
    assert (ran.code, ran.out) == (0, "")
    rows = Store(Path("results")).rows()
    assert len({row["key"] for row in rows}) == len(rows) == 12
    for row in rows:
        assert list(row)[: len(COLUMNS)] == list(COLUMNS)
        assert row["status"] == "done"
        assert row["schema_version"] == SCHEMA_VERSION
        assert 0 < row["update"] < 1
        assert 0 < row["eval"] < 1
        assert row["total_s"] >= row["recal_s"] > 0
        assert row["n_updates"] == row["n_samples"] // row["batch_size"]
        assert set(row["environment"]) <= ENVIRONMENT
    best = max(rows, key=lambda row: row["n_updates"] + (row["arch"] == "arch3"))
    assert best["eval"] > 0.4  # trained weights, really loaded


ENVIRONMENT = {
    *("python", "bnrecal", "torch", "torchvision", "numpy", "git_commit", "git_dirty"),
    *("platform", "cpu", "cpus", "gpu", "threads"),
}


def test_a_rule_without_momentum_names_none_and_nothing_to_do_takes_no_time(
    bnrecal: Callable[..., Any],
) -> None:
    """Lines of progress do not say "momentum None"; a dry run of what is done tells no seconds."""
    rules = (*SMALL, "--estimator", "ema,cumulative,pooled")
    told = " ".join(bnrecal("sweep", *rules, "--dry-run").out.split())
    assert "; about " in told
    ran = bnrecal("sweep", *rules)
    assert "cumulative bs" in ran.err
    assert "None" not in ran.err
    told = " ".join(bnrecal("sweep", *rules, "--dry-run").out.split())
    assert "0 of 6 cells to do" in told
    assert "about" not in told


def test_starting_again_does_only_what_is_missing(bnrecal: Callable[..., object]) -> None:
    """--limit leaves cells over, the next call does those, a third nothing; figures are those of one go."""
    assert bnrecal("sweep", *SMALL, "--limit", 1).code == 0
    first = Store(Path("results")).rows()
    assert len(first) == 1
    again = bnrecal("sweep", *SMALL)
    assert "1 cell in 1 pass, 1 kept from before" in again.err
    rows = Store(Path("results")).rows()
    assert rows[0] == first[0]
    assert len(rows) == 2
    assert "all 2 cells are done" in bnrecal("sweep", *SMALL).err
    assert len(Store(Path("results")).rows()) == 2
    bnrecal("sweep", *SMALL, "--out", "other")
    figures = [
        {(r["key"], r["update"], r["eval"]) for r in Store(Path(p)).rows()} for p in ("results", "other")
    ]
    assert figures[0] == figures[1]


def test_a_dry_run_does_nothing(bnrecal: Callable[..., object]) -> None:
    """It tells cells, passes, images and time, and leaves the folder empty."""
    ran = bnrecal("sweep", "--dry-run")
    assert ran.code == 0
    assert "36 of 36 cells to do in 12 passes: 122,880 images to calibrate with" in ran.out
    assert os.listdir() == []


def test_flag_beats_environment_beats_file(
    bnrecal: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """bs from the flag, samples from the environment, arch from the file."""
    Path("study.toml").write_text('task = "tiny"\narch = ["arch2"]\nbs = [4]\nsamples = [256]\n')
    monkeypatch.setenv("BNRECAL_BS", "8")
    monkeypatch.setenv("BNRECAL_SAMPLES", "64")
    ran = bnrecal("sweep", "--study", "study.toml", "--bs", "16", "--dry-run")
    assert [cell.strip() for cell in ran.out.splitlines()[2].split("  ") if cell.strip()] == [
        *("ema 0.1", "16", "64", "arch2", "0", "1", "1", "64")
    ]


def test_the_resolved_study_is_kept_and_runs_again(bnrecal: Callable[..., object]) -> None:
    """The file beside the rows is a study file: planned from it, nothing is left to do."""
    bnrecal("sweep", *SMALL)
    (study,) = Path("results").glob("study-*.toml")
    assert "all 2 cells are done" in bnrecal("sweep", "--study", study).err


BAD = [
    (("--bs", "0"), r"--bs: '0'.*1"),
    (("--bs", "8,x"), r"--bs: 'x'.*no whole number"),
    (("--bs", ""), r"--bs: ''.*no whole number"),
    (("--samples", "10", "--bs", "64"), r"--samples: 10 .*64"),
    (("--samples", "99999"), r"--samples: 99999: .*40960"),
    (("--task", "nope"), r"--task: .*'nope'.*garments, tiny"),
    (("--arch", "nope"), r"--arch: .*'nope'.*arch1, arch2, arch3"),
    (("--momentum", "2"), r"--momentum: '2'"),
    (("--device", "tpu"), r"--device: 'tpu'; valid: auto, cpu, cuda, cuda:i"),
    (("--device", "cuda:99"), r"--device: 'cuda:99': .*valid: auto, cpu"),
    (("--limit", "0"), r"--limit.*0"),
    (("--study", "nowhere.toml"), r"--study: cannot read nowhere.toml"),
    (("--nonsense",), r"--nonsense"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    BAD,
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(
    bnrecal: Callable[..., object], arguments: tuple[str, ...], message: str
) -> None:
    """Names value, option and what is allowed; nothing is written."""
    import re

    ran = bnrecal("sweep", *arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert re.search(message, ran.err), ran.err
    assert os.listdir() == []


def test_an_output_folder_that_cannot_be_written_is_named(bnrecal: Callable[..., object]) -> None:
    """A file in its place: one line, exit code 2, the file untouched."""
    Path("taken").write_text("mine")
    ran = bnrecal("sweep", *SMALL, "--out", "taken")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "--out: cannot write to taken" in ran.err or "--out: taken/rows.jsonl cannot be read" in ran.err
    assert Path("taken").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_output_folder_is_named(bnrecal: Callable[..., object]) -> None:
    """Permission denied is said before any work."""
    Path("closed").mkdir()
    Path("closed").chmod(stat.S_IRUSR | stat.S_IXUSR)
    ran = bnrecal("sweep", *SMALL, "--out", "closed")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "--out: cannot write to closed" in ran.err


def test_damaged_weights_are_refused(bnrecal: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    """A weights file with another digest: one line naming it, nothing written."""
    monkeypatch.setattr(embedded, "WEIGHTS_SHA256", "0" * 64)
    embedded._shipped_weights.cache_clear()
    ran = bnrecal("sweep", *SMALL)
    embedded._shipped_weights.cache_clear()
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "garments_supernet.safetensors: damaged" in ran.err
    assert os.listdir() == []


def test_rows_of_another_schema_are_refused(bnrecal: Callable[..., object]) -> None:
    """By sweep and report alike, with the line; the file stays as it is."""
    Path("results").mkdir()
    foreign = json.dumps({"schema_version": 7, "key": "x"}) + "\n"
    Path("results/rows.jsonl").write_text(foreign)
    for command in (("sweep", *SMALL), ("report",)):
        ran = bnrecal(*command)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert "rows.jsonl line 1: row of schema 7" in ran.err
    assert Path("results/rows.jsonl").read_text() == foreign
    assert os.listdir("results") == ["rows.jsonl"]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_cleanly_with_what_is_done_kept(tmp_path: Path, sent: int, code: int) -> None:
    """A real process, interrupted after its first cell: one line, its exit code, whole rows, resumable.

    arch3 never ends, so the sweep cannot be over before the signal comes.
    """
    out, endless = tmp_path / "out", Hanging(tmp_path)("endless", "arch3")
    process = start("sweep", *TINY, "--bs", "4", "--samples", "64,128,192,256", "--out", out, **endless)
    rows = out / "rows.jsonl"
    until(lambda: rows.exists() and rows.read_bytes())
    process.send_signal(sent)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    assert "Traceback" not in err
    assert 0 < len(Store(out).rows()) <= 8


def test_a_cell_that_fails_is_a_row_and_the_others_go_on(
    bnrecal: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that cannot be built: exit code 3, its reason kept, done again when asked for."""
    build = embedded.EmbeddedSupernet.build

    def broken(self: embedded.EmbeddedSupernet, arch: str) -> object:
        if arch == "arch1":
            raise RuntimeError("no such luck")
        return build(self, arch)

    arguments = ("sweep", "--task", "tiny", "--arch", "arch1,arch2", "--bs", "8", "--samples", "32")
    with monkeypatch.context() as patched:
        patched.setattr(embedded.EmbeddedSupernet, "build", broken)
        ran = bnrecal(*arguments)
    assert ran.code == 3
    assert "1 of 2 cells failed (1 error); these alone again: bnrecal sweep --study" in ran.err
    by_arch = {row["arch"]: row for row in Store(Path("results")).rows()}
    assert by_arch["arch1"]["status"] == "failed"
    assert re.fullmatch(
        r"RuntimeError: no such luck \(test_sweep.py line \d+, in broken\)", by_arch["arch1"]["error"]
    )
    assert by_arch["arch1"]["update"] is None
    assert by_arch["arch2"]["status"] == "done"
    assert bnrecal(*arguments, "--retry-failed").code == 0
    assert {row["status"] for row in Store(Path("results")).latest()} == {"done"}


def test_a_limit_is_not_mistaken_for_what_was_there(bnrecal: Callable[..., object]) -> None:
    """In an empty folder nothing was kept from before, however few cells are done now."""
    first = bnrecal("sweep", *SMALL, "--limit", 1)
    assert "kept from before" not in first.err
    assert "1 kept from before" in bnrecal("sweep", *SMALL).err


def test_a_choice_of_no_cell_is_an_error(bnrecal: Callable[..., object]) -> None:
    """--only with a value no cell has is a slip, not a finished study."""
    ran = bnrecal("sweep", *SMALL, "--only", "arch=archx")
    assert (ran.code, "--only, --exclude: they leave none of the study's 2 cells" in ran.err) == (2, True)


def test_lines_name_what_varies(bnrecal: Callable[..., object]) -> None:
    """Two estimators or two orders of one cell can be told apart while the sweep runs, and in a dry run."""
    grid = ("--task", "tiny", "--arch", "arch1", "--bs", "8", "--samples", "32", "--estimator", "ema,pooled")
    err = bnrecal("sweep", *grid, "--repeats", 2).err
    assert {"arch1 ema bs 8 n 32 seed 0" in err, "arch1 pooled bs 8 n 32 seed 1" in err} == {True}
    dry = bnrecal("sweep", *grid, "--momentum", "0.1,0.02", "--dry-run", "--out", "other").out
    rules = [line.strip().partition("  ")[0] for line in dry.splitlines()]
    assert [rule for rule in rules if rule.startswith(("ema", "pooled"))] == ["ema 0.1", "ema 0.02", "pooled"]


def test_a_detector_on_scenes_is_blamed_for_itself(bnrecal: Callable[..., object]) -> None:
    """An option nobody gave is not what the message is about."""
    ran = bnrecal("sweep", "--task", "tiny", "--model", "torchvision:resnet19")
    assert (ran.code, "torchvision has no detector 'resnet19'" in ran.err) == (2, True)
