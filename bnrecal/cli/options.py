"""Options that several commands share: where images and weights are, and the grid of a study."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
OUT = Path("results")


def setting(name: str, **attributes: Any) -> Callable[[Command], Command]:
    """An option that can also be set by BNRECAL_NAME."""
    return click.option(f"--{name}", envvar=f"BNRECAL_{name.upper()}", show_envvar=False, **attributes)


def comma_list(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """A comma list; its items are checked by the study."""
    return None if value is None else tuple(item.strip() for item in value.split(","))


INPUTS = (
    setting("study", type=click.Path(path_type=Path), help="A study file (TOML); options win over it."),
    setting("task", help="garments (default) or tiny."),
)
GRID = (
    setting("arch", callback=comma_list, help="Architectures, comma list.  [arch1,arch2,arch3]"),
    setting("bs", callback=comma_list, help="Batch sizes, comma list.  [8,16,32,64]"),
    setting("samples", callback=comma_list, help="Calibration images, comma list.  [2560,5120,10240]"),
    setting("estimator", callback=comma_list, help="ema, cumulative, pooled, exact; comma list.  [ema]"),
    setting("momentum", callback=comma_list, help="Momenta of ema, comma list.  [0.1]"),
    setting("seed", help="Draws the fixed order of the calibration images.  [0]"),
    setting("repeats", help="Orders of the images: seed, seed + 1, ...  [1]"),
)
device_option = setting("device", default="auto", help="auto, cpu, cuda or cuda:i.", show_default=True)


def input_options(command: Command) -> Command:
    """The options of `Inputs`, and --study."""
    for option in reversed(INPUTS):
        command = option(command)
    return command


def grid_options(command: Command) -> Command:
    """The other options of `Study`."""
    for option in reversed(GRID):
        command = option(command)
    return command


def gathered(
    context: click.Context, file: Path | None, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings and the place of each: options and environment over the study file.

    Takes from `options` what `Study` knows; the rest is the command's own.
    """
    from bnrecal.study import Study, read_study_file

    known = Study.model_fields
    settings = read_study_file(file) if file else {}
    places = {name: f"{file}: {name}" for name in settings}
    for name in known:
        if options.get(name) is not None:
            settings[name] = options[name]
            from_environment = context.get_parameter_source(name) == click.core.ParameterSource.ENVIRONMENT
            places[name] = f"BNRECAL_{name.upper()}" if from_environment else _flag(name)
    return settings, {**{name: _flag(name) for name in known}, **places}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
