"""In torch.optim.swa_utils.update_bn's place: its figures on its own terms, and where it fails."""

import copy
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

import bnrecal
from bnrecal import BnrecalError
from tests.recalibration.test_recalibrate import OfDict, deep_net, images, statistics
from tests.recalibration.test_walk import everything, same

torch_update_bn = optim.swa_utils.update_bn
Pair = namedtuple("Pair", "image label")


def loader(n: int = 44, batch_size: int = 8) -> DataLoader[Any]:
    return DataLoader(TensorDataset(images(n), torch.arange(n)), batch_size=batch_size)


def counted(model: nn.Module) -> dict[str, Tensor]:
    return {name: b for name, b in model.named_buffers() if name.endswith("num_batches_tracked")}


def equal(ours: nn.Module, theirs: nn.Module) -> None:
    for name, value in statistics(theirs).items():
        assert torch.allclose(statistics(ours)[name], value, rtol=1e-6, atol=1e-6), name
    assert {n: int(b) for n, b in counted(ours).items()} == {n: int(b) for n, b in counted(theirs).items()}


def averaged() -> nn.Module:
    """Two weights' mean, and an EMA's wrapper in train mode around a network in eval mode."""
    model = AveragedModel(deep_net().eval(), multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for _ in range(2):
        model.update_parameters(deep_net().requires_grad_(False).apply(_shaken))
    return model


def _shaken(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        module.weight.mul_(1.1)


@pytest.mark.parametrize(
    "make",
    [
        deep_net,
        lambda: deep_net().eval(),
        averaged,
        lambda: torch.compile(deep_net(), backend="eager"),
        lambda: nn.DataParallel(deep_net()),
    ],
)
@pytest.mark.parametrize("batches", [loader, lambda: list(images(40).split(8)), lambda: iter(loader())])
def test_cumulative_is_torchs_to_the_sixth_digit(make: Callable[[], Any], batches: Any) -> None:
    """Statistics and num_batches_tracked, with a short last batch, for plain, averaged and wrapped models."""
    ours, theirs = make(), make()
    modes = [module.training for module in ours.modules()]
    report = bnrecal.update_bn(batches(), ours, None, estimator="cumulative")
    torch_update_bn(batches(), theirs)
    equal(ours, theirs)
    assert [module.training for module in ours.modules()] == modes
    assert len(report.layers) == 3


def test_cumulative_is_torchs_under_autocast() -> None:
    """Around the call, and inside a forward of one's own."""
    plain, around, inside = (deep_net() for _ in range(3))

    def forward(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return model(batch[0])

    with torch.autocast("cpu", torch.bfloat16):
        torch_update_bn(loader(), plain)
        bnrecal.update_bn(loader(), around, estimator="cumulative")
    bnrecal.update_bn(loader(), inside, estimator="cumulative", forward=forward)
    for name, value in statistics(plain).items():
        # torch's kernel sums its moments from inputs of eight bits as ours does, in another order
        assert torch.allclose(statistics(around)[name], value, rtol=1e-4, atol=1e-4), name
        assert torch.equal(statistics(around)[name], statistics(inside)[name]), name
    single = deep_net()
    torch_update_bn(loader(), single)
    assert not torch.allclose(
        statistics(single)["1.running_var"], statistics(plain)["1.running_var"], rtol=1e-5
    )


def test_by_default_a_short_last_batch_weighs_what_it_holds() -> None:
    """Eight images of 0 and two of 10: mean 2 here, 5 by torch's."""
    batches = [torch.zeros(8, 1, 2, 2), torch.full((2, 1, 2, 2), 10.0)]
    ours, theirs = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
    bnrecal.update_bn(batches, ours)
    torch_update_bn(batches, theirs)
    assert statistics(ours)["running_mean"].item() == pytest.approx(2)
    assert statistics(theirs)["running_mean"].item() == pytest.approx(5)


@pytest.mark.parametrize("kind", ["dict", "keywords", "named tuple"])
@pytest.mark.parametrize("device", [None, "cpu"])
def test_batches_that_torchs_cannot_run(kind: str, device: str | None) -> None:
    """A dict on a device, model(**batch), a method that is not forward: right here, an error there."""
    x = images(20)
    expected = nn.BatchNorm2d(1)
    bnrecal.recalibrate(expected, x.split(8))
    parts = x.split(8)
    model: nn.Module = OfDict()
    batches: list[Any] = [{"image": part} for part in parts]
    forward: Any = None
    if kind == "keywords":
        forward = lambda m, batch: m.norm(**{"input": batch["image"]})  # noqa: E731
    if kind == "named tuple":
        batches, forward = [Pair(part, 0) for part in parts], lambda m, batch: m.norm(batch.image)
    bnrecal.update_bn(batches, model, device, forward=forward)
    assert torch.equal(model.get_buffer("norm.running_mean"), expected.get_buffer("running_mean"))
    if device or kind == "named tuple":
        with pytest.raises((AttributeError, TypeError, IndexError)):
            torch_update_bn(batches, OfDict(), device)  # type: ignore[arg-type]


def test_a_batch_of_one_leaves_torchs_model_changed_and_ours_as_it_was() -> None:
    """A single value per channel ends both; momentum, mode and statistics survive here alone."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout()).eval()
    batches = list(torch.randn(5, 2).split(4))
    before = everything(model)
    with pytest.raises(BnrecalError, match="batch 1: 1 gets one value per channel"):
        bnrecal.update_bn(batches, model)
    assert same(everything(model), before)
    theirs = copy.deepcopy(model)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        torch_update_bn(batches, theirs)
    norm = theirs[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.momentum is None
    assert theirs.training


def test_frozen_and_unused_layers_keep_their_statistics() -> None:
    """Torch's resets a frozen layer and one that no batch reaches; here both are told and untouched."""
    model = nn.ModuleDict(
        {"used": nn.BatchNorm2d(1), "frozen": nn.BatchNorm2d(1), "unused": nn.BatchNorm2d(1)}
    )
    for norm in model.values():
        norm.get_buffer("running_mean").fill_(7)
    model["frozen"].eval()
    theirs = copy.deepcopy(model)
    theirs.forward = lambda x: theirs["frozen"](theirs["used"](x))  # type: ignore[method-assign]
    torch_update_bn(images(16).split(8), theirs)
    report = bnrecal.update_bn(
        list(images(16).split(8)), model, forward=lambda m, x: m["frozen"](m["used"](x[None][0]))
    )
    assert [model[name].get_buffer("running_mean").item() == 7 for name in model] == [False, True, True]
    assert [theirs[name].get_buffer("running_mean").item() == 7 for name in theirs] == [False, False, False]
    assert set(report.left_alone) == {"frozen", "unused"}


def test_sequences_are_taken_by_their_first_part() -> None:
    """(images, channels, length) beside targets of three dimensions: parts, not a list of two images."""
    x = torch.randn(12, 3, 10)
    pairs = DataLoader(TensorDataset(x, torch.zeros(12, 2, 10)), batch_size=4)
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4))
    report = bnrecal.update_bn(pairs, model)
    assert report.n_samples == 12


def test_without_any_batchnorm_nothing_is_done_and_nothing_read() -> None:
    """As torch's: no error; the report has no layers, and can be shown."""
    report = bnrecal.update_bn(iter([images(4)]), nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
    assert (report.layers, report.n_samples, report.images_per_s, report.shifts) == ((), 0, 0.0, [])
    assert "no layers re-estimated" in repr(report)
    assert "no layers" in report._repr_html_()


def test_exact_reads_a_loader_again_and_refuses_an_iterator() -> None:
    """Moving batches to a device hides neither."""
    exact, expected = deep_net(), deep_net()
    bnrecal.update_bn(loader(), exact, "cpu", estimator="exact")
    bnrecal.recalibrate(expected, list(images(44).split(8)), estimator="exact")
    equal(exact, expected)
    with pytest.raises(BnrecalError, match="an iterator can be read once"):
        bnrecal.update_bn(iter(loader()), deep_net(), "cpu", estimator="exact")
