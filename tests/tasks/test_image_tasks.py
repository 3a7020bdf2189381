"""Tasks on files: boxes in the network's pixels, the fixed order, training on the user's own images."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bnrecal import tasks
from bnrecal.errors import BnrecalError
from bnrecal.store.store import Store
from bnrecal.study.inputs import make_inputs
from bnrecal.tasks.detection import Detection
from tests.own_images import folder_options, write_class_folders, write_coco


def detection(tmp_path: Path, sizes: list[tuple[int, int]], **told: int) -> Detection:
    """One box of 4, 2, 8, 6 on each image of these (width, height); `told` goes into the annotation."""
    images, annotations = [], []
    for k, size in enumerate(sizes):
        Image.new("L", size).save(tmp_path / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", **told})
        annotations.append({"image_id": k, "category_id": 1, "bbox": [4, 2, 8, 6]})
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    sets = {"calibration": str(path), "evaluation": str(path), "images": str(tmp_path)}
    task = tasks.of(make_inputs({"task": "coco", "image_size": "10x40", "channels": 1, **sets}))
    assert isinstance(task, Detection)
    return task


def test_boxes_follow_the_stretched_image(tmp_path: Path) -> None:
    """Files of 20 x 20 and 80 x 10 pixels, both stretched to 40 x 10: each box by its own file."""
    task = detection(tmp_path, [(20, 20), (80, 10)])
    assert task.evaluation_truth().boxes.tolist() == [[8, 1, 16, 3], [2, 2, 4, 6]]
    turned = task.calibration_truth(np.array([1, 0]))
    assert turned.boxes.tolist() == [[2, 2, 4, 6], [8, 1, 16, 3]]
    assert turned.image.tolist() == [0, 1]
    only = task.calibration_truth(np.array([1]))
    assert (only.n_images, only.boxes.tolist()) == (1, [[2, 2, 4, 6]])


def test_a_file_of_another_size_than_annotated_is_named(tmp_path: Path) -> None:
    """Its boxes would be scaled wrongly."""
    with pytest.raises(BnrecalError, match=r"0\.png: annotated as 10x30 pixels, the file has 20x20"):
        detection(tmp_path, [(20, 20)], width=10, height=30).evaluation_truth()


def classes(root: Path, **settings: Any) -> Any:
    sets = {"calibration": str(root / "train"), "evaluation": str(root / "val")}
    return tasks.of(make_inputs({"task": "imagefolder", "image_size": "16", **sets, **settings}))


def test_orders(tmp_path: Path) -> None:
    """By seed a permutation, the same each time; the file's order; or exactly the user's list."""
    write_class_folders(tmp_path)
    task = classes(tmp_path)
    assert sorted(task.order(0)) == list(range(48))
    assert (task.order(0) == classes(tmp_path).order(0)).all()
    assert (task.order(0) != task.order(1)).any()
    assert classes(tmp_path, order="file").order(5).tolist() == list(range(48))
    (tmp_path / "list.txt").write_text("dog/03.png\n\ncat/01.png\r\n")
    listed = classes(tmp_path, order=str(tmp_path / "list.txt"))
    assert listed.order(0).tolist() == [27, 1]
    assert listed.n_calibration == 2


@pytest.mark.parametrize("text", ["cat/99.png\n", "cat/01.png\ncat/01.png\n", "\n"])
def test_bad_lists_of_images(tmp_path: Path, text: str) -> None:
    """Unknown, twice, none: the line is named."""
    write_class_folders(tmp_path)
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(BnrecalError, match=r"--order: .*list\.txt"):
        classes(tmp_path, order=str(tmp_path / "list.txt"))


def test_what_changes_the_data_digest(tmp_path: Path) -> None:
    """Preprocessing, normalisation, labels, evaluation pixels; not the calibration images' content."""
    write_class_folders(tmp_path)
    first = classes(tmp_path).data_digest()
    assert first == classes(tmp_path).data_digest()
    others = [
        classes(tmp_path, image_size="17"),
        classes(tmp_path, mean=["0.5"]),
        classes(tmp_path, std=["0.5"]),
        classes(tmp_path, interpolation="bicubic"),
        classes(tmp_path, classes=["dog", "cat"]),
    ]
    digests = {task.data_digest() for task in others}
    assert len(digests | {first}) == len(others) + 1
    Image.new("RGB", (20, 20)).save(tmp_path / "train/cat/00.png")
    changed = classes(tmp_path)
    assert changed.data_digest() == first
    Image.new("RGB", (20, 20)).save(tmp_path / "val/cat/00.png")
    assert classes(tmp_path).data_digest() != first


RECIPE = """
epochs = 8
batch_size = 8
max_lr = 0.003
warmup_fraction = 0.3
weight_decay = 0.0
clip_norm = 20.0
seed = 0
"""


@pytest.mark.parametrize("kind", ["classes", "boxes"])
def test_the_supernet_trained_on_own_images(bnrecal: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    """`bnrecal train` on class folders and on COCO files gives weights that a sweep takes."""
    Path("recipe.toml").write_text(RECIPE)
    write_class_folders(Path("images"))
    options = folder_options(Path("images"))
    if kind == "boxes":
        options = (*write_coco(tmp_path / "set")[:-6], "--image-size", 64, "--channels", 1)
    trained = bnrecal("train", "recipe.toml", *options, "--out", "trained")
    assert trained.code == 0, trained.err
    assert "epoch 8/8" in trained.err
    weights = ("--weights", "trained/weights.safetensors", "--arch", "arch1", "--bs", 8, "--samples", 24)
    ran = bnrecal("sweep", *options, *weights, "--estimator", "pooled")
    assert ran.code == 0, ran.err
    (row,) = Store(Path("results")).rows()
    if kind == "classes":
        assert row["eval"] > 0.8  # bright against dark
