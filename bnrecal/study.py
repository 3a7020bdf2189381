"""A study and its cells: frozen data, known before any tensor exists.

A `Study` is what the user asked for; the defaults of every setting live here. A `Cell` is one
point of its grid with everything that decides the figures, and nothing that does not: its `key`
is the same on every machine, device and day. A `Pass` is one ordered walk over the calibration
images that serves several cells at once.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bnrecal.errors import BnrecalError, unknown_choice

# Raise when a change of code changes figures: finished cells of the old version are then done again.
ALGORITHM = 1

ESTIMATORS = ("ema", "cumulative", "pooled", "exact")
ARCHS = ("arch1", "arch2", "arch3")
MOMENTUM = 0.1  # PyTorch's convention: the weight of the newest batch
# The grid of a task when nothing else is said; any other task gets that of "garments".
GRIDS = {
    "garments": ((8, 16, 32, 64), (2560, 5120, 10240)),
    "tiny": ((4, 8), (64, 128)),
}

Validated = TypeVar("Validated", bound=BaseModel)
Count = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=1, le=8192)]  # pixels


Unit = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Inputs(BaseModel):
    """Which images and which network: what `tasks.of` and `networks.of` open.

    Paths are as the user wrote them. None: the default of the task, or nothing. No field decides a
    figure by itself: what does is in the digests of a cell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = "garments"
    model: str = "supernet"
    weights: str | None = None
    calibration: str | None = None  # a folder, a list or an annotation file, as the task reads it
    evaluation: str | None = None
    images: str | None = None  # folder that names in lists and annotations are relative to
    data: str | None = None  # torchvision's root
    classes: tuple[str, ...] | None = None
    order: str = "random"  # "random" by the seed, "file", or a list of images, one a line
    preprocess: Literal["task", "model"] = "task"  # whose defaults fill what follows
    image_size: tuple[Side, Side] | None = None  # height, width
    fit: Literal["crop", "stretch"] | None = None
    resize: Side | None = None  # shorter side before the centre crop
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    channels: Literal[1, 3] | None = None
    mean: tuple[Unit, ...] | None = None  # of pixels / 255, a value or one per channel
    std: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] | None = None
    transforms: str | None = None  # "module:name" instead of image_size, fit and resize
    allow_random_transforms: bool = False
    skip_bad_images: bool = False

    @field_validator("image_size", mode="before")
    @classmethod
    def _sides(cls, value: Any) -> Any:
        """64, "64" and "48x64" (height x width) as well as a pair."""
        if isinstance(value, int | str):
            sides = str(value).lower().split("x")
            return sides * 2 if len(sides) == 1 else sides
        return value

    @field_validator("weights", "calibration", "evaluation", "images", "data", "order")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        if value is not None and "\0" in value:
            raise ValueError("is no path")
        return value

    @field_validator("classes")
    @classmethod
    def _different(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not value or "" in value or len(set(value)) < len(value)):
            raise ValueError("needs class names, each once")
        return value

    @field_validator("channels", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdigit() else value


class Study(Inputs):
    """A grid: every architecture x batch size x samples x estimator x momentum, on one task."""

    arch: tuple[str, ...] = Field(ARCHS, min_length=1)
    bs: tuple[Count, ...] = Field(GRIDS["garments"][0], min_length=1)
    samples: tuple[Count, ...] = Field(GRIDS["garments"][1], min_length=1)
    estimator: tuple[str, ...] = Field(ESTIMATORS[:1], min_length=1)
    momentum: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field((MOMENTUM,), min_length=1)
    seed: int = Field(0, ge=0, lt=2**63)
    repeats: Count = Field(1, le=1000)  # orders of the images: those of seed, seed + 1, ...

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.repeats)

    @field_validator("arch", "bs", "samples", "estimator", "momentum")
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
    study = _valid(Study, {"bs": grid[0], "samples": grid[1], **given}, places)
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


def make_inputs(settings: Mapping[str, Any], places: Mapping[str, str] | None = None) -> Inputs:
    """The part of these settings that says which images and which network."""
    known = {name: v for name, v in settings.items() if name in Inputs.model_fields and v is not None}
    return _valid(Inputs, known, places or {})


def _valid(kind: type[Validated], settings: Mapping[str, Any], places: Mapping[str, str]) -> Validated:
    """The settings as a model; raises BnrecalError naming the place of the first that does not fit."""
    try:
        return kind(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        place = places.get(name, name)
        if first["type"] == "extra_forbidden":
            raise unknown_choice("setting", name, Study.model_fields, place) from None
        raise BnrecalError(f"{place}: {str(first['input'])[:80]!r}: {first['msg']}") from None


def read_study_file(path: Path) -> dict[str, Any]:
    """The settings in a study file (TOML, the field names of `Study`)."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BnrecalError(f"--study: cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BnrecalError(f"--study: {path} is not a TOML file: {error}") from None


@dataclass(frozen=True)
class Cell:
    """One point of a study: the scientific fields of a result row.

    `order_digest` covers the ids of exactly the `n_samples` images the cell reads, in order;
    `weights_digest` the weights file and the path taken through it. `momentum` is None for
    estimators that have none.
    """

    task: str
    metric: str
    data_digest: str
    order_digest: str
    arch: str
    weights_digest: str
    batch_size: int
    n_samples: int
    estimator: str
    momentum: float | None
    seed: int

    @property
    def n_updates(self) -> int:
        """Batches read; the last one is short when n_samples is no multiple of batch_size."""
        return -(-self.n_samples // self.batch_size)

    @property
    def key(self) -> str:
        """Digest of the scientific fields and the algorithm version; 20 hex digits."""
        facts = json.dumps({"algorithm": ALGORITHM, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Pass:
    """Cells that one walk over the images serves: they differ in `n_samples` alone.

    Sorted by `n_samples`; all but the last are multiples of the batch size, so that each is a
    prefix of the next.
    """

    cells: tuple[Cell, ...]

    @property
    def first(self) -> Cell:
        return self.cells[0]

    @property
    def n_samples(self) -> int:
        """Images the pass reads."""
        return self.cells[-1].n_samples
