"""The time of a pass: what counts, and what happens when it is used up."""

import contextlib
import time

import pytest

from bnrecal.executors.deadline import Deadline, TimedOut


def test_work_over_its_time_is_interrupted() -> None:
    """Asleep for an hour with a twentieth of a second to go."""
    with pytest.raises(TimedOut), Deadline(0.05).running():
        time.sleep(3600)


def deaf(deadline: Deadline) -> None:
    """Catches the alarm, and comes to the end of its batch."""
    with contextlib.suppress(TimedOut):
        time.sleep(3600)
    deadline.check()


def test_swallowed_alarms_are_heard_of_at_the_next_check() -> None:
    """Whoever catches the alarm meets it again between batches; before the time is over nothing is raised."""
    deadline = Deadline(0.05)
    with pytest.raises(TimedOut), deadline.running():
        deaf(deadline)
    with (patient := Deadline(3600.0)).running():
        patient.check()


def test_the_time_between_pieces_of_work_does_not_count() -> None:
    """A row that is written meanwhile costs the pass nothing; work does."""
    deadline = Deadline(3600.0)
    with deadline.running():
        time.sleep(0.01)
    left_s = deadline.left_s
    assert left_s is not None
    assert left_s <= 3600 - 0.01
    time.sleep(0.01)
    deadline.check()
    assert deadline.left_s == left_s


def test_without_a_limit_nothing_ends() -> None:
    """None is no limit: nothing is armed, nothing raised."""
    with (deadline := Deadline(None)).running():
        deadline.check()
    assert deadline.left_s is None
