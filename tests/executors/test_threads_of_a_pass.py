"""A pass on a machine that becomes busy: begun anew with fewer threads, and its rows say how many."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from bnrecal.executors.executor import Job, Outcome
from bnrecal.executors.inline import Inline
from bnrecal.executors.workplace import Workplace
from bnrecal.host.load import Load
from bnrecal.host.threads import Threads, threads_kept
from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import Opened, open_study
from bnrecal.plan.passes import passes_of
from bnrecal.study.cells import Pass


@pytest.fixture(scope="module")
def opened() -> Opened:
    settings = {"task": "tiny", "arch": ["arch1"], "bs": [8], "samples": [64, 128], "baseline": False}
    return open_study(settings, {})


@pytest.fixture
def todo(opened: Opened) -> Pass:
    (found,) = passes_of(cells_of(opened))
    return found


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    with threads_kept():
        yield


class Becoming(Threads):
    """Two threads fit until the pass has made `n_calls` forwards; from then on one does."""

    def __init__(self, n_calls: int) -> None:
        super().__init__(None, Load())
        self.most, self.n_calls, self.raised = 2, n_calls, 0

    def choose(self) -> int:
        return 2 if self.n_calls > 0 else 1

    def check(self, chosen: int, raises: bool = True) -> None:
        self.n_calls -= 1
        self.load.readings.append(replace(self.load.readings[-1], at_s=0.0))  # looks every time
        try:
            super().check(chosen, raises)
        except BaseException:
            self.raised += 1
            raise


def figures(outcomes: list[Outcome]) -> list[tuple[object, object]]:
    return [(each.figures["update"], each.figures["eval"]) for each in outcomes]


@pytest.mark.parametrize("n_calls", [1, 5])
def test_a_pass_begins_anew_with_fewer_threads(opened: Opened, todo: Pass, n_calls: int) -> None:
    """Crowded at its first or a later batch: every cell is done once, as by one thread, and says 1."""
    workplace, read = Workplace(Job(opened.study, "cpu"), opened), list[int]()
    becoming = Becoming(n_calls)
    found = list(workplace.run(todo, lambda n, _="": read.append(n), becoming))
    alone = list(workplace.run(todo, lambda *_: None, Threads(1, Load())))
    assert becoming.raised == 1
    assert [each.cell for each in found] == list(todo.cells)
    assert [each.environment["threads"] for each in found] == [1, 1]
    assert figures(found) == figures(alone)
    assert sum(read) == 128  # what was read in vain is taken back


def test_cells_done_before_stay_as_they_were(opened: Opened, todo: Pass) -> None:
    """Crowded while the second cell is walked: the first keeps its two threads and is not done again."""
    workplace = Workplace(Job(opened.study, "cpu"), opened)
    becoming, found = Becoming(10**6), list[Outcome]()
    for outcome in workplace.run(todo, lambda *_: None, becoming):
        found.append(outcome)
        becoming.n_calls = 1
    assert [each.cell for each in found] == list(todo.cells)
    assert [each.environment["threads"] for each in found] == [2, 1]


def test_a_pass_begins_anew_only_once(opened: Opened, todo: Pass) -> None:
    """However often the machine would call for it: the second attempt goes through."""

    class Always(Becoming):
        def choose(self) -> int:
            return 1 if self.n_calls < 0 else 2

        def check(self, chosen: int, raises: bool = True) -> None:
            self.n_calls = -1
            super().check(2, raises)

    always = Always(1)
    found = list(Workplace(Job(opened.study, "cpu"), opened).run(todo, lambda *_: None, always))
    assert always.raised == 1
    assert [each.error for each in found] == [None, None]


def test_inline_gives_torch_its_threads_back(opened: Opened, todo: Pass) -> None:
    """A pass with --threads 2 leaves this process with as many as it had."""
    torch.set_num_threads(1)
    executor = Inline(Job(opened.study, "cpu", threads=2), opened)
    found = list(executor.run(iter([todo]), lambda *_: None))
    assert [each.environment["threads"] for each in found] == [2, 2]
    assert torch.get_num_threads() == 1


def test_rows_say_processor_time_and_load(opened: Opened, todo: Pass) -> None:
    """The columns of every outcome, failed ones included; the later cell has used more."""
    workplace = Workplace(Job(opened.study, "cpu", threads=1), opened)
    first, last = workplace.run(todo, lambda *_: None)
    assert set(first.usage) == {"cpu_s", "wall_s", "cpus_left", "load"}
    assert 0 < (first.usage["cpu_s"] or 0) < (last.usage["cpu_s"] or 0)
    assert 0 < (first.usage["wall_s"] or 0) < (last.usage["wall_s"] or 0)
    (lost,) = workplace.run(Pass((replace(todo.first, data_digest="other"),)), lambda *_: None)
    assert lost.error is not None
    assert set(lost.usage) == set(first.usage)
