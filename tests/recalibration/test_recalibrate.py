"""The public API: values, kinds of batches and layers, bad input, and properties over many splits."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

import bnrecal
from bnrecal import BnrecalError
from bnrecal.recalibration.recalibrate import FrozenWarning
from tests.recalibration.test_walk import FIXTURE_A, RAGGED, everything, same, small_net

ESTIMATORS = ["ema", "cumulative", "pooled", "exact"]


def images(n: int, seed: int = 0, side: int = 12) -> Tensor:
    return torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def deep_net() -> nn.Sequential:
    """Three BatchNorms, nonlinear in between, so that deep statistics depend on how images are split."""
    torch.manual_seed(3)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)),
    )


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {n: b.clone() for n, b in model.named_buffers() if "running" in n}


# --- what it does ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "mean", "var"),
    [("ema", 1.29, 1.79), ("cumulative", 6.5, 5.0), ("pooled", 6.5, 43.66667), ("exact", 6.5, 43.66667)],
)
def test_values_of_fixture_a(estimator: str, mean: float, var: float) -> None:
    """By name, into the model's buffers, with the batches counted."""
    model = nn.BatchNorm2d(1)
    report = bnrecal.recalibrate(model, FIXTURE_A, estimator=estimator)
    assert model.running_mean is not None
    assert model.running_var is not None
    assert model.running_mean.item() == pytest.approx(mean, rel=1e-6)
    assert model.running_var.item() == pytest.approx(var, rel=1e-6)
    assert (report.n_samples, report.n_batches) == (4, 2)
    assert model.num_batches_tracked == 2


def test_the_default_is_pooled_and_independent_of_the_split_at_the_first_layer() -> None:
    """fvcore's published claim, held at one batch, ragged batches and pairs: equal to 1e-6."""
    x = images(31)
    expected = x.double().transpose(0, 1).reshape(1, -1)
    for size in (31, 7, 2):
        model = nn.BatchNorm2d(1)
        bnrecal.recalibrate(model, [b for b in x.split(size) if len(b) > 0])
        assert model.running_mean is not None
        assert model.running_var is not None
        assert torch.allclose(model.running_mean.double(), expected.mean(1), rtol=1e-6)
        assert torch.allclose(model.running_var.double(), expected.var(1), rtol=1e-6)


def test_equals_statistics_of_all_activations() -> None:
    """torch's published claim for update_bn, for ours: pooled = mean and var over all concatenated."""
    model = nn.Sequential(nn.Linear(5, 10), nn.BatchNorm1d(10))
    x = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    bnrecal.recalibrate(model, x.split(16))
    activations = model[0](x)
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert torch.allclose(norm.running_mean, activations.mean(0), rtol=1e-5, atol=1e-6)
    assert torch.allclose(norm.running_var, activations.var(0), rtol=1e-5)


def test_cumulative_equals_torch_update_bn() -> None:
    """On equal and short batches, at every depth."""
    ours, theirs = deep_net().train(), deep_net().train()
    batches = list(images(50).split(8))
    bnrecal.recalibrate(ours, batches, estimator="cumulative")
    update_bn(batches, theirs)
    for name, value in statistics(theirs).items():
        assert torch.allclose(statistics(ours)[name], value, rtol=1e-5, atol=1e-6), name


def test_class_sorted_order_keeps_the_variance_between_batches() -> None:
    """Images sorted by brightness: pooled has the variance of all of them, cumulative loses most."""
    x = torch.cat([torch.randn(20, 1, 2, 2) * 0.5 + 5 * k for k in range(4)])
    found = {}
    for estimator in ("pooled", "cumulative"):
        model = nn.BatchNorm2d(1)
        bnrecal.recalibrate(model, x.split(10), estimator=estimator)
        found[estimator] = model.running_var.item()
    assert found["pooled"] == pytest.approx(x.var().item(), rel=1e-5)
    assert found["cumulative"] < 0.05 * found["pooled"]


