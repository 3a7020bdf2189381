"""What learns and what does not; steps in parts; decay."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bnrecal.errors import BnrecalError
from bnrecal.networks.learner import Learner
from bnrecal.study.recipe import Recipe
from bnrecal.train.loop import train
from bnrecal.train.objective import objective_of
from bnrecal.train.parameters import make_optimiser
from bnrecal.train.step import Learning
from tests.train.images import bright_and_dark, small_network
from tests.train.test_resume import run, tensors

CPU = torch.device("cpu")


def test_norm_only_leaves_everything_else_bit_identical(tmp_path: Path) -> None:
    """gamma and beta of both BatchNorms move, weight decay or not; no other parameter does."""
    before = small_network(2).state_dict()
    after = tensors(run(tmp_path, Recipe(trainable="norm", batch_size=16, epochs=2, seed=2)))
    changed = {n for n in after if not torch.equal(after[n], before[n])}
    assert changed - {n for n in changed if "running" in n or "tracked" in n} == {
        "1.weight",
        "1.bias",
        "4.weight",
        "4.bias",
    }


def test_momentum_zero_keeps_no_statistics(tmp_path: Path) -> None:
    """Means stay 0 and variances 1, whatever the batches hold."""
    after = tensors(run(tmp_path, Recipe(bn_momentum=0, batch_size=16, epochs=1)))
    assert all((after[n] == 0).all() for n in after if n.endswith("running_mean"))
    assert all((after[n] == 1).all() for n in after if n.endswith("running_var"))


def test_without_norms_there_is_nothing_to_train(tmp_path: Path) -> None:
    """trainable = norm on a network without scale and shift, last-norm on one without choices: one line."""
    plain = nn.Sequential(nn.Flatten(), nn.Linear(432, 2))
    for trainable, message in (("norm", "no normalisation"), ("last-norm", "supernet")):
        recipe = Recipe(trainable=trainable)  # type: ignore[arg-type]
        with pytest.raises(BnrecalError, match=message):
            train(recipe, bright_and_dark(), Learner(plain, "plain"), tmp_path / "o", CPU)


def test_vectors_are_not_decayed_unless_asked() -> None:
    """Biases and normalisations have weight decay 0, the others the recipe's."""
    network = small_network(0)
    for asked, vectors in ((False, 0.0), (True, 0.01)):
        recipe = Recipe(weight_decay=0.01, decay_vectors=asked)
        groups = make_optimiser(network.parameters(), recipe).param_groups
        assert [g["weight_decay"] for g in groups] == [0.01, vectors]
        assert [{p.ndim > 1 for p in g["params"]} for g in groups] == [{True}, {False}]


@pytest.mark.parametrize("physical", [1, 5, 8, 16])
def test_parts_of_a_step_add_up_to_the_whole(physical: int) -> None:
    """A network without normalisation over batches, in float64: parts of any size, short last ones included,
    move the weights as the whole batch does, to 1e-12.
    """
    task = bright_and_dark()
    x = task.to_input(torch.from_numpy(task.calibration_images(np.sort(task.order(0))[:16]))).double()
    found = []
    for size in (None, physical):
        recipe = Recipe(batch_size=16, physical_batch=size, clip_norm=0.05, label_smoothing=0.1)
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(400, 2)).double()
        objective = objective_of(task, "logits", recipe, CPU)
        learning = Learning.of(Learner(module, "m"), recipe, _double(objective), CPU, 6)
        loss = learning.step(x, torch.arange(16), [], 0.1, 0.0)
        found.append([loss, *(p.detach().clone() for p in learning.parameters)])
    for whole, parts in zip(*found, strict=True):
        assert torch.allclose(whole, parts, atol=1e-12, rtol=0)


def _double(objective: Any) -> Any:
    class Doubled:
        """Cross-entropy without the rounding to float32."""

        def loss(self, output: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(
                output, objective.labels[at], label_smoothing=objective.label_smoothing
            )

        def weight(self, at: torch.Tensor) -> float:
            return float(objective.weight(at))

    return Doubled()


def test_detection_in_parts_weighs_by_positive_cells() -> None:
    """The loss of a batch of scenes is that of its parts, each by its share of the positive cells."""
    from bnrecal import tasks

    task = tasks.get("tiny")
    objective = objective_of(task, "grid", Recipe(), CPU)
    raw, at = torch.randn(12, 14, 8, 8, dtype=torch.float64).float(), torch.arange(12)
    whole = objective.loss(raw, at)
    parts = [(raw[:5], at[:5]), (raw[5:6], at[5:6]), (raw[6:], at[6:])]
    summed = sum(objective.loss(r, a) * objective.weight(a) for r, a in parts) / objective.weight(at)
    assert torch.allclose(whole, torch.as_tensor(summed), rtol=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_keeps_weights_and_statistics_in_float32(tmp_path: Path, precision: Any) -> None:
    """The network learns, all tensors of the file are float32, and statistics moved from their start."""
    trained = run(tmp_path, Recipe(precision=precision, batch_size=16, epochs=4, seed=2))
    found = load_file(trained.weights)
    assert {t.dtype for n, t in found.items() if "tracked" not in n} == {torch.float32}
    assert not (found["1.running_mean"] == 0).any()
    assert trained.log[-1]["loss"] < trained.log[0]["loss"]


def test_the_loop_does_what_a_plain_one_does(tmp_path: Path) -> None:
    """Two epochs beside a loop written with torch alone: SGD with momentum, cosine, decay of
    matrices. The weights agree to 1e-6.
    """
    from bnrecal.data.draws import permutation, stream_key
    from bnrecal.train.numerics import seed_epoch

    recipe = Recipe(batch_size=16, epochs=2, lr=0.1, seed=4)
    ours = tensors(run(tmp_path, recipe))
    task = bright_and_dark()
    ids = np.sort(task.order(0))
    network = small_network(4).to(memory_format=torch.channels_last)
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 5e-4}, {"params": others}]
    optimiser = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: (1 + np.cos(np.pi * k / 12)) / 2)
    labels = torch.from_numpy(task.calibration_labels[ids])
    with torch.random.fork_rng():
        for epoch in range(2):
            seed_epoch(4, epoch)
            order = permutation(stream_key("train-order", 4, epoch), 100)
            for step in range(6):
                at = order[16 * step : 16 * step + 16]
                x = task.to_input(torch.from_numpy(task.calibration_images(ids[at])))
                loss = nn.functional.cross_entropy(
                    network(x.to(memory_format=torch.channels_last)), labels[torch.from_numpy(at)]
                )
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
    for name, tensor in network.state_dict().items():
        assert torch.allclose(tensor, ours[name], rtol=1e-6, atol=1e-8), name
