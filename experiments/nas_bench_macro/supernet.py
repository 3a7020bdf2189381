"""NAS-Bench-Macro's search space as a supernet of one's own: what `--model supernet:supernet` calls.

Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search", CVPR 2021; the benchmark trained
each of its 3,969 distinct networks alone on CIFAR-10, three times, and publishes their accuracies, so a
supernet's ranking can be held against the truth.

    image (3, 32, 32) -> stem (32, 32, 32) -> 8 layers -> (1280, 4, 4) -> mean -> classes

The layers stand in stages of 2, 3 and 3; the first of each halves the side and doubles the channels. An
architecture is a digit a layer: 0 identity, 1 an inverted residual with a 3x3 kernel and 3 times as many
channels inside, 2 one with a 5x5 kernel and 6 times as many (MobileNetV2). Where the shape changes,
identity is a 1x1 convolution with stride 2 and its BatchNorm.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

STAGES = (2, 3, 3)  # layers; channels 64, 128, 256
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
BLOCKS = ((3, 3), (5, 6))  # (kernel, expansion) of choices 1 and 2


def conv_norm(n_in: int, n_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(n_out)]


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow; with a shortcut where shapes agree."""

    def __init__(self, n_in: int, n_out: int, stride: int, kernel: int, expansion: int) -> None:
        super().__init__()
        inside = n_in * expansion
        self.path = nn.Sequential(
            *(*conv_norm(n_in, inside), nn.ReLU()),
            *(*conv_norm(inside, inside, kernel, stride, inside), nn.ReLU()),
            *conv_norm(inside, n_out),
        )
        self.shortcut = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.path(x)
        return x + y if self.shortcut else y


def candidates(n_in: int, n_out: int, stride: int) -> nn.ModuleList:
    """Identity, 3x3 with expansion 3, 5x5 with expansion 6."""
    same = stride == 1 and n_in == n_out
    identity = nn.Identity() if same else nn.Sequential(*conv_norm(n_in, n_out, 1, stride))
    return nn.ModuleList([identity, *(InvertedResidual(n_in, n_out, stride, *block) for block in BLOCKS)])


class MacroSupernet(nn.Module):
    """All candidates of all layers; a subnet runs one of each layer, with the weights that stand here."""

    archs = ("00000000", "11111111", "22222222")
    choices = (("0", "1", "2"),) * sum(STAGES)
    separator = ""

    def __init__(self, n_classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_norm(channels, STEM_CHANNELS, 3), nn.ReLU())
        self.blocks = nn.ModuleList()
        width = STEM_CHANNELS
        for n_layers in STAGES:
            self.blocks.append(candidates(width, 2 * width, 2))
            width *= 2
            self.blocks.extend(candidates(width, width, 1) for _ in range(n_layers - 1))
        self.head = nn.Sequential(
            *(*conv_norm(width, HEAD_CHANNELS), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(HEAD_CHANNELS, n_classes)),
        )

    def candidate(self, layer: int, choice: int) -> nn.Module:
        return cast(nn.ModuleList, self.blocks[layer])[choice]

    def chain(self, arch: str) -> tuple[nn.Module, ...]:
        """Stem, a candidate a layer, head: they run one after another."""
        taken = [self.candidate(layer, int(digit)) for layer, digit in enumerate(arch)]
        return (self.stem, *taken, self.head)

    def build(self, arch: str) -> nn.Module:
        return nn.Sequential(*self.chain(arch))

    def subnet(self, choices: Sequence[int]) -> nn.Module:
        """The path as a module that shares this supernet's weights, for training."""
        return self.build("".join(map(str, choices)))


def supernet(n_classes: int = 10, channels: int = 3) -> nn.Module:
    """The factory. Being a module, the supernet gets --weights before it builds."""
    return MacroSupernet(n_classes, channels)


# for --preprocess model: CIFAR-10's own
supernet.preprocessing = {  # type: ignore[attr-defined]
    "image_size": (32, 32),
    "channels": 3,
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
}


def canonical(arch: str) -> str:
    """The first name of this network: an identity that changes no shape may stand anywhere in its stage.

    As trained alone "...01..." and "...10..." within a stage are one network, and the benchmark counts 3,969
    of 6,561 names. In a supernet their layers have weights of their own, so there they differ.
    """
    found, at = "", 0
    for n_layers in STAGES:
        first, *rest = arch[at : at + n_layers]
        kept = [digit for digit in rest if digit != "0"]
        found += first + "0" * (len(rest) - len(kept)) + "".join(kept)
        at += n_layers
    return found
