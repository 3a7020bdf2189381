"""A detector of one's own: what `--model detector:Detector` calls, and how it was trained.

python detector.py [FOLDER]     trains on FOLDER/train.json, writes detector.safetensors

Every cell of an 8 x 8 grid says whether the centre of an object lies in it, of which class, and how far
away the four sides of its box are.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.ops import batched_nms

from bnrecal.metrics.boxes import Detections

STRIDE = 8  # pixels of a cell
MEAN, STD = 0.449, 0.226  # what bnrecal takes for grey images unless told otherwise


def block(n_in: int, n_out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]


class Detector(nn.Module):
    """The factory is the class itself: bnrecal gives the number of classes, and loads --weights."""

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        layers = [*block(1, 24, 2), *block(24, 48, 2), *block(48, 96, 2), *block(96, 96, 1)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(96, 4 + n_classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(images, 1, height, width) -> (images, 4 + classes, height / 8, width / 8)."""
        return self.layers(x)

    def predict(self, output: Tensor) -> Detections:
        """What one batch gave, as boxes x, y, width, height in pixels; images are numbered from 0."""
        scores, labels = output[:, 4:].sigmoid().max(1)  # (images, height, width)
        image, row, column = (scores > 0.05).nonzero(as_tuple=True)
        sides = output[image, :4, row, column].exp() * STRIDE  # left, top, right, bottom of the centre
        centre = (torch.stack([column, row], 1) + 0.5) * STRIDE
        corners = torch.cat([centre - sides[:, :2], centre + sides[:, 2:]], 1)
        scores, labels = scores[image, row, column], labels[image, row, column]
        kept = batched_nms(corners, scores, image * (output.shape[1] - 4) + labels, 0.5)
        boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)[kept]
        return Detections(
            image[kept].numpy(), boxes.double().numpy(), labels[kept].numpy(), scores[kept].double().numpy()
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("."))
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    torch.manual_seed(0)
    images, objects = scenes(given.folder)
    model = Detector()
    nn.init.constant_(model.layers[-1].bias[4:], -4.0)  # at first nothing is found anywhere
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.003)
    for epoch in range(given.epochs):
        for chosen in torch.randperm(len(images)).split(32):
            optimiser.zero_grad()
            loss = loss_of(model(images[chosen]), [objects[int(k)] for k in chosen])
            loss.backward()
            optimiser.step()
        print(f"epoch {epoch + 1}/{given.epochs}: loss {loss.item():.3f}")
    save_file(model.state_dict(), "detector.safetensors")


def scenes(folder: Path) -> tuple[Tensor, list[list[tuple[list[float], int]]]]:
    """All training images, and of each its (box, label)s."""
    document = json.loads((folder / "train.json").read_text())
    pixels = [np.asarray(Image.open(folder / "images" / one["file_name"])) for one in document["images"]]
    objects: list[list[tuple[list[float], int]]] = [[] for _ in pixels]
    for one in document["annotations"]:
        objects[one["image_id"]].append((one["bbox"], one["category_id"] - 1))
    return (torch.tensor(np.stack(pixels))[:, None].float() / 255 - MEAN) / STD, objects


def loss_of(output: Tensor, objects: list[list[tuple[list[float], int]]]) -> Tensor:
    """Binary cross-entropy of every class in every cell, and L1 of log sides where an object is centred."""
    target = torch.zeros_like(output[:, 4:])
    apart = []
    for k, found in enumerate(objects):
        for (x, y, width, height), label in found:
            column, row = int((x + width / 2) // STRIDE), int((y + height / 2) // STRIDE)
            target[k, label, row, column] = 1
            cx, cy = (column + 0.5) * STRIDE, (row + 0.5) * STRIDE
            sides = torch.tensor([cx - x, cy - y, x + width - cx, y + height - cy]).clamp(min=1) / STRIDE
            apart.append((output[k, :4, row, column] - sides.log()).abs().sum())
    n = max(1, len(apart))
    classes = nn.functional.binary_cross_entropy_with_logits(output[:, 4:], target, reduction="sum")
    return (classes + torch.stack(apart).sum()) / n


if __name__ == "__main__":
    main()
