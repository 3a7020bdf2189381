"""Facts about the machine and software behind a row: an allow-list, never the whole environment."""

import functools
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

_LIBRARIES = ("bnrecal", "torch", "torchvision", "numpy")


def describe_environment(device: str) -> dict[str, Any]:
    """Versions, the code's git commit and whether its tree was dirty, processor, GPU, threads now."""
    import torch

    return {**_lasting(device), "threads": torch.get_num_threads()}


@functools.cache
def _lasting(device: str) -> dict[str, Any]:
    """What stays as it is while the process runs."""
    import torch

    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
        **_git_state(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "gpu": gpu,
    }


def _git_state() -> dict[str, Any]:
    """Commit and dirtiness of the checkout bnrecal runs from; nulls for an installed copy."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return {"git_commit": None, "git_dirty": None}
    try:
        commit = _git(root, "rev-parse", "HEAD")
        # results/ is what runs write; it says nothing about the code
        dirty = bool(_git(root, "status", "--porcelain", "--", "bnrecal", "pyproject.toml"))
    except (OSError, subprocess.SubprocessError):
        return {"git_commit": None, "git_dirty": None}
    return {"git_commit": commit, "git_dirty": dirty}


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
