"""Network sources: who names architectures and builds them. Nothing here imports torch by itself."""

from pathlib import Path
from typing import Any

from bnrecal.errors import BnrecalError
from bnrecal.networks.embedded import PREPROCESSING, EmbeddedSupernet
from bnrecal.networks.network import Convert, NetworkSource, Purpose
from bnrecal.study.inputs import Inputs

MODELS = "supernet, torchvision:NAME, timm:NAME or module:factory"


def of(inputs: Inputs, task: Purpose, convert: Convert | None = None, alone: bool = False) -> NetworkSource:
    """The source these inputs name, for networks that predict what `task` scores.

    `convert` gives a copy of a network with the layers that the weights are for; equal ones have equal
    `repr`. It is applied before weights are loaded. `alone`: these are of one architecture trained by
    itself, whatever the supernet it is a path of.

    Raises BnrecalError for an unknown name, a factory that fails, and weights of another network.
    """
    kind, _, name = inputs.model.partition(":")
    weights = Path(inputs.weights) if inputs.weights is not None else None
    if inputs.model == "supernet":
        return EmbeddedSupernet(weights, task, convert)
    if not name:
        raise BnrecalError(f"--model: unknown model {inputs.model!r}; valid: {MODELS}")
    if kind == "torchvision":
        from bnrecal.networks.torchvision_models import TorchvisionModels

        return TorchvisionModels(name, weights, task, convert)
    if kind == "timm":
        from bnrecal.networks.timm_models import TimmModels

        return TimmModels(name, weights, task, convert)
    from bnrecal.networks.own import OwnNetworks

    return OwnNetworks(inputs.model, weights, task, convert, alone=alone)


def preprocessing(inputs: Inputs, metric: str) -> dict[str, Any]:
    """Fields of `Inputs` that these networks decide.

    With `preprocess="model"` what they were evaluated with by whoever trained them; otherwise nothing,
    but for torchvision's detectors, which normalise by themselves.
    """
    kind, _, name = inputs.model.partition(":")
    if inputs.preprocess == "task" and (kind != "torchvision" or metric != "map50"):
        return {}
    if inputs.model == "supernet":
        return dict(PREPROCESSING)
    if kind == "torchvision":
        from bnrecal.networks.torchvision_models import preprocessing as of_torchvision

        return of_torchvision(name, metric)
    if kind == "timm":
        from bnrecal.networks.timm_models import preprocessing as of_timm

        return of_timm(name)
    from bnrecal.networks.own import preprocessing as of_factory

    return of_factory(inputs.model)


def get() -> NetworkSource:
    """The source of the default study's networks."""
    return EmbeddedSupernet()
