"""Trained networks as archives: what comes takes the place of what was there."""

from pathlib import Path

import pytest

from bnrecal.errors import BnrecalError
from bnrecal.store.artefacts import packed, unpack


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def test_what_was_left_half_done_gives_way(tmp_path: Path) -> None:
    """A checkpoint or damaged weights of an earlier try: afterwards the files of the archive, no others."""
    came = folder(tmp_path / "came", weights="whole", log="{}")
    there = folder(tmp_path / "out" / "key", weights="dam", checkpoint="half")
    unpack(packed(came), there)
    assert {path.name: path.read_text() for path in there.iterdir()} == {"weights": "whole", "log": "{}"}
    assert [path.name for path in there.parent.iterdir()] == ["key"]


def test_an_archive_cut_short_leaves_what_was_there(tmp_path: Path) -> None:
    """One line, and the folder as it was."""
    there = folder(tmp_path / "out" / "key", weights="old")
    with pytest.raises(BnrecalError, match="cannot be written"):
        unpack(packed(folder(tmp_path / "came", weights="x" * 2000))[:700], there)
    assert (there / "weights").read_text() == "old"
