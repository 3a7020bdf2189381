"""What lies in OUT/trained and is of no use: moved aside and said, and that one network is trained anew."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bnrecal.executors.executor import Job
from bnrecal.executors.ray_task import _sent
from bnrecal.executors.workplace import Workplace
from bnrecal.measure.trained import is_whole
from bnrecal.plan.opened import open_study
from bnrecal.store.provenance import trained_apart
from bnrecal.store.rows import is_evaluated
from bnrecal.store.store import Store
from bnrecal.study.cells import Training, TrainingPass
from bnrecal.study.study import read_study_file
from bnrecal.sweep.outcomes import row_of
from bnrecal.sweep.plan import plan
from bnrecal.sweep.sweep import _keep
from tests.sweep.test_trained_mishaps import SUPERNET
from tests.sweep.trained import STUDY, SWEEP, write_study


@pytest.fixture(autouse=True)
def _own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    write_study(tmp_path)


FOREIGN = {
    "no TOML": "= =",
    "empty": "",
    "no table": "trained = 3",
    "another identity": '[trained]\nidentity = "0123"\nweights_sha256 = "4567"\n',
    "gone": None,
}


def trainings() -> list[Training]:
    opened = open_study(read_study_file(Path("study.toml")), {})
    return list(plan(opened, Store(Path("nothing"))).trainings)


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_a_recipe_that_is_another_trains_that_network_again(bnrecal: Callable[..., Any], text: str) -> None:
    """The sweep goes on: the same bits again, the other network untouched, what lay there kept and said."""
    assert bnrecal(*SWEEP, "--samples", 16).code == 0
    hurt, sound = sorted(folder for folder in Path("results/trained").iterdir() if folder.is_dir())
    weights = (hurt / "weights.safetensors").read_bytes()
    untouched = {path: path.stat().st_mtime_ns for path in sound.iterdir()}
    if text is None:
        (hurt / "recipe.toml").unlink()
    else:
        (hurt / "recipe.toml").write_text(text)
    ran = bnrecal(*SWEEP)
    assert ran.code == 0, ran.err
    assert "1 network to train, 2 cells" in ran.err
    assert f"moved to {hurt.name}.aside-1, trained anew" in ran.err
    assert (hurt / "weights.safetensors").read_bytes() == weights
    assert (hurt.with_name(f"{hurt.name}.aside-1") / "weights.safetensors").read_bytes() == weights
    assert {path: path.stat().st_mtime_ns for path in sound.iterdir()} == untouched
    assert sum(not is_evaluated(row) for row in Store(Path("results")).rows()) == 2


@pytest.mark.parametrize("options", [(), ("-j", "2")], ids=["inline", "local"])
def test_a_damaged_checkpoint_is_said_by_a_sweep(
    bnrecal: Callable[..., Any], options: tuple[str, ...]
) -> None:
    """As `bnrecal train` says it, whichever executor trains; the other training has no note."""
    hurt, _ = trainings()
    folder = Path("results/trained") / hurt.key
    folder.mkdir(parents=True)
    (folder / "checkpoint").write_bytes(b"no checkpoint")
    ran = bnrecal(*SWEEP, *options)
    assert ran.code == 0, ran.err
    assert ran.err.count("/checkpoint: ") == 1
    assert f"{hurt.key}/checkpoint: damaged, or of another version; trained from the beginning" in ran.err


def test_a_training_that_fails_still_says_what_was_damaged(bnrecal: Callable[..., Any]) -> None:
    """The note and the failure: both are said."""
    Path("study.toml").write_text(STUDY.replace("norm_batch = [4, 8]", "lr = 1e30"))
    (hurt,) = trainings()
    folder = Path("results/trained") / hurt.key
    folder.mkdir(parents=True)
    (folder / "checkpoint").write_bytes(b"no checkpoint")
    ran = bnrecal(*SWEEP)
    assert ran.code == 3
    assert "checkpoint: damaged" in ran.err


def test_what_a_node_trained_takes_no_finished_networks_place() -> None:
    """Ray: the node's note comes with its outcome, and what lay in OUT/trained is moved, not removed."""
    opened = open_study(read_study_file(Path("study.toml")), {})
    (training, _) = trainings()
    node, out = Path("node").absolute(), Path("out").absolute()
    (node / training.key).mkdir(parents=True)
    (node / training.key / "checkpoint").write_bytes(b"no checkpoint")
    job = Job(opened.study, threads=1, trained=str(node))
    (outcome,) = Workplace(job, opened).run(TrainingPass(training), lambda *_: None)
    assert len(outcome.notes) == 1
    came = replace(_sent(job, outcome), cell=training)
    place = out / "trained" / training.key
    place.mkdir(parents=True)
    (place / "weights.safetensors").write_bytes(b"somebody's")
    notes = list(_keep(came, row_of(came, opened.study), out))
    assert [f"moved to {training.key}.aside-1" in note for note in notes] == [True]
    assert (place.with_name(f"{training.key}.aside-1") / "weights.safetensors").read_bytes() == b"somebody's"
    assert is_whole(training, place)
    assert list(_keep(came, row_of(came, opened.study), out)) == []


