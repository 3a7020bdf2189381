"""What others do to a network's statistics, for its time."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn


def bare_forward(model: nn.Module, batches: list[Tensor]) -> None:
    model.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)


def torch_update_bn(model: nn.Module, batches: list[Tensor]) -> None:
    update_bn(batches, model.train())


@torch.no_grad()
def loop_like_fvcore(model: nn.Module, batches: list[Tensor]) -> None:
    """The loop of fvcore's precise BN: momentum 1, and the mean of what each batch left in the buffers."""
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [layer.momentum for layer in layers]
    sums = [(torch.zeros_like(m.running_mean), torch.zeros_like(m.running_var)) for m in layers]  # type: ignore[arg-type]
    model.train()
    for layer in layers:
        layer.momentum = 1.0
    for k, batch in enumerate(batches, start=1):
        model(batch)
        for layer, (mean, var) in zip(layers, sums, strict=True):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            mean += (layer.running_mean - mean) / k
            var += (layer.running_var - var) / k
    for layer, momentum, (mean, var) in zip(layers, before, sums, strict=True):
        assert layer.running_mean is not None
        assert layer.running_var is not None
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(var)
        layer.momentum = momentum


PEERS = {
    "bare forward": bare_forward,
    "torch update_bn": torch_update_bn,
    "fvcore's loop": loop_like_fvcore,
}
