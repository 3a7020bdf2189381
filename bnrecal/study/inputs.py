"""Which images and which network: what a task and a network source are opened from."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bnrecal.errors import BnrecalError, unknown_choice
from bnrecal.study.hints import instead_of

Validated = TypeVar("Validated", bound=BaseModel)
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
            if not all(side.strip().lstrip("+-").isdecimal() for side in sides) or len(sides) > 2:
                raise ValueError("a side in pixels, such as 224, or HEIGHTxWIDTH, such as 240x320")
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


def make_inputs(settings: Mapping[str, Any], places: Mapping[str, str] | None = None) -> Inputs:
    """The part of these settings that says which images and which network."""
    known = {name: v for name, v in settings.items() if name in Inputs.model_fields and v is not None}
    return valid(Inputs, known, places or {})


def valid(kind: type[Validated], settings: Mapping[str, Any], places: Mapping[str, str]) -> Validated:
    """The settings as a model; raises BnrecalError naming the place of the first that does not fit."""
    try:
        return kind(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        place = places.get(name, name)
        if first["type"] == "extra_forbidden":
            raise unknown_choice("setting", name, kind.model_fields, place) from None
        given = str(first["input"])[:80]
        meant = instead_of(given) if first["type"] == "int_parsing" else None
        what = f"{given!r} is no whole number; write {meant}" if meant else f"{given!r}{_wrong(first)}"
        raise BnrecalError(f"{place}: {what}") from None


def _wrong(error: Mapping[str, Any]) -> str:
    """What pydantic says of a value, in the words of other messages."""
    said = {
        "int_parsing": " is no whole number",
        "int_from_float": " is no whole number",
        "float_parsing": " is no number",
        "greater_than": "; allowed: above {gt}",
        "greater_than_equal": "; allowed: {ge} or more",
        "less_than": "; allowed: below {lt}",
        "less_than_equal": "; allowed: {le} or less",
        "literal_error": "; allowed: {expected}",
    }.get(error["type"])
    if said is not None:
        limits = error.get("ctx", {}).items()
        return said.format(**{name: v if isinstance(v, str) else f"{v:,.12g}" for name, v in limits})
    return f": {str(error['msg']).removeprefix('Value error, ')}"
