"""How much of the machine other processes leave to this one. Imports no torch."""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

WINDOW_S = 1.0  # looks back so far: a compiler's start is over by then, a competitor is not
STEP_S = 0.25  # between two looks; processor times are counted in steps of 10 ms


@dataclass(frozen=True)
class Reading:
    """Processor seconds since the machine was started, at one moment."""

    at_s: float
    busy_s: float  # of all processors that this process may use, the hypervisor's theft included
    own_s: float  # of this process and those that work for it
    n_processors: int


def read(family: Iterable[int] = ()) -> Reading:
    """What the system's clocks say now; `family` are the processes that work for this one."""
    import psutil

    times = psutil.cpu_times(percpu=True)
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(times))
    ours = [times[k] for k in usable if k < len(times)]
    # guest time is part of user time; macOS has no iowait
    idle = ("idle", "iowait", "guest", "guest_nice")
    busy_s = sum(sum(each) - sum(getattr(each, name, 0.0) for name in idle) for each in ours)
    own_s = time.process_time()
    for pid in family:
        try:
            used = psutil.Process(pid).cpu_times()
        except psutil.Error:  # it has ended: its seconds now count as others', for one window
            continue
        own_s += used.user + used.system
    return Reading(time.monotonic(), busy_s, own_s, len(ours))


def left_between(first: Reading, last: Reading) -> float:
    """Processors that others left over on average: all less (busy - own) / passed, within 0 and all."""
    passed_s = max(last.at_s - first.at_s, 1e-6)
    others = (last.busy_s - first.busy_s - (last.own_s - first.own_s)) / passed_s
    return min(float(last.n_processors), max(0.0, last.n_processors - others))


def load_average() -> float | None:
    """Processes that ran or waited for a processor over the last minute, this one among them."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


class Load:
    """Looks at the machine from time to time; the first look is at construction.

    `family` gives the processes that work for this one: what they use is not taken by others.
    """

    def __init__(self, family: Callable[[], Iterable[int]] = tuple) -> None:
        self.family = family
        self.readings = deque([read(family())])

    def look(self) -> bool:
        """Read the clocks if the last look is STEP_S ago; whether they were read."""
        if time.monotonic() - self.readings[-1].at_s < STEP_S:
            return False
        self.readings.append(read(self.family()))
        # one reading beyond the window stays, so that the readings always span it
        while len(self.readings) > 2 and self.readings[-1].at_s - self.readings[1].at_s >= WINDOW_S:
            self.readings.popleft()
        return True

    def left(self) -> float:
        """Processors that others leave over, on average over the last WINDOW_S or since construction."""
        if len(self.readings) == 1:
            time.sleep(max(0.0, self.readings[0].at_s + STEP_S - time.monotonic()))
        self.look()
        return left_between(self.readings[0], self.readings[-1])


class Usage:
    """What a pass that begins now uses, and what others leave to it.

    Spans shorter than WINDOW_S are too short for clocks that count 10 ms: then the window that `load`
    looks back over is taken.
    """

    def __init__(self, load: Load) -> None:
        self.load = load
        load.look()
        self.first = read()

    def so_far(self) -> dict[str, float | None]:
        """The columns of a row that say it, see store/rows.py."""
        now = read()
        self.load.look()
        wall_s = now.at_s - self.first.at_s
        since = self.first if wall_s >= WINDOW_S else min(self.first, *self.load.readings, key=_moment)
        return {
            "cpu_s": round(now.own_s - self.first.own_s, 6),
            "wall_s": round(wall_s, 6),
            "cpus_left": round(left_between(since, now), 3),
            "load": load_average(),
        }


def _moment(reading: Reading) -> float:
    return reading.at_s


def fitting(left: float, most: int) -> int:
    """Threads that have a processor each where others leave `left` over: rounded, 1 to `most`."""
    return max(1, min(most, math.floor(left + 0.5)))
