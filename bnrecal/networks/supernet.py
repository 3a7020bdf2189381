"""The embedded single-path one-shot detection supernet (Guo et al., SPOS, ECCV 2020).

    image (1, 64, 64) -> stem (24, 32, 32) -> 8 choice blocks (64, 8, 8) -> head (14, 8, 8)

In each block one of four candidate operations is taken; a path through all blocks is an
architecture. A subnet shares the supernet's weights and holds nothing but its own path.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bnrecal.networks.operations import OPERATIONS, conv_norm

STAGES = ((32, 4), (64, 4))  # (channels, choice blocks), at 16 x 16 and at 8 x 8
N_BLOCKS = sum(blocks for _, blocks in STAGES)
STEM_CHANNELS = 24
N_CLASSES = 10
GRID_STRIDE = 8  # pixels of the image per cell of the head's grid
N_DISTANCES = 4  # raw box distances, before the class logits
_PRIOR = 0.02  # a cell's class score before training: most cells are background


class Block(nn.Module):
    """ReLU(x + operation(x)): a chosen operation refines what the shared skeleton carries."""

    def __init__(self, operation: nn.Module) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.operation(x) + x)


class Supernet(nn.Module):
    """All candidates of all blocks on a shared skeleton of stem, transitions and head.

    For metric "top1" the head pools and classifies, (images, classes) instead of a grid of boxes.
    """

    def __init__(self, channels: int = 1, n_classes: int = N_CLASSES, metric: str = "map50") -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_norm(channels, STEM_CHANNELS, 3, 2), nn.ReLU())
        self.transitions = nn.ModuleList()  # one before each stage, halving the side
        self.blocks = nn.ModuleList()  # (blocks)(candidates)
        width = STEM_CHANNELS
        for n_out, n_blocks in STAGES:
            self.transitions.append(nn.Sequential(*conv_norm(width, n_out, 3, 2), nn.ReLU()))
            for _ in range(n_blocks):
                self.blocks.append(nn.ModuleList(make(n_out) for _, make in OPERATIONS))
            width = n_out
        output: list[nn.Module] = [nn.Conv2d(width, N_DISTANCES + n_classes, 1)]
        if metric == "top1":
            output = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_classes)]
        self.head = nn.Sequential(*conv_norm(width, width, 3), nn.ReLU(), *output)

    def subnet(self, choices: Sequence[int]) -> nn.Sequential:
        """The path that takes candidate `choices[i]` in block i; shares this supernet's modules."""
        taken = [
            Block(candidates[choice])
            for candidates, choice in zip(self.blocks, choices, strict=True)
            if isinstance(candidates, nn.ModuleList)
        ]
        path: list[nn.Module] = [self.stem]
        for transition, (_, n_blocks) in zip(self.transitions, STAGES, strict=True):
            path += [transition, *taken[:n_blocks]]
            taken = taken[n_blocks:]
        return nn.Sequential(*path, self.head)


def initialise(supernet: Supernet) -> None:
    """Kaiming fan-in for convolutions; a detection head starts by finding nothing."""
    for module in supernet.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    output = supernet.head[-1]
    assert isinstance(output, nn.Conv2d | nn.Linear)
    assert output.bias is not None
    nn.init.normal_(output.weight, std=0.01)
    nn.init.zeros_(output.bias)
    if isinstance(output, nn.Conv2d):
        nn.init.constant_(output.bias[N_DISTANCES:], math.log(_PRIOR / (1 - _PRIOR)))
