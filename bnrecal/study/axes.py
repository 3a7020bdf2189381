"""The axes along which cells differ, declared once: columns, options, filters and labels follow from here."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bnrecal.study.cells import STORED


@dataclass(frozen=True)
class Axis:
    """`name` is the field of a cell and the column of a row, `option` the setting of a study."""

    name: str
    option: str


AXES = (
    Axis("arch", "arch"),
    Axis("batch_size", "bs"),
    Axis("n_samples", "samples"),
    Axis("estimator", "estimator"),
    Axis("momentum", "momentum"),
    Axis("seed", "seed"),
)
OPTIONS = {axis.option: axis.name for axis in AXES}  # what a study calls it -> what a row calls it
# What tells experiments apart that one table cannot hold, and then their rules.
EXPERIMENT = ("task", "data_digest", "metric")
RULE = ("estimator", "momentum")
# What a cell is, whoever measured it on whichever weights and images.
SAME_CELL = ("task", "metric", *(axis.name for axis in AXES))

METRIC_NAMES = {"map50": "mAP@0.5", "top1": "top-1"}


def metric_name(metric: str) -> str:
    """ "mAP@0.5", "top-1"; a metric that has no name for readers is called as it is."""
    return METRIC_NAMES.get(metric, metric)


def grid_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a study whose grid is the cell of these facts alone."""
    found = {axis.option: facts[axis.name] for axis in AXES if facts[axis.name] is not None}
    if facts["estimator"] == STORED:
        del found["samples"]
    return {option: value if option == "seed" else [value] for option, value in found.items()}


def rule(estimator: str, momentum: float | None) -> str:
    """ "ema, momentum 0.1", "pooled"."""
    return estimator if momentum is None else f"{estimator}, momentum {momentum:g}"


def short_rule(facts: Mapping[str, Any]) -> str:
    """ "ema 0.1", "pooled"."""
    momentum = facts["momentum"]
    return str(facts["estimator"]) if momentum is None else f"{facts['estimator']} {momentum:g}"


def varied(cells: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The axes besides architecture, batch size and images on which these differ."""
    cells = [cell for cell in cells if cell["estimator"] != STORED]
    names = [axis.name for axis in AXES if axis.name not in ("arch", "batch_size", "n_samples")]
    return tuple(name for name in names if len({cell[name] for cell in cells} - {None}) > 1)


def label(facts: Mapping[str, Any], besides: Collection[str] = ()) -> str:
    """The words that name a cell in a line: "arch1 ema bs 8 n 64", with the axes `besides` that it has."""
    if facts["estimator"] == STORED:
        return f"{facts['arch']} as it stands"
    words = [facts["arch"], *([facts["estimator"]] if "estimator" in besides else [])]
    words += [f"bs {facts['batch_size']:,} n {facts['n_samples']:,}"]
    words += [f"{name} {facts[name]}" for name in besides if name != "estimator" and facts[name] is not None]
    return " ".join(words)
