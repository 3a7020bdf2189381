"""Faults in small number: kills, full and closed disks, another clock. `make faults` does many."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal.store.store import Store
from tests.executors.processes import TINY, finish, start
from tests.faults import GRID, N_CELLS, kill_and_resume

SMALL = (*TINY, "--arch", "arch1", "--bs", "8", "--samples", "32,64")


def test_killed_sweeps_lose_and_double_nothing(tmp_path: Path) -> None:
    """SIGKILL at three random moments, resumed: the rows of an undisturbed run, bit-identical."""
    result = kill_and_resume(tmp_path, 3, seed=2)
    assert result.n_kills == 3
    assert result.wrong == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_is_one_line(bnrecal: Callable[..., Any]) -> None:
    """Rows that go to a device without room: refused with the reason, exit code 2."""
    Path("results").mkdir()
    Path("results/rows.jsonl").symlink_to("/dev/full")
    ran = bnrecal("sweep", *SMALL)
    assert ran.code == 2
    assert "--out: " in ran.err.splitlines()[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize("options", ["size=64k", "ro"])
def test_real_full_and_read_only_disks(bnrecal: Callable[..., Any], options: str, tmp_path: Path) -> None:
    """A tmpfs that fills up in mid-sweep, or is read-only: one line; whole rows, and with room the rest."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this container may not mount")
    try:
        if options != "ro":
            bnrecal(*GRID, "--out", disk, "--limit", 1)
            _fill(disk / "filler")
        ran = bnrecal(*GRID, "--out", disk)
        assert ran.code == 2
        last = ran.err.splitlines()[-1]
        assert "No space left on device" in last or "Read-only file system" in last
        if options == "ro":
            return
        (disk / "filler").unlink()
        n_before = len(Store(disk).rows())
        assert (disk / "rows.jsonl").read_bytes().endswith(b"\n")
        assert bnrecal(*GRID, "--out", disk).code == 0
        assert 0 < n_before < N_CELLS == len(Store(disk).rows())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _fill(filler: Path) -> None:
    """Leave nothing but what is free in the last pages of other files."""
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                return


def test_files_from_the_future_change_nothing(bnrecal: Callable[..., Any]) -> None:
    """All files dated years ahead, as after a clock set back: what is done stays, the rest is done."""
    bnrecal("sweep", *SMALL, "--limit", "1")
    (Path("results") / "claims").mkdir()
    (Path("results") / "claims" / "left.lock").touch()
    for path in Path("results").rglob("*"):
        os.utime(path, (4e9, 4e9))
    ran = bnrecal("sweep", *SMALL)
    assert "1 cell in 1 pass, 1 kept from before" in ran.err
    assert len(Store(Path("results")).rows()) == 2


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
def test_a_sweep_under_a_clock_set_back(tmp_path: Path) -> None:
    """Begun today and gone on in 2001: the cells that were done stay so, the rest is done."""
    finish(start("sweep", *SMALL, "--limit", "1", "--out", tmp_path))
    subprocess.run(
        ["faketime", "2001-01-01", sys.executable, "-m", "bnrecal", "sweep", *SMALL, "--out", str(tmp_path)],
        check=True,
        capture_output=True,
    )
    found = Store(tmp_path).rows()
    assert [r["started_at"][:4] == "2001" for r in found] == [False, True]