def test_force_leaves_what_stands_trained(bnrecal: Callable[..., Any]) -> None:
    """Cells anew on the same weights, which are not written again; the help says so."""
    assert bnrecal(*SWEEP, "--samples", 16).code == 0
    files = {path: path.stat().st_mtime_ns for path in Path("results/trained").rglob("*.*")}
    assert len(files) == 6
    ran = bnrecal(*SWEEP, "--samples", 16, "--force")
    assert ran.code == 0, ran.err
    assert "4 cells in 4 passes" in ran.err
    assert "to train" not in ran.err
    assert {path: path.stat().st_mtime_ns for path in Path("results/trained").rglob("*.*")} == files
    assert "Not finished trainings" in " ".join(bnrecal("sweep", "--help").out.split())


@pytest.mark.parametrize("value", ["true", "True"])
def test_yes_and_no_are_asked_for_as_toml_writes_them(bnrecal: Callable[..., Any], value: str) -> None:
    """--only train.nesterov=true: the spelling of a study file and that of Python, and no other value."""
    Path("study.toml").write_text(STUDY.replace("norm_batch = [4, 8]", "nesterov = [false, true]"))
    ran = bnrecal(*SWEEP, "--only", f"train.nesterov={value}", "--dry-run")
    assert "1 network to train" in ran.out
    assert "images: net (nesterov)" in ran.out
    other = bnrecal(*SWEEP, "--only", "train.nesterov=1", "--dry-run")
    assert "leave none of the study's" in other.err


def test_a_product_of_many_values_is_counted_before_it_is_made(bnrecal: Callable[..., Any]) -> None:
    """Ten to the twelfth combinations: one line at once; they would not fit any memory."""
    many = ", ".join(str(n) for n in range(1000))
    table = "".join(f"{name} = [{many}]\n" for name in ("seed", "clip_norm", "weight_decay", "rmax"))
    Path("study.toml").write_text(STUDY.replace("norm_batch = [4, 8]\n", table))
    ran = bnrecal(*SWEEP, "--yes")
    assert ran.code == 2
    assert (
        "study.toml: train: 1,000,000,000,000 combinations of its values; at most 10,000 are planned"
        in ran.err
    )


def test_the_long_report_names_recipes(bnrecal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of a trained cell says how its network was trained; without any there is no such column."""
    monkeypatch.setenv("COLUMNS", "160")
    assert bnrecal(*SWEEP, "--samples", 16).code == 0
    out = bnrecal("report", "--format", "long").out
    lines = [line.rstrip() for line in out.splitlines() if line.startswith(" net")]
    assert [line[-12:] for line in lines] == ["norm batch 4"] * 2 + ["norm batch 8"] * 2
    assert "trained: batch 8, epochs 3, flip\n" in out
    rows = Store(Path("results")).evaluated()
    assert trained_apart(rows[:2]) == ("", ["norm batch 4, batch 8, epochs 3, flip"] * 2)
    groups = {**rows[0], "recipe": {**rows[0]["recipe"], "norm": "gn", "groups": 8}}
    assert trained_apart([rows[0], groups]) == (
        "batch 8, epochs 3, flip",
        ["bn, norm batch 4", "gn"],
    )
    assert bnrecal("sweep", "--task", "tiny", "--arch", "arch1", "--out", "plain").code == 0
    assert "trained" not in bnrecal("report", "--format", "long", "--out", "plain").out


TWO_SIZES = SUPERNET.replace('("0", "1")', '("small", "large")').replace("self.one(6)", "self.one(2000)")
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from bnrecal.cli import main
main()
"""


def test_a_disk_without_room_for_one_network_leaves_the_other() -> None:
    """Its checkpoint does not fit: a failed training with that reason, nothing half-written, cells that say
    so; the other network is trained and evaluated.
    """
    Path("sizes.py").write_text(TWO_SIZES)
    study = STUDY.replace("learnt:net", "sizes:net").replace("norm_batch = [4, 8]", 'sampling = "none"')
    Path("study.toml").write_text(study)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, *SWEEP], capture_output=True, text=True, env=environment
    )
    assert ran.returncode == 3, ran.stderr
    rows = Store(Path("results")).rows()
    failed = {row["arch"]: row for row in rows if row["status"] == "failed" and not is_evaluated(row)}
    assert list(failed) == ["large"]
    assert "cannot be written: File too large" in failed["large"]["error"]
    lost = [row for row in rows if row["status"] == "failed" and is_evaluated(row)]
    assert {(row["arch"], row["failure"]) for row in lost} == {("large", "not trained")}
    done = [row["arch"] for row in rows if row["status"] == "done" and is_evaluated(row)]
    assert done == ["small"] * 3
    left = [path.name for path in Path("results/trained", failed["large"]["key"]).iterdir()]
    assert left == ["log.jsonl"]


