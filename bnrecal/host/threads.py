"""How many processor threads a pass gets: those that have a processor to themselves.

OpenMP's threads wait for each other by spinning, after every convolution. Where another process holds the
processor one of them needs, all wait, and a pass takes up to 100 times as long; other ways of waiting
cost a quiet machine 1.2 to 3 times the time. So the number of threads follows the load
(experiments/bench/busy.py). A pass has one number from its first image to its last, and its rows say which.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from bnrecal.host.load import Load, fitting


class Crowded(BaseException):
    """Others came to want the processors in mid-pass. No `Exception`: a network's own must not catch it."""


class Threads:
    """The number of threads of the next pass.

    `fixed` is the user's number. None: as many as torch takes by itself, fewer while other processes keep
    processors busy; `load` is looked at for that.
    """

    def __init__(self, fixed: int | None, load: Load) -> None:
        self.fixed, self.load = fixed, load
        self.most = fixed or 0  # torch's choice, once it is loaded

    def whole(self) -> int:
        """The user's number or torch's own choice, however busy the machine is."""
        if not self.most:
            import torch

            self.most = torch.get_num_threads()
        return self.most

    def choose(self) -> int:
        """For a pass that begins now."""
        most = self.whole()
        return most if self.fixed is not None or most == 1 else fitting(self.load.left(), most)

    def check(self, chosen: int, raises: bool = True) -> None:
        """Look at the machine; Crowded where a pass that runs with `chosen` threads would now get fewer."""
        if self.fixed is None and self.most > 1 and self.load.look() and self.choose() < chosen and raises:
            raise Crowded


@contextmanager
def threads_fitting() -> Iterator[None]:
    """A scope in which torch has as many threads as find a processor to themselves when it begins."""
    import torch

    with threads_kept():
        torch.set_num_threads(Threads(None, Load()).choose())
        yield


@contextmanager
def threads_kept() -> Iterator[None]:
    """A scope in which torch's number of threads may be set; afterwards it is what it was."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
