"""Where a pass is run, whichever executor ordered it: one process, its device, the data it opened."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from bnrecal import networks, tasks
from bnrecal.errors import BnrecalError
from bnrecal.executors.around import Counted, failure_of, reason_of, watched
from bnrecal.executors.deadline import Deadline, TimedOut, in_time
from bnrecal.executors.executor import Job, Outcome, utc_now
from bnrecal.executors.training import Said, train_outcome
from bnrecal.host.device import choose_device
from bnrecal.host.environment import describe_environment
from bnrecal.host.load import Load, Usage
from bnrecal.host.threads import Crowded, Threads
from bnrecal.measure.judged import Judging
from bnrecal.measure.measured import Measured
from bnrecal.measure.recalibrated import measure
from bnrecal.measure.shared import measure_shared
from bnrecal.measure.trained import trained_source
from bnrecal.networks.network import NetworkSource
from bnrecal.plan.opened import Opened
from bnrecal.study.cells import (
    AnyCell,
    AnyPass,
    Cell,
    JudgePass,
    Pass,
    SharedPass,
    Training,
    TrainingPass,
    pass_of,
)

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
        self.judging = Judging()
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
            for outcome in self._outcomes(todo, counted, deadline, watch, _Begun(started_at, usage, notes)):
                left.remove(outcome.cell)
                yield outcome
            return None
        except Crowded:
            on_images(-counted.n)
            return pass_of(left)
        except TimedOut:
            limit = self.job.timeout_s
            failure, reason = "timed out", f"the pass took longer than {limit:g} s (--timeout)"
        except Exception as error:
            failure, reason = failure_of(error), reason_of(error)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        for cell in left:
            failed = self._outcome(cell, started_at, usage, error=reason, failure=failure)
            yield replace(failed, notes=tuple(notes))
        return None

    def _outcomes(
        self,
        todo: AnyPass,
        on_images: Said,
        deadline: Deadline,
        watch: Callable[[], None] | None,
        begun: "_Begun",
    ) -> Iterator[Outcome]:
        """What the pass gives, by its kind; the time limit is one of all but trainings."""
        at, usage = begun.started_at, begun.usage
        if isinstance(todo, TrainingPass):
            folder = self._folder_of(todo.training)
            where = (self.task, self.source, folder, self.device)
            trained = train_outcome(todo.training, *where, at, usage, on_images, begun.notes.append)
            yield replace(trained, notes=tuple(begun.notes))
        elif isinstance(todo, JudgePass):
            with deadline.running():
                self.check(todo)
                source = self._source_of(todo)
            scores = self.judging.scores(todo, source, self.task, self.device)
            for judged, score, seconds in in_time(scores, deadline):
                if isinstance(score, Exception):
                    yield self._outcome(judged, at, usage, error=reason_of(score), failure=failure_of(score))
                else:
                    found = self._outcome(judged, at, usage)
                    yield replace(found, figures={"score": score, "total_s": seconds})
        elif isinstance(todo, SharedPass):
            for cell, one in self._shared(todo, on_images, deadline):
                if isinstance(one, BnrecalError):
                    yield self._outcome(cell, at, usage, error=str(one), failure=failure_of(one))
                else:
                    yield self._outcome(cell, at, usage, result=one)
        else:
            for result in self._measured(todo, on_images, deadline, watch):
                yield self._outcome(result.cell, at, usage, result=result)

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
                network = watched(network, watch)
            results = measure(todo, self.task, network, self.device, on_images_in_time)
        try:
            yield from in_time(results, deadline)
        finally:
            results.close()

    def _shared(
        self, todo: SharedPass, on_images: Said, deadline: Deadline
    ) -> Iterator[tuple[Cell, Measured | BnrecalError]]:
        """What `measure_shared` gives; no outcome is known before the last is nearly done."""

        def on_images_in_time(n: int) -> None:
            deadline.check()
            on_images(n)

        with deadline.running():
            source = self._source_of(todo)
            self.check(todo)
            yield from measure_shared(todo, self.task, source, self.device, on_images_in_time)

    def _folder_of(self, training: Training) -> Path:
        assert self.job.trained is not None
        return Path(self.job.trained) / training.key

    def _source_of(self, todo: Pass | SharedPass | JudgePass) -> NetworkSource:
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
        elif not isinstance(first, Training):
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


@dataclass(frozen=True)
class _Begun:
    """When a pass began; `notes` takes what the user should know, also if a training fails."""

    started_at: str
    usage: Usage
    notes: list[str]
