"""Every fault injected alone is found by its check, and a sane network has none."""

import copy
import re
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import bnrecal
from bnrecal import BnrecalError
from bnrecal.doctor.diagnose import CHECKS
from tests.doctor.patients import (
    BATCHES,
    IMAGES,
    N,
    accuracy,
    each,
    mean_of_means,
    sane,
    sane_torchvision,
    smooth_images,
)
from tests.recalibration.test_walk import everything, same


def wrong(model: nn.Module, batches: Any = BATCHES, **settings: Any) -> set[str]:
    return {finding.check for finding in bnrecal.diagnose(model, batches, **settings).wrong}


@pytest.mark.parametrize("evaluate", [None, accuracy])
def test_nothing_is_wrong_with_a_sane_network(evaluate: Any) -> None:
    """All checks answer, none finds anything, with a metric and without; the model is as before."""
    model = sane()
    before = everything(model)
    found = bnrecal.diagnose(model, BATCHES, evaluation=smooth_images(N, 7).split(32), evaluate=evaluate)
    assert [finding.check for finding in found.findings] == [check.name for check in CHECKS]
    assert {finding.level for finding in found.findings} == {"fine"}, str(found)
    assert all(finding.evidence for finding in found.findings)
    assert same(everything(model), before)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_nothing_is_wrong_with_torchvisions_networks(name: str) -> None:
    """Random weights, statistics from other images of the same kind: no false alarm."""
    images = smooth_images(128, 4, 32)
    found = bnrecal.diagnose(
        sane_torchvision(name), images.split(64), evaluation=smooth_images(128, 5, 32).split(64)
    )
    assert found.wrong == found.of("note") == found.of("skipped") == (), str(found)


def test_moving_averages_of_training_are_no_fault() -> None:
    """Statistics as train mode leaves them (momentum .1, 64 batches of 32), noise and all."""
    model = sane().train()
    with torch.no_grad():
        for batch in smooth_images(2048, 6).split(32):
            model(batch)
    assert wrong(model.eval()) == set()


def stay(module: nn.Module) -> None:
    """Keep the module in train mode, whatever eval() says."""
    module.train()
    module.train = types.MethodType(lambda self, mode=True: self, module)


def without_buffers(norm: Any) -> None:
    norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    norm.track_running_stats = False


def broken(name: str, value: float, channel: int | slice = slice(None)) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        getattr(model.branch[1], name).data[channel] = value

    return change


def set_all(**values: Any) -> Callable[[Any], None]:
    return lambda model: each(model, lambda norm: [setattr(norm, name, v) for name, v in values.items()])


def set_one(**values: Any) -> Callable[[Any], None]:
    return lambda model: [setattr(model.branch[1], name, v) for name, v in values.items()]


def frozen_and_off(model: Any) -> None:
    model.train()
    model.last.eval()
    model.last[1].running_mean += 1


def off(norm: Any) -> None:
    """The stored mean a standard deviation away from the true one."""
    norm.running_mean += norm.running_var.sqrt()


