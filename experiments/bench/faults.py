"""Faults in number: kills, disks, clocks, two sweeps at once, a lost node, hostile files, a large store.

    python experiments/bench/faults.py [--kills 100] [--mutations 10000] [--only kills,disks,...]

Prints a line per figure; exit code 1 if one is not met. The checks are those of tests/, whose few runs
are made many here. Mounting a small disk needs root, setting a clock back `faketime`.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from bnrecal.store.rows import line_of  # noqa: E402
from tests.executors.cluster import address_of, two_nodes  # noqa: E402
from tests.executors.processes import figures, finish, start  # noqa: E402
from tests.faults import kill_and_resume  # noqa: E402
from tests.fuzz_targets import TARGETS, prepare  # noqa: E402
from tests.fuzzing import fuzz, watching  # noqa: E402
from tests.store.test_store import row  # noqa: E402
from tests.sweep import trained  # noqa: E402

N_ROWS = 100_000
RESUME_S, REPORT_S = 2.0, 5.0


def say(ok: bool, text: str) -> bool:
    print(f"{'ok    ' if ok else 'FAILED'} {text}", flush=True)
    return ok


def kills(folder: Path, options: argparse.Namespace) -> bool:
    """Half of them in one process, half with two."""
    met = True
    for name, more, n in (("inline", (), options.kills // 2), ("-j 2", ("-j", "2"), -(-options.kills // 2))):
        started = time.monotonic()
        result = kill_and_resume(folder / f"kills{name.strip('- ')}", n, 1, *more)
        for wrong in result.wrong:
            print(f"       {wrong}")
        met &= say(
            not result.wrong,
            f"{result.n_kills} SIGKILLs ({name}), {result.n_kills_with_rows} after the first row, "
            f"{result.n_torn} left a torn line; {result.n_sweeps} sweeps ended with the rows of an "
            f"undisturbed one; {time.monotonic() - started:.0f} s",
        )
    return met


def trainings(folder: Path, options: argparse.Namespace) -> bool:
    """A study that trains, killed as often as `--trainings` says: inline, by `-j 2`, on two Ray nodes."""
    met = True
    trained.write_study(folder / "trainings")
    os.chdir(folder / "trainings")
    finish(start(*trained.SWEEP, "--out", "whole"))
    wanted = trained.what_came_out(Path("whole"))
    with two_nodes(folder) as cluster:
        ray = ("--executor", "ray", "--address", address_of(cluster))
        for name, within_s, more in (
            ("inline", 4.0, ()),
            ("-j 2", 5.0, ("-j", "2")),
            ("two Ray nodes", 20.0, ray),
        ):
            if name not in options.ways.split(","):
                continue
            out = Path(f"killed {name}")
            n_kills, wrong = trained.kill_and_resume(out, options.trainings, 1, wanted, within_s, *more)
            text = (
                f"{n_kills} SIGKILLs of a study that trains ({name}): rows and weights of an undisturbed one"
            )
            met &= say(not wrong, text + "".join(f"; {what}" for what in wrong))
    return met


def disks(folder: Path, options: argparse.Namespace) -> bool:
    """Full, read-only, dead holder, clock: the tests that do it for real, by name."""
    tests = (
        *("tests/test_faults.py", "tests/store/test_claims.py"),
        *("tests/host/test_interrupts.py", "tests/store/test_store.py"),
        *("-k", "disk or future or clock or holder or short_write or share or taken_over"),
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-v", "--no-header", *tests],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    for line in done.stdout.splitlines():
        if "::" in line and ("PASSED" in line or "FAILED" in line or "SKIPPED" in line):
            print(f"       {line.split('::')[-1]}")
    return say(done.returncode == 0, f"disks, clocks, locks, two sweeps: {done.stdout.splitlines()[-1]}")


def fuzzing(folder: Path, options: argparse.Namespace) -> bool:
    """An equal share of the mutations for each kind of file."""
    os.environ["BNRECAL_TRACEBACK"] = "1"
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
    met = True
    n = -(-options.mutations // len(TARGETS))
    for target in TARGETS:
        work = folder / target
        work.mkdir()
        os.chdir(work)
        path, commands = prepare(target, work)
        started = time.monotonic()
        with watching(folder, Path(os.environ["BNRECAL_CACHE_DIR"])) as watch:
            try:
                codes = fuzz(path, commands, n, options.seed)
                text = ", ".join(f"{count} with exit code {code}" for code, count in sorted(codes.items()))
            except AssertionError as error:
                codes, text = {}, f"{error}; {type(error.__cause__).__name__}: {error.__cause__}"
        met &= say(
            bool(codes) and not watch.strayed,
            f"{n} mutations of {target}: {text}; files touched elsewhere: {len(watch.strayed)}; "
            f"{time.monotonic() - started:.0f} s",
        )
    os.chdir(ROOT)
    return met


def cluster(folder: Path, options: argparse.Namespace) -> bool:
    """The test of a lost node, then the published grid with two workers against one process."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", "tests/executors/test_ray.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    met = say(done.returncode == 0, f"Ray, two nodes, one lost: {done.stdout.splitlines()[-1]}")
    return met and ratios(folder, options)


