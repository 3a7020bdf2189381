"""Trainings as passes of executors: no limit of time, and on nodes the network that was planned."""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bnrecal.errors import BnrecalError
from bnrecal.executors.executor import Job
from bnrecal.executors.local import Local, _Worker
from bnrecal.executors.ray_cluster import network_of
from bnrecal.executors.ray_task import bring
from bnrecal.executors.workplace import Workplace
from bnrecal.measure.trained import is_whole
from bnrecal.plan.opened import Opened, open_study
from bnrecal.store.artefacts import packed
from bnrecal.store.store import Store
from bnrecal.study.cells import Pass, TrainingPass
from bnrecal.study.study import read_study_file
from bnrecal.sweep.plan import plan
from tests.sweep.trained import write_study


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "learnt", raising=False)  # of another test's folder
    write_study(tmp_path)
    return open_study(read_study_file(Path("study.toml")), {})


def test_a_training_is_not_over_its_time(opened: Opened) -> None:
    """--timeout is of walks: executor local ends a walk that is overdue, no training, as inline does."""
    passes = plan(opened, Store(Path("results"))).passes
    job = Job(opened.study, timeout_s=1.0)
    local = Local(job, ["cpu"])
    for todo in passes:
        worker: Any = _Worker(None, None, "cpu", todo, began=time.monotonic() - 1000)  # type: ignore[arg-type]
        assert local._is_overdue(worker) == isinstance(todo, Pass)


def test_a_node_takes_the_network_that_came_for_what_is_not_whole(opened: Opened) -> None:
    """No folder, one with a checkpoint alone, damaged weights, a recipe that is none: whole afterwards."""
    job = Job(opened.study, trained=str(Path("driver").absolute()))
    training = plan(opened, Store(Path("results"))).trainings[0]
    (outcome,) = Workplace(job, opened).run(TrainingPass(training), lambda *_: None)
    assert outcome.error is None
    data = packed(Path("driver") / training.key)
    node = replace(job, trained=str(Path("node").absolute()))
    folder = Path("node") / training.key
    for name, text in ((None, ""), ("weights.safetensors", "x"), ("recipe.toml", "= ="), ("recipe.toml", "")):
        if name is not None:
            (folder / name).write_text(text)
        bring(node, training, lambda: data)
        assert is_whole(training, folder)
    (folder / "recipe.toml").unlink()
    (folder / "weights.safetensors").rename(folder / "checkpoint")
    bring(node, training, lambda: data)
    assert is_whole(training, folder)

    def not_needed() -> bytes:
        raise AssertionError("fetched what was there")

    bring(node, training, not_needed)


def test_a_network_that_is_not_there_is_sent_to_no_node(opened: Opened) -> None:
    """The node says what is missing; the sweep goes on."""
    job = Job(opened.study, trained=str(Path("nowhere").absolute()))
    training = plan(opened, Store(Path("results"))).trainings[0]
    assert network_of(job, training) is None


def test_a_workplace_with_other_data_or_code_refuses_trainings_and_what_they_left(opened: Opened) -> None:
    """So that a node asks for the files: at the same paths it may hold others."""
    walk, training = (
        next(todo for todo in plan(opened, Store(Path("results"))).passes if isinstance(todo, kind))
        for kind in (Pass, TrainingPass)
    )
    workplace = Workplace(Job(opened.study, trained="results"), opened)
    workplace.check(walk)
    workplace.check(training)
    Path("learnt.py").write_text(Path("learnt.py").read_text() + "# other code\n")
    for todo in (walk, training):
        with pytest.raises(BnrecalError, match=r"network here has digest .*, the sweep was planned for"):
            Workplace(Job(opened.study, trained="results"), opened).check(todo)
    image = next(Path("set/val/cat").iterdir())
    os.replace(next(Path("set/val/dog").iterdir()), image)
    with pytest.raises(BnrecalError, match="data here have digest"):
        Workplace(Job(opened.study, trained="results")).check(training)
