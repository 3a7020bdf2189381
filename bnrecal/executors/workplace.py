"""Where a pass is run, whichever executor ordered it: one process, its device, the data it opened."""

import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bnrecal import networks, tasks
from bnrecal.errors import BnrecalError, NotANumberError
from bnrecal.executors.deadline import Deadline, TimedOut
from bnrecal.executors.executor import Job, Outcome, utc_now
from bnrecal.host.device import choose_device
from bnrecal.host.environment import describe_environment
from bnrecal.host.load import Load, Usage
from bnrecal.host.threads import Crowded, Threads
from bnrecal.measure.images import is_out_of_memory
from bnrecal.measure.recalibrated import Measured, measure
from bnrecal.networks.network import Network
from bnrecal.plan.opened import Opened
from bnrecal.study.cells import Cell, Pass

FIGURES = ("update", "eval", "recal_s", "update_s", "eval_s", "total_s")


class Workplace:
    """Opens the task and the network source of `job` once, or takes those opened already.

    Raises BnrecalError where it cannot.
    """

    def __init__(self, job: Job, opened: Opened | None = None) -> None:
        self.load = Load()
        self.timeout_s = job.timeout_s
        if job.threads is not None:
            torch.set_num_threads(job.threads)
        self.device = choose_device(job.device)
        self.task = opened.task if opened else tasks.of(job.inputs)
        self.source = opened.source if opened else networks.of(job.inputs, self.task)
        self.data_digest = self.task.data_digest()

    def run(
        self, todo: Pass, on_images: Callable[[int], None], threads: Threads | None = None
    ) -> Iterator[Outcome]:
        """Yield an `Outcome` for every cell; whatever happens to the pass, its cells are accounted for.

        With `threads` the pass gets as many as fit when it begins. Should others come to want the
        processors while it runs, its cells that are not done yet begin anew with fewer threads, once, and
        `on_images` is told how many images are to be read again, as a negative number.
        """
        deadline = Deadline(self.timeout_s)
        left = yield from self._attempt(todo, on_images, deadline, threads, may_begin_anew=True)
        if left:
            yield from self._attempt(Pass(left), on_images, deadline, threads, may_begin_anew=False)

    def _attempt(
        self,
        todo: Pass,
        on_images: Callable[[int], None],
        deadline: Deadline,
        threads: Threads | None,
        may_begin_anew: bool,
    ) -> Generator[Outcome, None, tuple[Cell, ...]]:
        """The pass with one number of threads; returns the cells to be done with fewer."""
        left, counted = list(todo.cells), Counted(on_images)
        started_at, usage = utc_now(), Usage(self.load)
        watch = None
        if threads is not None:
            chosen = threads.choose()
            torch.set_num_threads(chosen)
            watch = partial(threads.check, chosen, raises=may_begin_anew)
        try:
            for result in self._measured(todo, counted, deadline, watch):
                left.remove(result.cell)
                yield self._outcome(result.cell, started_at, usage, result=result)
            return ()
        except Crowded:
            on_images(-counted.n)
            return tuple(left)
        except TimedOut:
            failure, reason = "timed out", f"the pass took longer than {self.timeout_s:g} s (--timeout)"
        except NotANumberError as error:
            failure, reason = "not a number", str(error)
        except Exception as error:
            failure = "out of memory" if is_out_of_memory(error) else "error"
            # else a bug or a broken network: name the place
            reason = (
                str(error) if isinstance(error, BnrecalError) else f"{_first_line(error)} ({_place(error)})"
            )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        for cell in left:
            yield self._outcome(cell, started_at, usage, error=reason, failure=failure)
        return ()

    def _measured(
        self,
        todo: Pass,
        on_images: Callable[[int], None],
        deadline: Deadline,
        watch: Callable[[], None] | None,
    ) -> Iterator[Measured]:
        """What `measure` gives, with the clock of the pass running only while it works.

        `watch` is called before every forward.
        """

        def on_images_in_time(n: int) -> None:
            deadline.check()
            on_images(n)

        with deadline.running():
            self.check(todo)
            network = self.source.build(todo.first.arch)
            if watch is not None:
                network = _watched(network, watch)
            results = measure(todo, self.task, network, self.device, on_images_in_time)
        try:
            while True:
                with deadline.running():
                    result = next(results, None)
                if result is None:
                    return
                yield result
        finally:
            results.close()

    def check(self, todo: Pass) -> None:
        """Refuse a pass whose data, weights or definitions are not the ones found here."""
        digest = self.source.digest(todo.first.arch)
        for cell in todo.cells:
            for what, found, wanted in (
                ("data", self.data_digest, cell.data_digest),
                ("weights", digest, cell.weights_digest),
            ):
                if found != wanted:
                    raise BnrecalError(
                        f"{what} here have digest {found}, the sweep was planned for {wanted}: "
                        "they changed, or this machine has others"
                    )

    def _outcome(
        self,
        cell: Cell,
        started_at: str,
        usage: Usage,
        result: Measured | None = None,
        error: str | None = None,
        failure: str | None = None,
    ) -> Outcome:
        return Outcome(
            cell,
            str(self.device),
            started_at,
            {name: getattr(result, name) for name in FIGURES} if result else {},
            error,
            failure,
            result.evaluation_batch if result else None,
            describe_environment(str(self.device)),
            result.evidence if result else None,
            usage.so_far(),
        )


@dataclass
class Counted:
    """Hands on how many images were read, and remembers it."""

    on_images: Callable[[int], None]
    n: int = 0

    def __call__(self, n: int) -> None:
        self.n += n
        self.on_images(n)


def _watched(network: Network, watch: Callable[[], None]) -> Network:
    """The network with `watch` called before every forward."""

    def forward(module: torch.nn.Module, images: Any) -> Any:
        watch()
        return network.forward(module, images)

    return replace(network, forward=forward)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _place(error: BaseException) -> str:
    """File, line and function that raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name} line {last.lineno}, in {last.name}"
