"""Networks and batches that the tests of this folder share."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


def net(dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Sequential:
    """Two convolutions, each with a BatchNorm whose weights and statistics are not the first ones."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4)),
    )
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            settle(module)
    return model.to(dtype)


def settle(norm: nn.Module) -> None:
    """Weights and statistics that a trained layer might have."""
    with torch.no_grad():
        for name, tensor in (*norm.named_parameters(recurse=False), *norm.named_buffers(recurse=False)):
            if name == "num_batches_tracked":
                continue
            tensor.normal_(0.3, 0.2)
            if name in ("running_var", "running_std", "weight"):
                tensor.abs_().add_(0.5)


def images(n: int, *shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, *shape, generator=generator, dtype=torch.float64) * 2 + 1).to(dtype)


def gradients(model: nn.Module, x: Tensor, upstream: Tensor) -> dict[str, Tensor]:
    """Gradients of sum(output upstream) with respect to x and the parameters."""
    model.zero_grad()
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    (model(x) * upstream).sum().backward()
    assert x.grad is not None
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"input": x.grad, **found}


def by_groups(model: nn.Module, x: Tensor, upstream: Tensor, n: int) -> tuple[Tensor, dict[str, Tensor]]:
    """(outputs, gradients) of the groups of n images, one forward after another."""
    model.zero_grad()
    x = x.detach().clone().requires_grad_()
    outputs = torch.cat([model(group) for group in x.split(n)])
    (outputs * upstream).sum().backward()
    assert x.grad is not None
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return outputs.detach(), {"input": x.grad, **found}


def close(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float) -> None:
    """Every tensor within the tolerance of the other's largest entry."""
    assert a.keys() == b.keys()
    for name, value in b.items():
        assert a[name].shape == value.shape, name
        if not value.numel():
            continue
        scale = max(1.0, value.detach().abs().max().item())
        gap = (a[name].detach() - value.detach()).abs().max().item()
        assert gap <= tolerance * scale, f"{name}: {gap:.2g} of {scale:.2g}"


def twin(model: nn.Module, change: Callable[[nn.Module], object] = lambda m: None) -> nn.Module:
    other = copy.deepcopy(model)
    change(other)
    return other
