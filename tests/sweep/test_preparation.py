"""Rows of networks as they stand say how the images would fit better, and so does what reads them.

Keys and figures do not know of it.
"""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from bnrecal.data.normalisations import GREY, PLAIN
from bnrecal.executors.executor import Job
from bnrecal.executors.ray_task import run_pass
from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import open_study
from bnrecal.plan.passes import passes_of
from bnrecal.store.store import Store
from bnrecal.sweep.outcomes import row_of
from tests.doctor.trained import trained
from tests.measure.test_preparation_note import COMMAND, folders

__all__ = ["folders"]  # a fixture

GRID = (*COMMAND, "--baseline", "--estimator", "pooled", "--bs", 32, "--samples", "64,128")
OPTIONS = "--mean 0 --std 1"


@pytest.fixture
def raw_pixels(folders: None, bnrecal: Callable[..., Any]) -> None:
    """A network trained on raw pixels, to be given the default."""
    save_file(trained(*PLAIN).state_dict(), "w.safetensors")


@pytest.fixture
def prepared_well(folders: None, bnrecal: Callable[..., Any]) -> None:
    save_file(trained(*GREY).state_dict(), "w.safetensors")


def stored_row() -> dict[str, Any]:
    (row,) = [row for row in Store(Path("results")).rows() if row["estimator"] == "stored"]
    return row


@pytest.mark.parametrize("how", [(), ("-j", 2)])
def test_a_sweep_says_it_and_keeps_it(raw_pixels: None, bnrecal: Callable[..., Any], how: Any) -> None:
    """Whichever process measured: told at the end, once, and in the row of the network as it stands alone."""
    ran = bnrecal("sweep", *GRID, *how)
    assert ran.code == 0, ran.err
    (said,) = [line for line in ran.err.splitlines() if "BatchNorms' statistics" in line]
    assert said.startswith(f"note: First prepare the images with mean 0, std 1: {OPTIONS}. The reason: ")
    facts = stored_row()["preparation"]
    assert (facts["mean"], facts["std"]) == ([0.0], [1.0])
    assert facts["now"] == stored_row()["eval"]
    assert facts["then"] > facts["now"] + 0.2
    assert sum("preparation" in row for row in Store(Path("results")).rows()) == 1
    again = bnrecal("sweep", *GRID)  # nothing left to do
    assert said in again.err.splitlines()


def test_a_sweep_of_images_prepared_well_says_nothing(
    prepared_well: None, bnrecal: Callable[..., Any]
) -> None:
    ran = bnrecal("sweep", *GRID)
    assert ran.code == 0, ran.err
    assert "prepare" not in ran.err
    assert "preparation" not in stored_row()
    for layout in ("table", "long", "md", "latex", "html"):
        assert "prepare the images" not in bnrecal("report", "--format", layout).out


def test_every_format_of_a_report_says_it_once(raw_pixels: None, bnrecal: Callable[..., Any]) -> None:
    """With a setting to advise and without one; rows of older stores, without the field, say nothing."""
    for grid in (GRID, (*COMMAND, "--estimator", "stored")):
        bnrecal("sweep", *grid, "--out", "o")
        for layout in ("table", "long", "md", "latex", "html"):
            said = " ".join(bnrecal("report", "--out", "o", "--format", layout).out.split())
            options = "-{}-mean 0 -{}-std 1" if layout == "latex" else OPTIONS
            assert said.count(options) == 1, layout
            assert said.count("metric 0.") == 1, layout
        assert "preparation" in bnrecal("report", "--out", "o", "--format", "csv").out
        path = Path("o/rows.jsonl")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**row, "preparation": None}) + "\n" for row in rows))
        assert "prepare the images" not in bnrecal("report", "--out", "o").out
        path.unlink()


def test_a_comparison_says_it_of_each_side(raw_pixels: None, bnrecal: Callable[..., Any]) -> None:
    bnrecal("sweep", *GRID)
    save_file(trained(*GREY).state_dict(), "w.safetensors")
    bnrecal("sweep", *GRID, "--out", "good")
    said = " ".join(bnrecal("compare", "results", "good").out.split())
    assert f"in the first: First prepare the images with mean 0, std 1: {OPTIONS}" in said
    assert "in the second: First" not in said


