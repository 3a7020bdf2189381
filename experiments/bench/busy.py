"""Passes on a quiet and on a busy machine, under several ways for OpenMP's threads to wait.

    python experiments/bench/busy.py [rounds [settings, comma list]]

Every setting is a process of its own that stays open (OpenMP reads its variables when torch is loaded), and
is told which pass to run; all of them run it in turn, in changing order, first on the machine as it is, then
beside as many spinning processes as there are processors. Prints median seconds of the update pass and of
the whole pass, and each as a ratio to the best quiet one.
"""

import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

PASSES = {  # task, architecture, batch size, samples
    "tiny bs 8": ("tiny", "arch1", 8, 256),
    "default bs 8": ("garments", "arch1", 8, 2560),
    "default bs 64": ("garments", "arch3", 64, 2560),
}
SETTINGS: dict[str, dict[str, str]] = {
    "as torch does": {},
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
    (todo,) = passes_of(cells_of(opened))
    return Workplace(Job(opened.study, "cpu"), opened), todo

for line in sys.stdin:
    workplace, todo = opened(*json.loads(line))
    threads.load.look()
    time.sleep(1.1 * WINDOW_S)  # what was there before is another setting's turn
    threads.load.look()
    t0, c0 = time.perf_counter(), time.process_time()
    (found,) = workplace.run(todo, lambda *_: None, threads)
    seconds = found.figures["recal_s"], time.perf_counter() - t0, time.process_time() - c0
    print(json.dumps([*seconds, found.environment["threads"]]), flush=True)
"""
SPIN = "while True: pass"
Times = dict[tuple[str, str, bool], list[list[float]]]


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

    def seconds(self, what: tuple[str, str, int, int]) -> list[float]:
        """Of the update pass, of the pass, of its processor time; and its number of threads."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        found: list[float] = json.loads(self.process.stdout.readline())
        return found

    def close(self) -> None:
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


def measured(names: list[str], rounds: int) -> Times:
    times: Times = {(name, each, busy): [] for name in names for each in PASSES for busy in (False, True)}
    rng = random.Random(0)
    with ExitStack() as stack:
        workers = {name: Worker(SETTINGS[name]) for name in names}
        for worker in workers.values():
            stack.callback(worker.close)
            for what in PASSES.values():
                worker.seconds(what)  # caches and allocators warm
        for busy in (False, True):
            with load((os.cpu_count() or 1) if busy else 0):
                for _ in range(rounds):
                    for each, what in PASSES.items():
                        for name in rng.sample(names, len(names)):
                            times[name, each, busy].append(workers[name].seconds(what))
    return times


def main(rounds: int, names: list[str]) -> None:
    times = measured(names, rounds)
    for each in PASSES:
        print(f"\n{each:16}{'quiet':>27}{'busy':>27}     pass by the best quiet one")
        heads = "".join(f"{head:>9}" for head in 2 * ("update s", "pass s", "cpu s"))
        print(f"{'':16}{heads}{'quiet':>9}{'busy':>9}  threads")
        medians = {
            key: [statistics.median(column) for column in zip(*values, strict=True)]
            for key, values in times.items()
        }
        best = min(medians[name, each, False][1] for name in names)
        for name in names:
            quiet, busy = medians[name, each, False], medians[name, each, True]
            figures = "".join(f"{value:>9.2f}" for value in (*quiet[:3], *busy[:3]))
            ratios = f"{quiet[1] / best:>9.2f}{busy[1] / best:>9.2f}"
            print(f"{name:16}{figures}{ratios}  {quiet[3]:.0f}, {busy[3]:.0f}", flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 5, given[1].split(",") if len(given) > 1 else list(SETTINGS))
