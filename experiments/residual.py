"""A residual network for small colour images that two processor cores train in minutes: norm_batch.toml.

Three stages of one basic block each (He et al., CVPR 2016) at half, a quarter and an eighth of the image's
side: 9 BatchNorms, 174,274 parameters. Run as a script it counts them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (24, 48, 96)


class Block(nn.Module):
    """Two 3x3 convolutions beside the identity, or beside a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def net(n_classes: int = 10) -> nn.Module:
    """Initial weights from torch's generator, Kaiming fan-out as usual for residual networks."""
    blocks, channels = [], WIDTHS[0]
    for k, width in enumerate(WIDTHS):
        blocks.append(Block(channels, width, 1 if k == 0 else 2))
        channels = width
    model = nn.Sequential(
        nn.Conv2d(3, WIDTHS[0], 3, 2, 1, bias=False),
        nn.BatchNorm2d(WIDTHS[0]),
        nn.ReLU(),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(WIDTHS[-1], n_classes),
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


if __name__ == "__main__":
    model = net()
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {norms} BatchNorms")
    print(tuple(model(torch.zeros(2, 3, 32, 32)).shape))
