"""What is to be known of a GPU, in one command. Never run on a GPU so far.

    python experiments/gpu/run.py [--small] [-o FILE]      (make gpu)

Runs each part on the first CUDA device; on the processor, in small, where there is none or with --small.
Prints a table, writes one JSON file (gpu.json), fetches nothing. `passed` is null where a part only
measures: speed on the processor says nothing of a GPU. Exit code 1 if a part failed or did not pass.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import memory
import norms_steps
import optimiser_steps
import published_grid
import recalibration_time
import repeatable
import same_statistics
import several
import throughput
import torch
from place import Place

from bnrecal.host.device import choose_device, now_s
from bnrecal.host.files import write_whole

PARTS: dict[str, Callable[[Place], dict[str, Any]]] = {
    "same statistics": same_statistics.measure,
    "repeatable": repeatable.measure,
    "recalibration time": recalibration_time.measure,
    "throughput": throughput.measure,
    "optimiser steps": optimiser_steps.measure,
    "norms' steps": norms_steps.measure,
    "out of memory": memory.measure,
    "published grid": published_grid.measure,
    "several processes": several.measure,
}


def run(place: Place) -> dict[str, Any]:
    """Each part's findings; a part that raises is one of them, since the others are worth having."""
    found: dict[str, Any] = {}
    for name, measure in PARTS.items():
        started = now_s(place.device)
        try:
            part = measure(place)
        except Exception as error:
            traceback.print_exc()
            part = {"passed": False, "error": f"{type(error).__name__}: {error}"}
        found[name] = {**part, "part_s": now_s(place.device) - started}
        show(name, found[name])
    return found


def show(name: str, part: dict[str, Any]) -> None:
    verdict = {True: "passed", False: "FAILED", None: "measured"}[part["passed"]]
    print(f"{name:22}{verdict}, {part['part_s']:.1f} s", flush=True)
    for key, value in flat(part):
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        print(f"    {key:44}{shown}", flush=True)


def flat(values: dict[str, Any], before: str = "") -> list[tuple[str, object]]:
    """The leaves of nested findings, by path."""
    leaves: list[tuple[str, object]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            leaves += flat(value, f"{before}{key}: ")
        elif key not in ("passed", "part_s"):
            leaves.append((before + key, value))
    return leaves


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="on the processor, in small")
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu.json"))
    chosen = parser.parse_args()
    device = torch.device("cpu") if chosen.small else choose_device("auto")
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else "processor, in small"
    print(f"{name}, torch {torch.__version__}")
    parts = run(Place(device, small=not on_gpu))
    findings = {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda, "parts": parts}
    write_whole(chosen.output, (json.dumps(findings, indent=1) + "\n").encode())
    return 1 if any(part["passed"] is False for part in parts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
