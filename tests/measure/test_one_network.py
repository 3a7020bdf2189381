"""`bnrecal recalibrate`: one network, one setting, a file of weights and what changed."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

import bnrecal
from bnrecal import networks, tasks
from bnrecal.measure.images import evaluation_parts
from bnrecal.networks.weights_file import read_weights
from tests.measure.test_recalibrated import measured

SMALL = ("--task", "tiny", "--arch", "arch2", "-o", "w.safetensors")


def tiny_metric(model: nn.Module) -> float:
    task = tasks.get("tiny")
    network = networks.get().build("arch2")
    return task.score_evaluation(evaluation_parts(task, model.eval(), network, torch.device("cpu")))


def test_the_file_holds_the_network_that_was_measured(bnrecal: Callable[..., Any]) -> None:
    """Loaded into a fresh network it scores the printed metric, which is the sweep's for this setting."""
    ran = bnrecal(
        "recalibrate", *SMALL, "--bs", 8, "--samples", 64, "--estimator", "ema", "--momentum", 0.2, "--json"
    )
    assert ran.code == 0
    found = json.loads(ran.out)
    with safe_open("w.safetensors", "pt") as file:
        origin = json.loads(file.metadata()["bnrecal"])
    module = networks.get().build("arch2").module
    assert tiny_metric(module) == pytest.approx(found["before"], abs=1e-6)
    module.load_state_dict(read_weights(Path("w.safetensors")))
    assert tiny_metric(module) == pytest.approx(found["after"], abs=1e-4)
    settings = {"arch": ["arch2"], "bs": [8], "samples": [64], "momentum": [0.2]}
    assert found["after"] == pytest.approx(measured(**settings)[0].eval, abs=1e-6)
    assert found["after"] > found["before"] + 0.2
    assert origin["inputs"]["task"] == "tiny"
    assert origin["setting"]["batch_size"] == 8
    assert origin["setting"]["momentum"] == 0.2
    assert origin["after"] == found["after"]


def test_the_table_fits_and_begins_with_the_layer_that_changed_most(
    bnrecal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """80 columns; metric before and after; as many layers as --json has, sorted, with --all."""
    ran = bnrecal("recalibrate", *SMALL, "--all", "--samples", 128)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("Better: +0.")
    assert lines[1].startswith("arch2 on tiny: mAP@0.5 0.")
    assert "128 images in batches of 32" in lines[2]
    again = bnrecal("recalibrate", *SMALL, "--samples", 128, "--json", "--force")
    layers = json.loads(again.out)["layers"]
    table = [line.split()[0] for line in lines if line[:1].isdigit()]
    assert table == [layer["layer"] for layer in layers]
    sizes = [layer["mean"] for layer in layers]
    assert sizes[0] > sizes[-1]
    assert "and 10 layers that changed less" in bnrecal("recalibrate", *SMALL, "--force").out


def test_a_worse_network_is_not_written(bnrecal: Callable[..., Any]) -> None:
    """Good statistics, then a cold average: said first, exit code 3, no file; --even-if-worse writes."""
    assert bnrecal("recalibrate", *SMALL, "--samples", 128).code == 0
    cold = ("--task", "tiny", "--arch", "arch2", "--weights", "w.safetensors", "--estimator", "ema")
    cold = (*cold, "--bs", 64, "--samples", 64, "-o", "cold.safetensors")
    ran = bnrecal("recalibrate", *cold)
    assert ran.code == 3
    assert re.match(r"WORSE: -0\.\d+ \(95 % interval -0\.\d+ to -0\.\d+\): keep the old statistics", ran.out)
    assert "cold.safetensors was not written; --even-if-worse writes it" in ran.err
    assert not Path("cold.safetensors").exists()
    refused = bnrecal("recalibrate", *cold, "--json")
    facts = json.loads(refused.out)
    assert (refused.code, facts["verdict"], facts["written"], facts["output"]) == (3, "worse", False, None)
    assert facts["interval"][0] <= facts["after"] - facts["before"] <= facts["interval"][1] < 0
    forced = bnrecal("recalibrate", *cold, "--even-if-worse", "--json")
    facts = json.loads(forced.out)
    assert (forced.code, facts["verdict"], facts["written"]) == (0, "worse", True)
    assert Path("cold.safetensors").exists()


def test_a_repaired_network_is_written_without_a_word_more(bnrecal: Callable[..., Any]) -> None:
    """The other side: a network that never kept statistics needs no --even-if-worse."""
    ran = bnrecal("recalibrate", *SMALL, "--samples", 128, "--json")
    facts = json.loads(ran.out)
    assert (ran.code, facts["verdict"], facts["written"]) == (0, "better", True)
    assert facts["interval"][0] > 0


def test_no_difference_is_called_none(bnrecal: Callable[..., Any]) -> None:
    """The same images again: nothing changes, which is neither better nor worse; the file is written."""
    assert bnrecal("recalibrate", *SMALL, "--samples", 128).code == 0
    again = ("--weights", "w.safetensors", "--samples", 128, "-o", "again.safetensors")
    ran = bnrecal("recalibrate", "--task", "tiny", "--arch", "arch2", *again)
    assert ran.code == 0
    assert ran.out.startswith("Not shown to help: +0.0000 (95 % interval +0.0000 to +0.0000)")


def test_the_report_of_a_recalibration_can_be_hashed() -> None:
    """Two calls are two reports, in a set or as keys."""
    model = nn.BatchNorm2d(2)
    batches = [torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))]
    one, two = bnrecal.recalibrate(model, batches), bnrecal.recalibrate(model, batches)
    assert len({one, two, one}) == 2


