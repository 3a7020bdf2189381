"""SIGINT and SIGTERM: work is left within seconds, and a row being written is finished first.

`heeded` turns either signal into `Stopped`, raised where the main thread is. Where that cannot be in
time (the main thread is inside a long call of foreign code, or somebody swallowed the exception), a
thread ends the process after GRACE_S: whatever SIGKILL would leave behind is sound.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_S = 4.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The user or the system asked the process to end; `code` is the exit code that says so."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.code = 128 + signum


class _Shields:
    """How many shields the main thread stands in, and the signal that waits for their end."""

    def __init__(self) -> None:
        self.depth = 0
        self.pending: int | None = None
        self.stopping = False
        self.writing = threading.RLock()  # held while a row goes to the disk


_shields = _Shields()


def _heed(signum: int, _: FrameType | None) -> None:
    if _shields.stopping:
        return  # one is enough; what it set going takes seconds at most
    if _shields.depth:
        _shields.pending = signum
        return
    _shields.stopping = True
    raise Stopped(signum)


@contextmanager
def shielded() -> Iterator[None]:
    """No `Stopped` is raised in here; one that came meanwhile is raised at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _shields.depth += 1
    try:
        with _shields.writing:
            yield
    finally:
        _shields.depth -= 1
    if _shields.pending is not None and not _shields.depth:
        signum, _shields.pending = _shields.pending, None
        _heed(signum, None)


@contextmanager
def starting_processes() -> Iterator[None]:
    """Processes that multiprocessing starts in here hear neither signal: a terminal's Ctrl-C is for this one.

    Blocked in this thread the signals are inherited blocked; shielded as well, for they come to any thread
    that does not block them, and a process that is left half started says so by a traceback.
    """
    from multiprocessing import resource_tracker  # a command that starts no process need not load it

    resource_tracker.ensure_running()  # started in here, it would let the signals through again
    with shielded():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def heeded(kept: str = "") -> Iterator[None]:
    """In here SIGINT and SIGTERM raise `Stopped`; a process that has not left GRACE_S later is ended.

    `kept` ends the line that is said then: what the command leaves for a second run.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _shields.__init__()  # type: ignore[misc]
    ears, mouth = socket.socketpair()
    mouth.setblocking(False)
    left = threading.Event()
    before = {signum: signal.signal(signum, _heed) for signum in SIGNALS}
    # The interpreter writes the number here at once, even while the main thread is in foreign code.
    before_wakeup = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(ears, left, kept), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(before_wakeup)
        for signum, handler in before.items():
            signal.signal(signum, handler)
        mouth.close()
        watcher.join(1)
        ears.close()


def _watch(ears: socket.socket, left: threading.Event, kept: str) -> None:
    """End the process when a signal was heard and the main thread does not leave in time."""
    while True:
        heard = ears.recv(1)
        if not heard:
            return
        if heard[0] in SIGNALS:
            break
    if left.wait(GRACE_S):
        return
    _shields.writing.acquire(timeout=0.5)
    try:
        sys.stderr.write(f"bnrecal: interrupted in mid-pass{kept}\n")
        sys.stderr.flush()
    finally:
        os._exit(128 + heard[0])
