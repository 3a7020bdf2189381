"""A limit on the time of a pass, kept by the process that runs it."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

_T = TypeVar("_T")


class TimedOut(BaseException):
    """The pass is over its time. No `Exception`: a network's own `except Exception` must not catch it."""


class Deadline:
    """`seconds` of work within `running` blocks; the time between them does not count.

    An alarm signal interrupts the main thread between two steps of the interpreter, so a single call of
    foreign code (one convolution) is waited for. Elsewhere, and where the system has no such signal,
    `check` does it between batches.
    """

    def __init__(self, seconds: float | None, error: type[BaseException] = TimedOut) -> None:
        self.left_s, self.error = seconds, error
        self.ends_at: float | None = None
        self.can_interrupt = hasattr(signal, "setitimer") and (
            threading.current_thread() is threading.main_thread()
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Raises TimedOut, or the error asked for, in here when the seconds are used up.

        An alarm that somebody outside has set goes on after it.
        """
        if self.left_s is None:
            yield
            return
        self.ends_at = time.monotonic() + self.left_s
        started, outside_s = time.monotonic(), 0.0
        before = signal.signal(signal.SIGALRM, self._ring) if self.can_interrupt else None
        try:
            if self.can_interrupt:  # once: nothing to disarm after it
                outside_s, _ = signal.setitimer(signal.ITIMER_REAL, max(self.left_s, 1e-6))
            yield
        finally:
            if self.can_interrupt:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
                if outside_s:
                    left_s = outside_s - (time.monotonic() - started)
                    signal.setitimer(signal.ITIMER_REAL, max(left_s, 1e-6))
            self.left_s = max(0.0, self.ends_at - time.monotonic())
            self.ends_at = None

    def check(self) -> None:
        if self.ends_at is not None and time.monotonic() > self.ends_at:
            raise self.error

    def _ring(self, _: int, __: FrameType | None) -> None:
        raise self.error


def in_time(results: Iterator[_T], deadline: Deadline) -> Iterator[_T]:
    """The same results, with the clock running only while they are worked on."""
    while True:
        with deadline.running():
            try:
                result = next(results)
            except StopIteration:
                return
        yield result