def test_the_same_command_writes_the_same_bytes(bnrecal: Callable[..., Any]) -> None:
    """Header included: no date, no path, no device."""
    digests = set()
    for _ in range(2):
        bnrecal("recalibrate", *SMALL, "--samples", 64, "--force")
        digests.add(hashlib.sha256(Path("w.safetensors").read_bytes()).hexdigest())
    assert len(digests) == 1


BAD = [
    (("--arch", "arch1,arch2"), r"--arch: .*'arch1,arch2'"),
    (("--bs", "8,16"), r"--bs: '8,16'.*no whole number"),
    (("--samples", "4"), r"--samples: 4 samples do not fill one batch of 32"),
    (("--samples", "257"), r"--samples: 257: .*256 images"),
    (("--estimator", "mean"), r"--estimator: .*'mean'.*ema, cumulative, pooled, exact"),
    (("--device", "tpu"), r"--device: 'tpu'"),
    (("--output", "nowhere/w.safetensors"), r"--output: no folder nowhere"),
    (("--output", "."), r"--output: \. is a folder"),
    (("--study", "grid.toml"), r"--bs: one at a time; choose one of 8, 16"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda v: "-".join(v) if len(v) == 2 else "")
def test_bad_input_is_one_line_and_leaves_nothing(
    bnrecal: Callable[..., Any], arguments: tuple[str, ...], message: str
) -> None:
    """Exit code 2, the option named, no file and no part of one."""
    Path("grid.toml").write_text("bs = [8, 16]\n")
    ran = bnrecal("recalibrate", *SMALL, *arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1), ran.err
    assert re.search(message, ran.err), ran.err
    assert os.listdir() == ["grid.toml"]


def test_several_architectures_in_a_file_are_refused(bnrecal: Callable[..., Any]) -> None:
    """Without --arch the default study has three: the choice is the user's."""
    ran = bnrecal("recalibrate", "--task", "tiny", "-o", "w.safetensors")
    assert ran.code == 2
    assert "--arch: one at a time; choose one of arch1, arch2, arch3" in ran.err


def test_a_file_is_not_overwritten_unless_forced(bnrecal: Callable[..., Any]) -> None:
    """Said before any work, the file as it was; --force replaces it."""
    Path("w.safetensors").write_text("mine")
    ran = bnrecal("recalibrate", *SMALL)
    assert ran.code == 2
    assert ran.err == (
        "bnrecal: --output: w.safetensors exists; choose another name or replace it by --force (force=True)\n"
    )
    assert Path("w.safetensors").read_text() == "mine"
    assert bnrecal("recalibrate", *SMALL, "--samples", 64, "--force").code == 0
    assert read_weights(Path("w.safetensors"))
    assert os.listdir() == ["w.safetensors"]
