"""Seconds by part, against a clock that the test moves."""

import pytest
import torch

from bnrecal.measure.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time it is; whoever changes its entry lets time pass."""
    now = [0.0]
    monkeypatch.setattr("bnrecal.measure.stopwatch.now_s", lambda device: now[0])
    return now


def test_a_part_adds_up_over_its_blocks_and_time_outside_counts_for_none(clock: list[float]) -> None:
    """Blocks of 1 and 2 s under one part, 4 s between them, 8 s under another."""
    watch = Stopwatch(torch.device("cpu"))
    for part, inside, outside in (("read", 1.0, 4.0), ("read", 2.0, 0.0), ("recal", 8.0, 0.0)):
        with watch.part(part):
            clock[0] += inside
        clock[0] += outside
    assert watch.seconds == {"read": 3.0, "recal": 8.0}


def test_a_copy_goes_on_by_itself(clock: list[float]) -> None:
    """What a cell's evaluation takes is not in the cells that follow it."""
    walk = Stopwatch(torch.device("cpu"), {"recal": 1.0})
    cell = walk.copy()
    with cell.part("eval"):
        clock[0] += 2.0
    assert (walk.seconds, cell.seconds) == ({"recal": 1.0}, {"recal": 1.0, "eval": 2.0})


def test_seconds_that_are_moved_keep_their_sum(clock: list[float]) -> None:
    """Reading in the midst of a walk is not the walk's."""
    watch = Stopwatch(torch.device("cpu"))
    with watch.part("recal"):
        clock[0] += 5.0
    watch.move(2.0, "recal", "read")
    assert watch.seconds == {"recal": 3.0, "read": 2.0}


def test_a_block_that_raises_counts_for_nothing(clock: list[float]) -> None:
    """A pass that begins anew starts from nothing."""
    watch = Stopwatch(torch.device("cpu"))
    with pytest.raises(ZeroDivisionError), watch.part("eval"):
        clock[0] = 1 / clock[0]
    assert not watch.seconds
