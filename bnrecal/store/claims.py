"""Which cells this process has taken, so that two sweeps on one store share the work.

A claim is a file lock: it ends with the process that holds it, however that ends, and knows no clock.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bnrecal.errors import BnrecalError

if TYPE_CHECKING:
    from filelock import BaseFileLock


class Claims:
    """Cells taken in `folder`, a lock file each while it is held."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, BaseFileLock] = {}

    def take(self, key: str) -> bool:
        """Whether the cell is now ours; False if another process or sweep holds it."""
        from filelock import FileLock, Timeout

        try:
            self.folder.mkdir(exist_ok=True)
            lock = FileLock(self.folder / f"{key}.lock", timeout=0)
            lock.acquire()
        except Timeout:
            return False
        except OSError as error:
            raise BnrecalError(f"--out: cannot write to {self.folder}: {error.strerror}") from None
        self._held[key] = lock
        return True

    def release(self, key: str) -> None:
        """Give the cell back; one that is not ours stays as it is."""
        lock = self._held.pop(key, None)
        if lock is None:
            return
        # While it is still ours: whoever has opened the old file meanwhile sees that it lost its name.
        with suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()

    def release_all(self) -> None:
        for key in tuple(self._held):
            self.release(key)
        with suppress(OSError):
            self.folder.rmdir()  # unless another sweep has claims there
