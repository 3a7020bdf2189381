"""The other end of executor `local`: a process that runs the passes it is sent, one at a time."""

import os
import signal
import threading
from multiprocessing import connection, parent_process
from typing import Any

from bnrecal.errors import BnrecalError
from bnrecal.executors.executor import Job, Outcome

# What a worker says: (kind, what). "began": a pass, with all that comes before it done;
# "images": so many were read, and what to say of it; "outcome": of a cell; "over": ready for the next;
# "refused": why nothing can be run here.
Message = tuple[str, Any]


def work(channel: "connection.Connection[Any, Any]", job: Job) -> None:
    """Run what comes through `channel`, passes and the number of threads of each, until it closes."""
    # A terminal sends Ctrl-C to every process of the group: the sweep alone decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        import torch

        from bnrecal.executors.workplace import Workplace

        workplace = Workplace(job)
    except BnrecalError as error:
        channel.send(("refused", str(error)))
        return

    def send(kind: str, what: tuple[int, str] | Outcome | None = None) -> None:
        channel.send((kind, what))

    try:
        while True:
            todo, threads = channel.recv()
            torch.set_num_threads(threads)
            send("began")
            for outcome in workplace.run(todo, lambda n, said="": send("images", (n, said))):
                send("outcome", outcome)
            send("over")
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the sweep has ended
        return


def _end_with_parent() -> None:
    """Leave no process behind when the sweep was killed."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
