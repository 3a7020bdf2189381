"""timm's classifiers by name; needs the extra bnrecal[timm]."""

import difflib
from pathlib import Path
from typing import Any

from bnrecal.errors import BnrecalError
from bnrecal.networks.built import BuiltNetworks
from bnrecal.networks.network import Network, Purpose
from bnrecal.networks.predictions import class_indices


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise BnrecalError("--model: timm is not installed; pip install 'bnrecal[timm]'") from None
    return timm


class TimmModels(BuiltNetworks):
    """One architecture: the model of that name for the task's classes and channels."""

    def __init__(self, name: str, weights: Path | None, task: Purpose) -> None:
        super().__init__(f"timm:{name}", weights, task)
        self.names = (name,)
        if task.metric != "top1":
            raise BnrecalError(f"--model: {self.spec} is a classifier; task {task.name} is detection")
        if not _timm().is_model(name):
            near = difflib.get_close_matches(name, _timm().list_models(), 5) or ["resnet18"]
            raise BnrecalError(f"--model: timm has no model {name!r}; valid: {', '.join(near)}, ...")

    def make(self, arch: str) -> Network:
        n_classes, channels = len(self.task.classes), self.task.input_shape[0]
        module = _timm().create_model(arch, pretrained=False, num_classes=n_classes, in_chans=channels)
        return Network(module, class_indices)


def preprocessing(name: str) -> dict[str, Any]:
    """What the model's published weights were evaluated with, as fields of `Inputs`."""
    if not _timm().is_model(name):
        raise BnrecalError(f"--model: timm has no model {name!r}")
    config = _timm().data.resolve_data_config(_timm().get_pretrained_cfg(name).to_dict())
    channels, height, width = config["input_size"]
    return {
        "image_size": (height, width),
        "resize": int(min(height, width) / config["crop_pct"]),
        "fit": "crop",
        "interpolation": config["interpolation"],
        "channels": channels,
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
    }
