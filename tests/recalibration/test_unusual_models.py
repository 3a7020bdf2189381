"""Models that are wrapped, compiled, scripted or half switched off: the right numbers, or one clear line."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

import bnrecal
from bnrecal import BnrecalError
from tests.recalibration.test_recalibrate import deep_net, images
from tests.recalibration.test_walk import everything, same

BATCHES = list(images(24).split(8))


def statistics(model: nn.Module) -> list[Tensor]:
    return [buffer for name, buffer in model.named_buffers() if "running" in name]


def agree(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(statistics(a), statistics(b), strict=True)
    return all(torch.allclose(x, y, rtol=1e-4, atol=1e-6) for x, y in pairs)


def by_torch(model: nn.Module, batches: list[Tensor]) -> nn.Module:
    expected = copy.deepcopy(model).train()
    update_bn(batches, expected)
    return expected


@pytest.mark.parametrize("make", [deep_net, lambda: nn.Sequential(timm.layers.BatchNormAct2d(1), deep_net())])
def test_tracking_switched_off_later(make: Callable[[], nn.Module]) -> None:
    """track_running_stats set to False on finished layers: they keep buffers, and get the right ones."""
    torch.manual_seed(0)
    model = make()
    expected = by_torch(model, BATCHES)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.track_running_stats = False
    before = everything(model)
    bnrecal.recalibrate(model, BATCHES, estimator="cumulative")
    assert agree(model, expected)
    for module in model.modules():
        assert getattr(module, "track_running_stats", False) is False
    assert everything(model)["modes"] == before["modes"]


def in_place(model: nn.Module, backend: Any) -> nn.Module:
    model.compile(backend=backend)
    return model


def in_part(model: nn.Module, backend: Any) -> nn.Module:
    return nn.Sequential(torch.compile(model, backend=backend))


@pytest.mark.parametrize("wrap", [lambda m, backend: torch.compile(m, backend=backend), in_place, in_part])
@pytest.mark.parametrize("estimator", ["cumulative", "exact"])
def test_compiled_models(wrap: Callable[[nn.Module, Any], nn.Module], estimator: str) -> None:
    """Wrapped, in place and in part, compiled before: the same statistics, and nothing is compiled anew."""
    compiled = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    torch.manual_seed(0)
    plain = deep_net()
    model = wrap(copy.deepcopy(plain), backend).eval()
    with torch.no_grad():
        model(BATCHES[0])
    n_compiled = len(compiled)
    assert n_compiled
    bnrecal.recalibrate(plain.eval(), BATCHES, estimator=estimator)
    bnrecal.recalibrate(model, BATCHES, estimator=estimator)
    assert len(compiled) == n_compiled
    assert agree(model, plain)
    with torch.no_grad():
        assert torch.allclose(model(BATCHES[1]), plain(BATCHES[1]), atol=1e-5)


def test_data_parallel_is_taken_by_its_module() -> None:
    """Layers have their own names, and replicas on several devices cannot lose moments."""
    torch.manual_seed(0)
    plain = deep_net()
    model = nn.DataParallel(copy.deepcopy(plain))
    expected = by_torch(plain, BATCHES)
    report = bnrecal.recalibrate(model, BATCHES, estimator="cumulative")
    assert agree(model, expected)
    assert not any(name.startswith("module.") for name in report.layers)


def test_scripted_models_are_told_apart() -> None:
    """TorchScript hides its BatchNorms: said, not "none at all"."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still in use
        model = torch.jit.trace(deep_net(), BATCHES[0])
    with pytest.raises(BnrecalError, match="TorchScript: recalibrate the module before"):
        bnrecal.recalibrate(model, BATCHES)


class Regions(nn.Module):
    """A head on the bright regions alone, of which there may be none."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.BatchNorm2d(1), timm.layers.BatchNormAct2d(1)

    def forward(self, x: Tensor) -> Any:
        bright = x[x.mean((1, 2, 3)) > 0.5]
        return self.body(x), self.head(bright), self.head(bright[:0])


@pytest.mark.parametrize("estimator", ["pooled", "exact"])
def test_a_head_without_any_region(estimator: str) -> None:
    """A call on no values adds nothing and harms nothing, before and after calls on some."""
    dark, bright = torch.randn(8, 1, 4, 4) - 5, torch.randn(8, 1, 4, 4) + 5
    model = Regions()
    bnrecal.recalibrate(model, [dark, bright, dark], estimator=estimator)
    assert torch.allclose(model.head.running_mean, bright.mean().view(1), rtol=1e-4)
    assert torch.allclose(model.head.running_var, bright.var().view(1), rtol=1e-4)
    assert int(model.head.num_batches_tracked) == 1


def test_layers_that_share_their_buffers_are_refused() -> None:
    """Each would overwrite the other's: both named, nothing changed."""
    model = nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1))
    model[1].running_mean = model[0].running_mean
    before = everything(model)
    with pytest.raises(BnrecalError, match="0 and 1 share one running_mean"):
        bnrecal.recalibrate(model, BATCHES)
    assert same(everything(model), before)


class Tokens(nn.Module):
    """A transformer block with BatchNorm1d over (images, channels, tokens) and over (tokens, channels)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(1, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.first, self.second = nn.BatchNorm1d(8), nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        t = self.embed(x.flatten(2).transpose(1, 2))
        t = t + self.attention(t, t, t)[0]
        t = self.first(t.transpose(1, 2)).transpose(1, 2)
        y: Tensor = self.second(t.flatten(0, 1))
        return y


class Spectrum(nn.Module):
    """A complex forward whose BatchNorm sees real and imaginary part in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.fft.fft2(x)
        return torch.complex(self.norm(z.real), self.norm(z.imag))


class Checkpointed(nn.Module):
    """Gradient checkpointing, which may run a forward twice."""

    def __init__(self) -> None:
        super().__init__()
        self.body = deep_net()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.utils.checkpoint.checkpoint(self.body, x, use_reentrant=False)
        return y


@pytest.mark.parametrize(
    "make", [Tokens, Spectrum, Checkpointed, lambda: torch.fx.symbolic_trace(deep_net())]
)
def test_forwards_of_all_kinds(make: Callable[[], nn.Module]) -> None:
    """Equal to update_bn: tokens, complex numbers, checkpointing, traced graphs."""
    torch.manual_seed(0)
    model = make()
    expected = by_torch(model, BATCHES)
    bnrecal.recalibrate(model, BATCHES, estimator="cumulative")
    assert agree(model, expected)


def test_inside_inference_mode() -> None:
    """The caller's inference mode leaves buffers that training can use."""
    model = deep_net()
    with torch.inference_mode():
        bnrecal.recalibrate(model, BATCHES)
    assert not any(buffer.is_inference() for buffer in model.buffers())
    model.train()(BATCHES[0]).sum().backward()
