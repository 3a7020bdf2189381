"""Options of the commands that take one network in one setting."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from bnrecal.cli.options import along, gathered, setting
from bnrecal.study.axes import MOMENTUM, MOST
from bnrecal.study.cells import USUAL

if TYPE_CHECKING:
    from bnrecal.recalibration.frozen import Frozen

Command = TypeVar("Command", bound=Callable[..., Any])

ESTIMATOR, BATCH_SIZE, SAMPLES = USUAL


def _alone(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """One value, as the list of one that a study wants."""
    return None if value is None else (value.strip(),)


ARCH = setting("arch", callback=_alone, help="One architecture, if there are several.")
BATCH = setting("bs", callback=_alone, help=f"Images in a batch.  [{BATCH_SIZE}]")
COUNT = setting("samples", callback=_alone, help=f"Calibration images.  [{SAMPLES}, or all there are]")
SEED = along("seed")
RULE = (
    setting("estimator", callback=_alone, help=f"ema, cumulative, pooled or exact.  [{ESTIMATOR}]"),
    setting("momentum", callback=_alone, help=f"Momentum of ema.  [{MOMENTUM}]"),
)

FROZEN = setting(
    "frozen",
    help="BatchNorms that keep their statistics: auto, by_mode, none, or names, comma list.  [auto: those in "
    "eval mode, if others are in train mode]",
)


def output(help: str) -> Callable[[Command], Command]:
    """Where the file is written that the command is for."""
    return click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help=help)


FORCE = click.option("--force", is_flag=True, help="Replace the file if it exists.")
SHOWN = (
    click.option(
        "--even-if-worse", is_flag=True, help="Write the file even where the metric fell beyond noise."
    ),
    click.option("--all", "every", is_flag=True, help="Show every layer, not the ten that changed most."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table."),
)


def frozen_of(value: str | None) -> "Frozen":
    """The rule this option names, or its list of names."""
    from bnrecal.recalibration.frozen import RULES

    word = (value or "auto").strip().replace("-", "_")
    if word in RULES:
        return cast("Frozen", word)
    return tuple(name.strip() for name in (value or "").split(",") if name.strip())


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """These options, in the order the help shows them."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def one_setting(context: click.Context, file: Path | None, options: Mapping[str, Any]) -> Any:
    """The study of one cell that these options and this file ask for, opened, with this page's defaults.

    Raises BnrecalError where more than one architecture or value is left.
    """
    from bnrecal.measure.one_network import check_single
    from bnrecal.plan.opened import Opened, open_study
    from bnrecal.study.study import make_study

    settings, places = gathered(context, file, options)
    settings["baseline"] = settings["reference"] = False
    if "estimator" not in options:  # a command without rules is not concerned with the file's
        for name in ("estimator", "momentum"):
            settings.pop(name, None)
    settings.setdefault("bs", (BATCH_SIZE,))
    settings.setdefault("estimator", (ESTIMATOR,))
    counted = "samples" in settings
    if not counted:  # the task says how many there are, once it is open
        settings["samples"] = (MOST,)  # enough for any batch
    opened = open_study(settings, places)
    study = opened.study
    check_single(study)
    if not counted:
        samples = (max(*study.bs, min(SAMPLES, opened.task.n_calibration)),)
        study = make_study({**study.model_dump(exclude_none=True), "samples": samples}, places)
    return Opened(study, opened.task, opened.source)
