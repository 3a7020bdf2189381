"""Files that are whole or not there, and the user's cache folder.

Everything that somebody may read later is written beside its place and moved there in one step; after a
crash the old file stands, or the new one. Lines are added by `append_whole`, which a full disk leaves as
they were.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def cache_folder() -> Path:
    """BNRECAL_CACHE_DIR, or the platform's cache folder for this user."""
    import platformdirs

    chosen = os.environ.get("BNRECAL_CACHE_DIR")
    return Path(chosen) if chosen else platformdirs.user_cache_path("bnrecal")


@contextmanager
def appearing(path: Path, replace: bool = True, durable: bool = True) -> Iterator[Path]:
    """A path to write to that becomes `path` when the block ends, or is removed when it raises.

    With `durable` the file is on the disk (fsync) before it has its name. Without `replace` a file that
    somebody else made meanwhile is a FileExistsError. Raises OSError as the file system does.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=".part", dir=path.parent)
    os.close(handle)
    work = Path(name)
    try:
        yield work
        work.chmod(0o666 & ~_umask())
        if durable:
            with work.open("rb") as file:
                os.fsync(file.fileno())
        _take_place(work, path, replace)
        if durable:
            sync_folder(path.parent)
    finally:
        with suppress(OSError):  # it has moved, or the folder is gone as well
            work.unlink(missing_ok=True)


def _take_place(work: Path, path: Path, replace: bool) -> None:
    if replace:
        work.replace(path)
        return
    try:
        os.link(work, path)  # unlike a rename it fails where another process was faster
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError from None
        work.rename(path)


@contextmanager
def appearing_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill that becomes `folder` when the block ends; one that another process made stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield work
        with suppress(OSError):  # another process was faster; its folder is the same
            work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_whole(path: Path, data: bytes) -> None:
    """Make or replace a file at once; a crash leaves the old one or the new one."""
    with appearing(path) as work:
        work.write_bytes(data)


def append_whole(path: Path, data: bytes) -> None:
    """Add `data` and return when it is on the disk; where that fails the file is as it was."""
    new = not path.exists()
    with path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            left = memoryview(data)
            while left:  # a disk that fills up takes a part first, and says why when asked again
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(size)
            raise
    if new:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """A new name in a folder is on the disk only when the folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
