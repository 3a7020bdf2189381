"""Sweeps as processes of their own: to be killed, watched and run beside each other."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bnrecal.store.store import Row, Store

PATIENCE_S = 300.0  # for what surely comes, however busy the machine: only a hang lasts longer
TINY = ("--task", "tiny", "--threads", "1", "--no-baseline")
Figures = dict[str, tuple[float | None, float | None]]


def start(*arguments: object, **environment: str) -> "subprocess.Popen[str]":
    """`bnrecal ARGUMENTS`, its messages to be read from stderr."""
    return subprocess.Popen(
        [sys.executable, "-c", _AS_FROM_A_TERMINAL, *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


# A background shell hands SIGINT down ignored; a user's terminal does not. Not by preexec_fn, which may
# crash a process that has threads.
_AS_FROM_A_TERMINAL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from bnrecal.cli import main
main()
"""


# What a process does when it builds an architecture named in HANGING, and says by a file of that name in the
# folder MARKS: "deaf" spends the rest of its life in one call of foreign code, in which Python hears no
# signal (the call itself makes the file: before it, a signal would be heard); "endless" loops for ever in
# Python; "meeting" goes on when two processes have come.
_SITE = """
import os
if os.environ.get("HANGING"):
    from bnrecal.networks.embedded import EmbeddedSupernet
    build = EmbeddedSupernet.build
    def hanging(self, arch):
        how, _, archs = os.environ["HANGING"].partition(":")
        if arch in archs.split(","):
            import ctypes, shlex, time
            marks = os.environ["MARKS"]
            mark = os.path.join(marks, f"{arch}-{os.getpid()}")
            if how == "deaf":
                as_long_as_we_live = "exec >/dev/null 2>&1; while kill -0 $PPID; do sleep 0.1; done"
                ctypes.CDLL(None).system(f"touch {shlex.quote(mark)}; {as_long_as_we_live}".encode())
            open(mark, "w").close()
            while how == "endless" or len({n.split("-")[1] for n in os.listdir(marks)}) < 2:
                time.sleep(0.01)
        return build(self, arch)
    EmbeddedSupernet.build = hanging
"""


class Hanging:
    """Environments in which building some architectures hangs, in every process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.marks = folder / "site", folder / "marks"
        self.folder.mkdir()
        self.marks.mkdir()
        (self.folder / "sitecustomize.py").write_text(_SITE)

    def __call__(self, how: str, *archs: str) -> dict[str, str]:
        """`how` is "deaf", "endless" or "meeting", see above."""
        return {
            "HANGING": f"{how}:{','.join(archs)}",
            "MARKS": str(self.marks),
            "PYTHONPATH": f"{self.folder}:{os.environ.get('PYTHONPATH', '')}:{Path.cwd()}",
        }

    def begun(self) -> bool:
        """Whether a process hangs, or did."""
        return any(self.marks.iterdir())


def apart(*arguments: object) -> tuple[int, str]:
    """Exit code and messages of a command that is better not run in this process."""
    process = start(*arguments)
    _, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, err


def finish(process: "subprocess.Popen[str]", timeout_s: float = PATIENCE_S) -> str:
    """Its messages, when it ended by itself with exit code 0."""
    _, err = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, err
    return err


def until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """Living processes whose parent this is."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = status.read_text().rpartition(") ")
        except OSError:
            continue
        if rest.split()[1] == str(pid) and rest.split()[0] != "Z":
            found.append(int(name.split(" ")[0]))
    return found


def workers(pid: int) -> list[int]:
    """The processes that multiprocessing started for it, without Python's own helper."""
    return [child for child in children(pid) if b"spawn_main" in _command(child)]


def _command(pid: int) -> bytes:
    """What it was started as; nothing if it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def rows(folder: Path) -> list[Row]:
    return Store(folder).rows()


def figures(folder: Path) -> Figures:
    """What a sweep found, by key; every cell done, and done once."""
    found = {row["key"]: (row["update"], row["eval"]) for row in rows(folder)}
    assert len(found) == len(rows(folder))
    assert {row["status"] for row in rows(folder)} == {"done"}
    return found
