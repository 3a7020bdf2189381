"""Passes on a quiet and on a busy machine, under several ways for OpenMP's threads to wait.

    python experiments/bench/busy.py [seconds [settings, comma list]]

Every setting is a process of its own that stays open (OpenMP reads its variables when torch is loaded), and
is told which pass to run. In a round all of them run it one after another, in changing order, between two
runs of torch's own way; what is compared is the ratio to the geometric mean of these two, so that what slows
the machine for longer than a round cancels. Passes are short and rounds many: the median of their ratios is
told with its 95 % interval (bootstrap over rounds). The seconds (300) are all it takes, starting included:
of those left then three fifths go to the machine as it is, the rest beside as many spinning processes as
there are processors. Each round is printed as it ends; one that the end cuts short does not count.
"""

import json
import math
import os
import random
import select
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

PASSES = {  # task, architecture, batch size, samples
    "tiny bs 8": ("tiny", "arch1", 8, 256),
    "default bs 8": ("garments", "arch1", 8, 1280),
    "default bs 64": ("garments", "arch3", 64, 2560),
}
OWN = "as torch does"  # what the others are compared with
QUIET_LIMIT, BUSY_LIMIT = 1.05, 3.0  # times torch's own way on the quiet machine
SETTINGS: dict[str, dict[str, str]] = {
    OWN: {},
    "spin 1000": {"GOMP_SPINCOUNT": "1000"},
    "spin 5000": {"GOMP_SPINCOUNT": "5000"},
    "spin 20000": {"GOMP_SPINCOUNT": "20000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "follow load": {"FOLLOW": "1"},  # bnrecal's own way
}
WORKER = """
import functools, json, os, sys, time
import torch
from bnrecal.executors.executor import Job
from bnrecal.executors.workplace import Workplace
from bnrecal.host.load import WINDOW_S, Load
from bnrecal.host.threads import Threads
from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import open_study
from bnrecal.plan.passes import passes_of

threads = Threads(None if os.environ.get("FOLLOW") else torch.get_num_threads(), Load())

@functools.cache
def opened(name, arch, bs, n):
    settings = dict(task=name, arch=[arch], bs=[bs], samples=[n], baseline=False)
    opened = open_study(settings, {})
    opened.task.n_evaluation = 64  # the update pass is what is compared
    (todo,) = passes_of(cells_of(opened))
    return Workplace(Job(opened.study, "cpu"), opened), todo

def warm(seconds):
    a, end = torch.rand(256, 256), time.perf_counter() + seconds
    while time.perf_counter() < end:
        a @ a

for line in sys.stdin:
    workplace, todo = opened(*json.loads(line))
    if os.environ.get("FOLLOW"):  # looks back so far, on another setting's turn otherwise
        threads.load.look()
        time.sleep(1.1 * WINDOW_S)
        threads.load.look()
    warm(0.1)
    t0, c0 = time.perf_counter(), time.process_time()
    (found,) = workplace.run(todo, lambda *_: None, threads)
    seconds = found.figures["recal_s"], time.perf_counter() - t0, time.process_time() - c0
    print(json.dumps([*seconds, found.environment["threads"]]), flush=True)
"""
SPIN = "while True: pass"
# of each setting, pass and "busy": by round seconds of the update pass, its ratio, and its threads
Times = dict[tuple[str, str, bool], list[tuple[float, float, float]]]


class _LateError(Exception):
    """The seconds are over within a round."""


class Worker:
    """An open process under one setting."""

    def __init__(self, environment: dict[str, str]) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "MKL_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=kept | environment,
        )

    def seconds(self, what: tuple[str, str, int, int], end: float) -> list[float]:
        """Of the update pass, of the pass, of its processor time; and its number of threads."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
            raise _LateError
        found: list[float] = json.loads(self.process.stdout.readline())
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def load(n: int) -> Iterator[None]:
    """`n` processes that want a processor each, all the time."""
    others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(n)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measured(names: list[str], seconds: float) -> Times:
    times: Times = defaultdict(list)
    end = time.monotonic() + seconds
    with ExitStack() as stack:
        workers = {name: Worker(SETTINGS[name]) for name in (OWN, *names)}
        for worker in workers.values():
            stack.callback(worker.close)
        try:
            for worker in workers.values():
                for what in PASSES.values():
                    worker.seconds(what, end)  # caches and allocators warm
            print(f"started in {seconds - end + time.monotonic():.0f} s", flush=True)
            quiet_end = time.monotonic() + 0.6 * (end - time.monotonic())
            rounds(times, workers, False, quiet_end, end)
            with load(os.cpu_count() or 1):
                rounds(times, workers, True, end, end)
        except _LateError:
            print("the seconds are over: the round that ran does not count", flush=True)
    return times


def rounds(times: Times, workers: dict[str, Worker], busy: bool, until: float, end: float) -> None:
    """One for each pass in turn, each begun while one as long as its last still ends in time."""
    rng = random.Random(int(busy))
    names = [name for name in workers if name != OWN]
    lasted = dict.fromkeys(PASSES, 0.0)
    while any(time.monotonic() + taken < until for taken in lasted.values()):
        for each, what in PASSES.items():
            t0 = time.monotonic()
            if t0 + lasted[each] < until:
                one_round(times, workers, rng.sample(names, len(names)), (each, busy), (what, end))
                lasted[each] = time.monotonic() - t0


def one_round(
    times: Times,
    workers: dict[str, Worker],
    names: list[str],
    where: tuple[str, bool],
    what: tuple[tuple[str, str, int, int], float],
) -> None:
    """Torch's own way, the others, and torch's own way again."""
    first = workers[OWN].seconds(*what)
    found = {name: workers[name].seconds(*what) for name in names}
    last = workers[OWN].seconds(*what)
    own = math.sqrt(first[0] * last[0])
    for name, one in found.items():
        times[name, *where].append((one[0], one[0] / own, one[3]))
    times[OWN, *where].append((own, last[0] / first[0], first[3]))
    said = ", ".join(f"{name} {one[0]:.3f}" for name, one in {OWN: first, **found}.items())
    print(f"{where[0]}, {'busy' if where[1] else 'quiet'}: {said}, {OWN} again {last[0]:.3f} s", flush=True)


def median_of(values: list[float]) -> tuple[float, float, float]:
    """The median, and its 95 % interval by bootstrap."""
    rng = random.Random(1)
    found = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(2000))
    return statistics.median(values), found[50], found[1949]


def verdict(low: float, high: float, limit: float) -> str:
    return "within" if high <= limit else "beyond" if low > limit else "not told"


def main(seconds: float, names: list[str]) -> None:
    names = [name for name in names if name != OWN]
    times = measured(names, seconds)
    for each in PASSES:
        if not (times[OWN, each, False] and times[OWN, each, True]):
            print(f"\n{each}: no round ended both quiet and busy; give more seconds", flush=True)
            continue
        own = {busy: statistics.median(t[0] for t in times[OWN, each, busy]) for busy in (False, True)}
        n = {busy: len(times[OWN, each, busy]) for busy in (False, True)}
        print(
            f"\n{each}: update pass by torch's own way, quiet {own[False]:.3f} s ({n[False]} rounds), ",
            end="",
        )
        print(f"busy {own[True]:.3f} s ({n[True]} rounds)")
        print(f"{'':16}{'quiet: ratio to it':>30}{'busy: seconds by quiet own':>30}  threads")
        # how far the same setting is from itself within a round: what no ratio below can be surer than
        for name in (OWN, *names):
            quiet, busy = times[name, each, False], times[name, each, True]
            middle, low, high = median_of([t[1] for t in quiet])
            said = f"{middle:.2f} ({low:.2f} to {high:.2f}) {verdict(low, high, QUIET_LIMIT)}"
            slower, low, high = median_of([t[0] / own[False] for t in busy])
            beside = f"{slower:.2f} ({low:.2f} to {high:.2f}) {verdict(low, high, BUSY_LIMIT)}"
            threads = ", ".join(f"{statistics.median(t[2] for t in found):.0f}" for found in (quiet, busy))
            print(f"{name:16}{said:>30}{beside:>30}  {threads}", flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(float(given[0]) if given else 300.0, given[1].split(",") if len(given) > 1 else list(SETTINGS))
