"""A small network trained for a second or two on the embedded garments, whatever its images are scaled by."""

import functools

import torch
from torch import Tensor, nn

from bnrecal.data.sprites import sprites

N_TRAIN, N_HELD_OUT = 1600, 512


@functools.cache
def garments(channels: int = 1) -> tuple[Tensor, Tensor]:
    """(uint8 images (2112, channels, 28, 28), classes), shuffled; the last 512 are not trained on.

    With three channels each is tinted: a brightness of its own in every channel.
    """
    found = torch.from_numpy(sprites("train"))
    n_classes, n_each = found.shape[:2]
    dice = torch.Generator().manual_seed(0)
    order = torch.randperm(n_classes * n_each, generator=dice)[: N_TRAIN + N_HELD_OUT]
    images = found.reshape(-1, 1, 28, 28)[order].float()
    if channels == 3:
        base = torch.tensor([0.4, 0.3, 0.2]).view(3, 1, 1)
        tint = torch.rand(len(order), 3, 1, 1, generator=dice) * 0.6 + base
        images = (255 - images) * tint
    return images.round().clamp(0, 255).byte(), order // n_each


@functools.cache
def _trained(mean: tuple[float, ...], std: tuple[float, ...], channels: int) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(channels, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10)),
    )
    images, truth = garments(channels)
    x = normalised(images, mean, std)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for epoch in range(4):
        for ids in torch.randperm(N_TRAIN, generator=torch.Generator().manual_seed(epoch)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[ids]), truth[ids]).backward()
            optimizer.step()
    return model.eval()


def trained(
    mean: tuple[float, ...] = (0.0,), std: tuple[float, ...] = (1.0,), channels: int = 1
) -> nn.Module:
    """A copy of the network trained on (pixels / 255 - mean) / std, in eval mode."""
    import copy

    return copy.deepcopy(_trained(mean, std, channels))


def normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    m, s = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    return (images.float() / 255 - m) / s