def test_exact_is_batch_size_invariant_at_every_depth() -> None:
    """Batch sizes 2 and 256 agree to 1e-4 in all three layers, where pooled differs by percents."""
    x = images(256)
    gaps = {}
    for estimator in ("exact", "pooled"):
        found = []
        for size in (2, 256):
            model = deep_net()
            bnrecal.recalibrate(model, x.split(size), estimator=estimator)
            found.append(statistics(model))
        gaps[estimator] = {
            name: ((found[0][name] - found[1][name]).abs() / found[1][name].abs()).max().item()
            for name in found[0]
            if name.endswith("running_var")
        }
    assert max(gaps["exact"].values()) < 1e-4
    first, second, third = gaps["pooled"].values()
    assert first < 1e-5 < 0.01 < second < third


def test_exact_is_what_each_layer_sees_in_evaluation() -> None:
    """With the final statistics in place, every layer's evaluation-time input has just these moments."""
    model, x = deep_net(), images(60)
    bnrecal.recalibrate(model, x.split(7), estimator="exact")
    model.eval()
    seen = x
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.BatchNorm2d):
                flat = seen.double().transpose(0, 1).flatten(1)
                assert torch.allclose(layer.running_mean.double(), flat.mean(1), rtol=1e-4, atol=1e-5)
                assert torch.allclose(layer.running_var.double(), flat.var(1), rtol=1e-4)
            seen = layer(seen)


def test_exact_of_one_batch_of_all_is_the_train_mode_statistic() -> None:
    """A single batch holding the whole subset: its train-mode pooled statistics are already exact.

    Up to the step from the biased variance that normalises to the unbiased one that is stored.
    """
    x = images(128)
    exact, pooled = deep_net(), deep_net()
    bnrecal.recalibrate(exact, [x], estimator="exact")
    bnrecal.recalibrate(pooled, [x], estimator="pooled")
    for name, value in statistics(pooled).items():
        assert torch.allclose(statistics(exact)[name], value, rtol=1e-3, atol=1e-4), name


# --- how many images ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [1, 7, 8, 20, 29])
def test_exactly_n_samples_are_read(n_samples: int) -> None:
    """Fewer than a batch, a multiple, and with a cut last batch: the count consumed is the count asked."""
    x = images(29)
    report = bnrecal.recalibrate(model := nn.BatchNorm2d(1), x.split(8), n_samples=n_samples)
    assert report.n_samples == n_samples
    assert model.running_mean is not None
    assert model.running_mean.item() == pytest.approx(x[:n_samples].mean().item(), rel=1e-5)


def test_nothing_is_read_beyond_n_samples() -> None:
    """An endless stream is left where it is."""
    taken = []

    def stream() -> Iterator[Tensor]:
        while True:
            taken.append(1)
            yield images(4)

    bnrecal.recalibrate(nn.BatchNorm2d(1), stream(), n_samples=12)
    assert len(taken) == 3


@pytest.mark.parametrize("estimator", ["ema", "cumulative", "pooled"])
def test_snapshots_equal_shorter_runs(estimator: str) -> None:
    """The statistics at 8 and 16 of 24 images are those of recalibrating with 8 and 16."""
    x, model = images(24), deep_net()
    report = bnrecal.recalibrate(model, x.split(4), estimator=estimator, snapshots=[8, 16, 24])
    assert sorted(report.snapshots) == [8, 16, 24]
    for n, snapshot in report.snapshots.items():
        shorter = deep_net()
        bnrecal.recalibrate(shorter, x.split(4), estimator=estimator, n_samples=n)
        copied = deep_net()
        snapshot.write_to(copied)
        assert all(torch.equal(v, statistics(shorter)[name]) for name, v in statistics(copied).items())


# --- kinds of batches -----------------------------------------------------------------------------


class OfDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, batch: dict[str, Any]) -> Tensor:
        y: Tensor = self.norm(batch["image"])
        return y


class OfList(OfDict):
    def forward(self, batch: list[Tensor]) -> Tensor:
        y: Tensor = self.norm(torch.stack(batch))
        return y


