"""A plain classifier of one's own: what `--model classifier:network` calls, and how it was trained.

python classifier.py [FOLDER]     trains on FOLDER/train, writes classifier.safetensors
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import datasets, transforms


def block(n_in: int, n_out: int) -> list[nn.Module]:
    return [nn.Conv2d(n_in, n_out, 3, 2, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]


def network(n_classes: int = 10) -> nn.Module:
    """The factory: bnrecal gives the number of classes, and loads --weights into what comes back."""
    layers = [*block(1, 24), *block(24, 48), *block(48, 96)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, n_classes))


def images(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """All training images and labels, normalised as bnrecal does it for grey images by default."""
    to_input = transforms.Compose(
        [transforms.Grayscale(), transforms.ToTensor(), transforms.Normalize(0.449, 0.226)]
    )
    data = datasets.ImageFolder(str(folder / "train"), to_input)
    x, labels = zip(*data, strict=True)
    return torch.stack(x), torch.tensor(labels)


def shuffled(data: tuple[torch.Tensor, torch.Tensor], batch_size: int = 64) -> Iterator[list[torch.Tensor]]:
    for chosen in torch.randperm(len(data[0])).split(batch_size)[:-1]:
        yield [part[chosen] for part in data]


def train(model: nn.Module, data: tuple[torch.Tensor, torch.Tensor], epochs: int) -> None:
    """Without running statistics (momentum 0), as supernets are trained: evaluation needs recalibration."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.003)
    for epoch in range(epochs):
        for x, labels in shuffled(data):
            loss = nn.functional.cross_entropy(model.train()(x), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        print(f"epoch {epoch + 1}/{epochs}: loss {loss.item():.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("images"))
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    torch.manual_seed(0)
    model = network()
    train(model, images(given.folder), given.epochs)
    save_file(model.state_dict(), "classifier.safetensors")


if __name__ == "__main__":
    main()