def test_the_field_travels_and_no_key_knows_it(raw_pixels: None, bnrecal: Callable[..., Any]) -> None:
    """What a node of a cluster sends back holds it; the cell's facts and key are without it."""
    bnrecal("sweep", *GRID)
    options = dict(zip(COMMAND[::2], COMMAND[1::2], strict=True))
    settings = {str(k).removeprefix("--").replace("-", "_"): v for k, v in options.items()}
    opened = open_study({**settings, "estimator": ("stored",)}, {})
    (todo,) = passes_of(cells_of(opened))
    (cell,) = todo.cells
    kind, outcomes = run_pass(Job(opened.study, "cpu"), todo, (cell.key,), [], [])
    assert kind == "outcomes", outcomes
    (outcome,) = pickle.loads(pickle.dumps(outcomes))
    row = row_of(outcome, opened.study)
    assert row["preparation"] == stored_row()["preparation"]
    assert row["key"] == stored_row()["key"]
    assert "preparation" not in cell.facts()


def test_a_damaged_field_is_named(raw_pixels: None, bnrecal: Callable[..., Any]) -> None:
    bnrecal("sweep", *COMMAND, "--estimator", "stored")
    path = Path("results/rows.jsonl")
    path.write_text(path.read_text().replace('"mean": [0.0]', '"mean": "nought"'))
    ran = bnrecal("report")
    assert ran.code == 2
    assert "preparation.mean" in ran.err


MIXED = """

def mixed(n_classes):
    net = network(n_classes)
    for module in (net, net[1]):
        module.training = False
    return net

def even(n_classes):
    return network(n_classes).eval()
"""


@pytest.mark.parametrize(("name", "says"), [("mixed", True), ("even", False)])
def test_layers_left_alone_for_their_mode_are_said(
    prepared_well: None, bnrecal: Callable[..., Any], name: str, says: bool
) -> None:
    """By sweep, report and recalibrate; a network in one mode has none, and nothing is said."""
    path = Path("network_of_garments.py")
    module = Path(f"network_{name}.py")
    module.write_text(path.read_text() + MIXED)
    options = [
        f"network_{name}:{name}" if word == "network_of_garments:network" else word for word in COMMAND
    ]
    rest = ("--baseline", "--estimator", "pooled", "--bs", 32, "--samples", "64,128")
    ran = bnrecal("sweep", *options, *rest)
    assert ran.code == 0, ran.err
    text = f"Of {name} 1 of 3 BatchNorms (1) came in eval mode and 2 in train mode"
    assert (text in ran.err) is says
    for layout in ("table", "long", "md", "latex", "html"):
        said = " ".join(bnrecal("report", "--format", layout).out.split())
        assert said.count("came in eval mode") == says, layout
    assert stored_row().get("left_alone") == ({"n": 1, "total": 3, "names": ["1"]} if says else None)
    ran = bnrecal("recalibrate", *options, "-o", "n.safetensors", "--even-if-worse")
    why = "left alone: 1 (1): frozen: in eval mode while other BatchNorms are in train mode"
    assert (why in ran.out) is says


def test_an_image_that_nobody_needs_fails_nobody(raw_pixels: None, bnrecal: Callable[..., Any]) -> None:
    """A damaged one beyond those of the cell: only the look at how images are scaled would have read it."""
    bad = sorted(Path("train").rglob("*.png"))[-1]
    bad.write_bytes(bad.read_bytes()[:60])
    grid = ("--baseline", "--estimator", "pooled", "--bs", 16, "--samples", 16, "--order", "file")
    ran = bnrecal("sweep", *COMMAND, *grid)
    assert ran.code == 0, ran.err
    assert {row["status"] for row in Store(Path("results")).rows()} == {"done"}
    assert "preparation" not in stored_row() or stored_row()["preparation"] is None
