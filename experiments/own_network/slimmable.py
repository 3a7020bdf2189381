"""A supernet of one's own: every layer takes the first channels of a shared weight (slimmable networks,
Yu et al., ICLR 2019). What `--model slimmable:supernet` calls, and how it was trained.

python slimmable.py [FOLDER]      trains on FOLDER/train, writes slimmable.safetensors

An architecture is the width of its three layers in eighths, such as "8-4-2".
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from classifier import images, shuffled
from safetensors.torch import save_file
from torch import nn

FULL = (24, 48, 96)  # channels at 8 eighths
WIDTHS = (2, 4, 6, 8)


class Slimmable(nn.Module):
    """The shared weights. `archs` and `build` are all that bnrecal asks for; `choices` makes it a search
    space (then random:K needs no `sample` either), `candidate` lets its BatchNorms be judged.
    """

    archs = ("8-8-8", "4-4-4", "2-2-2")
    choices = (tuple(map(str, WIDTHS)),) * len(FULL)

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        ends = list(zip((1, *FULL[:-1]), FULL, strict=True))
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, 2, 1, bias=False) for i, o in ends)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o, momentum=0.0) for _, o in ends)
        self.head = nn.Linear(FULL[-1], n_classes)

    def build(self, arch: str) -> nn.Module:
        """The subnet as a module of its own: plain layers with the first channels of each weight."""
        with torch.no_grad():
            return self.subnet([WIDTHS.index(int(eighths)) for eighths in arch.split("-")])

    def sample(self, n: int, seed: int) -> list[str]:
        every = [f"{a}-{b}-{c}" for a in WIDTHS for b in WIDTHS for c in WIDTHS]
        return random.Random(seed).sample(every, min(n, len(every)))

    def candidate(self, layer: int, choice: int) -> nn.Module:
        """The BatchNorm that a layer of this width ends in."""
        with torch.no_grad():
            return sliced_norm(self.norms[layer], FULL[layer] * WIDTHS[choice] // 8)

    def subnet(self, choices: Sequence[int]) -> nn.Module:
        """The path that takes width `choices[i]` of WIDTHS in layer i."""
        eighths = [WIDTHS[choice] for choice in choices]
        layers: list[nn.Module] = []
        n_in = 1
        for full, width, conv, norm in zip(FULL, eighths, self.convolutions, self.norms, strict=True):
            n_out = full * width // 8
            layers += [sliced_conv(conv, n_in, n_out), sliced_norm(norm, n_out), nn.ReLU()]
            n_in = n_out
        head = nn.Linear(n_in, self.head.out_features)
        shared(head, weight=self.head.weight[:, :n_in], bias=self.head.bias)
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def shared(module: nn.Module, **parts: torch.Tensor) -> nn.Module:
    """Give the module slices of the shared tensors: in training the slices themselves, through which
    gradients flow back, without gradients copies, as parameters of its own.
    """
    for name, tensor in parts.items():
        delattr(module, name)
        if torch.is_grad_enabled():
            setattr(module, name, tensor)
        else:
            module.register_parameter(name, nn.Parameter(tensor.clone()))
    return module


def sliced_conv(conv: nn.Conv2d, n_in: int, n_out: int) -> nn.Module:
    module = nn.Conv2d(n_in, n_out, 3, 2, 1, bias=False)
    return shared(module, weight=conv.weight[:n_out, :n_in])


def sliced_norm(norm: nn.BatchNorm2d, n: int) -> nn.Module:
    module = nn.BatchNorm2d(n, momentum=norm.momentum)
    return shared(module, weight=norm.weight[:n], bias=norm.bias[:n])


def supernet(n_classes: int) -> nn.Module:
    """The factory. Being a module, the supernet gets --weights before it builds."""
    return Slimmable(n_classes)


# for --preprocess model
supernet.preprocessing = {"image_size": (28, 28), "channels": 1, "mean": (0.449,), "std": (0.226,)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("images"))
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    torch.manual_seed(0)
    random.seed(0)
    model = Slimmable()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.003)
    data = images(given.folder)
    for epoch in range(given.epochs):
        for x, labels in shuffled(data):
            optimiser.zero_grad()
            for choices in ([3] * 3, [0] * 3, random.choices(range(len(WIDTHS)), k=3)):  # the sandwich rule
                loss = nn.functional.cross_entropy(model.subnet(choices).train()(x), labels)
                loss.backward()
            optimiser.step()
        print(f"epoch {epoch + 1}/{given.epochs}: loss {loss.item():.3f}")
    save_file(model.state_dict(), "slimmable.safetensors")


if __name__ == "__main__":
    main()
