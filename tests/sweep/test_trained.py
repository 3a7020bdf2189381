"""Studies that train their networks: planned, trained, evaluated, resumed, repeated."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal.errors import BnrecalError
from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import Opened, open_study
from bnrecal.store.rows import is_evaluated
from bnrecal.store.store import Store
from bnrecal.study.study import make_study, read_study_file
from tests.executors.processes import finish, start
from tests.sweep.trained import STUDY, SWEEP, kill_and_resume, what_came_out, write_study

PUBLISHED = Path(__file__).parents[2] / "results" / "published_grid"


@pytest.fixture(autouse=True)
def _own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    write_study(tmp_path)


def test_a_study_trains_and_evaluates_what_it_trained(bnrecal: Callable[..., Any]) -> None:
    """Two recipes: two trainings, three evaluated cells on each, which name their recipe."""
    ran = bnrecal(*SWEEP)
    assert ran.code == 0, ran.err
    assert "2 networks to train, 6 cells in 4 passes" in ran.err
    assert "trained net: norm batch 4: loss" in ran.err
    rows = Store(Path("results")).rows()
    trained = {row["key"]: row for row in rows if not is_evaluated(row)}
    assert [row["recipe"]["norm_batch"] for row in trained.values()] == [4, 8]
    evaluated = [row for row in rows if is_evaluated(row)]
    assert [row["estimator"] for row in evaluated] == ["stored", "pooled", "pooled"] * 2
    for row in evaluated:
        assert row["recipe"] == trained[row["trained"]]["recipe"]
        assert len(Path("results/trained", row["trained"], "log.jsonl").read_text().splitlines()) == 3
    assert "all 6 cells are done" in bnrecal(*SWEEP).err


def test_the_log_ends_with_the_metric_of_the_network_as_it_stands(bnrecal: Callable[..., Any]) -> None:
    """By epoch, in log.jsonl; the last is what the stored cell measures."""
    assert bnrecal(*SWEEP).code == 0
    stored = [row for row in Store(Path("results")).evaluated() if row["estimator"] == "stored"]
    assert len(stored) == 2
    for row in stored:
        log = Path("results/trained", row["trained"], "log.jsonl").read_text().splitlines()
        metrics = [json.loads(line)["metric"] for line in log]
        assert len(metrics) == 3
        assert metrics[-1] == pytest.approx(row["eval"], abs=1e-9)


def test_rows_that_exist_keep_their_keys() -> None:
    """The 36 cells of the kept default study are planned under the keys their rows have."""
    planned = {cell.key for cell in cells_of(Opened.of(make_study({"baseline": False})))}
    assert planned == {row["key"] for row in Store(PUBLISHED).latest() if row["estimator"] == "ema"}


def test_what_decides_a_training_is_in_its_key() -> None:
    """Another field of the recipe or another image: other keys; a default said: the same."""

    def keys() -> set[str]:
        cells = cells_of(open_study(read_study_file(Path("study.toml")), {}))
        return {cell.key for cell in cells} | {cell.trained.key for cell in cells if cell.trained}

    first = keys()
    Path("study.toml").write_text(STUDY + 'schedule = "cosine"\n')
    assert keys() == first
    Path("study.toml").write_text(STUDY + "lr = 0.01\n")
    assert not keys() & first
    Path("study.toml").write_text(STUDY)
    image = next(Path("set/train/cat").iterdir())
    shutil.copy(next(Path("set/train/dog").iterdir()), image)
    assert not keys() & first


def test_a_killed_study_ends_with_the_bits_of_an_undisturbed_one(tmp_path: Path) -> None:
    """SIGKILL at random moments, inline and with two processes: the same rows, and weights byte for byte."""
    started = time.monotonic()
    finish(start(*SWEEP, "--out", "whole"))
    whole_s = time.monotonic() - started
    wanted = what_came_out(tmp_path / "whole")
    assert len(wanted) == 8
    for options in ((), ("-j", "2")):
        n_kills, wrong = kill_and_resume(tmp_path / f"killed{len(options)}", 3, 0, wanted, whole_s, *options)
        assert n_kills >= 3
        assert not wrong


def test_a_training_that_fails_takes_its_cells_with_it(bnrecal: Callable[..., Any]) -> None:
    """A rate at which the loss is no number: failed rows with that reason; the other recipe goes on."""
    study = STUDY.replace("norm_batch = [4, 8]", "lr = [1e30, 0.05]")
    Path("study.toml").write_text(study)
    ran = bnrecal(*SWEEP)
    assert ran.code == 3
    rows = Store(Path("results")).rows()
    (training,) = [row for row in rows if row["status"] == "failed" and not is_evaluated(row)]
    assert training["failure"] == "not a number"
    assert "epoch 1" in training["error"]
    lost = [row for row in rows if row["status"] == "failed" and is_evaluated(row)]
    assert {row["failure"] for row in lost} == {"not trained"}
    assert all(f"its training {training['key'][:8]} failed: " in row["error"] for row in lost)
    assert len(lost) == sum(row["status"] == "done" for row in rows if is_evaluated(row)) == 3
    assert bnrecal(*SWEEP).code == 3  # not done again, and still said
    assert len(Store(Path("results")).rows()) == len(rows)


def test_damaged_weights_are_trained_again(bnrecal: Callable[..., Any]) -> None:
    """A cell that needs them notices; the training gives the same bytes, and no second row."""
    assert bnrecal(*SWEEP, "--samples", 16).code == 0
    weights = sorted(Path("results/trained").glob("*/weights.safetensors"))
    before = [path.read_bytes() for path in weights]
    weights[0].write_bytes(before[0][:-1] + b"x")
    ran = bnrecal(*SWEEP)
    assert ran.code == 0, ran.err
    assert "1 network to train, 2 cells" in ran.err
    assert [path.read_bytes() for path in weights] == before
    assert sum(not is_evaluated(row) for row in Store(Path("results")).rows()) == 2


def test_trained_cells_are_repeated_by_verify_and_by_their_command(bnrecal: Callable[..., Any]) -> None:
    """`verify` finds equal figures; `show` names the kept study and the cell."""
    assert bnrecal(*SWEEP).code == 0
    ran = bnrecal("verify", "--sample", 6)
    assert (ran.code, ran.out.count("equal")) == (0, 6)
    row = Store(Path("results")).rows()[-1]
    assert f"--only key={row['key']}" in bnrecal("show", row["key"]).out


def test_cells_are_chosen_by_their_recipe(bnrecal: Callable[..., Any]) -> None:
    """--only train.norm_batch=4 trains that network alone."""
    ran = bnrecal(*SWEEP, "--only", "train.norm_batch=4", "--only", "estimator=stored")
    assert "1 network to train, 1 cell in" in ran.err
    bad = bnrecal(*SWEEP, "--only", "train.norm_bach=4")
    assert (bad.code, "unknown field 'train.norm_bach'" in bad.err) == (2, True)


def test_networks_without_statistics_are_evaluated_as_they_stand(bnrecal: Callable[..., Any]) -> None:
    """GroupNorm has nothing to re-estimate: its cells are stored alone, whatever the grid."""
    Path("study.toml").write_text(STUDY.replace("norm_batch = [4, 8]", 'norm = "gn"\ngroups = 2'))
    assert bnrecal(*SWEEP).code == 0
    assert [r["estimator"] for r in Store(Path("results")).rows() if is_evaluated(r)] == ["stored"]


BAD = [
    ("norm_batch = [4, 8]", "norm_batch = 3", r"norm_batch.*3 does not divide batch_size 8"),
    ("norm_batch = [4, 8]", 'norm = "bm"', r"unknown norm 'bm'; valid: bn, gn"),
    ("norm_batch = [4, 8]", 'optimizer = "sdg"', r"unknown optimizer 'sdg'; valid: sgd"),
    ("norm_batch = [4, 8]", "norm_bach = 4", r"unknown setting 'norm_bach'"),
    ("epochs = 3", "epochs = 0", r"train.epochs: '0'; allowed: 1 or more"),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD)
def test_bad_recipes_are_named(old: str, new: str, message: str) -> None:
    """The field, its value and what is allowed, before anything is trained."""
    Path("study.toml").write_text(STUDY.replace(old, new))
    with pytest.raises(BnrecalError, match=message):
        open_study(read_study_file(Path("study.toml")), {"train": "study.toml: train"})


def test_a_grid_of_many_trainings_is_asked_for(
    bnrecal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 of them by accident: their cost in one line, and nothing is begun; a dry run tells them."""
    monkeypatch.setattr("bnrecal.cli.sweep.MANY_TRAININGS", 5)
    many = STUDY.replace("norm_batch = [4, 8]", "norm_batch = [4, 8]\nseed = [0, 1, 2]")
    Path("study.toml").write_text(many)
    ran = bnrecal(*SWEEP)
    assert (ran.code, "the study trains 6 networks, about 0.0 hours" in ran.err) == (2, True)
    assert not Path("results").exists()
    assert "6 networks to train" in bnrecal(*SWEEP, "--dry-run").out
