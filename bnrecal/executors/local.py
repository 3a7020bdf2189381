"""Passes in several processes of this machine, each with a device of its own.

A process that dies loses its pass to another; the second time the pass is recorded as failed.
"""

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

from bnrecal.errors import BnrecalError
from bnrecal.executors.executor import Job, OnImages, Outcome, failed
from bnrecal.executors.worker import work
from bnrecal.host.device import devices_of
from bnrecal.host.interrupts import starting_processes
from bnrecal.host.load import Load
from bnrecal.host.threads import Threads
from bnrecal.study.cells import AnyCell, AnyPass, TrainingPass, pass_of

ATTEMPTS = 2  # processes a pass may take down before it is recorded as failed
OVERTIME_S = 3.0  # a pass that does not end itself in time is ended from outside after so much more
STOP_S = 2.0
WAIT_POLICY = "OMP_WAIT_POLICY"  # read by a process once, when it loads torch


@dataclass
class _Worker:
    """A process, the device it was lent, and the pass it runs."""

    process: BaseProcess
    channel: "connection.Connection[Any, Any]"
    device: str
    todo: AnyPass | None = None
    left: tuple[AnyCell, ...] = ()  # cells of the pass that no outcome was heard of
    attempt: int = 1
    began: float | None = None  # time.monotonic


class Local:
    """The executor named `local`."""

    def __init__(self, job: Job, devices: list[str]) -> None:
        self.job = job
        self.free = list(devices)  # leases nobody holds
        self.workers: list[_Worker] = []
        self.threads = Threads(job.threads, Load(self._pids))
        self.again: deque[tuple[AnyPass, int]] = deque()

    def __enter__(self) -> Self:
        # Threads that wait by spinning keep the other processes' threads from their processors: with two
        # processes of two threads on two processors everything took up to 100 times as long.
        self.wait_policy = os.environ.get(WAIT_POLICY)
        os.environ.setdefault(WAIT_POLICY, "PASSIVE")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.channel.close()
            worker.process.kill()
        for worker in self.workers:
            worker.process.join(STOP_S)
        self.workers.clear()
        if self.wait_policy is None:
            os.environ.pop(WAIT_POLICY, None)

    def run(self, passes: Iterator[AnyPass], on_images: OnImages) -> Iterator[Outcome]:
        while True:
            self._hand_out(passes)
            busy = [worker for worker in self.workers if worker.todo]
            if not busy:
                return
            ready = connection.wait([worker.channel for worker in busy], self._patience_s(busy))
            self.threads.load.look()
            for worker in busy:
                if worker.channel in ready:
                    yield from self._hear(worker, on_images)
                elif self._is_overdue(worker):
                    self._bury(worker)
                    reason = f"the pass took longer than {self.job.timeout_s:g} s (--timeout) and was ended"
                    yield from failed(worker.left, worker.device, "timed out", reason)

    def _hand_out(self, passes: Iterator[AnyPass]) -> None:
        """Give every idle process a pass, and start processes while there are devices and passes."""
        idle = deque(worker for worker in self.workers if worker.todo is None)
        while idle or self.free:
            if self.again:
                todo, attempt = self.again.popleft()
            else:
                following = next(passes, None)
                if following is None:
                    return
                todo, attempt = following, 1
            worker = idle.popleft() if idle else self._start()
            worker.todo, worker.left, worker.attempt, worker.began = todo, todo.cells, attempt, None
            with suppress(
                BrokenPipeError, ConnectionResetError
            ):  # died while idle: heard of at the next wait
                worker.channel.send((todo, self._threads_of(todo)))

    def _start(self) -> _Worker:
        device = self.free.pop(0)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, replace(self.job, device=device)), daemon=True)
        worker = _Worker(process, ours, device)
        with starting_processes():
            process.start()
            self.workers.append(worker)
        theirs.close()
        return worker

    def _threads_of(self, todo: AnyPass) -> int:
        return self.threads.whole() if isinstance(todo, TrainingPass) else self.threads.choose()

    def _pids(self) -> list[int]:
        return [worker.process.pid for worker in self.workers if worker.process.pid is not None]

    def _hear(self, worker: _Worker, on_images: OnImages) -> Iterator[Outcome]:
        """Take one message of a busy process, its death included."""
        assert worker.todo is not None
        try:
            kind, what = worker.channel.recv()
        except (EOFError, ConnectionResetError):
            yield from self._after_death(worker)
            return
        if kind == "began":
            worker.began = time.monotonic()
        elif kind == "images":
            on_images(worker.todo, *what)
        elif kind == "outcome":
            worker.left = tuple(cell for cell in worker.left if cell != what.cell)
            yield what
        elif kind == "over":
            worker.todo = worker.began = None
        else:
            raise BnrecalError(what)

    def _after_death(self, worker: _Worker) -> Iterator[Outcome]:
        self._bury(worker)
        if not worker.left:
            return
        if worker.attempt < ATTEMPTS:
            self.again.append((pass_of(worker.left), worker.attempt + 1))
            return
        code = worker.process.exitcode or 0
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        reason = f"{ATTEMPTS} processes ended while they ran this pass, the last {how}"
        yield from failed(worker.left, worker.device, "worker lost", reason)

    def _bury(self, worker: _Worker) -> None:
        """End a process for certain and take its device back."""
        worker.channel.close()
        worker.process.kill()
        worker.process.join(STOP_S)
        self.workers.remove(worker)
        self.free.append(worker.device)

    def _is_overdue(self, worker: _Worker) -> bool:
        limit = self.job.timeout_s  # of walks: a training may take as long as it takes
        return (
            limit is not None
            and not isinstance(worker.todo, TrainingPass)
            and worker.began is not None
            and (time.monotonic() > worker.began + limit + OVERTIME_S)
        )

    def _patience_s(self, busy: list[_Worker]) -> float | None:
        """How long nothing may be heard before somebody may be overdue."""
        return None if self.job.timeout_s is None else 0.5


def leases(device: str, jobs: int) -> list[str]:
    """The device of each of `jobs` processes: every GPU once, or the processor for all.

    Raises BnrecalError for more processes than GPUs: two on one would time each other.
    """
    return devices_of(device, jobs, "--jobs")
