"""A result row: its fields and their types, checked on reading, and rows of older schemas made new.

A minor change adds fields (readers keep what they do not know, and older rows lack it). A change that
old rows do not meet raises SCHEMA_VERSION and adds a function to MIGRATIONS, run when they are read.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from typing_extensions import TypedDict

from bnrecal.errors import BnrecalError
from bnrecal.study.cells import TRAIN

SCHEMA_VERSION = 1
SKIPPED = "skipped"  # kind and status of the row of a cell that was left out

Row = dict[str, Any]

# What a row of schema n misses to be one of schema n + 1. None was needed so far.
MIGRATIONS: dict[int, Callable[[Row], Row]] = {}

# A key may become the name of a file: no separators, no leading dot.
Key = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$")]
Count = Annotated[int, Field(ge=1, le=2**53)]
Number = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Figure = Annotated[float, Field(ge=-1e12, le=1e12)]
Failure = Literal["error", "not trained", "out of memory", "timed out", "not a number", "worker lost"]


class _Fields(TypedDict):
    """The columns every row has, in the order tables and files show them, then those added later.

    `update` is null for estimator "exact", which has no pass in which images come after one another.
    Estimator "stored" reads no images: batch_size, order_digest and seed are null, its counts 0.
    recal_s is the update pass alone up to this sample count, images decoded, device synchronised;
    update_s the extra forwards and scoring for `update`; eval_s evaluation and scoring; total_s what
    this cell alone would have cost. `inputs` opens the cell's images and network again.
    `evaluation_batch` is the number of images in one evaluation forward, smaller after memory ran out.
    Of the pass from its start to this cell: cpu_s and wall_s are seconds of processor time of its process
    and of the clock, cpus_left the processors that other processes left over on average (over a second at
    least); `load` is the load average over one minute at its end.
    """

    __pydantic_config__ = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)  # type: ignore[misc]

    schema_version: Literal[1]  # SCHEMA_VERSION
    key: Key
    status: Literal["done", "failed"]
    task: str
    data_digest: str | None
    order_digest: str | None
    arch: str
    weights_digest: str | None
    batch_size: Count | None
    n_samples: Number
    n_updates: Number
    estimator: str
    momentum: Annotated[float, Field(gt=0, le=1)] | None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None
    metric: str
    update: Figure | None
    eval: Figure | None
    recal_s: Seconds | None
    update_s: Seconds | None
    eval_s: Seconds | None
    total_s: Seconds | None
    device: str | None
    started_at: str | None
    error: str | None
    environment: dict[str, Any]
    failure: NotRequired[Failure | None]
    evaluation_batch: NotRequired[Count | None]
    inputs: NotRequired[dict[str, Any] | None]
    study: NotRequired[str | None]
    cpu_s: NotRequired[Seconds | None]
    wall_s: NotRequired[Seconds | None]
    cpus_left: NotRequired[Annotated[float, Field(ge=0, le=1e6)] | None]
    load: NotRequired[Annotated[float, Field(ge=0, le=1e9)] | None]
    trained: NotRequired[Key | None]  # the training that made the weights
    recipe: NotRequired[dict[str, Any] | None]  # its fields that are not at their defaults


class _TrainedFields(TypedDict):
    """The columns of a training's row.

    `recipe` holds the fields that are not at their defaults; `n_samples` counts the images read over all
    epochs; `loss` is the mean of the last epoch. train_s is what all epochs took, those before an
    interruption included, total_s what this process spent. `weights_sha256` is of OUT/trained/KEY's weights.
    """

    __pydantic_config__ = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)  # type: ignore[misc]

    schema_version: Literal[1]  # SCHEMA_VERSION
    key: Key
    kind: Literal["train"]
    status: Literal["done", "failed"]
    task: str
    metric: str
    data_digest: str | None
    order_digest: str | None
    arch: str | None
    network_digest: str | None
    recipe: dict[str, Any]
    n_samples: Number
    loss: Figure | None
    train_s: Seconds | None
    total_s: Seconds | None
    weights_sha256: str | None
    device: str | None
    started_at: str | None
    error: str | None
    environment: dict[str, Any]
    failure: NotRequired[Failure | None]
    inputs: NotRequired[dict[str, Any] | None]
    study: NotRequired[str | None]
    cpu_s: NotRequired[Seconds | None]
    wall_s: NotRequired[Seconds | None]
    cpus_left: NotRequired[Annotated[float, Field(ge=0, le=1e6)] | None]
    load: NotRequired[Annotated[float, Field(ge=0, le=1e9)] | None]


class _SkippedFields(TypedDict):
    """The columns of the row of a cell that was left out (`bnrecal sweep --stop-when-sure`): which, and why.

    It is no result: another sweep that wants the cell does it.
    """

    __pydantic_config__ = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)  # type: ignore[misc]

    schema_version: Literal[1]  # SCHEMA_VERSION
    key: Key
    kind: Literal["skipped"]
    status: Literal["skipped"]
    task: str
    metric: str
    data_digest: str | None
    order_digest: str | None
    arch: str
    weights_digest: str | None
    batch_size: Count | None
    n_samples: Number
    n_updates: Number
    estimator: str
    momentum: Annotated[float, Field(gt=0, le=1)] | None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None
    reason: str
    started_at: str | None
    inputs: NotRequired[dict[str, Any] | None]
    study: NotRequired[str | None]


COLUMNS = tuple(name for name in _Fields.__annotations__ if name in _Fields.__required_keys__)
TRAINED_COLUMNS = tuple(
    name for name in _TrainedFields.__annotations__ if name in _TrainedFields.__required_keys__
)
SKIPPED_COLUMNS = tuple(
    name for name in _SkippedFields.__annotations__ if name in _SkippedFields.__required_keys__
)
_ROW = TypeAdapter(_Fields)
_TRAINED_ROW = TypeAdapter(_TrainedFields)


@dataclass(frozen=True)
class _Kind:
    """What rows of one kind are checked by."""

    adapter: TypeAdapter[Any]
    columns: tuple[str, ...]
    needed_when_done: tuple[str, ...]


_RECALIBRATED = _Kind(_ROW, COLUMNS, ("eval", "total_s"))
KINDS = {
    None: _RECALIBRATED,
    TRAIN: _Kind(_TRAINED_ROW, TRAINED_COLUMNS, ("weights_sha256", "train_s")),
    SKIPPED: _Kind(TypeAdapter(_SkippedFields), SKIPPED_COLUMNS, ()),
}


def is_evaluated(row: Row) -> bool:
    """Whether the row is of a network that was evaluated, as those without a kind are."""
    return row.get("kind") is None


def parse_row(line: bytes, place: str) -> Row:
    """The row in this line; raises BnrecalError that names `place` and what is wrong with it."""
    row: Row
    try:
        # rows that name a kind are few enough to be looked at twice
        row = _read_slowly(line, place) if b'"kind"' in line else dict(_ROW.validate_json(line))
    except ValidationError:
        row = _read_slowly(line, place)
    if row["status"] == "done":
        for name in KINDS[row.get("kind")].needed_when_done:
            if row[name] is None:
                raise _no_row(place, f"is done and has no {name}")
    if not is_evaluated(row):
        return row
    if row["estimator"] != "stored" and not (row["batch_size"] and row["n_samples"] and row["n_updates"]):
        raise _no_row(place, f"has no batch_size, n_samples or n_updates for {_short(row['estimator'])}")
    return row


def _read_slowly(line: bytes, place: str) -> Row:
    """A row of an older schema, or the error that says what is wrong."""
    try:
        row = from_json(line, allow_inf_nan=False)
    except ValueError:
        raise BnrecalError(f"{place}: damaged, not a JSON object; mend or remove this line") from None
    version = row.get("schema_version") if isinstance(row, dict) else None
    while isinstance(version, int) and version in MIGRATIONS:
        row = {**MIGRATIONS[version](row), "schema_version": version + 1}
        version += 1
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise BnrecalError(
            f"{place}: row of schema {_short(version)}, this bnrecal reads schema {SCHEMA_VERSION}; "
            "use another --out folder or the bnrecal that wrote it"
        )
    kind = row.get("kind")
    if kind is not None and not (isinstance(kind, str) and kind in KINDS):
        known = ", ".join(filter(None, KINDS))
        raise BnrecalError(
            f"{place}: row of kind {_short(kind)}, this bnrecal knows {known}; use a newer one"
        )
    adapter, columns = KINDS[kind].adapter, KINDS[kind].columns
    missing = [name for name in columns if name not in row]
    if missing:
        raise _no_row(place, f"lacks {', '.join(missing)}")
    try:
        checked: Row = adapter.validate_python(row)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise _no_row(place, f"has {name} {_short(first['input'])}: {first['msg']}") from None
    return checked


def _no_row(place: str, what: str) -> BnrecalError:
    return BnrecalError(
        f"{place}: not a result row of schema {SCHEMA_VERSION}: {what}; mend or remove this line"
    )


def _short(value: object) -> str:
    """At most 40 characters of a value, without control characters."""
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def line_of(row: Row) -> bytes:
    """The line that holds this row; floats come back to the last bit."""
    columns = KINDS[row.get("kind")].columns
    return json.dumps({name: row.get(name) for name in columns} | row, allow_nan=False).encode() + b"\n"


def finite_or_none(value: float | None) -> float | None:
    """JSON has no NaN: a figure that is none is null."""
    return value if value is not None and math.isfinite(value) else None
