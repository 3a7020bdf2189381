"""Real fits of a small network on the embedded garments, for the tests of the Lightning callback.

Run as a module it is one fit in two processes, and writes what each of them ended with.
"""

import sys
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bnrecal.data.sprites import sprites
from bnrecal.integrations.lightning import RecalibrateBatchNorm

N_TRAIN, N_VAL, BATCH = 320, 200, 32


def garments(split: str, n: int) -> TensorDataset:
    """The first images of each class, sorted by class."""
    per_class = torch.from_numpy(sprites(split)[:, : n // 10].copy())
    x = per_class.reshape(-1, 1, 28, 28).float() / 128 - 1
    return TensorDataset(x[:, :, ::2, ::2].contiguous(), torch.arange(10).repeat_interleave(n // 10))


def body(momentum: float = 0.1) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, 2), nn.BatchNorm2d(16, momentum=momentum), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, 2), nn.BatchNorm2d(32, momentum=momentum), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(128, 10)),
    )


class Classifier(pl.LightningModule):
    def __init__(self, momentum: float = 0.1) -> None:
        super().__init__()
        self.net = body(momentum)
        self.accuracies: list[float] = []
        self.validated: list[dict[str, Tensor]] = []  # the state at the end of each validation's last batch
        self.fail_in_validation = False
        self._right = self._seen = 0

    def forward(self, x: Tensor) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def on_validation_epoch_start(self) -> None:
        self._right = self._seen = 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if self.fail_in_validation and not self.trainer.sanity_checking:
            raise RuntimeError("no space for these images")
        self._right += int((self(batch[0]).argmax(1) == batch[1]).sum())
        self._seen += len(batch[1])
        if batch_idx == 0:
            self.validated.append({name: value.clone() for name, value in self.state_dict().items()})

    def on_validation_epoch_end(self) -> None:
        self.accuracies.append(self._right / self._seen)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.005)


def train_loader() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    return DataLoader(garments("train", N_TRAIN), BATCH, shuffle=True, generator=generator)


def fit(model: Classifier, *callbacks: pl.Callback, **settings: Any) -> pl.Trainer:
    """A fit of two epochs without anything on the disk."""
    torch.manual_seed(2)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    options = {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "logger": False, **quiet, **settings}
    train = options.pop("train") if "train" in options else train_loader()
    trainer = pl.Trainer(callbacks=list(callbacks), **options)
    trainer.fit(model, train, DataLoader(garments("val", N_VAL), 50))
    return trainer


def main(folder: str) -> None:
    torch.set_num_threads(1)
    model = Classifier()
    recalibration = RecalibrateBatchNorm(n_samples=101)
    fit(model, recalibration, devices=2, strategy="ddp", max_epochs=1, num_sanity_val_steps=0)
    assert recalibration.report is not None
    found = {"state": model.state_dict(), "n_samples": recalibration.report.n_samples}
    torch.save(found, f"{folder}/{model.global_rank}.pt")


if __name__ == "__main__":
    main(sys.argv[1])
