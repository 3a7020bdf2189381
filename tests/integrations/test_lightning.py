"""The Lightning callback in real fits: what is validated, what stays, what is put back, in which order."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging, WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_avg_fn
from torch.utils.data import DataLoader, IterableDataset

import bnrecal
from bnrecal import BnrecalError
from bnrecal.integrations.lightning import RecalibrateBatchNorm
from tests.integrations.fits import BATCH, N_TRAIN, Classifier, body, fit, garments

pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*checkpoint.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),  # lightning 2.6 asks torch the old way
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning"),
]


def drawn(n: int, size: int = BATCH, rank: int = 0, world: int = 1) -> list[Tensor]:
    """The training images that a callback of seed 0 reads, in its batches."""
    order = torch.randperm(N_TRAIN, generator=torch.Generator().manual_seed(0))[:n][rank::world]
    return list(garments("train", N_TRAIN).tensors[0][order].split(size))


def statistics(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if "running" in name}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def averaging() -> WeightAveraging:
    return WeightAveraging(avg_fn=get_ema_avg_fn(0.8))


def expected(state: dict[str, Tensor], batches: list[Tensor]) -> dict[str, Tensor]:
    """The state with its statistics re-estimated by hand."""
    model = Classifier()
    model.load_state_dict(state)
    bnrecal.recalibrate(model, batches)
    return statistics(model.state_dict())


def test_each_validation_has_the_statistics_of_its_weights() -> None:
    """Those of the trainer's images chosen by the seed; they stay, and the report says the same."""
    model, recalibration = Classifier(), RecalibrateBatchNorm(n_samples=100)
    fit(model, recalibration)
    for state in model.validated[1:]:  # the first is the sanity check's
        assert equal(statistics(state), expected(state, drawn(100)))
    assert recalibration.report is not None
    assert recalibration.report.n_samples == 100
    assert equal(statistics(model.state_dict()), statistics(model.validated[-1]))


def test_put_back_leaves_the_training_as_it_would_have_been() -> None:
    """Bit for bit the same weights and statistics as without the callback, and others in between."""
    plain, model = Classifier(), Classifier()
    fit(plain)
    fit(model, RecalibrateBatchNorm(put_back=True), val_check_interval=4)
    assert equal(plain.state_dict(), model.state_dict())
    assert not equal(statistics(plain.validated[-1]), statistics(model.validated[-1]))
    assert len(model.validated) > len(plain.validated)


def test_what_stays_leaves_the_weights_as_they_would_have_been() -> None:
    """Training reads neither statistics nor the random numbers of the callback."""
    plain, model = Classifier(), Classifier()
    fit(plain)
    fit(model, RecalibrateBatchNorm())
    for name, value in plain.named_parameters():
        assert torch.equal(model.get_parameter(name), value), name


@pytest.mark.parametrize("averaging_first", [True, False])
@pytest.mark.parametrize("put_back", [True, False])
def test_averaged_weights_are_validated_with_statistics_of_their_own(
    averaging_first: bool, put_back: bool
) -> None:
    """In either order of the callbacks; put back, neither model's statistics are the other's."""
    plain, model, without, averages = Classifier(), Classifier(), averaging(), averaging()
    fit(plain, without)
    recalibration = RecalibrateBatchNorm(put_back=put_back)
    fit(model, *([averages, recalibration] if averaging_first else [recalibration, averages]))
    for theirs, ours in zip(plain.validated[1:], model.validated[1:], strict=True):
        for name, value in ours.items():
            if "running" not in name and "num_batches" not in name:
                assert torch.equal(value, theirs[name]), name  # the averages
        assert equal(statistics(ours), expected(ours, drawn(N_TRAIN)))
    if put_back:
        assert equal(model.state_dict(), plain.state_dict())
        assert averages._average_model is not None
        assert without._average_model is not None
        assert equal(averages._average_model.state_dict(), without._average_model.state_dict())


def test_statistics_that_were_never_kept_are_mended() -> None:
    """Momentum 0, as supernets are trained: the same weights are right far more often with the callback."""
    without, with_it = Classifier(momentum=0.0), Classifier(momentum=0.0)
    fit(without)
    fit(with_it, RecalibrateBatchNorm(put_back=True))
    assert equal(without.state_dict(), with_it.state_dict())
    assert with_it.accuracies[-1] > without.accuracies[-1] + 0.15


@pytest.mark.parametrize("kind", ["swa", "average"])
def test_at_the_fits_end_the_averaged_weights_get_their_statistics(kind: str, tmp_path: Path) -> None:
    """After StochasticWeightAveraging and WeightAveraging, before checkpoints, wherever it was listed."""
    model, recalibration = Classifier(), RecalibrateBatchNorm("fit end", n_samples=128)
    other: pl.Callback = averaging()
    if kind == "swa":
        other = StochasticWeightAveraging(0.01, swa_epoch_start=1, annealing_epochs=1)
    saving = ModelCheckpoint(tmp_path)
    trainer = fit(model, recalibration, other, saving, enable_checkpointing=True)
    places = [trainer.callbacks.index(callback) for callback in (other, recalibration, saving)]  # type: ignore[attr-defined]
    assert places == sorted(places)
    state = model.state_dict()
    assert equal(statistics(state), expected(state, drawn(128)))


