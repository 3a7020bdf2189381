"""Faults done to real sweeps, in any number: a few in the tests, many in experiments/bench/faults.py."""

import random
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.executors.processes import PATIENCE_S, Figures, figures, rows, start

GRID = (
    *("sweep", "--task", "tiny", "--threads", "1", "--arch", "arch1,arch3", "--bs", "4,8"),
    *("--samples", "64,128"),
)
N_CELLS = 8


@dataclass
class Killed:
    """What became of sweeps that were killed and started again until they were done."""

    n_kills: int = 0
    n_kills_with_rows: int = 0  # that hit a sweep after its first row
    n_sweeps: int = 0
    n_torn: int = 0  # kills that left an unfinished last line
    wrong: list[str] = field(default_factory=list)


def kill_and_resume(folder: Path, n_kills: int, seed: int, *options: str) -> Killed:
    """SIGKILL at random moments until there were `n_kills`; every finished sweep is compared."""
    rng = random.Random(seed)
    wanted, whole_s = undisturbed(folder / "undisturbed", *options)
    result = Killed()
    while result.n_kills < n_kills:
        out = folder / f"sweep-{result.n_sweeps}"
        _one_sweep(out, rng, whole_s, options, n_kills, result)
        result.n_sweeps += 1
        try:
            if figures(out) != wanted:
                result.wrong.append(f"{out}: other figures, or rows lost")
        except AssertionError:
            result.wrong.append(f"{out}: a cell twice, or failed")
    return result


def undisturbed(folder: Path, *options: str) -> tuple[Figures, float]:
    """The figures to be equalled, and the seconds the sweep took."""
    started = time.monotonic()
    process = start(*GRID, *options, "--out", folder)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return figures(folder), time.monotonic() - started


def _one_sweep(
    out: Path, rng: random.Random, whole_s: float, options: tuple[str, ...], n_kills: int, result: Killed
) -> None:
    """Start, kill, start again, until it is done; a row that was seen once must stay."""
    seen: set[str] = set()
    while True:
        process = start(*GRID, *options, "--out", out)
        patience_s = rng.uniform(0, 1.2 * whole_s) if result.n_kills < n_kills else PATIENCE_S
        try:
            _, err = process.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            result.n_kills += 1
            now = [row["key"] for row in rows(out)]
            if not seen <= set(now):
                result.wrong.append(f"{out}: a row that was there is gone")
            result.n_kills_with_rows += len(now) > 0
            seen |= set(now)
            path = out / "rows.jsonl"
            result.n_torn += (
                path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
            )
            continue
        if process.returncode != 0:
            result.wrong.append(f"{out}: exit code {process.returncode}: {err.splitlines()[-1]}")
        return
