"""A study: what the user asked for. The defaults of every setting live here."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from bnrecal.errors import BnrecalError, unknown_choice
from bnrecal.study.axes import AXES, ESTIMATORS, USUAL, Count, Momentum, Seed
from bnrecal.study.inputs import Inputs, valid

# The batch sizes and samples of a task when nothing else is said; any other task gets those of "garments".
GRIDS = {
    "garments": (USUAL["bs"], USUAL["samples"]),
    "tiny": ((4, 8), (64, 128)),
}


class Study(Inputs):
    """A grid: every value of each axis (axes.py) with every value of the others, on one task."""

    arch: tuple[str, ...] = Field(USUAL["arch"], min_length=1)
    bs: tuple[Count, ...] = Field(USUAL["bs"], min_length=1)
    samples: tuple[Count, ...] = Field(USUAL["samples"], min_length=1)
    estimator: tuple[str, ...] = Field(USUAL["estimator"], min_length=1)
    momentum: tuple[Momentum, ...] = Field(USUAL["momentum"], min_length=1)
    seed: Seed = USUAL["seed"]
    repeats: Count = Field(1, le=1000)  # orders of the images: those of seed, seed + 1, ...
    # A table of recipe fields, each a value or a list (see recipe.py), or several whose recipes are joined.
    train: dict[str, Any] | tuple[dict[str, Any], ...] | None = None
    baseline: bool = True  # the network as it stands, measured too: what re-estimation has to beat
    reference: bool = False  # USUAL, measured too: what a dearer setting has to beat

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.repeats)

    @field_validator(*(axis.option for axis in AXES if axis.several))
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(values))


def make_study(settings: Mapping[str, Any], places: Mapping[str, str] | None = None) -> Study:
    """A Study from the settings somebody gave; what is not given is the default of its task.

    `places` tells where each setting came from ("--bs", "study.toml: bs") for the error.
    """
    places = places or {}
    given = {name: value for name, value in settings.items() if value is not None}
    grid = GRIDS.get(str(given.get("task")), GRIDS["garments"])
    study = valid(Study, {"bs": grid[0], "samples": grid[1], **given}, places)
    for estimator in study.estimator:
        if estimator not in ESTIMATORS:
            place = places.get("estimator", "estimator")
            raise unknown_choice("estimator", estimator, ESTIMATORS, place)
    too_big = [(n, b) for n in study.samples for b in study.bs if n < b]
    if too_big:
        n, b = too_big[0]
        place = places.get("samples", "samples")
        raise BnrecalError(f"{place}: {n} samples do not fill one batch of {b} (bs); use at least {b}")
    return study


def read_study_file(path: Path) -> dict[str, Any]:
    """The settings in a study file (TOML, the field names of `Study`)."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BnrecalError(f"--study: cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BnrecalError(f"--study: {path} is not a TOML file: {error}") from None
