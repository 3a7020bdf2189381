import os
from pathlib import Path

import numpy as np
import pytest

from bnrecal.data import scene_store
from bnrecal.data.scene_store import SceneSet
from bnrecal.data.scenes import compose


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BNRECAL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(scene_store, "_CACHED_FROM", 40)
    return tmp_path / "cache"


def same_as_composed(scenes: SceneSet) -> bool:
    ids = np.array([3, 17, 0])
    truth = compose("train", ids)
    image, boxes, labels = scenes.objects(ids)
    return (
        np.array_equal(scenes.pixels(ids)[:, 0], np.stack([s.pixels for s in truth]))
        and np.array_equal(boxes, np.concatenate([s.boxes for s in truth]))
        and np.array_equal(labels, np.concatenate([s.labels for s in truth]))
        and np.array_equal(image, np.repeat(np.arange(3), [len(s.labels) for s in truth]))
    )


def test_cached_scenes_equal_composed_ones(cache: Path) -> None:
    """First (rendered) and second (from disk) reading give the scenes themselves."""
    assert same_as_composed(SceneSet("train", 50))
    assert [path.name for path in cache.iterdir()] == [next(cache.iterdir()).name]
    assert same_as_composed(SceneSet("train", 50))


def test_second_reading_renders_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once on disk, scenes are not composed again."""
    SceneSet("train", 50).pixels(np.arange(2))
    monkeypatch.setattr(scene_store, "compose", None)
    assert SceneSet("train", 50).pixels(np.arange(2)).shape == (2, 1, 64, 64)


@pytest.mark.parametrize("damage", [b"", b"not an array", b"\x93NUMPY"])
def test_a_damaged_cache_is_rendered_again(cache: Path, damage: bytes) -> None:
    """A truncated or foreign file costs time, never a wrong pixel or a traceback."""
    SceneSet("train", 50).pixels(np.arange(2))
    (folder,) = cache.iterdir()
    (folder / "pixels.npy").write_bytes(damage)
    assert same_as_composed(SceneSet("train", 50))


def test_without_a_cache_folder_scenes_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache path that cannot be a folder is no error."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BNRECAL_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(scene_store, "_CACHED_FROM", 40)
    assert same_as_composed(SceneSet("train", 50))
    assert os.listdir(tmp_path) == ["file"]
