"""What others leave of the machine, by its own clocks, and the threads that fit."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnrecal.host.load import Load, Reading, Usage, fitting, left_between, read
from bnrecal.host.threads import Crowded, Threads


class Machine(Load):
    """A load that is what a test says."""

    def __init__(self, *left: float) -> None:
        super().__init__()
        self.coming = list(left)

    def look(self) -> bool:
        return True

    def left(self) -> float:
        return self.coming.pop(0) if len(self.coming) > 1 else self.coming[0]


@contextmanager
def spinning(n: int) -> Iterator[list[int]]:
    """`n` processes that want a processor each; their ids. They end by themselves after a while."""
    code = "import time\nt = time.monotonic()\nwhile time.monotonic() < t + 120: pass"
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(n)]
    try:
        yield [other.pid for other in others]
    finally:
        for other in others:
            other.kill()
            other.wait()


def after(pids: list[int], seconds: float) -> None:
    """Wait until every one of these processes has used so much processor time."""
    import psutil

    while min(psutil.Process(pid).cpu_times().user for pid in pids) < seconds:
        time.sleep(0.01)


@given(n=st.integers(1, 64), passed=st.floats(0.25, 100), ours=st.floats(0, 1), theirs=st.floats(0, 1))
def test_left_is_what_others_did_not_use(n: int, passed: float, ours: float, theirs: float) -> None:
    """n processors, of which others used a share and this process some: n minus the others' alone."""
    used_s, own_s = theirs * n * passed, ours * n * passed
    first = Reading(10.0, 1000.0, 50.0, n)
    last = Reading(10.0 + passed, 1000.0 + used_s + own_s, 50.0 + own_s, n)
    assert left_between(first, last) == pytest.approx(n - used_s / passed, abs=1e-6)


def test_left_stays_between_nothing_and_all() -> None:
    """Clocks that count 10 ms may say more than there is; the answer does not."""
    first = Reading(0.0, 0.0, 0.0, 2)
    assert left_between(first, Reading(0.01, 0.05, 0.0, 2)) == 0
    assert left_between(first, Reading(0.01, 0.0, 0.05, 2)) == 2


def test_real_others_are_seen_and_the_family_is_not() -> None:
    """A spinning process takes its seconds from what is left, unless it works for this one."""
    with spinning(1) as pids:
        after(pids, 0.1)
        alone, together = read(), read(pids)
        after(pids, 1.0)
        alone_later, together_later = read(), read(pids)
    passed_s = alone_later.at_s - alone.at_s
    used = 0.8 / passed_s  # at least, as a share of a processor; less where the machine is busy
    assert left_between(alone, alone_later) <= alone.n_processors - used + 0.1
    assert left_between(together, together_later) >= left_between(alone, alone_later) + used - 0.1


def test_own_work_is_not_others() -> None:
    """The readings count this process's seconds as its own: busy minus own does not grow by them."""
    first = read()
    while time.process_time() < first.own_s + 0.5:
        pass
    last = read()
    assert last.own_s - first.own_s >= 0.5
    assert last.busy_s - first.busy_s >= 0.4
    assert first.n_processors >= 1


def test_the_first_answer_waits_for_something_to_compare() -> None:
    """Asked at once, it looks a quarter of a second later."""
    load = Load()
    started = load.readings[0].at_s
    assert 0 <= load.left() <= (os.cpu_count() or 1)
    assert load.readings[-1].at_s - started >= 0.25


def test_a_load_looks_back_about_a_second() -> None:
    """Of older readings the last one stays, so that the window is always spanned; no look too soon."""
    load = Load()
    now = load.readings.pop()
    load.readings.extend(replace(now, at_s=now.at_s - ago) for ago in (9.0, 5.0, 2.0, 0.5))
    kept = list(load.readings)[2:]
    assert load.look()
    assert list(load.readings)[:-1] == kept
    assert not load.look()


@pytest.mark.parametrize(
    ("left", "most", "threads"),
    [(2.0, 2, 2), (1.51, 2, 2), (1.49, 2, 1), (0.0, 2, 1), (63.9, 4, 4), (7.1, 8, 7)],
)
def test_threads_have_a_processor_each(left: float, most: int, threads: int) -> None:
    """As many as others leave processors, rounded; at least one, at most torch's choice."""
    assert fitting(left, most) == threads


def test_a_number_that_is_given_is_kept() -> None:
    """--threads is obeyed on any machine, and nothing interrupts its passes."""
    threads = Threads(3, Machine(0.0))
    assert threads.choose() == 3
    threads.check(3)


def test_a_pass_is_interrupted_only_if_it_would_get_fewer() -> None:
    """Two threads on a machine that became busy: Crowded; one thread, or one that became quiet: nothing."""
    threads = Threads(None, Machine(2.0))
    threads.most = 2
    assert threads.choose() == 2
    threads.check(2)
    busy = Threads(None, Machine(0.5))
    busy.most = 2
    with pytest.raises(Crowded):
        busy.check(2)
    busy.check(2, raises=False)
    busy.check(1)


def test_usage_has_every_column() -> None:
    """Seconds of processor and clock, what is left, load average: as numbers the store takes."""
    usage = Usage(Load())
    while time.process_time() < usage.first.own_s + 0.05:
        pass
    found = usage.so_far()
    assert set(found) == {"cpu_s", "wall_s", "cpus_left", "load"}
    assert (found["cpu_s"] or 0) >= 0.05
    assert (found["wall_s"] or 0) > 0
    assert 0 <= (found["cpus_left"] or 0) <= (os.cpu_count() or 1)