@pytest.mark.parametrize("kind", ["tensor", "tuple", "list of parts", "dict", "image list", "forward"])
def test_kinds_of_batches(kind: str) -> None:
    """Tensors, (images, labels), dicts, lists of images and a forward of one's own; cut in mid-batch."""
    x, labels = images(10), torch.arange(10)
    pairs = list(zip(x.split(4), labels.split(4), strict=True))
    model: nn.Module = nn.BatchNorm2d(1)
    forward = None
    batches: list[Any] = {
        "tensor": list(x.split(4)),
        "tuple": pairs,
        "list of parts": [list(p) for p in pairs],
        "dict": [{"image": a, "label": b} for a, b in pairs],
        "image list": [list(a) for a, _ in pairs],
        "forward": [{"image": a, "note": "text"} for a, _ in pairs],
    }[kind]
    if kind == "dict":
        model = OfDict()
    if kind == "image list":
        model = OfList()
    if kind == "forward":

        def forward(model: nn.Module, batch: Any) -> Any:
            return model(batch["image"])

    report = bnrecal.recalibrate(model, batches, n_samples=9, forward=forward)
    assert report.n_samples == 9
    (mean,) = (b for n, b in model.named_buffers() if n.endswith("running_mean"))
    assert mean.item() == pytest.approx(x[:9].mean().item(), rel=1e-5)


# --- kinds of layers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.BatchNorm1d(3), (3,)),
        (lambda: nn.BatchNorm1d(3), (3, 5)),
        (lambda: nn.BatchNorm2d(3), (3, 4, 4)),
        (lambda: nn.BatchNorm2d(3, affine=False), (3, 4, 4)),
        (lambda: nn.BatchNorm2d(3, momentum=None), (3, 4, 4)),
        (lambda: nn.BatchNorm3d(3), (3, 2, 4, 4)),
        (lambda: nn.SyncBatchNorm(3), (3, 4, 4)),
        (lambda: nn.LazyBatchNorm2d(), (3, 4, 4)),
        (lambda: BatchNormAct2d(3), (3, 4, 4)),
        (lambda: nn.BatchNorm2d(3).double(), (3, 4, 4)),
    ],
)
@pytest.mark.parametrize("estimator", ["pooled", "exact"])
def test_any_batchnorm(make: Callable[[], nn.Module], shape: tuple[int, ...], estimator: str) -> None:
    """Each kind gets mean and unbiased variance of all values, and keeps its momentum."""
    norm = make()
    momentum = norm.momentum
    dtype = torch.float32 if isinstance(norm, nn.LazyBatchNorm2d) else norm.running_mean.dtype
    x = torch.randn(20, *shape, generator=torch.Generator().manual_seed(1)).to(dtype) * 3 + 2
    bnrecal.recalibrate(norm, list(x.split(6)), estimator=estimator)
    flat = x.transpose(0, 1).flatten(1).double()
    assert torch.allclose(norm.running_mean.double(), flat.mean(1), rtol=1e-5)
    assert torch.allclose(norm.running_var.double(), flat.var(1), rtol=1e-5)
    assert norm.momentum == momentum
    assert not norm._forward_pre_hooks
    assert "forward" not in norm.__dict__


def test_a_lazy_network_from_one_stream() -> None:
    """Layers initialised by the first batch; an iterator loses no batch to it."""
    model = nn.Sequential(nn.LazyConv2d(2, 1), nn.LazyBatchNorm2d())
    x = images(12)
    report = bnrecal.recalibrate(model, iter(x.split(4)))
    assert report.n_samples == 12
    assert torch.allclose(model[1].running_mean, model[0](x).mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["torchvision:resnet18", "torchvision:mobilenet_v2", "timm:mobilenetv3_small_100"]
)
def test_networks_of_torchvision_and_timm(name: str) -> None:
    """cumulative against update_bn on whole networks with residuals, depthwise and fused layers."""
    torch.manual_seed(0)
    library, _, which = name.partition(":")
    make = torchvision.models.get_model if library == "torchvision" else timm.create_model
    ours = make(which, **({"weights": None} if library == "torchvision" else {})).eval()
    theirs = copy.deepcopy(ours)
    for module in theirs.modules():  # update_bn runs dropout as in training; ours does not
        module.training = isinstance(module, nn.modules.batchnorm._BatchNorm)
    x = torch.randn(12, 3, 64, 64)
    report = bnrecal.recalibrate(ours, x.split(4), estimator="cumulative")
    for module in theirs.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        for batch in x.split(4):
            theirs(batch)
    found, expected = statistics(ours), statistics(theirs)
    assert len(report.layers) == len(expected) / 2
    for key, value in expected.items():
        assert torch.allclose(found[key], value, rtol=1e-4, atol=1e-5), key


