"""The work of one sweep among others: what it may take, in which order, and what has to wait.

Two sweeps on one store share the work: a cell is taken (see bnrecal/store/claims.py) before it is done, and
looked for among the rows once more when it is taken. Cells on a network that is to be trained are handed out
when its training is done, before further trainings.
"""

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from bnrecal.plan.passes import Grouping, grouped
from bnrecal.store.claims import Claims
from bnrecal.store.store import Store
from bnrecal.study.cells import AnyCell, AnyPass, Cell, Judgement, Training, TrainingPass, pass_of

POLL_S = 0.5  # how often cells that another sweep has taken are looked at again


@dataclass(frozen=True)
class Claimed:
    """A store, the cells taken in it, and how many rows each cell had when the sweep was planned."""

    store: Store
    claims: Claims
    n_rows: dict[str, int]

    def take(self, cell: AnyCell) -> bool | None:
        """True: it is ours to do; False: it has been done meanwhile; None: another sweep does it."""
        if not self.claims.take(cell.key):
            return None
        # A claim ends when the row is on the disk, so whoever holds it sees the row if there is one.
        if self.has_new_row(cell):
            self.claims.release(cell.key)
            return False
        return True

    def has_new_row(self, cell: AnyCell) -> bool:
        """Whether the cell got a row since the plan was made."""
        return self.store.seen().n_rows.get(cell.key, 0) > self.n_rows.get(cell.key, 0)


class Share:
    """An iterator over passes that may end for now and go on when a training has ended.

    `elsewhere` gathers what others have taken, `lost` the cells whose training failed.
    """

    def __init__(self, claimed: Claimed, cells: Iterable[AnyCell], grouping: Grouping = grouped) -> None:
        self.claimed, self.grouping = claimed, grouping
        cells = list(cells)
        self.trainings = deque(cell for cell in cells if isinstance(cell, Training))
        self.elsewhere: list[AnyCell] = []
        self.lost: list[Cell | Judgement] = []
        self.waiting: dict[str, list[Cell | Judgement]] = defaultdict(list)
        to_train = {training.key for training in self.trainings}
        now = []
        for cell in cells:
            if isinstance(cell, Training):
                continue
            if cell.trained is not None and cell.trained.key in to_train:
                self.waiting[cell.trained.key].append(cell)
            elif cell.trained is not None and not self._is_trained(cell.trained):
                self.lost.append(cell)
            else:
                now.append(cell)
        self.ready = deque(grouping(now))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> AnyPass:
        while self.ready or self.trainings:
            if self.ready:
                mine = tuple(cell for cell in self.ready.popleft().cells if self._take(cell))
                if mine:
                    return pass_of(mine)
                continue
            training = self.trainings.popleft()
            taken = self.claimed.take(training)
            if taken:
                return TrainingPass(training)
            if taken is None:
                self.elsewhere += [training, *self.waiting.pop(training.key, [])]
            else:
                self.ended(training)
        raise StopIteration

    def ended(self, training: Training) -> None:
        """Its row is on the disk: the cells on it are ready, or lost."""
        cells = self.waiting.pop(training.key, [])
        if self._is_trained(training):
            self.ready.extendleft(reversed(self.grouping(cells)))
        else:
            self.lost += cells

    def taken_lost(self) -> Iterator[Cell | Judgement]:
        """Those of the lost cells that are ours to write a row of, one after another."""
        while self.lost:
            cell = self.lost.pop(0)
            if self._take(cell):
                yield cell

    def _is_trained(self, training: Training) -> bool:
        return self.claimed.store.seen().status.get(training.key) == "done"

    def _take(self, cell: AnyCell) -> bool:
        taken = self.claimed.take(cell)
        if taken is None:
            self.elsewhere.append(cell)
        return bool(taken)


def wait(cells: Sequence[AnyCell], claimed: Claimed) -> list[AnyCell]:
    """The cells without a row, as soon as one that could be done is free, or all have one."""
    while True:
        left = [cell for cell in cells if not claimed.has_new_row(cell)]
        if not left:
            return []
        to_train = {cell.key for cell in left if isinstance(cell, Training)}
        for cell in left:
            if not isinstance(cell, Training) and cell.trained and cell.trained.key in to_train:
                continue  # not before its training
            if claimed.claims.take(cell.key):
                claimed.claims.release(cell.key)
                return left
        time.sleep(POLL_S)
