"""Passes as tasks of a Ray cluster. This process alone writes rows; Ray starts tasks again elsewhere when
a node is lost.

A node needs Python with bnrecal's dependencies and Ray; bnrecal itself travels with the sweep, data and
weights travel where a node lacks them.
"""

import logging
import signal
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import bnrecal
from bnrecal.errors import BnrecalError
from bnrecal.executors.executor import Job, OnImages, Outcome, failed
from bnrecal.executors.shipping import Bundle, pack
from bnrecal.store.artefacts import packed
from bnrecal.study.cells import AnyPass, Training

RETRIES = 2  # after a node or a process was lost
POLL_S = 1.0  # how often a lost driver connection or new nodes are looked for
CONNECT_S = 5.0  # for an address to take a connection


class RayCluster:
    """The executor named `ray`: `address` of a running cluster, or None to start one on this machine."""

    def __init__(self, job: Job, address: str | None, jobs: int | None) -> None:
        if find_spec("ray") is None:
            raise BnrecalError("--executor ray: Ray is not installed; pip install 'bnrecal[ray]'")
        self.job, self.address, self.jobs = job, address, jobs
        self.running: dict[Any, tuple[AnyPass, bool]] = {}  # task -> its pass, and whether files went along
        self.artefacts: dict[str, Any] = {}  # references to trained networks, by the key of the training
        self.bundle: Any = None  # in Ray's object store, packed when the first node lacks something

    def __enter__(self) -> Self:
        import ray

        _check_answers(self.address)
        before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            ray.init(
                address=self.address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False if self.address is None else None,
                runtime_env={"py_modules": [str(Path(bnrecal.__file__).parent)]},
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise BnrecalError(f"--address: {self.address!r}: no Ray cluster answers: {reason}") from None
        finally:
            for signum, handler in before.items():  # Ray puts its own in their place
                signal.signal(signum, handler)
        self.needs = self._needs()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        for task in self.running:
            ray.cancel(task, force=True)
        self.running.clear()
        ray.shutdown()

    def run(self, passes: Iterator[AnyPass], on_images: OnImages) -> Iterator[Outcome]:
        import ray

        while True:
            while len(self.running) < self._slots():
                todo = next(passes, None)
                if todo is None:
                    break
                self._submit(todo, bundle=self.bundle)
            if not self.running:
                return
            ready, _ = ray.wait(list(self.running), timeout=POLL_S)
            for task in ready:
                yield from self._result(task, on_images)

    def _submit(self, todo: AnyPass, bundle: Any) -> None:
        import ray

        from bnrecal.executors.ray_task import run_pass

        remote = ray.remote(run_pass).options(max_retries=RETRIES, **self.needs)
        keys = tuple(cell.key for cell in todo.cells)
        # in a list a reference stays one: a node fetches the files only if it needs them
        task = remote.remote(
            self.job, todo, keys, [bundle] if bundle is not None else [], self._artefact_of(todo)
        )
        self.running[task] = (todo, bundle is not None)

    def _artefact_of(self, todo: AnyPass) -> list[Any]:
        """A reference to the trained network that this pass evaluates, put into Ray's store once."""
        import ray

        training = None if isinstance(todo.first, Training) else todo.first.trained
        if training is None:
            return []
        if training.key not in self.artefacts:
            data = network_of(self.job, training)
            if data is None:
                return []  # the node says what is missing
            self.artefacts[training.key] = ray.put(data)
        return [self.artefacts[training.key]]

    def _result(self, task: Any, on_images: OnImages) -> Iterator[Outcome]:
        import ray

        todo, shipped = self.running.pop(task)
        try:
            kind, what = ray.get(task)
        except ray.exceptions.RayError as error:
            reason = f"lost {RETRIES + 1} times, the last time: {_first_line(error)}"
            yield from failed(todo.cells, self.job.device, "worker lost", reason)
            return
        if kind == "outcomes":
            on_images(todo, todo.n_samples)
            yield from what
        elif shipped:
            yield from failed(todo.cells, self.job.device, "error", what)
        else:
            if self.bundle is None:
                self.bundle = ray.put(_packed(self.job))
            self._submit(todo, self.bundle)

    def _needs(self) -> dict[str, float]:
        """What a task asks a node for: a GPU, or as many processors as a process has threads."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        has_gpu = any(node.get("GPU", 0) >= 1 for node in nodes)
        if self.job.device.startswith("cuda") or (self.job.device == "auto" and has_gpu):
            if not has_gpu:
                raise BnrecalError(f"--device: {self.job.device!r}: no node of the Ray cluster has a GPU")
            return {"num_cpus": 1, "num_gpus": 1}
        most = int(max((node.get("CPU", 0) for node in nodes), default=0))
        threads = self.job.threads or 1
        if threads > most:
            raise BnrecalError(
                f"--threads: {threads}: the largest node of the Ray cluster has {most} CPUs, use fewer "
                "(figures may differ in the last digits between numbers of threads)"
            )
        return {"num_cpus": threads, "num_gpus": 0}

    def _slots(self) -> int:
        """Passes the cluster can run at a time, as it is now, or --jobs."""
        import ray

        if self.jobs is not None:
            return self.jobs
        total = ray.cluster_resources()  # type: ignore[no-untyped-call]
        name, each = ("GPU", 1.0) if self.needs["num_gpus"] else ("CPU", self.needs["num_cpus"])
        return max(1, int(total.get(name, 0) // each))


def network_of(job: Job, training: Training) -> bytes | None:
    """What was trained, packed; None where it does not lie in the job's folder."""
    folder = Path(job.trained or "") / training.key
    return packed(folder) if job.trained is not None and folder.is_dir() else None


def _packed(job: Job) -> Bundle:
    return pack(job.inputs)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _check_answers(address: str | None) -> None:
    """Refuse an address where nothing listens at once: Ray itself tries for minutes."""
    if address is None or address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise BnrecalError(f"--address: {address!r}; allowed: HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise BnrecalError(f"--address: {address!r}: no Ray cluster answers: {reason}") from None
