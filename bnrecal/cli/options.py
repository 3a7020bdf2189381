"""Options that several commands share: where images and weights are, and the grid of a study."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from bnrecal.cli import completion
from bnrecal.study.axes import AXES, AXIS, TOLERANCE, Axis
from bnrecal.study.cells import USUAL

Command = TypeVar("Command", bound=Callable[..., Any])
OUT = Path("results")


def setting(name: str, **attributes: Any) -> Callable[[Command], Command]:
    """An option that can also be set by BNRECAL_NAME."""
    variable = f"BNRECAL_{name.upper().replace('-', '_')}"
    attributes.setdefault("shell_complete", completion.of(name))
    return click.option(f"--{name}", envvar=variable.partition("/")[0], show_envvar=False, **attributes)


def comma_list(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """A comma list; its items are checked by the study."""
    return None if value is None else tuple(item.strip() for item in value.split(","))


def _into_environment(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Settings of the cache reach every process that decodes images by the environment."""
    if value is None:
        return
    os.environ[f"BNRECAL_{str(parameter.name).upper()}"] = value
    if parameter.name == "cache_limit":
        from bnrecal.data.cache_files import cache_limit_bytes

        cache_limit_bytes()  # refuse what is no number before anything is done


INPUTS = (
    setting("study", type=click.Path(path_type=Path), help="A study file (TOML); options win over it."),
    setting("task", help="garments (default), tiny, imagefolder, csv, fashion-mnist, cifar10, coco, voc."),
    setting("model", help="supernet (default), torchvision:NAME, timm:NAME, or module:factory."),
    setting("weights", help="Weights of the model: safetensors or a state dict.", metavar="FILE"),
    setting("calibration", help="Images to calibrate with: class folders, or a list.", metavar="PATH"),
    setting("evaluation", help="Images to evaluate on, in the same form.", metavar="PATH"),
    setting("images", help="Folder that names in lists are relative to.", metavar="DIR"),
    setting(
        "data",
        help="torchvision's root: for fashion-mnist and cifar10, instead of the three above.",
        metavar="DIR",
    ),
    setting("classes", callback=comma_list, help="Class names in the order of the network's outputs."),
    setting("order", help="random (by --seed), file, or a list of images.  [random]"),
    setting("preprocess", help="Whose defaults the options below have: task or model.  [task]"),
    setting("image-size", help="Side, or HEIGHTxWIDTH.  [the data set's, for fashion-mnist and cifar10]"),
    setting("fit", help="crop or stretch.  [crop; stretch for detection]"),
    setting("resize", help="Shorter side before the centre crop.  [that of the crop]"),
    setting("interpolation", help="bilinear, bicubic, nearest or lanczos.  [bilinear]"),
    setting("channels", help="1 (grey) or 3.  [3; 1 for fashion-mnist]"),
    setting(
        "mean",
        callback=comma_list,
        help="Of pixels / 255: one value, or one per channel.  [that of fashion-mnist or cifar10; "
        "else ImageNet's 0.485,0.456,0.406, or 0.449 for grey; 0 for torchvision's detectors]",
    ),
    setting(
        "std",
        callback=comma_list,
        help="The same for the standard deviation.  [0.229,0.224,0.225, or 0.226 for grey; as --mean]",
    ),
    setting(
        "transforms",
        help="module:name of a callable on Pillow images, instead of --image-size, --fit, --resize and "
        "--interpolation.",
    ),
    setting(
        "allow-random-transforms", is_flag=True, default=None, help="One fixed random view of each image."
    ),
    setting("skip-bad-images", is_flag=True, default=None, help="Leave out what cannot be decoded."),
    setting(
        "cache-dir", callback=_into_environment, expose_value=False, help="Where decoded images are kept."
    ),
    setting("cache-limit", callback=_into_environment, expose_value=False, help="In GB; 0: keep none.  [50]"),
)


def along(name: str, help: str | None = None) -> Callable[[Command], Command]:
    """The option of an axis, with a help of the command's own if it asks another question."""
    axis = AXIS[name]
    return setting(
        axis.option, callback=comma_list if axis.several else None, help=axis.help if help is None else help
    )


GRID = (
    *(along(axis.name) for axis in AXES),
    setting("repeats", help="Orders of the images: seed, seed + 1, ...  [1]"),
    setting(
        "baseline/--no-baseline",
        default=None,
        help="Measure the network as it stands too, as with stored in --estimator.  [yes]",
    ),
    setting(
        "reference/--no-reference",
        default=None,
        help="Measure pooled statistics of 1,024 images in batches of 32 too.  [where no grid is given]",
    ),
)
# Headings of the help, by the names of the options below them; all others stand under "Run".
_NETWORK = ("model", "weights", "arch")
_SECTIONS = ("Images", "Network", "Grid", "Run")


class SectionedCommand(click.Command):
    """A command whose help groups its options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Sections in the order of _SECTIONS, empty ones left out."""
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in _SECTIONS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections[_section(str(parameter.name))].append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Which of several values counts."""
        formatter.write_paragraph()
        formatter.write_text(
            "A setting's option counts before its environment variable (--bs: BNRECAL_BS), that before the "
            "study file, that before the default, which stands in brackets."
        )


def _section(name: str) -> str:
    from bnrecal.study.inputs import Inputs
    from bnrecal.study.study import Study

    if name in _NETWORK:
        return "Network"
    if name in Inputs.model_fields or name.startswith("cache_"):
        return "Images"
    return "Grid" if name in Study.model_fields else "Run"


def tolerance_option(help: str) -> Callable[[Command], Command]:
    """How much eval one is ready to lose, for all commands that ask it."""
    return click.option(
        "--tolerance", type=click.FloatRange(min=0), default=TOLERANCE, show_default=True, help=help
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


def _of_ranking(axis: Axis) -> str:
    """What the option is, with the default of `rank` and `search`: what `recalibrate` does by itself."""
    estimator, batch_size, n_samples = USUAL
    usual = {
        "arch": "all; of more than 100 random:100; without choices those of the model",
        "batch_size": f"{batch_size}, or all images",
        "n_samples": f"{n_samples}, or all there are",
        "estimator": estimator,
    }
    return f"{axis.about}  [{usual[axis.name]}]" if axis.name in usual else axis.help


RANKED = (*(along(axis.name, _of_ranking(axis)) for axis in AXES), GRID[len(AXES)])


def rank_options(command: Command) -> Command:
    """Those of them that name architectures and what they are recalibrated with."""
    for option in reversed(RANKED):
        command = option(command)
    return command


def setting_options(command: Command) -> Command:
    """Those of them that say what is recalibrated with."""
    for option in reversed(RANKED[1 : len(AXES)]):
        command = option(command)
    return command


def gathered(
    context: click.Context, file: Path | None, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings and the place of each: options and environment over the study file.

    Takes from `options` what `Study` knows; the rest is the command's own.
    """
    from bnrecal.study.study import Study, read_study_file

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
