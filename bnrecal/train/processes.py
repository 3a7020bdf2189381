"""One training in several processes of this machine, started and watched from here.

The processes say what they do through a channel each, and nothing else: the first real reason of a failure
is raised here, and all are ended. One that is killed is noticed by the closed channel.
"""

import multiprocessing
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bnrecal.errors import BnrecalError
from bnrecal.host.interrupts import SIGNALS, starting_processes
from bnrecal.train.folder import Trained
from bnrecal.train.loop import OnProgress
from bnrecal.train.ranks import LostError, joined
from bnrecal.train.request import Request
from bnrecal.train.shards import check_shards

GRACE_S = 5.0  # in which the process that caused a failure is heard of, after those that suffer from it
STOP_S = 2.0

# What a process says: (kind, what). "progress": of the first one; "done": what it left; "refused": an error
# that the user can mend; "lost": that another one does not answer; "bug": any other error.
Message = tuple[str, Any]


class ProcessError(Exception):
    """An error in one of the processes that is no mistake of the user's."""


@dataclass
class _Child:
    rank: int
    process: BaseProcess
    channel: "connection.Connection[Any, Any]"


def run(request: Request, devices: list[str], on_progress: OnProgress, timeout_s: float) -> Trained:
    """Train in a process for each of `devices`; what the first one left.

    Raises BnrecalError for what any of them refuses, and where one is killed or does not answer for
    `timeout_s`; ProcessError for other errors.
    """
    check_shards({request.recipe.batch_size}, request.recipe, len(devices))  # before any of them starts
    with tempfile.TemporaryDirectory() as folder, _started(request, devices, timeout_s, folder) as children:
        return _watch(children, on_progress)


def _watch(children: list[_Child], on_progress: OnProgress) -> Trained:
    """Hear them until all are done, or one says why not."""
    talking = {child.channel: child for child in children}
    trained: Trained | None = None
    lost: str | None = None
    until = 0.0
    while talking:
        patience = None if lost is None else max(0.0, until - time.monotonic())
        ready = connection.wait(list(talking), patience)
        if not ready and lost is not None:
            raise BnrecalError(lost)
        for channel in ready:
            kind, what = _heard(talking[channel], len(children))  # type: ignore[index]
            if kind == "progress":
                on_progress(what)
                continue
            del talking[channel]  # type: ignore[arg-type]
            if kind == "done":
                trained = what or trained
            elif kind == "lost":
                lost, until = lost or what, until or time.monotonic() + GRACE_S
            else:
                raise BnrecalError(what) if kind == "refused" else ProcessError(what)
    if lost is not None:
        raise BnrecalError(lost)
    assert trained is not None
    return trained


def _heard(child: _Child, n: int) -> Message:
    """The next message of a process, its death included."""
    try:
        message: Message = child.channel.recv()
        return message
    except (EOFError, ConnectionResetError):
        child.process.join(STOP_S)
        code = child.process.exitcode or 0
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return "refused", f"process {child.rank} of {n} was ended {how}; the same command goes on"


@contextmanager
def _started(request: Request, devices: list[str], timeout_s: float, folder: str) -> Iterator[list[_Child]]:
    """The processes, none of which is left afterwards."""
    context = multiprocessing.get_context("spawn")
    children: list[_Child] = []
    meeting = str(Path(folder) / "meeting")
    try:
        with starting_processes():
            for rank in range(len(devices)):
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=_work, args=(theirs, request, rank, devices, timeout_s, meeting), daemon=True
                )
                process.start()
                theirs.close()
                children.append(_Child(rank, process, ours))
        yield children
    finally:
        for child in children:
            child.channel.close()
            child.process.kill()
        for child in children:
            child.process.join(STOP_S)


def _work(
    channel: "connection.Connection[Any, Any]",
    request: Request,
    rank: int,
    devices: list[str],
    timeout_s: float,
    meeting: str,
) -> None:
    """A process of the training, from its start to its end."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(BrokenPipeError, ConnectionResetError):  # nobody waits any more
        channel.send(_trained(channel, request, rank, devices, timeout_s, meeting))


def _trained(
    channel: "connection.Connection[Any, Any]",
    request: Request,
    rank: int,
    devices: list[str],
    timeout_s: float,
    meeting: str,
) -> Message:
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // len(devices)))
    device = torch.device(devices[rank])
    try:
        with joined(rank, len(devices), device, timeout_s, meeting) as ranks:
            show: OnProgress = (lambda now: channel.send(("progress", now))) if not rank else (lambda _: None)
            trained = request.run(device, show, ranks)
    except LostError as error:
        return "lost", str(error)
    except BnrecalError as error:
        return "refused", str(error)
    except Exception as error:
        if os.environ.get("BNRECAL_TRACEBACK"):
            traceback.print_exc()
        return "bug", f"process {rank} of {len(devices)}: {type(error).__name__}: {error}"
    return "done", trained if not rank else None


def _end_with_parent() -> None:
    """Leave no process behind when the one that watches was killed."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
