"""Cases a reviewer found: each gave a wrong number, a changed model or a foreign error once."""

import copy
from collections import namedtuple
from typing import Any

import pytest
import timm
import torch
from timm.layers import SyncBatchNormAct
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import bnrecal
from bnrecal import BnrecalError
from bnrecal.recalibration.batches import count_images, first_images
from bnrecal.recalibration.estimators import Ema
from bnrecal.recalibration.fold import folded
from bnrecal.recalibration.walk import Walk
from tests.recalibration.test_recalibrate import deep_net, images
from tests.recalibration.test_walk import FIXTURE_A, everything, same


class Repeated(nn.Module):
    """One BatchNorm called several times in a forward."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.conv, self.norm, self.calls = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), calls
        nn.init.constant_(self.conv.weight, 0.6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, -x], 1)
        for _ in range(self.calls):
            x = torch.relu(self.norm(self.conv(x)) + 0.3)
        return x


@pytest.mark.parametrize("estimator", ["pooled", "exact"])
@pytest.mark.parametrize(
    "shape", [(24, 4, 48, 48), (40000, 4), (8, 4, 8, 24, 24)], ids=["channels_last", "rows", "3d"]
)
@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_float32_sums_do_not_spoil_large_inputs(shape: tuple[int, ...], estimator: str, mean: float) -> None:
    """N(0, 1) and N(10^4, 1) where PyTorch's kernel adds up in float32: variance right to 1e-3."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) + mean
    if x.dim() > 3:
        x = x.to(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)
    model = {2: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[x.dim()](4)
    bnrecal.recalibrate(model, [x[: len(x) // 2], x[len(x) // 2 :]], estimator=estimator)
    flat = x.double().transpose(0, 1).flatten(1)
    assert torch.allclose(model.running_var.double(), flat.var(1), rtol=1e-3 if mean else 1e-5)
    assert torch.allclose(model.running_mean.double(), flat.mean(1), rtol=1e-6, atol=1e-5)


def test_a_batch_run_again_counts_once() -> None:
    """A mean far from zero makes the walk look again: batches, calls and estimates count once."""
    x = torch.cat([torch.randn(8, 1, 4, 4), torch.randn(8, 1, 4, 4) + 1000])
    model = nn.BatchNorm2d(1)
    report = bnrecal.recalibrate(model, x.split(4), estimator="ema")
    expected = nn.BatchNorm2d(1).double()
    for batch in x.double().split(4):
        expected(batch)
    assert torch.allclose(model.running_mean.double(), expected.running_mean, rtol=1e-6)
    assert torch.allclose(model.running_var.double(), expected.running_var, rtol=1e-4)
    assert (report.n_batches, int(model.num_batches_tracked)) == (4, 4)


def test_a_sync_batchnorm_with_an_activation_keeps_it() -> None:
    """timm's SyncBatchNormAct: the next layer sees activated values."""
    found = []
    for convert in (timm.layers.convert_sync_batchnorm, lambda model: model):
        model = convert(nn.Sequential(timm.layers.BatchNormAct2d(1), nn.BatchNorm2d(1)))
        assert isinstance(model[0], SyncBatchNormAct) == (not found)
        bnrecal.recalibrate(model, images(12).split(4))
        found.append(model[1].running_var)
    assert torch.allclose(found[0], found[1])


def test_moments_of_float64_models_are_copies() -> None:
    """An estimator may keep what it is given: a later batch does not change it."""
    kept = []

    class Keeps(Ema):
        def update(self, state: Any, batch: bnrecal.Moments) -> Any:
            kept.append(batch.mean)
            return super().update(state, batch)

    batches = [torch.tensor([k - 1.0, k + 1.0]).double().view(2, 1, 1, 1) for k in (1, 2, 3)]
    bnrecal.recalibrate(nn.BatchNorm2d(1).double(), batches, estimator=Keeps(0.5))
    assert torch.cat(kept).tolist() == [1, 2, 3]


@pytest.mark.parametrize("calls", [1, 2])
def test_one_batch_at_a_time_without_reset_equals_pytorch(calls: int) -> None:
    """cumulative continued three times, a layer called once or twice: PyTorch's own, counter included."""
    torch.manual_seed(0)
    ours = Repeated(calls)
    theirs = copy.deepcopy(ours)
    theirs.norm.momentum = None
    for k, batch in enumerate(images(12).split(4)):
        bnrecal.recalibrate(ours, [batch], estimator="cumulative", reset=k == 0)
        theirs(batch)
    assert torch.allclose(ours.norm.running_mean, theirs.norm.running_mean, rtol=1e-5)
    assert torch.allclose(ours.norm.running_var, theirs.norm.running_var, rtol=1e-5)
    assert ours.norm.num_batches_tracked == theirs.norm.num_batches_tracked == 3 * calls


def test_a_layer_without_a_counter_cannot_be_continued_by_count() -> None:
    """num_batches_tracked None: cumulative cannot know the weight of what is there."""
    model = nn.BatchNorm2d(1)
    model.num_batches_tracked = None
    with pytest.raises(BnrecalError, match="reset=False"):
        bnrecal.recalibrate(model, FIXTURE_A, estimator="cumulative", reset=False)


Pair = namedtuple("Pair", "image label")


@pytest.mark.parametrize(
    ("batch", "n", "cut"),
    [
        ([torch.zeros(3, 8, 8)] * 2, 2, 1),
        ([(torch.zeros(3, 8, 8),) * 2, ({"a": 1}, {"a": 2})], 2, 1),
        ([{"image": torch.zeros(3, 8, 8)}] * 4, 4, 3),
        (Pair(torch.zeros(5, 2), torch.zeros(5)), 5, 2),
        ({"x": torch.zeros(6, 2), "names": list("abcdef")}, 6, 4),
        ((torch.zeros(2, 2), torch.zeros(2)), 2, 1),
    ],
)
def test_images_are_counted_and_cut_as_they_are(batch: Any, n: int, cut: int) -> None:
    """Image lists, collated pairs, lists of dicts, named tuples: type kept, count right after cutting."""
    assert count_images(batch) == n
    short = first_images(batch, cut)
    assert type(short) is type(batch)
    assert count_images(short) == cut


@pytest.mark.parametrize("batch", [torch.tensor(1.0), {}, [], "text", [torch.zeros(10, 5, 7)]])
def test_what_cannot_be_counted_is_refused(batch: Any) -> None:
    """Never a guess: a scalar, nothing, text, and a list that may be an image or a batch."""
    with pytest.raises(BnrecalError, match="batches: "):
        count_images(batch)


def test_a_dataloader_works_as_it_is() -> None:
    """[images, labels] lists of the default collate, with a short last batch."""
    x = images(10)
    loader = DataLoader(TensorDataset(x, torch.arange(10)), batch_size=4)
    for estimator in ("pooled", "exact"):
        model = nn.BatchNorm2d(1)
        assert bnrecal.recalibrate(model, loader, estimator=estimator).n_samples == 10
        assert torch.allclose(model.running_mean, x.mean((0, 2, 3)), rtol=1e-5)


class SharedHead(nn.Module):
    """One head, with a BatchNorm, on two scales of the same features, as detectors have it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = deep_net()
        self.head = nn.Sequential(nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.last = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        y: Tensor = self.head(features).mean((2, 3), keepdim=True) + self.head(features[:, :, ::2, ::2])
        normalised: Tensor = self.last(y)
        return normalised


def test_exact_settles_for_a_shared_head() -> None:
    """A head called twice in a forward: batch sizes 2 and 64 agree to 1e-4, the layer after it too."""
    found = []
    for size in (2, 64):
        model = SharedHead()
        bnrecal.recalibrate(model, images(64).split(size), estimator="exact")
        found.append({n: b for n, b in model.named_buffers() if n.endswith("var")})
    for name, value in found[0].items():
        assert torch.allclose(value, found[1][name], rtol=1e-4), name


def test_exact_says_so_when_nothing_settles() -> None:
    """Called six times the same layer has no stable statistics: an error, and the model as before."""
    torch.manual_seed(0)
    model = Repeated(6)
    before = everything(model)
    with pytest.raises(BnrecalError, match="exact: layers called several times did not settle in 50 passes"):
        bnrecal.recalibrate(model, [images(64)], estimator="exact")
    assert same(everything(model), before)


def test_exact_refuses_images_that_change() -> None:
    """A shuffling loader read up to n_samples gives others in each pass."""
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(images(64)), batch_size=4, shuffle=True)
    model = deep_net()
    before = everything(model)
    with pytest.raises(BnrecalError, match="got others each time"):
        bnrecal.recalibrate(model, loader, estimator="exact", n_samples=16)
    assert same(everything(model), before)


def test_weights_given_at_call_time_count() -> None:
    """torch.func.functional_call with another BatchNorm weight: the next layer sees its effect."""
    model = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU(), nn.BatchNorm2d(1))

    def forward(model: nn.Module, x: Tensor) -> Any:
        return torch.func.functional_call(model, {"0.weight": torch.tensor([7.0])}, (x,))

    bnrecal.recalibrate(model, [images(8)], forward=forward)
    assert model[2].running_mean.item() > 2


def test_a_model_whose_forward_avoids_its_batchnorms_is_said() -> None:
    """No batch reached one: an error of our own."""

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(BnrecalError, match="no batch reached a BatchNorm"):
        bnrecal.recalibrate(Around(), [images(4)])


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(input=x)
        return y


class InPlace(nn.BatchNorm2d):
    """A subclass that changes its input."""

    def forward(self, input: Tensor) -> Tensor:
        return input.mul_(0) + super().forward(input.clone())


class OwnMomentum(nn.BatchNorm2d):
    """A subclass that ignores momentum and writes the biased variance."""

    def forward(self, input: Tensor) -> Tensor:
        y = super().forward(input)
        with torch.no_grad():
            self.running_mean.mul_(0.9)
            self.running_var.fill_(3)
        return y


@pytest.mark.parametrize("estimator", ["pooled", "exact"])
@pytest.mark.parametrize("make", [ByKeyword, lambda: InPlace(1), lambda: OwnMomentum(1)])
def test_subclasses_and_keywords(make: Any, estimator: str) -> None:
    """Whatever the layer does with its buffers and its input, the moments are those of the input."""
    model, x = make(), images(12)
    expected = x.mean().item(), x.var().item()
    bnrecal.recalibrate(
        model, [b.clone() for b in x.split(4)] if estimator == "pooled" else _Fresh(x), estimator=estimator
    )
    norm = model.norm if isinstance(model, ByKeyword) else model
    assert (norm.running_mean.item(), norm.running_var.item()) == pytest.approx(expected, rel=1e-4)


class _Fresh:
    """Batches copied at each reading, since a layer may change its input."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __iter__(self) -> Any:
        return iter([b.clone() for b in self.x.split(4)])


def test_values_that_do_not_fit_change_nothing() -> None:
    """A variance beyond float16: refused with the layer's name, no buffer written."""
    model = nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1)).half()
    before = everything(model)
    with pytest.raises(BnrecalError, match=r"0.running_var: .* does not fit torch.float16"):
        bnrecal.recalibrate(model, [(images(8) * 1000).half()])
    assert same(everything(model), before)


def test_a_missed_snapshot_ends_the_walk_at_once() -> None:
    """Not after all the batches have been read."""
    read = []

    def stream() -> Any:
        for _ in range(100):
            read.append(1)
            yield images(4)

    with pytest.raises(BnrecalError, match="snapshots: 6 images are not the end of a batch"):
        bnrecal.recalibrate(nn.BatchNorm2d(1), stream(), snapshots=[6])
    assert len(read) == 2


def test_folding_leaves_special_convolutions_and_hooks_alone() -> None:
    """A convolution that standardises its weight, and a norm with a hook, are not folded."""
    weight_std = nn.Sequential(timm.layers.StdConv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    hooked = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    hooked[1].register_forward_hook(lambda module, args, out: out + 5)
    for model in (weight_std, hooked):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.fill_(0.5)
        x = images(2)
        assert torch.allclose(folded(model)(x), model(x), atol=1e-5)


def test_a_forward_of_the_users_own_on_the_instance_comes_back() -> None:
    """A module whose forward was replaced on the instance keeps that one, inside and afterwards."""
    model = nn.BatchNorm2d(1)
    calls = []

    def own(x: Tensor) -> Tensor:
        calls.append(1)
        return nn.BatchNorm2d.forward(model, x)

    model.forward = own
    with Walk(model, Ema()) as walk:
        walk.step(images(4))
    assert calls == [1]
    assert model.forward is own
