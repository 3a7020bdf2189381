"""Peak memory of a pass over few and over many images: they should not differ.

    python experiments/bench/memory.py

One architecture, batch size 64, as processes of their own; prints the peaks and their ratio.
"""

import os
import subprocess
import sys
import tempfile

COUNTS = (2560, 20000)


def peak_mib(n_samples: int) -> float:
    """Peak resident memory of `bnrecal sweep` over so many images, by the operating system's account."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--arch", "arch3", "--bs", "64", "--samples", str(n_samples), "--out", folder]
        process = subprocess.Popen(
            [sys.executable, "-m", "bnrecal", "sweep", *arguments], stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"the sweep over {n_samples} images failed")
        return usage.ru_maxrss / 1024


def main() -> None:
    peak_mib(COUNTS[0])  # renders the scenes if they are not cached yet
    few, many = (peak_mib(n) for n in COUNTS)
    print(
        f"peak memory: {few:.0f} MiB with {COUNTS[0]:,} images, {many:.0f} MiB with {COUNTS[1]:,}; ", end=""
    )
    print(f"ratio {many / few:.3f}")


if __name__ == "__main__":
    main()
