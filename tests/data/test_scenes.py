import hashlib

import numpy as np
import pytest

from bnrecal.data.scenes import MAX_OBJECTS, SCENE, compose
from bnrecal.data.sprites import sprites


def digest(split: str, n: int) -> str:
    """SHA-256 over pixels, boxes and labels of the first n scenes."""
    total = hashlib.sha256()
    for scene in compose(split, np.arange(n)):
        total.update(scene.pixels.tobytes())
        total.update(scene.boxes.astype("<i2").tobytes())
        total.update(scene.labels.astype("<i2").tobytes())
    return total.hexdigest()[:16]


@pytest.mark.parametrize(("split", "pinned"), [("train", "017f4b7ae1424238"), ("val", "8a61ae62b6b60c10")])
def test_scenes_are_the_same_on_every_machine(split: str, pinned: str) -> None:
    """The bytes of 200 scenes, pinned: a change of any pixel must raise scenes.VERSION."""
    assert digest(split, 200) == pinned


def test_a_scene_depends_on_its_index_alone() -> None:
    """Scene 5 is the same by itself and among others, and its neighbours differ."""
    alone = compose("train", np.array([5]))[0]
    among = compose("train", np.arange(8))
    assert np.array_equal(alone.pixels, among[5].pixels)
    assert np.array_equal(alone.boxes, among[5].boxes)
    assert not np.array_equal(among[4].pixels, among[5].pixels)


def test_ground_truth_is_sound() -> None:
    """1 to 4 objects, all of them inside the scene, of every class, in varied sizes."""
    scenes = compose("val", np.arange(400))
    assert {len(s.labels) for s in scenes} == set(range(1, MAX_OBJECTS + 1))
    boxes = np.concatenate([s.boxes for s in scenes])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 3).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= SCENE).all()
    assert set(np.concatenate([s.labels for s in scenes])) == set(range(10))
    assert boxes[:, 3].min() < 18
    assert boxes[:, 3].max() > 34


def test_splits_are_cut_from_different_garments() -> None:
    """No sprite of the validation sheet occurs in the training sheet."""
    train = {sprite.tobytes() for sprite in sprites("train").reshape(-1, 28 * 28)}
    val = {sprite.tobytes() for sprite in sprites("val").reshape(-1, 28 * 28)}
    assert len(train) > 4900
    assert not train & val
