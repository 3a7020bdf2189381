"""What an executor has to offer, and what it gives back. Imports no torch."""

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from bnrecal.data.prepared import Prepared
from bnrecal.study.cells import AnyCell, AnyPass
from bnrecal.study.frozen import LeftAlone
from bnrecal.study.inputs import Inputs


class OnImages(Protocol):
    """Told which pass just read how many calibration images, and of a training how far it is.

    A negative number: so many will be read again.
    """

    def __call__(self, todo: AnyPass, n: int, said: str = "", /) -> None: ...


@dataclass(frozen=True)
class Job:
    """What is the same for all passes of a sweep.

    `threads` are the processor threads of one process: a convolution may round otherwise under another
    number. None: each pass has as many as torch takes by itself, fewer while other processes keep
    processors busy (host/threads.py); every executor chooses by that rule. `timeout_s` limits one pass.
    """

    inputs: Inputs
    device: str = "auto"
    threads: int | None = None
    timeout_s: float | None = None
    trained: str | None = None  # folder of trained networks, each in one named by its training's key


@dataclass(frozen=True)
class Outcome:
    """What became of one cell: figures and times, or a failure."""

    cell: AnyCell
    device: str
    started_at: str  # UTC, ISO 8601
    figures: dict[str, float | None]  # update and eval, or loss, and the times; empty if it failed
    error: str | None = None
    failure: str | None = None  # the kind of error, see bnrecal/store/rows.py
    evaluation_batch: int | None = None  # images in one evaluation forward
    environment: dict[str, Any] = field(default_factory=dict)
    evidence: Mapping[str, Any] | None = None  # of `eval`, image by image: see tasks/task.py
    usage: Mapping[str, float | None] = field(default_factory=dict)  # of processors: see host/load.py
    weights_sha256: str | None = None  # of what was trained
    prepared: Prepared | None = None  # of `stored`: how the images would fit the network far better
    left_alone: LeftAlone | None = None  # of `stored`: BatchNorms whose mode keeps them from re-estimation
    artefact: bytes | None = None  # what was trained, where it does not lie in the job's folder
    notes: tuple[str, ...] = ()  # what the user should know, such as that a checkpoint was damaged


class Executor(Protocol):
    """Runs passes somewhere; a context manager that leaves no process and no lease behind."""

    def run(self, passes: Iterator[AnyPass], on_images: OnImages) -> Iterator[Outcome]:
        """Yield one `Outcome` for every cell; the next pass is taken when there is room for it.

        `passes` may end for now and have more when an outcome was taken: passes that wait for a training.

        Raises BnrecalError where no pass at all can be run: no such device, data that are not there.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def failed(cells: Iterable[AnyCell], device: str, failure: str, error: str) -> Iterator[Outcome]:
    """Outcomes of cells whose process cannot report them itself."""
    for cell in cells:
        yield Outcome(cell, device, utc_now(), {}, error, failure)
