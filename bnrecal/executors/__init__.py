"""Ways to run passes. All give the same rows; `inline` is the reference."""

from collections.abc import Callable
from dataclasses import replace

from bnrecal.errors import BnrecalError, unknown_choice
from bnrecal.executors.executor import Executor, Job
from bnrecal.host.load import Load
from bnrecal.host.threads import Threads
from bnrecal.plan.opened import Opened


def _inline(job: Job, jobs: int | None, address: str | None, opened: Opened | None) -> Executor:
    from bnrecal.executors.inline import Inline

    if jobs not in (None, 1):
        raise BnrecalError(f"--jobs: {jobs}: executor inline runs in this process alone; allowed: 1")
    return Inline(job, opened)


def _local(job: Job, jobs: int | None, address: str | None, opened: Opened | None) -> Executor:
    from bnrecal.executors.local import Local, leases

    return Local(job, leases(job.device, jobs or 1))


def _ray(job: Job, jobs: int | None, address: str | None, opened: Opened | None) -> Executor:
    from bnrecal.executors.ray_cluster import RayCluster

    # nodes elsewhere may be as quiet or busy as they like: a task asks for as many processors as threads
    load = Load() if address is None else None
    return RayCluster(_with_threads(job, load), address, jobs)


EXECUTORS: dict[str, Callable[[Job, int | None, str | None, Opened | None], Executor]] = {
    "inline": _inline,
    "local": _local,
    "ray": _ray,
}


def of(
    name: str,
    job: Job,
    jobs: int | None = None,
    address: str | None = None,
    opened: Opened | None = None,
) -> Executor:
    """The executor of this name, to be entered; raises BnrecalError for what it cannot serve.

    `jobs` is how many passes run at a time, `address` where a Ray cluster is; what is
    `opened` already serves passes in this process.
    """
    if name not in EXECUTORS:
        raise unknown_choice("executor", name, EXECUTORS, "--executor")
    if address is not None and name != "ray":
        raise BnrecalError(f"--address: {address!r}: executor {name} has none; use --executor ray")
    return EXECUTORS[name](job, jobs, address, opened)


def _with_threads(job: Job, load: Load | None) -> Job:
    """One number for all processes: as many threads as torch takes here, or as fit beside `load`."""
    if job.threads is not None:
        return job
    import torch

    most = torch.get_num_threads()
    return replace(job, threads=most if load is None else Threads(None, load).choose())