def test_what_is_left_alone_is_told_with_its_reason() -> None:
    """Frozen, unused, per-image and untracked layers by name; they stay bit-identical."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.frozen, self.unused = (nn.BatchNorm2d(1) for _ in range(3))
            self.untracked = nn.BatchNorm2d(1, track_running_stats=False)
            self.group = nn.GroupNorm(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.group(self.untracked(self.used(self.frozen(x))))
            return y

    model = Mixed().train()
    model.frozen.eval()
    before = {name: b for name, b in statistics(model).items() if not name.startswith("used.")}
    with pytest.warns(FrozenWarning, match="1 of 3 BatchNorms .frozen. is in eval mode and 2 in train mode"):
        report = bnrecal.recalibrate(model, [images(4)])
    assert report.layers == ("used",)
    assert {name: why.split(":")[0].split(" (")[0] for name, why in report.left_alone.items()} == {
        "frozen": "frozen",
        "untracked": "keeps no running statistics",
        "group": "nothing to recalibrate",
        "unused": "no batch reached it",
    }
    after = statistics(model)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert model.unused.num_batches_tracked == 0
    assert not model.frozen.training


def test_old_statistics_may_be_nan() -> None:
    """What most needs recalibrating: NaN in the buffers does not leak into the new estimate."""
    for estimator in ESTIMATORS:
        model = deep_net()
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.fill_(float("nan"))
        bnrecal.recalibrate(model, images(8).split(4), estimator=estimator)
        assert all(bool(b.isfinite().all()) for b in statistics(model).values())


# --- low precision --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_accumulates_beyond_half_precision(dtype: torch.dtype) -> None:
    """Half-precision activations near 300: sums of 16,000 of them overflow float16, the mean does not."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2))
    nn.init.constant_(model[0].weight, 1.0)
    x = torch.randn(64, 1, 16, 16, generator=torch.Generator().manual_seed(0)) + 300
    with torch.autocast("cpu", dtype):
        bnrecal.recalibrate(model, x.split(16))
    half = x.to(dtype).double()
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean[0].item() == pytest.approx(half.mean().item(), rel=1e-5)
    assert norm.running_var[0].item() == pytest.approx(half.var().item(), rel=1e-2)


# --- reset ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["ema", "cumulative"])
def test_two_halves_without_reset_equal_the_whole(estimator: str) -> None:
    """reset=False goes on where the model stands, by num_batches_tracked for cumulative."""
    x = images(24)
    whole, halves = deep_net().double(), deep_net().double()
    batches = list(x.double().split(4))
    bnrecal.recalibrate(whole, batches, estimator=estimator)
    bnrecal.recalibrate(halves, batches[:2], estimator=estimator)
    bnrecal.recalibrate(halves, batches[2:], estimator=estimator, reset=False)
    for name, value in statistics(whole).items():
        assert torch.allclose(statistics(halves)[name], value, rtol=1e-9), name


# --- the scope ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
def test_recalibrated_puts_everything_back(fails: bool) -> None:
    """Inside the with-block the new statistics, after it the old ones, whatever happened inside."""
    model = small_net().train()
    before = everything(model)

    def use() -> None:
        with bnrecal.recalibrated(model, [images(8)], estimator="pooled") as report:
            assert report.n_samples == 8
            assert not same(everything(model), before)
            if fails:
                raise ZeroDivisionError

    if fails:
        with pytest.raises(ZeroDivisionError):
            use()
    else:
        use()
    assert same(everything(model), before)


