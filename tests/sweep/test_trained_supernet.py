"""Studies that train the embedded supernet on the user's own images, with other classes and channels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from bnrecal.store.rows import is_evaluated
from bnrecal.store.store import Store
from tests.own_images import write_class_folders, write_coco

GRID = """
model = "supernet"
bs = [8]
samples = [16]
estimator = ["stored", "pooled"]
"""
CLASSES = 'task = "imagefolder"\ncalibration = "set/train"\nevaluation = "set/val"\nimage_size = 16\n' + GRID
BOXES = (
    'task = "coco"\nimages = "images"\ncalibration = "train.json"\nevaluation = "val.json"\n'
    'image_size = 32\nchannels = 3\narch = ["arch1"]\n' + GRID
)
ALONE = '[train]\nbatch_size = 8\nepochs = 6\noptimizer = "adamw"\n'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def swept(bnrecal: Callable[..., Any], study: str) -> list[dict[str, Any]]:
    Path("study.toml").write_text(study)
    ran = bnrecal("sweep", "--study", "study.toml", "--threads", 1)
    assert ran.code == 0, ran.err
    rows = Store(Path("results")).rows()
    assert {row["status"] for row in rows} == {"done"}
    return rows


def test_its_architectures_learn_own_classes_each_alone(bnrecal: Callable[..., Any]) -> None:
    """Two classes in colour: each path is trained, told apart better than by chance, and is repeated."""
    write_class_folders(Path("set"))
    rows = swept(bnrecal, 'arch = ["arch1", "0-1-2-3-0-1-2-3"]\n' + CLASSES + ALONE)
    assert [row["arch"] for row in rows if not is_evaluated(row)] == ["arch1", "0-1-2-3-0-1-2-3"]
    pooled = [row for row in rows if is_evaluated(row) and row["estimator"] == "pooled"]
    assert len(pooled) == 2
    assert min(row["eval"] for row in pooled) > 0.75
    assert bnrecal("verify", pooled[1]["key"][:8], "--threads", 1).code == 0


def test_it_learns_own_classes_as_a_whole(bnrecal: Callable[..., Any]) -> None:
    """One training by uniform paths, under all its architectures; the head has the two classes."""
    write_class_folders(Path("set"))
    rows = swept(bnrecal, CLASSES + ALONE.replace("epochs = 6", 'epochs = 1\nsampling = "uniform"'))
    (trained,) = (row for row in rows if not is_evaluated(row))
    evaluated = [row for row in rows if is_evaluated(row)]
    assert {row["trained"] for row in evaluated} == {trained["key"]}
    assert [row["arch"] for row in evaluated if row["estimator"] == "pooled"] == ["arch1", "arch2", "arch3"]
    state = load_file(Path("results/trained", trained["key"], "weights.safetensors"))
    assert state["stem.0.weight"].shape[1] == 3
    assert {tensor.shape[0] for name, tensor in state.items() if name.startswith("head.5")} == {2}


def test_it_learns_own_boxes_in_colour(bnrecal: Callable[..., Any]) -> None:
    """COCO files and three channels, for which the shipped weights are not."""
    write_coco(Path())
    rows = swept(bnrecal, BOXES + "[train]\nbatch_size = 32\nepochs = 1\n")
    assert [row["estimator"] for row in rows if is_evaluated(row)] == ["stored", "pooled"]


@pytest.mark.parametrize(
    ("study", "message"),
    [
        (CLASSES, "train it, by a [train] table of a study or by `bnrecal train` and --weights"),
        ('arch = ["arch4"]\n' + CLASSES + ALONE, "unknown architecture 'arch4'"),
        ('arch = ["arch4"]\n' + CLASSES + ALONE + 'sampling = "uniform"\n', "unknown architecture 'arch4'"),
    ],
)
def test_without_a_training_or_a_name_there_is_no_network(
    bnrecal: Callable[..., Any], study: str, message: str
) -> None:
    """One line, before anything is begun."""
    write_class_folders(Path("set"))
    Path("study.toml").write_text(study)
    ran = bnrecal("sweep", "--study", "study.toml")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert message in ran.err
    assert not Path("results").exists()