def test_nothing_is_done_in_the_sanity_check_nor_outside_of_fit() -> None:
    """No statistics before the first step; trainer.validate looks at what is there."""
    model, recalibration = Classifier(), RecalibrateBatchNorm()
    trainer = fit(model, recalibration, max_epochs=1)
    assert bool((model.validated[0]["net.1.running_mean"] == 0).all())
    state = {name: value.clone() for name, value in model.state_dict().items()}
    recalibration.report = None
    trainer.validate(model, DataLoader(garments("val", 50), 50), verbose=False)
    assert recalibration.report is None
    assert equal(state, model.state_dict())


def test_layers_that_training_froze_are_left_alone() -> None:
    """In validation all are in eval mode; what was so in the last training step stays."""
    model, recalibration = Classifier(), RecalibrateBatchNorm()
    model.net[1].eval()
    fit(model, recalibration)
    assert recalibration.report is not None
    assert recalibration.report.layers == ("net.4",)
    assert list(recalibration.report.left_alone) == ["net.1"]
    assert bool((model.net[1].get_buffer("running_mean") == 0).all())
    assert not model.net[1].training
    assert model.net[4].training


@pytest.mark.parametrize("callable_", [True, False])
def test_a_loader_of_ones_own_and_a_forward(callable_: bool) -> None:
    """Batches of any kind, read anew each time, cut to n_samples; settings go to recalibrate."""
    batches = [{"image": x} for x in drawn(96)]
    model = Classifier()
    recalibration = RecalibrateBatchNorm(
        loader=(lambda: iter(batches)) if callable_ else batches,
        forward=lambda module, batch: module.net(batch["image"]),
        n_samples=80,
        estimator="cumulative",
    )
    fit(model, recalibration)
    assert recalibration.report is not None
    assert (recalibration.report.n_samples, recalibration.report.n_batches) == (80, 3)
    again = Classifier()
    again.load_state_dict(model.validated[-1])
    bnrecal.recalibrate(again, drawn(96), n_samples=80, estimator="cumulative")
    assert equal(statistics(again.state_dict()), statistics(model.validated[-1]))


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(garments("train", N_TRAIN))


def test_a_stream_cannot_be_read_beside_the_training() -> None:
    """One line, which names the way out."""
    with pytest.raises(
        BnrecalError, match=r"loader \(DataLoader\) cannot be read beside.* loader= of its own"
    ):
        fit(Classifier(), RecalibrateBatchNorm(), train=DataLoader(Stream(), BATCH))


def test_more_images_than_there_are() -> None:
    """Asked for by number it is an error; unasked all there are will do."""
    with pytest.raises(BnrecalError, match="n_samples=1000: the training set has 320 images"):
        fit(Classifier(), RecalibrateBatchNorm(n_samples=1000))
    unasked = RecalibrateBatchNorm()
    fit(Classifier(), unasked, max_epochs=1)
    assert unasked.report is not None
    assert unasked.report.n_samples == N_TRAIN


def test_a_validation_that_fails_puts_the_statistics_back() -> None:
    """The module has its own statistics and modes when the exception arrives."""
    plain, model = Classifier(), Classifier()
    fit(plain, max_epochs=1)
    model.fail_in_validation = True
    with pytest.raises(RuntimeError, match="no space for these images"):
        fit(model, RecalibrateBatchNorm(put_back=True), max_epochs=1)
    assert equal(statistics(model.state_dict()), statistics(plain.state_dict()))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"when": "never"}, "unknown moment 'never'; valid: validation, fit end"),
        ({"n_samples": 0}, "n_samples=0: at least 1, or None"),
        ({"when": "fit end", "put_back": True}, "put_back: goes with when='validation'"),
        ({"loader": iter([])}, "loader: an iterator can be read once"),
    ],
)
def test_settings_out_of_range(settings: Any, line: str) -> None:
    with pytest.raises(BnrecalError, match=line):
        RecalibrateBatchNorm(**settings)


def test_two_processes_end_with_the_statistics_of_the_whole(tmp_path: Path) -> None:
    """101 images over two processes: 51 and 50, and both have what one reader of all batches has."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "tests.integrations.fits", str(tmp_path)]
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert (first["n_samples"], second["n_samples"]) == (51, 50)
    assert equal(first["state"], second["state"])
    whole = expected(first["state"], drawn(101, 32, 0, 2) + drawn(101, 32, 1, 2))
    for name, value in statistics(first["state"]).items():
        assert torch.allclose(value, whole[name], rtol=1e-6, atol=1e-6), name


def test_without_lightning_the_extra_is_named() -> None:
    """One line instead of an import error; the rest of the package works without."""
    code = (
        "import sys; sys.modules['lightning.pytorch'] = None\n"
        "import bnrecal\n"
        "bnrecal.update_bn\n"
        "try:\n    import bnrecal.integrations.lightning\n"
        "except bnrecal.BnrecalError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "bnrecal.integrations.lightning needs pip install 'bnrecal[lightning]'\n"


def test_a_body_is_the_same_each_time() -> None:
    """What the comparisons above rest on."""
    assert equal(body().state_dict(), body().state_dict())
    assert isinstance(body()[0], nn.Conv2d)