# --- an estimator of one's own --------------------------------------------------------------------


def test_a_fifth_estimator_is_one_class() -> None:
    """Any object with the pure pair: here the last batch alone."""

    class Last:
        def start(self, mean: Tensor, var: Tensor) -> tuple[Tensor, ...]:
            return mean, var

        def resume(self, mean: Tensor, var: Tensor, n_batches: int) -> tuple[Tensor, ...]:
            return mean, var

        def update(self, state: tuple[Tensor, ...], batch: bnrecal.Moments) -> tuple[Tensor, ...]:
            return batch.mean, batch.var

        def compute(self, state: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
            return state[0], state[1]

    model = nn.BatchNorm2d(1)
    bnrecal.recalibrate(model, FIXTURE_A, estimator=Last())
    assert model.running_mean is not None
    assert model.running_mean.item() == 12


# --- bad input ------------------------------------------------------------------------------------


class Raises(nn.Module):
    """Fails in its second batch, behind a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.calls = nn.BatchNorm2d(1), 0

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x)
        self.calls += 1
        if self.calls == 2:
            raise ValueError("no more")
        return y


TWO = [images(4), images(4)]
POISONED = [images(4), torch.full((4, 1, 12, 12), float("nan"))]


@pytest.mark.parametrize(
    ("model", "batches", "settings", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 1)), TWO, {}, "no BatchNorm to recalibrate .none at all"),
        (nn.Sequential(nn.InstanceNorm2d(1)), TWO, {}, "0: nothing to recalibrate: InstanceNorm2d"),
        (nn.BatchNorm2d(1, track_running_stats=False), TWO, {}, "it: keeps no running statistics"),
        (torchvision.ops.FrozenBatchNorm2d(1), TWO, {}, "it: frozen by its type"),
        (deep_net(), [], {}, "batches: empty"),
        (deep_net(), [torch.zeros(0, 1, 12, 12)], {}, "batches: empty"),
        (deep_net(), TWO, {"n_samples": 9}, "n_samples=9: the batches end after 8 images"),
        (deep_net(), TWO, {"n_samples": 0}, "n_samples=0: at least 1"),
        (deep_net(), ["text"], {}, "cannot count the images of a str"),
        (
            deep_net(),
            TWO,
            {"estimator": "mean"},
            "unknown estimator 'mean'; valid: ema, cumulative, pooled, exact",
        ),
        (deep_net(), TWO, {"estimator": "ema", "momentum": 0.0}, "momentum=0.0"),
        (deep_net(), TWO, {"estimator": "ema", "momentum": 1.5}, "momentum=1.5"),
        (deep_net(), TWO, {"snapshots": [5]}, "snapshots: 5 images are not the end of a batch"),
        (deep_net(), TWO, {"snapshots": [12]}, "snapshots: 12 images"),
        (deep_net(), TWO, {"snapshots": [0]}, "snapshots=.0.: valid are"),
        (deep_net(), TWO, {"snapshots": [4], "estimator": "exact"}, "snapshots: exact has none"),
        (deep_net(), TWO, {"reset": False}, "reset=False: pooled"),
        (deep_net(), TWO, {"reset": False, "estimator": "exact"}, "reset=False: pooled"),
        (deep_net(), iter(TWO), {"estimator": "exact"}, "exact reads the images several times"),
        (nn.BatchNorm1d(3), [torch.randn(4, 3), torch.randn(1, 3)], {}, "batch 1: .*one value per channel"),
        (deep_net(), POISONED, {}, "batch 1: NaN or infinity reaches 1"),
        (deep_net(), POISONED, {"estimator": "exact"}, "batch 1: NaN or infinity reaches 1"),
        (Raises(), TWO, {}, "batch 1: the model raised ValueError: no more"),
        (Raises(), TWO, {"estimator": "exact"}, "batch 1: the model raised ValueError: no more"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(
    model: nn.Module, batches: Any, settings: dict[str, Any], message: str
) -> None:
    """An error of our own class in one line; the model is bit-identical to before."""
    model = copy.deepcopy(model).train()
    before = everything(model)
    with pytest.raises(BnrecalError, match=message) as raised:
        bnrecal.recalibrate(model, batches, **settings)
    assert "\n" not in str(raised.value)
    assert same(everything(model), before)


# --- properties -----------------------------------------------------------------------------------

_splits = st.lists(st.integers(2, 9), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    sizes=_splits,
    order=st.randoms(use_true_random=False),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    offset=st.sampled_from([0.0, 100.0]),
)
def test_pooled_depends_on_the_images_alone(
    sizes: list[int], order: Any, layout: torch.memory_format, dtype: torch.dtype, offset: float
) -> None:
    """Any split, order, memory layout and precision: the mean and variance of all images together."""
    n = sum(sizes)
    x = (torch.randn(n, 3, 5, 4, generator=torch.Generator().manual_seed(n)) + offset).to(dtype)
    shuffled = list(range(n))
    order.shuffle(shuffled)
    model = nn.BatchNorm2d(3).to(torch.float64 if dtype == torch.float64 else torch.float32)
    batches = [b.to(memory_format=layout) for b in x[shuffled].split(sizes)]
    bnrecal.recalibrate(model, batches)
    flat = x.transpose(0, 1).flatten(1).double()
    assert torch.allclose(model.running_mean.double(), flat.mean(1), rtol=1e-5, atol=1e-5)
    assert torch.allclose(model.running_var.double(), flat.var(1), rtol=1e-3)


@settings(max_examples=20, deadline=None)
@given(a=_splits, b=_splits, seed=st.integers(0, 1000))
def test_exact_depends_on_the_images_alone_at_every_depth(a: list[int], b: list[int], seed: int) -> None:
    """Two splits of the same images: every layer's statistics agree to 1e-4 of their scale."""
    n = min(sum(a), sum(b))
    x = images(n, seed)
    found = []
    for sizes in (a, b):
        model = deep_net()
        bnrecal.recalibrate(model, x.split([*_fit(sizes, n)]), estimator="exact")
        found.append(statistics(model))
    for name, value in found[0].items():
        scale = found[0][name.replace("running_mean", "running_var")]
        if name.endswith("running_mean"):
            scale = scale.sqrt()
        assert ((value - found[1][name]).abs() <= 1e-4 * scale + 1e-7).all(), name


def _fit(sizes: list[int], n: int) -> Iterator[int]:
    """The sizes cut to sum to n."""
    for size in sizes:
        if n > 0:
            yield min(size, n)
        n -= size


@settings(max_examples=30, deadline=None)
@given(momentum=st.floats(0.01, 1.0), n_batches=st.integers(1, 12))
def test_ema_of_any_momentum_equals_pytorch(momentum: float, n_batches: int) -> None:
    """Every momentum in (0, 1], every number of batches, against train mode itself."""
    ours, theirs = nn.BatchNorm2d(2), nn.BatchNorm2d(2, momentum=momentum)
    x = torch.randn(n_batches * 3, 2, 4, 4, generator=torch.Generator().manual_seed(n_batches))
    bnrecal.recalibrate(ours, x.split(3), estimator="ema", momentum=momentum)
    for batch in x.split(3):
        theirs(batch)
    assert torch.allclose(ours.running_mean, theirs.running_mean, rtol=1e-5, atol=1e-6)
    assert torch.allclose(ours.running_var, theirs.running_var, rtol=1e-5, atol=1e-6)


def test_ragged_images_of_the_brief() -> None:
    """Eight images of 0, then two of 10: pooled mean 2, unbiased variance 16 x 40 / 39."""
    model = nn.BatchNorm2d(1)
    bnrecal.recalibrate(model, RAGGED)
    assert model.running_mean is not None
    assert model.running_var is not None
    assert model.running_mean.item() == pytest.approx(2)
    assert model.running_var.item() == pytest.approx(16 * 40 / 39)
