"""Every norm and optimiser that a recipe may name trains, resumes to the bit and is evaluated again."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnrecal import networks
from bnrecal.errors import BnrecalError
from bnrecal.measure.trained import is_whole, train_one, trained_source
from bnrecal.norms import EvalNorm2d
from bnrecal.study.cells import Training
from bnrecal.study.inputs import Inputs
from bnrecal.study.recipe import NORMS, OPTIMIZERS, Recipe
from bnrecal.train.loop import train
from bnrecal.train.norms import Conversion, evaluation_conversion, renorm_bounds
from tests.train.images import bright_and_dark, small_network
from tests.train.test_resume import LeftError, leaving_at, run, tensors

SMALL = {"batch_size": 16, "epochs": 2, "seed": 2}
_NUMBERS: dict[str, dict[str, Any]] = {
    "gn": {"groups": 2},
    "cbn": {"window": 3, "norm_batch": 4, "burn_in": 0.5},
    "naive-cbn": {"window": 3, "norm_batch": 8},
    "brn": {"norm_batch": 8},
    "bn": {"norm_batch": 4},
    "evalnorm": {"norm_batch": 4},
}


@pytest.mark.parametrize("norm", NORMS)
def test_each_norm_resumes_to_the_bit(tmp_path: Path, norm: str) -> None:
    """Left in the second epoch and called again: the same weights file, what is kept of the past included."""
    recipe = Recipe(**SMALL, norm=norm, **_NUMBERS.get(norm, {}))
    whole = run(tmp_path / "whole", recipe)
    with pytest.raises(LeftError):
        run(tmp_path / "left", recipe, check=leaving_at(9))
    assert run(tmp_path / "left", recipe).sha256 == whole.sha256


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimiser_resumes_to_the_bit(tmp_path: Path, optimizer: str) -> None:
    """The same for the optimisers, whose state is in the checkpoint."""
    recipe = Recipe(**SMALL, optimizer=optimizer)
    whole = run(tmp_path / "whole", recipe)
    with pytest.raises(LeftError):
        run(tmp_path / "left", recipe, check=leaving_at(9))
    assert run(tmp_path / "left", recipe).sha256 == whole.sha256


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("norm", NORMS)
def test_each_norm_trains_with_each_optimiser(tmp_path: Path, norm: str, optimizer: str) -> None:
    """Two epochs: weights move, and all of them are numbers."""
    recipe = Recipe(**SMALL, norm=norm, optimizer=optimizer, **_NUMBERS.get(norm, {}))
    found = tensors(run(tmp_path, recipe))
    before = small_network(recipe.seed).state_dict()
    assert all(tensor.isfinite().all() for tensor in found.values())
    assert not torch.equal(found["0.weight"], before["0.weight"])


@pytest.mark.parametrize("norm", ["bn", "gn", "brn", "cbn", "in"])
def test_trained_weights_come_back_into_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, norm: str
) -> None:
    """`networks.of` with the weights and `evaluation_conversion` gives the network that was trained: the same
    outputs in evaluation to the bit.
    """
    recipe = Recipe(**SMALL, norm=norm, **_NUMBERS.get(norm, {}))
    (tmp_path / "mine_trained.py").write_text(
        "from tests.train.images import small_network\n\n\ndef net():\n    return small_network(0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    task = bright_and_dark()
    inputs = Inputs(task="imagefolder", model="mine_trained:net")
    learner = networks.of(inputs, task).learner("net", recipe.seed)
    modules: list[torch.nn.Module] = []

    def keep(module: torch.nn.Module) -> float:
        modules[:] = [module]
        return 0.0

    trained = train(recipe, task, learner, tmp_path / "out", torch.device("cpu"), evaluate=keep)
    assert trained.log[-1]["metric"] == 0.0
    inputs = inputs.model_copy(update={"weights": str(trained.weights)})
    built = networks.of(inputs, task, evaluation_conversion(recipe)).build("net").module.eval()
    built = built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(4, *task.input_shape)
    assert torch.equal(built(x), modules[0].eval()(x))


def test_renorm_bounds_follow_the_paper() -> None:
    """Steps 5,000, 25,000 and 40,000 of 160,000: 1 and 0 until the first, the ends from the others on."""
    recipe = Recipe(norm="brn")
    assert renorm_bounds(recipe, 0) == renorm_bounds(recipe, 5 / 160) == (1, 0)
    assert renorm_bounds(recipe, 25 / 160)[1] == 5
    assert renorm_bounds(recipe, 40 / 160) == renorm_bounds(recipe, 1) == (3, 5)
    assert renorm_bounds(recipe, 15 / 160) == pytest.approx((1 + 2 * 10 / 35, 2.5))


def test_norm_batch_changes_what_is_trained(tmp_path: Path) -> None:
    """Over 4 of 16 images other weights come out than over all; their names are the same."""
    found = [tensors(run(tmp_path / str(n), Recipe(**SMALL, norm_batch=n))) for n in (4, None)]
    assert found[0].keys() == found[1].keys()
    assert any(not torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_network_without_batchnorm_has_no_norm_to_replace(tmp_path: Path) -> None:
    """One line, before anything is written."""
    from bnrecal.networks.learner import Learner

    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(432, 2))
    with pytest.raises(BnrecalError, match="no BatchNorm"):
        train(
            Recipe(**SMALL, norm="gn"),
            bright_and_dark(),
            Learner(plain, "p"),
            tmp_path / "o",
            torch.device("cpu"),
        )
    assert not (tmp_path / "o").exists()


def test_evalnorm_is_bn_until_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are bn's to the bit. Where bn's stand in the same store they are taken from there without a
    step, unless they are damaged. Evaluation reckons with the norm batch, or with the images of a forward.
    """
    (tmp_path / "mine_twin.py").write_text(
        "from tests.train.images import small_network\n\n\ndef net():\n    return small_network(0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    task = bright_and_dark()
    inputs = Inputs(task="imagefolder", model="mine_twin:net")
    source = networks.of(inputs, task)
    found: dict[str, Any] = {}
    steps: list[str] = []
    for norm, store in (("evalnorm", "alone"), ("bn", "both"), ("evalnorm", "both")):
        recipe = Recipe(**SMALL, norm=norm, norm_batch=4)
        digests = (task.data_digest(), task.order_digest(np.sort(task.order(0))))
        learner = source.learner("net", recipe.seed)
        training = Training(task.name, task.metric, *digests, "net", learner.digest, recipe, 200)
        folder = tmp_path / store / training.key
        cpu = torch.device("cpu")
        at = f"{norm} {store}"
        check = partial(steps.append, at)
        done = train_one(training, task, source, folder, cpu, lambda _: None, check, lambda _: None)
        assert is_whole(training, folder)
        found[f"{norm} {store}"] = done
    assert len({trained.sha256 for trained in found.values()}) == 1
    assert set(steps) == {"evalnorm alone", "bn both"}
    assert [e["loss"] for e in found["evalnorm both"].log] == [e["loss"] for e in found["bn both"].log]
    built = trained_source(training, inputs, task, folder).build("net").module
    assert {m.norm_batch for m in built.modules() if isinstance(m, EvalNorm2d)} == {4}
    assert evaluation_conversion(Recipe(norm="evalnorm", batch_size=16, physical_batch=8)) == Conversion(
        "evalnorm", 8
    )
    found["bn both"].weights.write_bytes(b"damaged")
    found["evalnorm both"].weights.unlink()
    check = partial(steps.append, "again")
    again = train_one(training, task, source, folder, cpu, lambda _: None, check, lambda _: None)
    assert "again" in steps
    assert again.sha256 == done.sha256