class Always(nn.Module):
    """Dropout that forgot training=self.training."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5)


GAP = {"train-gap"}
BRANCH = ("branch.1",)
ALL = ("stem.1", "branch.1", "last.1")
# what is done -> the check that finds it, the layers it names, its evidence; and what else shows
FAULTS: dict[str, tuple[Callable[[Any], Any], str, tuple[str, ...], str, set[str]]] = {
    "fresh": (lambda m: each(m, lambda n: n.reset_running_stats()), "never-updated", ALL, "no batch", GAP),
    "fresh, one": (lambda m: m.branch[1].reset_running_stats(), "never-updated", BRANCH, "1 of 3", GAP),
    "NaN": (broken("running_var", float("nan")), "broken-statistics", BRANCH, "NaN", GAP | {"runs"}),
    "infinity": (broken("running_mean", float("inf"), 2), "broken-statistics", BRANCH, "infinity", GAP),
    "negative": (broken("running_var", -1.0, 1), "broken-statistics", BRANCH, "negative", GAP | {"runs"}),
    "zero": (broken("running_var", 0.0, 3), "broken-statistics", BRANCH, "variance of 0", GAP),
    "momentum None": (set_all(momentum=None), "momentum", ALL, "None", set()),
    "momentum 0": (set_all(momentum=0.0), "momentum", ALL, "never moves", set()),
    "momentum 1": (set_one(momentum=1), "momentum", BRANCH, "last batch alone", set()),
    "momentum of another framework": (set_all(momentum=0.99), "momentum", ALL, "0.99", set()),
    "eps": (set_one(eps=0.9), "eps", BRANCH, "eps 0.9", GAP | {"shift"}),
    "negative eps": (set_one(eps=-1e-3), "eps", BRANCH, "-0.001", {"runs"}),
    "weight": (broken("weight", float("nan"), 0), "affine", BRANCH, "NaN or infinity", {"runs"}),
    "stuck": (lambda m: stay(m.branch[1]), "train-mode", BRANCH, r"after model.eval\(\)", {"batch-size"}),
    "left in train mode": (lambda m: m.branch[1].train(), "train-mode", BRANCH, "model in eval mode", set()),
    "built without": (lambda m: without_buffers(m.branch[1]), "tracking", BRANCH, "by batch", {"batch-size"}),
    "switched off": (set_all(track_running_stats=False), "tracking", ALL, "no longer updates", set()),
    "frozen": (frozen_and_off, "frozen", ("last.1",), "do not fit", GAP),
    "dropout": (lambda m: stay(m.drop), "randomness", ("drop",), "1 dropout layers", set()),
    "functional dropout": (lambda m: setattr(m, "drop", Always()), "randomness", (), "apart", set()),
    "shifted mean": (lambda m: off(m.branch[1]), "shift", BRANCH, "means 1 st", GAP),
    "shifted variance": (lambda m: m.branch[1].running_var.mul_(4), "shift", BRANCH, "variances 0.2", GAP),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("evaluate", [None, accuracy])
def test_a_fault_is_found_by_its_check(fault: str, evaluate: Any) -> None:
    """It names the layers, says what it saw and what to do; no cause that is not there is named.

    Beside the cause its symptoms may show: outputs that fail, a gap to train mode, batch sizes that differ.
    """
    change, check, layers, evidence, symptoms = FAULTS[fault]
    model = sane()
    with torch.no_grad():
        change(model)
    before = _bits(model)
    found = bnrecal.diagnose(model, BATCHES, evaluate=evaluate)
    names = {finding.check for finding in found.wrong}
    assert check in names, str(found)
    assert names <= {check} | symptoms, str(found)
    assert set(found[check].layers) == set(layers)
    assert re.search(evidence, found[check].evidence), found[check].evidence
    assert found[check].remedy
    assert "\n" not in found[check].evidence
    assert _bits(model) == before


def _bits(model: nn.Module) -> dict[str, Any]:
    """Everything a diagnosis must leave alone, NaN included."""
    state = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    return {"state": state, "modes": [module.training for module in model.modules()]}


def test_frozen_layers_that_fit_are_no_fault() -> None:
    """Named in a note, as freezing may be meant."""
    model = sane().train()
    model.last.eval()
    found = bnrecal.diagnose(model, BATCHES)
    assert found.wrong == ()
    assert found["frozen"].level == "note"
    assert found["frozen"].layers == ("last.1",)
    assert "count as frozen, being in eval mode while others are in train mode" in found["frozen"].evidence
    assert "model.train()" in found["frozen"].remedy


@pytest.mark.parametrize("n_frozen", [0, 1])
def test_the_metric_re_estimated_says_what_was_left(n_frozen: int) -> None:
    """Two figures of "re-estimated" statistics on one screen differ where one leaves frozen layers."""
    model = sane().train()
    model.last.train(not n_frozen)
    found = bnrecal.diagnose(model, BATCHES, evaluate=accuracy)["train-gap"]
    assert ("re-estimated but for frozen ones" in found.evidence) == bool(n_frozen)
    assert "re-estimated" in found.evidence


@pytest.mark.parametrize("evaluate", [None, accuracy])
def test_the_remedy_reaches_frozen_layers_that_never_had_statistics(evaluate: Any) -> None:
    """Plain `recalibrate` would leave the layer alone that is in eval mode, so the remedy is not that."""
    model = sane().train()
    model.last.eval()
    model.last[1].reset_running_stats()
    found = bnrecal.diagnose(model, BATCHES, evaluate=evaluate)["never-updated"]
    assert found.layers == ("last.1",)
    assert 'frozen="none"' in found.remedy
    model.last.train()
    found = bnrecal.diagnose(model, BATCHES, evaluate=evaluate)["never-updated"]
    assert found.remedy.startswith("re-estimate them: bnrecal recalibrate")


def test_momentum_of_zero_is_not_answered_with_one_that_may_be_zero() -> None:
    """What is advised is above 0."""
    model = sane()
    model.last[1].momentum = 0.0
    assert "above 0" in bnrecal.diagnose(model, BATCHES)["momentum"].remedy


def test_layers_no_image_reaches_are_noted_and_not_blamed() -> None:
    """An unused branch with mean 0 and variance 1, as in a supernet."""
    model = sane()
    model.other = nn.BatchNorm2d(4).eval()
    found = bnrecal.diagnose(model, BATCHES)
    assert found.wrong == ()
    assert found["used"].layers == ("other",)


def test_dead_channels_are_no_fault() -> None:
    """A channel that is always 0 has variance 0 in the file and on the images."""
    model = sane()
    model.branch[0].weight.data[2] = 0
    bnrecal.recalibrate(model, smooth_images(512, 9).split(64))
    assert model.branch[1].running_var[2] == 0
    found = bnrecal.diagnose(model, BATCHES)
    assert found.wrong == ()
    assert found["broken-statistics"].level == "note"


def test_zero_weights_are_noted() -> None:
    """A residual branch whose last weight is 0, as before training."""
    model = sane()
    model.branch[1].weight.data.zero_()
    found = bnrecal.diagnose(model, BATCHES)
    assert (found["affine"].level, found["affine"].layers) == ("note", BRANCH)


def test_a_metric_averaged_by_batch_is_told_from_a_network_that_differs() -> None:
    """Outputs agree at 1, 8 and 64, the metric does not: its averaging is at fault."""
    found = bnrecal.diagnose(sane(), BATCHES, evaluate=mean_of_means)
    assert [finding.check for finding in found.wrong] == ["batch-size"]
    assert "though the outputs agree" in found["batch-size"].evidence
    assert "do not average per-batch metrics" in found["batch-size"].remedy


def test_an_evaluation_that_fails_at_a_batch_size_is_a_finding() -> None:
    """A metric that squeezes its batch away at one image: named with the size, not skipped."""

    def squeezing(model: nn.Module, batches: Any) -> float:
        return float(
            torch.stack([model(batch).squeeze(0).softmax(1).max(1)[0].mean() for batch in batches]).mean()
        )

    found = bnrecal.diagnose(sane(), BATCHES, evaluate=squeezing)
    assert "evaluated in batches of 1 the model raised IndexError" in found["batch-size"].evidence
    assert [finding.check for finding in found.wrong] == ["batch-size"]


class Jittered(Dataset[Any]):
    """A dataset with a random transform."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, k: int) -> Any:
        return IMAGES[k] + torch.randn(1) * 0.01, k