def ratios(folder: Path, options: argparse.Namespace) -> bool:
    """A thread a process everywhere, so that the figures have to be the same."""
    grid = ("sweep", "--study", ROOT / "experiments" / "published_grid.toml", "--threads", "1", *options.grid)
    ways = {"inline": (), "-j 2": ("-j", "2"), "ray": ("--executor", "ray", "-j", "2")}
    seconds = {}
    for name, way in ways.items():
        started = time.monotonic()
        finish(start(*grid, *way, "--out", folder / f"grid {name}"), 3600)
        seconds[name] = time.monotonic() - started
    same = all(figures(folder / f"grid {name}") == figures(folder / "grid inline") for name in ways)
    text = ", ".join(f"{name} {s:.1f} s ({s / seconds['inline']:.2f})" for name, s in seconds.items())
    return say(same, f"the grid, one thread a process, two at a time: {text}; figures bit-identical: {same}")


def large(folder: Path, options: argparse.Namespace) -> bool:
    """Resume and report on a store of 100,000 rows, each as a command of its own."""
    out = folder / "large"
    out.mkdir()
    with (out / "rows.jsonl").open("wb") as file:
        for k in range(N_ROWS):
            bs, n, arch = 2 ** (2 + k % 5), 64 * (1 + k // 5 % 20), f"arch{k // 100}"
            fields = {"update": 0.3 + k % 7 / 100, "environment": {"python": "3", "cpu": "x" * 200}}
            file.write(line_of(row(f"{k:020x}", arch=arch, batch_size=bs, n_samples=n, **fields)))
    met = True
    for name, limit_s, command in (
        ("resume", RESUME_S, ("sweep", "--task", "tiny", "--dry-run")),
        ("report", REPORT_S, ("report",)),
        ("report --format csv", REPORT_S, ("report", "--format", "csv")),
    ):
        started = time.monotonic()
        finish(start(*command, "--out", out), 300)
        seconds = time.monotonic() - started
        met &= say(seconds < limit_s, f"{N_ROWS:,} rows: {name} {seconds:.2f} s (limit {limit_s:.0f})")
    return met


PARTS: dict[str, Callable[[Path, argparse.Namespace], bool]] = {
    "kills": kills,
    "trainings": trainings,
    "disks": disks,
    "fuzzing": fuzzing,
    "cluster": cluster,
    "large": large,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--trainings", type=int, default=20, help="kills of a study that trains, each way")
    parser.add_argument("--ways", default="inline,-j 2,two Ray nodes", help="of these, comma list")
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, comma list")
    parser.add_argument(
        "--grid", type=shlex.split, default=(), help="makes the grid smaller: --grid='--bs 64'"
    )
    options = parser.parse_args()
    met = True
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BNRECAL_CACHE_DIR"] = str(Path(folder) / "cache")
        os.environ["PYTHONPATH"] = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
        for name in options.only.split(","):
            part = Path(folder) / name
            part.mkdir()
            met &= PARTS[name](part, options)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
