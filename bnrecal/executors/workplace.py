"""Where a pass is run, whichever executor ordered it: one process, its device, the data it opened."""

import math
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

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
from bnrecal.measure.measured import Measured
from bnrecal.measure.recalibrated import measure
from bnrecal.measure.trained import train_one, trained_source
from bnrecal.networks.network import Network, NetworkSource
from bnrecal.plan.opened import Opened
from bnrecal.study.cells import AnyCell, AnyPass, Cell, Pass, Training, TrainingPass, pass_of
from bnrecal.train.loop import Progress


class Said(Protocol):
    """Told how many images were just read, and of a training how far it is."""

    def __call__(self, n: int, said: str = "", /) -> None: ...


FIGURES = ("update", "eval", "recal_s", "update_s", "eval_s", "total_s")


class Workplace:
    """Opens the task and the network source of `job` once, or takes those opened already.

    Raises BnrecalError where it cannot.
    """

    def __init__(self, job: Job, opened: Opened | None = None) -> None:
        self.load = Load()
        self.job = job
        if job.threads is not None:
            torch.set_num_threads(job.threads)
        self.device = choose_device(job.device)
        self.task = opened.task if opened else tasks.of(job.inputs)
        self.source = opened.source if opened else networks.of(job.inputs, self.task)
        self.data_digest = self.task.data_digest()
        self.trained: tuple[str, NetworkSource] | None = None  # the last training a pass stood on
        self.starts: dict[tuple[str | None, int], str] = {}  # digests of networks to be trained

    def run(self, todo: AnyPass, on_images: Said, threads: Threads | None = None) -> Iterator[Outcome]:
        """Yield an `Outcome` for every cell; whatever happens to the pass, its cells are accounted for.

        With `threads` the pass gets as many as fit when it begins. Should others come to want the
        processors while it runs, its cells that are not done yet begin anew with fewer threads, once, and
        `on_images` is told how many images are to be read again, as a negative number. A training always
        gets the whole number: interrupted and gone on with another it would end elsewhere.
        """
        deadline = Deadline(self.job.timeout_s)
        left = yield from self._attempt(todo, on_images, deadline, threads, may_begin_anew=True)
        if left is not None:
            yield from self._attempt(left, on_images, deadline, threads, may_begin_anew=False)

    def _attempt(
        self,
        todo: AnyPass,
        on_images: Said,
        deadline: Deadline,
        threads: Threads | None,
        may_begin_anew: bool,
    ) -> Generator[Outcome, None, AnyPass | None]:
        """The pass with one number of threads; returns what is to be done with fewer."""
        left: list[AnyCell] = list(todo.cells)
        counted = Counted(on_images)
        notes: list[str] = []
        started_at, usage = utc_now(), Usage(self.load)
        watch = None
        if threads is not None:
            chosen = threads.whole() if isinstance(todo, TrainingPass) else threads.choose()
            torch.set_num_threads(chosen)
            watch = partial(threads.check, chosen, raises=may_begin_anew)
        try:
            if isinstance(todo, TrainingPass):
                yield self._outcome_of_training(todo.training, started_at, usage, on_images, notes)
                return None
            for result in self._measured(todo, counted, deadline, watch):
                left.remove(result.cell)
                yield self._outcome(result.cell, started_at, usage, result=result)
            return None
        except Crowded:
            on_images(-counted.n)
            return pass_of(left)
        except TimedOut:
            limit = self.job.timeout_s
            failure, reason = "timed out", f"the pass took longer than {limit:g} s (--timeout)"
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
            failed = self._outcome(cell, started_at, usage, error=reason, failure=failure)
            yield replace(failed, notes=tuple(notes))
        return None

    def _measured(
        self, todo: Pass, on_images: Said, deadline: Deadline, watch: Callable[[], None] | None
    ) -> Iterator[Measured]:
        """What `measure` gives, with the clock of the pass running only while it works.

        `watch` is called before every forward.
        """

        def on_images_in_time(n: int) -> None:
            deadline.check()
            on_images(n)

        with deadline.running():
            source = self._source_of(todo)
            self.check(todo)
            network = source.build(todo.first.arch)
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

    def _outcome_of_training(
        self, training: Training, started_at: str, usage: Usage, on_images: Said, notes: list[str]
    ) -> Outcome:
        """Train, telling images and how far it is; the time limit is one of walks, not of trainings.

        `notes` takes what the user should know, also if the training fails.
        """
        started = time.perf_counter()
        told = 0

        def on_progress(now: Progress) -> None:
            nonlocal told
            done = round(training.n_samples * ((now.epoch - 1) + now.step / now.steps) / now.epochs)
            loss = "" if math.isnan(now.loss) else f" loss {now.loss:.3f}"
            on_images(max(0, done - told), f"epoch {now.epoch}/{now.epochs}{loss}")
            told = max(told, done)

        folder = self._folder_of(training)
        found = train_one(
            training,
            self.task,
            self.source,
            folder,
            self.device,
            on_progress,
            check=lambda: None,
            on_note=notes.append,
        )
        figures = {
            "loss": float(found.log[-1]["loss"]) if found.log else None,
            "train_s": found.seconds,
            "total_s": time.perf_counter() - started,
        }
        about = describe_environment(str(self.device))
        return Outcome(
            training,
            str(self.device),
            started_at,
            figures,
            environment=about,
            weights_sha256=found.sha256,
            usage=usage.so_far(),
            notes=tuple(notes),
        )

    def _folder_of(self, training: Training) -> Path:
        assert self.job.trained is not None
        return Path(self.job.trained) / training.key

    def _source_of(self, todo: Pass) -> NetworkSource:
        """The source of the pass's network: the study's, or what one of its trainings left."""
        training = todo.first.trained
        if training is None:
            return self.source
        if self.trained is None or self.trained[0] != training.key:
            folder = self._folder_of(training)
            self.trained = training.key, trained_source(training, self.job.inputs, self.task, folder)
        return self.trained[1]

    def check(self, todo: AnyPass) -> None:
        """Refuse a pass whose data, weights or definitions are not the ones found here."""
        first = todo.first
        training = first if isinstance(first, Training) else first.trained
        _check("data here have", self.data_digest, first.data_digest)
        if training is not None:
            _check("network here has", self._network_digest(training), training.network_digest)
        elif isinstance(first, Cell):
            _check("weights here have", self.source.digest(first.arch), first.weights_digest)

    def _network_digest(self, training: Training) -> str:
        """Of the network before it is trained; its code is also what evaluates it afterwards."""
        at = training.arch, training.recipe.seed
        if at not in self.starts:
            self.starts[at] = self.source.learner(*at).digest
        return self.starts[at]

    def _outcome(
        self,
        cell: AnyCell,
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
            usage=usage.so_far(),
            prepared=result.prepared if result else None,
            left_alone=result.left_alone if result else None,
        )


def _check(what: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise BnrecalError(
            f"{what} digest {found}, the sweep was planned for {wanted}: changed since, or this machine has "
            "others"
        )


@dataclass
class Counted:
    """Hands on how many images were read, and remembers it."""

    on_images: Said
    n: int = 0

    def __call__(self, n: int, said: str = "", /) -> None:
        self.n += n
        self.on_images(n, said)


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