OF_DETECTION = 'task = "tiny"\nbs = [4]\nsamples = [16]\n'
DETECTOR = """
from torch import nn

class Detector:
    archs = ["detector"]
    predict = staticmethod(lambda output: output)

    def build(self, arch):
        return nn.Conv2d(1, 5, 1)
"""
UNFIT = {
    "a classifier for boxes": (OF_DETECTION + 'model = "learnt:net"\n[train]\nepochs = 1\n', "no predict"),
    "a detector of one's own": (
        OF_DETECTION + 'model = "detector:Detector"\n[train]\nepochs = 1\n',
        "detector:Detector: only the supernet is trained for detection (tiny)",
    ),
    "views of classes": (
        OF_DETECTION + '[train]\nepochs = 1\naugment = ["none", "flip"]\n',
        "study.toml: train.augment: 'flip' is for classification, task tiny is detection; leave it out",
    ),
    "labels of classes": (
        OF_DETECTION + "[[train]]\nepochs = 1\n[[train]]\nlabel_smoothing = 0.1\n",
        "study.toml: train[2].label_smoothing: 0.1 is for classification, task tiny is detection",
    ),
    "pairs of classes": (
        OF_DETECTION + '[train]\nbatches = "class-pairs"\n',
        "study.toml: train.batches: 'class-pairs' is for classification",
    ),
    "more than there are": (
        STUDY.replace("batch_size = 8", "batch_size = 48"),
        "study.toml: train.batch_size: 48 images a step, task imagefolder has 40 to train on",
    ),
    "more than there are, unsaid": (
        STUDY.replace("batch_size = 8", ""),
        "study.toml: train.batch_size: 64 images a step, task imagefolder has 40 to train on",
    ),
}


@pytest.mark.parametrize(("study", "message"), UNFIT.values(), ids=UNFIT)
def test_a_recipe_for_another_kind_of_task_is_one_line(
    bnrecal: Callable[..., Any], study: str, message: str
) -> None:
    """A classifier learns no boxes, flips move none, a batch has to be there: said before all else."""
    Path("study.toml").write_text(study)
    Path("detector.py").write_text(DETECTOR)
    ran = bnrecal(*SWEEP)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert message in ran.err
    assert not Path("results/rows.jsonl").exists()


def test_what_asks_for_nothing_is_for_every_task() -> None:
    """The same fields at the values that change nothing are planned for boxes, a batch of all images too."""
    Path("study.toml").write_text(
        OF_DETECTION
        + 'arch = ["arch1"]\n[train]\nbatch_size = 256\naugment = "none"\nlabel_smoothing = 0.0\n'
        'batches = "shuffled"\n'
    )
    (training,) = trainings()
    assert training.recipe.batch_size == 256


def test_a_training_without_a_study_heeds_the_task_as_well(bnrecal: Callable[..., Any]) -> None:
    """`bnrecal train` with flips on boxes: one line, nothing written."""
    Path("recipe.toml").write_text('task = "tiny"\nepochs = 1\naugment = "flip"\n')
    ran = bnrecal("train", "recipe.toml", "--out", "trained", "--arch", "arch1")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "augment: 'flip' is for classification, task tiny is detection; leave it out" in ran.err
    assert not Path("trained").exists()
