"""Network sources: who names architectures and builds them. Nothing here imports torch by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnrecal.errors import BnrecalError
from bnrecal.networks.embedded import PREPROCESSING, EmbeddedSupernet
from bnrecal.networks.network import Convert, NetworkSource, Purpose
from bnrecal.study.inputs import Inputs

MODELS = "supernet, torchvision:NAME, timm:NAME or module:factory"


@dataclass(frozen=True)
class Wanted:
    """What a source is opened with besides its name; see `of`."""

    weights: Path | None
    task: Purpose
    convert: Convert | None
    alone: bool


@dataclass(frozen=True)
class Kind:
    """How networks of one kind are opened by name, and what they were evaluated with: (name, metric).

    `decides(metric)`: whether they normalise by themselves, so that their preprocessing is not the task's.
    """

    open: Callable[[str, Wanted], NetworkSource]
    preprocessing: Callable[[str, str], dict[str, Any]]
    decides: Callable[[str], bool] = lambda metric: False


def _open_supernet(name: str, wanted: Wanted) -> NetworkSource:
    return EmbeddedSupernet(wanted.weights, wanted.task, wanted.convert)


def _open_torchvision(name: str, wanted: Wanted) -> NetworkSource:
    from bnrecal.networks.torchvision_models import TorchvisionModels

    return TorchvisionModels(name, wanted.weights, wanted.task, wanted.convert)


def _open_timm(name: str, wanted: Wanted) -> NetworkSource:
    from bnrecal.networks.timm_models import TimmModels

    return TimmModels(name, wanted.weights, wanted.task, wanted.convert)


def _open_own(spec: str, wanted: Wanted) -> NetworkSource:
    from bnrecal.networks.own import OwnNetworks

    return OwnNetworks(spec, wanted.weights, wanted.task, wanted.convert, alone=wanted.alone)


def _of_torchvision(name: str, metric: str) -> dict[str, Any]:
    from bnrecal.networks.torchvision_models import preprocessing

    return preprocessing(name, metric)


def _of_timm(name: str, metric: str) -> dict[str, Any]:
    from bnrecal.networks.timm_models import preprocessing

    return preprocessing(name)


def _of_own(spec: str, metric: str) -> dict[str, Any]:
    from bnrecal.networks.own import preprocessing

    return preprocessing(spec)


KINDS = {
    "supernet": Kind(_open_supernet, lambda name, metric: dict(PREPROCESSING)),
    "torchvision": Kind(_open_torchvision, _of_torchvision, decides=lambda metric: metric == "map50"),
    "timm": Kind(_open_timm, _of_timm),
}
OWN = Kind(_open_own, _of_own)  # any other module:factory


def _kind_of(model: str) -> tuple[Kind, str]:
    """The kind of a --model, and the name that kind knows it by."""
    kind, colon, name = model.partition(":")
    if kind in KINDS and not (kind == "supernet" and colon):  # a user's module may be called so
        return KINDS[kind], name
    return OWN, model


def of(inputs: Inputs, task: Purpose, convert: Convert | None = None, alone: bool = False) -> NetworkSource:
    """The source these inputs name, for networks that predict what `task` scores.

    `convert` gives a copy of a network with the layers that the weights are for; equal ones have equal
    `repr`. It is applied before weights are loaded. `alone`: these are of one architecture trained by
    itself, whatever the supernet it is a path of.

    Raises BnrecalError for an unknown name, a factory that fails, and weights of another network.
    """
    kind, name = _kind_of(inputs.model)
    if not inputs.model.partition(":")[2] and inputs.model != "supernet":
        raise BnrecalError(f"--model: unknown model {inputs.model!r}; valid: {MODELS}")
    weights = Path(inputs.weights) if inputs.weights is not None else None
    return kind.open(name, Wanted(weights, task, convert, alone))


def preprocessing(inputs: Inputs, metric: str) -> dict[str, Any]:
    """Fields of `Inputs` that these networks decide.

    With `preprocess="model"` what they were evaluated with by whoever trained them; otherwise nothing,
    but for torchvision's detectors, which normalise by themselves.
    """
    kind, name = _kind_of(inputs.model)
    if inputs.preprocess == "task" and not kind.decides(metric):
        return {}
    return kind.preprocessing(name, metric)


def get() -> NetworkSource:
    """The source of the default study's networks."""
    return EmbeddedSupernet()
