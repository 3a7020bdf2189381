"""The GPU's parts, run on the processor in small."""

import json
import os
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parent.parent / "experiments/gpu/run.py"


def test_every_part_runs_on_the_processor(tmp_path: Path) -> None:
    """Each part ends without an error, and what does not depend on speed passes: the processor agrees with
    itself, repeats to the bit, steps stay finite, memory that runs out is met, two processes train what one
    trains."""
    command = [sys.executable, str(RUN), "--small", "-o", str(tmp_path / "gpu.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    passed = {name: part["passed"] for name, part in parts.items()}
    assert passed == {
        "same statistics": True,
        "repeatable": True,
        "recalibration time": None,
        "throughput": None,
        "optimiser steps": True,
        "norms' steps": True,
        "out of memory": True,
        "published grid": None,
        "several processes": True,
    }
    assert not [name for name, part in parts.items() if "error" in part]
    assert all(f"\n{name}" in done.stdout for name in parts)
