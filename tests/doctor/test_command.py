"""`bnrecal doctor`: the findings on stdout, their count in the exit code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bnrecal import networks, tasks
from bnrecal.doctor.checkup import diagnose_one, drawn
from bnrecal.doctor.diagnose import CHECKS
from bnrecal.networks import embedded
from bnrecal.networks.network import Network
from bnrecal.plan.opened import Opened
from bnrecal.recalibration.recalibrate import recalibrate
from bnrecal.study.study import Study

SMALL = ("--task", "tiny", "--arch", "arch2", "--samples", "130")
STUDY = Study(task="tiny", arch=("arch2",), bs=(32,), samples=(130,), baseline=False)


def test_a_network_without_statistics_is_found_out(bnrecal: Callable[..., Any]) -> None:
    """The shipped weights hold none: exit code 3, evidence and remedy in 80 columns."""
    ran = bnrecal("doctor", *SMALL)
    assert ran.code == 3
    lines = ran.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "130 images, in batches of 32"
    assert lines[2].startswith("wrong   never-updated     20 of 20 BatchNorms")
    assert "-> re-estimate them: bnrecal recalibrate" in ran.out
    assert ran.err.splitlines()[-1].startswith("bnrecal: wrong: never-updated")


def test_json_has_every_check(bnrecal: Callable[..., Any]) -> None:
    """The same findings for machines, with all layers concerned."""
    ran = bnrecal("doctor", *SMALL, "--json")
    assert ran.code == 3
    found = json.loads(ran.out)
    assert [finding["check"] for finding in found["findings"]] == [check.name for check in CHECKS]
    by_check = {finding["check"]: finding for finding in found["findings"]}
    assert len(by_check["never-updated"]["layers"]) == 20
    assert found["n_wrong"] == sum(finding["level"] == "wrong" for finding in found["findings"])


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source builds the networks as weights with sane statistics would give them."""
    build = embedded.EmbeddedSupernet.build

    def with_statistics(self: embedded.EmbeddedSupernet, arch: str) -> Network:
        network = build(self, arch)
        task = tasks.get("tiny")
        images = task.to_input(torch.from_numpy(task.calibration_images(task.order(5)[:192])))
        recalibrate(network.module, images.split(64))
        return network

    monkeypatch.setattr(embedded.EmbeddedSupernet, "build", with_statistics)


def test_a_recalibrated_detector_is_sound(bnrecal: Callable[..., Any], calibrated: None) -> None:
    """Exit code 0, nothing wrong, every check answered; the metric is the same at 1, 8 and 57 images."""
    ran = bnrecal("doctor", *SMALL)
    assert ran.code == 0, ran.out
    found = diagnose_one(Opened.of(STUDY), torch.device("cpu"), lambda name: None)
    assert {finding.level for finding in found.findings} == {"fine"}, str(found)
    assert "metric at batch sizes 1, 8, 57: 0." in found["batch-size"].evidence
    assert "(57 evaluation images)" in found["batch-size"].evidence
    assert "(64 evaluation images)" in found["train-gap"].evidence


def test_what_recalibrate_writes_is_sound(bnrecal: Callable[..., Any]) -> None:
    """Recalibrated from the command line, read again by --weights; another path does not fit the file."""
    assert bnrecal("recalibrate", *SMALL, "-o", "w.safetensors").code == 0
    ran = bnrecal("doctor", *SMALL, "--weights", "w.safetensors")
    assert ran.code == 0, ran.out
    ran = bnrecal("doctor", *SMALL, "--weights", "w.safetensors", "--arch", "arch1")
    assert ran.code == 2
    assert "--weights: w.safetensors is not of this network" in ran.err


def test_the_metric_is_the_tasks(calibrated: None) -> None:
    """mAP@0.5 of the evaluation images that were drawn, scored all together."""
    found = diagnose_one(Opened.of(STUDY), torch.device("cpu"), lambda name: None)
    task, network = tasks.of(STUDY), networks.of(STUDY, tasks.of(STUDY)).build("arch2")
    places = drawn(task, 64)[:57]
    with torch.no_grad():
        images = task.to_input(torch.from_numpy(task.evaluation_images_at(places)))
        output = network.module.eval()(images)
    expected = task.score_evaluation([(0, network.predict(output))], places)
    assert f"1, 8, 57: {expected:.4f}, {expected:.4f}" in found["batch-size"].evidence


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--samples", "999"), "--samples: 999: .*256 images"),
        (("--arch", "nope"), "--arch: .*'nope'"),
        (("--estimator", "ema"), "--estimator"),
    ],
)
def test_bad_input_is_one_line(bnrecal: Callable[..., Any], arguments: tuple[str, ...], message: str) -> None:
    """Exit code 2."""
    import re

    ran = bnrecal("doctor", *SMALL, *arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1), ran.err
    assert re.search(message, ran.err), ran.err


def test_rules_of_a_study_do_not_concern_the_doctor(bnrecal: Callable[..., Any]) -> None:
    """A study of two estimators: the doctor, who has no --estimator, looks; recalibrate asks for one."""
    Path("grid.toml").write_text('estimator = ["ema", "pooled"]\nmomentum = [0.1, 0.2]\n')
    ran = bnrecal("doctor", *SMALL, "--study", "grid.toml")
    assert ran.code == 3, ran.err
    assert "130 images, in batches of 32" in ran.out
    ran = bnrecal("recalibrate", *SMALL, "--study", "grid.toml", "-o", "w.safetensors")
    assert ran.code == 2
    assert "--estimator: one at a time; choose one of ema, pooled" in ran.err


FIRST = "1.1"  # a BatchNorm of arch2


@pytest.mark.parametrize(
    ("rule", "n_frozen", "why"),
    [
        (FIRST, 1, f"1 of 20 BatchNorms ({FIRST}) count as frozen, being named so"),
        ("by_mode", 0, "no BatchNorm is frozen"),  # the source builds it in train mode
        ("none", 0, "no BatchNorm is frozen"),
        ("auto", 0, "no BatchNorm is frozen"),
    ],
)
def test_frozen_says_by_which_rule(
    bnrecal: Callable[..., Any], calibrated: None, rule: str, n_frozen: int, why: str
) -> None:
    """The evidence names the rule that was given; the remedy is one that undoes that rule."""
    ran = bnrecal("doctor", *SMALL, "--frozen", rule, "--json")
    (found,) = (f for f in json.loads(ran.out)["findings"] if f["check"] == "frozen")
    assert len(found["layers"]) == n_frozen
    assert why in found["evidence"]
    assert ("--frozen none" in found["remedy"]) == bool(n_frozen)
    assert "model.train()" not in found["remedy"]  # names hold in either mode
