"""timm's classifiers by name; needs the extra bnrecal[timm]."""

import difflib
from pathlib import Path
from typing import Any

from bnrecal.errors import BnrecalError
from bnrecal.networks.built import BuiltNetworks, use_instead
from bnrecal.networks.network import Convert, Network, Purpose
from bnrecal.networks.predictions import class_indices


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise BnrecalError("--model: timm is not installed; pip install 'bnrecal[timm]'") from None
    return timm


_FITS = {"center": "crop", "squash": "stretch"}  # timm's crop mode -> fit


def _config(name: str) -> Any:
    """What timm knows of the model's published weights, None if there are none."""
    if not _timm().is_model(name):
        near = difflib.get_close_matches(name, _timm().list_models(), 5) or ["resnet18"]
        raise BnrecalError(f"--model: timm has no model {name!r}; valid: {', '.join(near)}, ...")
    try:
        return _timm().get_pretrained_cfg(name)
    except RuntimeError as error:  # no such tag
        raise BnrecalError(f"--model: timm:{name}: {error}") from None


class TimmModels(BuiltNetworks):
    """One architecture: the model of that name for the task's classes and channels."""

    def __init__(
        self, name: str, weights: Path | None, task: Purpose, convert: Convert | None = None
    ) -> None:
        super().__init__(f"timm:{name}", weights, task, convert)
        self.names = (name,)
        if task.metric != "top1":
            raise BnrecalError(f"--model: {self.spec} is a classifier; {use_instead(task)}")
        _config(name)

    def make(self, arch: str) -> Network:
        n_classes, channels = len(self.task.classes), self.task.input_shape[0]
        module = _timm().create_model(arch, pretrained=False, num_classes=n_classes, in_chans=channels)
        return Network(module, class_indices)


def preprocessing(name: str) -> dict[str, Any]:
    """What the model's published weights were evaluated with, as fields of `Inputs`."""
    found = _config(name)
    if found is None:
        raise BnrecalError(f"--preprocess: timm publishes no transforms for {name!r}")
    config = _timm().data.resolve_data_config(found.to_dict())
    if config["crop_mode"] not in _FITS:
        raise BnrecalError(f"--preprocess: {name!r} has crop mode {config['crop_mode']!r}; give --image-size")
    channels, height, width = config["input_size"]
    fit = _FITS[config["crop_mode"]]
    if fit == "stretch" and config["crop_pct"] != 1:
        raise BnrecalError(f"--preprocess: {name!r} stretches and crops; give --image-size and --fit")
    return {
        "image_size": (height, width),
        **({"resize": int(min(height, width) / config["crop_pct"])} if fit == "crop" else {}),
        "fit": fit,
        "interpolation": config["interpolation"],
        "channels": channels,
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
    }
