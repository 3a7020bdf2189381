"""Passes one after another in this process: the reference every other executor must equal."""

from collections.abc import Iterator
from functools import partial
from types import TracebackType
from typing import Self

from bnrecal.executors.executor import Job, OnImages, Outcome
from bnrecal.host.load import Load
from bnrecal.host.threads import Threads, threads_kept
from bnrecal.plan.opened import Opened
from bnrecal.study.cells import AnyPass


class Inline:
    """The executor named `inline`."""

    def __init__(self, job: Job, opened: Opened | None = None) -> None:
        self.job, self.opened = job, opened
        self.threads = Threads(job.threads, Load())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def run(self, passes: Iterator[AnyPass], on_images: OnImages) -> Iterator[Outcome]:
        from bnrecal.executors.workplace import Workplace

        with threads_kept():
            workplace = Workplace(self.job, self.opened)
            for todo in passes:
                yield from workplace.run(todo, partial(on_images, todo), self.threads)
