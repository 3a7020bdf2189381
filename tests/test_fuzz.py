"""Damaged and hostile files: no traceback, one line at most, nothing written outside the output folder.

The quick part; experiments/bench/faults.py runs 10,000.
"""

import os
from pathlib import Path

import pytest

from tests.fuzz_targets import TARGETS, prepare
from tests.fuzzing import fuzz, watching


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_mutated_files_are_read_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """Some of the mutations are refused, none crashes, and only the cache and the folder are written to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNRECAL_TRACEBACK", "1")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))  # which timm's import makes
    path, commands = prepare(target, tmp_path)
    with watching(tmp_path, Path(os.environ["BNRECAL_CACHE_DIR"])) as watch:
        codes = fuzz(path, commands, 40, seed=0)
    assert not watch.strayed
    assert codes.get(2, 0) > 5


def test_the_watch_hears_strays(tmp_path: Path) -> None:
    """A file opened to write, a folder made and a file moved outside are all noticed; reading is not."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    with watching(inside) as watch:
        (inside / "a").write_text("")
        (inside / "a").read_text()
        outside.mkdir()
        (outside / "b").write_text("")
        (inside / "a").rename(outside / "c")
    assert watch.strayed == {str(outside), str(outside / "b"), str(outside / "c")}
