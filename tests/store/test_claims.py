"""Claims: a cell is taken once, and free again when whoever took it is gone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bnrecal.store.claims import Claims

HOLD = """
import sys
from pathlib import Path
from bnrecal.store.claims import Claims
claims = Claims(Path(sys.argv[1]))
print(claims.take("a"), flush=True)
sys.stdin.read()
"""


def test_a_cell_is_taken_once(tmp_path: Path) -> None:
    """Of two claimants the second is refused until the first gives it back; others stay free."""
    first, second = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    assert first.take("a")
    assert not second.take("a")
    assert second.take("b")
    second.release("a")  # not its own: stays taken
    assert not second.take("a")
    first.release("a")
    assert second.take("a")
    first.release_all()
    second.release_all()
    assert not (tmp_path / "claims").exists()


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    """SIGKILL frees its cells at once, and the file it left, dated in the future, means nothing."""
    folder = tmp_path / "claims"
    command = [sys.executable, "-c", HOLD, str(folder)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    claims = Claims(folder)
    assert not claims.take("a")
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    left = folder / "a.lock"
    os.utime(left, (time.time() + 1e6,) * 2)  # the clock was set back meanwhile
    assert claims.take("a")
    claims.release_all()