PLAIN = TensorDataset(IMAGES, torch.arange(N))
LOADERS = {
    "in order": (lambda: DataLoader(PLAIN, 32), ""),
    "random transform": (lambda: DataLoader(Jittered(), 32), "dataset.i. gives another image"),
    "shuffled": (lambda: DataLoader(PLAIN, 32, shuffle=True), "another order"),
    "shuffled part": (lambda: DataLoader(PLAIN, 32, shuffle=True), "another order"),
    "both": (lambda: DataLoader(Jittered(), 32, shuffle=True), "dataset.i. gives another image"),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_a_second_reading(kind: str) -> None:
    """Bit for bit; a random transform is told from a shuffle, also where only a part is read."""
    make, message = LOADERS[kind]
    settings = {"n_samples": 64} if "part" in kind else {}
    state = torch.random.get_rng_state()
    found = bnrecal.diagnose(sane(), make(), **settings)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {finding.check for finding in found.wrong} == ({"loader"} if message else set())
    assert re.search(message, found["loader"].evidence)


def test_an_iterator_is_read_once_and_that_is_said() -> None:
    """All other checks still answer."""
    found = bnrecal.diagnose(sane(), iter(BATCHES))
    assert found.wrong == ()
    assert found["loader"].level == "skipped"
    assert "iterator" in found["loader"].evidence


def test_batches_too_small_for_a_layer() -> None:
    """Batches of 2 give last.1 (4 x 4) 32 values, and after pooling 2: the layer is named with its count."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))
    bnrecal.recalibrate(model, smooth_images(512, 8).split(64))
    found = bnrecal.diagnose(model.eval(), IMAGES.split(2))
    assert [finding.check for finding in found.wrong] == ["values"]
    assert found["values"].layers == ("3",)
    assert "2 values per channel in a batch of 2" in found["values"].evidence
    assert "GroupNorm" in found["values"].remedy
    assert "in batches of 2 (experiments/small_batches.toml" in found["values"].remedy


def test_images_prepared_otherwise_for_evaluation() -> None:
    """Evaluation images 0..255 where training had standardised ones: found at the first layer."""
    other = [batch * 60 + 110 for batch in smooth_images(N, 7).split(32)]
    found = bnrecal.diagnose(sane(), BATCHES, evaluation=other)
    assert [finding.check for finding in found.wrong] == ["domain"]
    assert "stem.1" in found["domain"].layers
    assert "stem.1: means" in found["domain"].evidence


def test_statistics_of_another_domain() -> None:
    """Both sets differ from what training saw: the shift begins at the first layer, and says so."""
    found = bnrecal.diagnose(sane(), [batch * 3 + 1 for batch in BATCHES])
    assert "shift" in {finding.check for finding in found.wrong}
    assert "the first layer too" in found["shift"].evidence


def test_a_model_that_does_not_run() -> None:
    """One cause, its message; what needs a forward is skipped, what does not still answers."""
    model = sane()
    model.stem[1].momentum = 0
    found = bnrecal.diagnose(model, [torch.zeros(4, 5, 16, 16)])
    assert "RuntimeError" in found["runs"].evidence
    assert {finding.check for finding in found.wrong} == {"runs", "momentum"}
    assert found["batch-size"].evidence == "the model does not run"


class Detector(nn.Module):
    """Lists of dicts with as many boxes as it likes, from a list of images, as torchvision's detectors."""

    def __init__(self) -> None:
        super().__init__()
        self.body = sane()

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        scores = self.body(torch.stack(images)).softmax(1)
        return [{"boxes": torch.zeros(len(s), 4), "scores": s} for s in (row[row > 0.1] for row in scores)]


def detected(model: nn.Module, batches: Any) -> float:
    """A stand-in for mAP: the best score of an image, on average."""
    return sum(float(found["scores"].max()) for batch in batches for found in model(batch)) / N


@pytest.mark.parametrize("fault", ["none", "stuck"])
def test_a_detector_with_lists_of_images_and_boxes(fault: str) -> None:
    """Its outputs cannot be compared one by one; the metric at three batch sizes can."""
    model = Detector().eval()
    if fault == "stuck":
        each(model, stay)
    found = bnrecal.diagnose(model, [list(batch) for batch in BATCHES], evaluate=detected)
    expected = set() if fault == "none" else {"train-mode", "batch-size"}
    assert {finding.check for finding in found.wrong} == expected, str(found)
    assert "metric at batch sizes 1, 8, 64" in found["batch-size"].evidence


def test_networks_without_batchnorm() -> None:
    """GroupNorm: nothing is wrong, and what does not apply is skipped with the reason."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(1))
    found = bnrecal.diagnose(model.eval(), BATCHES)
    assert found.wrong == ()
    assert "no BatchNorm to recalibrate" in found["shift"].evidence


def test_what_stands_beside_batchnorm_is_named() -> None:
    """Half-precision statistics, a SyncBatchNorm, an InstanceNorm that tracks: notes, no fault."""
    model = copy.deepcopy(sane()).bfloat16()
    found = bnrecal.diagnose(model, [batch.bfloat16() for batch in BATCHES])
    assert found.wrong == (), str(found)
    assert "half precision" in found["kinds"].evidence
    model = nn.SyncBatchNorm.convert_sync_batchnorm(sane())
    model.drop = nn.Sequential(
        nn.Unflatten(1, (16, 1)), nn.InstanceNorm1d(16, track_running_stats=True), nn.Flatten()
    )
    found = bnrecal.diagnose(model.eval(), BATCHES)
    assert "3 SyncBatchNorms" in found["kinds"].evidence
    assert "InstanceNorm1d evaluates with running statistics too" in found["kinds"].evidence


@pytest.mark.parametrize(
    ("batches", "settings", "message"),
    [
        ([], {}, "batches: empty"),
        (BATCHES, {"n_samples": 0}, "n_samples=0: at least 1"),
        (["text"], {}, "cannot count the images"),
    ],
)
def test_bad_input(batches: Any, settings: dict[str, Any], message: str) -> None:
    """One line that names it."""
    with pytest.raises(BnrecalError, match=message):
        bnrecal.diagnose(sane(), batches, **settings)
