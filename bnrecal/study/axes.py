"""The axes along which cells differ, declared once.

From here follow the settings of a study and their defaults (study.py), options with their help
(cli/options.py), the columns of a row (store/rows.py), what `--only` asks for (selection.py), labels, grids
and passes. A key hashes a cell's fields, which are the axes and what a cell is measured on (`MEASURED_ON`).
Imports nothing heavy: options are made before anything is known to be needed.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

STORED = "stored"  # estimates nothing: the network as it came, which every other cell has to beat
ESTIMATORS = ("ema", "cumulative", "pooled", "exact", STORED)
MOMENTUM = 0.1  # PyTorch's convention: the weight of the newest batch

MOST = 2**53  # up to there every reader of JSON tells whole numbers apart
Count = Annotated[int, Ge(1), Le(MOST)]
Number = Annotated[int, Ge(0), Le(MOST)]
Momentum = Annotated[float, Gt(0), Le(1)]
Seed = Annotated[int, Ge(0), Lt(2**63)]


@dataclass(frozen=True)
class Axis:
    """`name` is the field of a cell and the column of a row, `option` the setting of a study.

    A column holds `holds`, a setting several of them (but the seed, which `repeats` counts on from);
    `words` name the axis in a table, `about` in the help, where `usual` is the default.
    """

    name: str
    option: str
    words: str
    holds: Any
    about: str
    usual: Any
    several: bool = True
    usual_said: str | None = None  # instead of `usual`

    @property
    def help(self) -> str:
        """What the option is, and in brackets what holds without it."""
        values = self.usual if self.several else [self.usual]
        return f"{self.about}  [{self.usual_said or ','.join(map(str, values))}]"


AXES = (
    Axis(
        "arch",
        option="arch",
        words="architecture",
        holds=str,
        about="Architectures, comma list; random:K draws K.",
        usual=("arch1", "arch2", "arch3"),
        usual_said="those of the model",
    ),
    Axis(
        "batch_size",
        option="bs",
        words="batch size",
        holds=Count | None,
        about="Batch sizes, comma list.",
        usual=(8, 16, 32, 64),
    ),
    Axis(
        "n_samples",
        option="samples",
        words="images",
        holds=Number,
        about="Calibration images, comma list.",
        usual=(2560, 5120, 10240),
    ),
    Axis(
        "estimator",
        option="estimator",
        words="estimator",
        holds=str,
        about=f"{', '.join(ESTIMATORS[:-1])}; comma list.",
        usual=ESTIMATORS[:1],
    ),
    Axis(
        "momentum",
        option="momentum",
        words="momentum",
        holds=Momentum | None,
        about="Momenta of ema, comma list.",
        usual=(MOMENTUM,),
    ),
    Axis(
        "seed",
        option="seed",
        words="seed",
        holds=Seed | None,
        about="Draws the fixed order of the calibration images.",
        usual=0,
        several=False,
    ),
)
AXIS = {axis.name: axis for axis in AXES}
OPTIONS = {axis.option: axis.name for axis in AXES}  # what a study calls it -> what a row calls it
USUAL = {axis.option: axis.usual for axis in AXES}
# The other fields of a cell: its images, its network, and the figure it is judged by.
MEASURED_ON = ("task", "metric", "data_digest", "order_digest", "weights_digest", "trained")
# Fields younger than the first rows: a key hashes them and a row has them only where they are set.
LATER = ("trained",)
# What tells experiments apart that one table cannot hold, and then their rules.
EXPERIMENT = ("task", "data_digest", "metric")
RULE = ("estimator", "momentum")
# What a cell is, whoever measured it on whichever weights and images.
SAME_CELL = ("task", "metric", *(axis.name for axis in AXES))

# Eval that one is ready to lose: `report` and `advise` advise what is cheapest within it, `compare` calls a
# fall within it none. `recalibrate` has none, since it asks only what is beyond noise; `doctor` and `verify`
# ask whether figures are the same, which is another question (Outputs.rounding, --may-differ).
TOLERANCE = 0.003

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
