"""How images are prepared is said, kept in study and rows, and changes no key."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal import tasks
from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import open_study
from bnrecal.study.inputs import Inputs, make_inputs
from tests.own_images import folder_options, write_class_folders, write_voc

NET = "tests.tasks.test_resolved:make"
SETTINGS = ("--model", NET, "--bs", 8, "--samples", 40)
SHOWN = "note: images 16x16 (cropped from 16, bilinear), 3 channels, (pixels / 255 - mean) / std with mean "


def make(n_classes: int, channels: int) -> Any:
    """A network small enough for images of 16 x 16."""
    from torch import nn

    layers = (nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(4, n_classes))


@pytest.mark.parametrize("command", ["sweep", "recalibrate", "doctor", "advise"])
def test_commands_say_how_images_are_prepared(
    bnrecal: Callable[..., Any], tmp_path: Path, command: str
) -> None:
    """One line on stderr, with ImageNet's mean and std where nothing was said."""
    write_class_folders(tmp_path / "images")
    sizes = SETTINGS if command != "advise" else (*SETTINGS[:2], "--bs", 8, "--max-images", 16)
    more = {"recalibrate": ("-o", "w.safetensors")}.get(command, ())
    ran = bnrecal(command, *folder_options(tmp_path / "images"), *sizes, *more)
    assert ran.code in (0, 3), ran.err
    assert ran.err.count(f"{SHOWN}0.485,0.456,0.406, std 0.229,0.224,0.225") == 1, ran.err


def test_study_and_rows_hold_it_and_give_the_same_key(bnrecal: Callable[..., Any], tmp_path: Path) -> None:
    """The file kept beside the rows names all six, and is another way to write the same cells."""
    write_class_folders(tmp_path / "images")
    options = folder_options(tmp_path / "images")
    assert bnrecal("sweep", *options, *SETTINGS, "--out", "out").code == 0
    (kept,) = Path("out").glob("study-*.toml")
    wanted = {
        "image_size": [16, 16],
        "fit": "crop",
        "interpolation": "bilinear",
        "channels": 3,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    study = tomllib.loads(kept.read_text())
    rows = [json.loads(line) for line in Path("out/rows.jsonl").read_text().splitlines()]
    for name, value in wanted.items():
        assert {str(study[name]), *(str(row["inputs"][name]) for row in rows)} == {str(value)}
    ran = bnrecal("sweep", "--study", kept, "--out", "out")
    assert "cell is done" in ran.err
    assert len(Path("out/rows.jsonl").read_text().splitlines()) == len(rows)


@pytest.mark.parametrize(
    "settings",
    [
        {"image_size": "16"},
        {"image_size": "16x12", "resize": 20, "fit": "crop"},
        {"image_size": 16, "channels": 1},
        {"image_size": 16, "mean": [0.5], "std": [0.5]},
        {"transforms": "tests.tasks.test_resolved:shrink"},
    ],
)
def test_defaults_written_out_are_the_same_task(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Digest of the data and key of the cell, for whatever was given and whatever was left out."""
    write_class_folders(tmp_path)
    places = {"calibration": str(tmp_path / "train"), "evaluation": str(tmp_path / "val")}
    given = {"task": "imagefolder", "model": NET, **places, **settings}
    bare = tasks.of(make_inputs(given))
    full = tasks.of(make_inputs({**given, **bare.resolved}))
    assert full.data_digest() == bare.data_digest()
    assert full.resolved == bare.resolved
    opened = open_study({**given, "bs": (4,), "samples": (8,)}, {})
    assert {cell.data_digest for cell in cells_of(opened)} == {bare.data_digest()}
    assert opened.study.mean is not None


def shrink(image: Any) -> Any:
    return image.resize((16, 16))


def test_tasks_that_bring_their_images_along_have_none(tmp_path: Path) -> None:
    """Nothing to say of the embedded scenes; boxes are stretched."""
    assert (tasks.get("tiny").resolved, tasks.get("tiny").prepared) == ({}, None)
    write_voc(tmp_path)
    found = tasks.of(
        Inputs(
            task="voc",
            images=str(tmp_path),
            calibration=str(tmp_path / "train.txt"),
            evaluation=str(tmp_path / "val.txt"),
            image_size=(64, 64),
        )
    )
    assert found.resolved["fit"] == "stretch"
    assert "64x64 (stretched, bilinear)" in str(found.prepared)


def test_help_says_the_defaults(bnrecal: Callable[..., Any]) -> None:
    """ImageNet's mean and std are assumed, and the help says so."""
    ran = bnrecal("sweep", "--help")
    text = " ".join(ran.out.split())
    assert "else ImageNet's 0.485,0.456,0.406" in text
    assert "[0.229,0.224,0.225, or 0.226 for grey" in text
