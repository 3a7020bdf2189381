"""Decoded images, kept once on disk as raw uint8 and read through a memory map.

A set of images (source x preprocessing) is a folder of the user's cache:

    pixels    images x channels x height x width bytes; sparse, only what was asked for takes room
    rows      a record per image: the digest of the content its pixels were decoded from
    digests   a record per image: size and time of the file when it was last hashed, and its digest

An image whose file has changed has another digest and is decoded again, so a set never needs to be
deleted by hand. Pixels are on the disk before their record is. Files are written with pwrite and never
through a map, so that a full disk is an error and no fault. The cache is bounded: sets used longest ago
go first, and a set that does not fit is decoded anew at each reading.
"""

import contextlib
import fcntl
import hashlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnrecal.data.cache_files import bytes_of, make_room, read_records, write_all, write_records
from bnrecal.data.draws import Int64s
from bnrecal.data.image_source import DIGEST_BYTES, NO_STAMP, ImageSource, content_digest
from bnrecal.data.preprocessing import Pixels, Preprocessing
from bnrecal.errors import BnrecalError
from bnrecal.host.files import cache_folder

VERSION = 1  # of the files' layout and of decoding; raise when either changes
CHUNK = 256  # images decoded between two records on disk
_FRESH_NS = 2_000_000_000  # a file changed within two seconds may change again unseen

_ROW = np.dtype([("digest", f"V{DIGEST_BYTES}"), ("width", "<u4"), ("height", "<u4")])
_DIGEST = np.dtype([("size", "<i8"), ("mtime_ns", "<i8"), ("digest", f"V{DIGEST_BYTES}")])
_NOTHING = np.zeros((), f"V{DIGEST_BYTES}")

OnDecoded = Callable[[int], None]


class BadImageError(BnrecalError):
    """A file that is no whole image. `position` tells which."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position


@dataclass
class ImageCache:
    """The images of `source` as `preprocessing` makes them."""

    source: ImageSource
    preprocessing: Preprocessing
    streams: bool = False  # whether the cache has no room for the images: they are decoded at each reading
    _held: int | None = field(default=None, repr=False)
    _rows: NDArray[np.void] | None = field(default=None, repr=False)
    _digests: NDArray[np.void] | None = field(default=None, repr=False)

    @property
    def _folder(self) -> Path:
        names = hashlib.sha256()
        for position in range(len(self.source)):
            names.update(self.source.name(position).encode("utf-8", "surrogateescape") + b"\0")
        facts = f"{VERSION} {self.source.place} {names.hexdigest()} {self.preprocessing.digest()}"
        return (
            cache_folder()
            / f"images-{hashlib.sha256(facts.encode('utf-8', 'surrogateescape')).hexdigest()[:20]}"
        )

    def __post_init__(self) -> None:
        self.folder = self._folder  # once: hashing a million names takes a second

    # what the images are

    def digests(self, positions: Int64s) -> NDArray[np.void]:
        """Content digests, 16 bytes each; reads the files that are new or have changed."""
        if self._digests is None:
            self._digests = read_records(self.folder / "digests", _DIGEST, len(self.source))
        unique = np.unique(positions)
        with ThreadPoolExecutor(_n_threads()) as pool:
            stamps = np.array(list(pool.map(self.source.stamp, unique.tolist())), np.int64).reshape(-1, 2)
            known = self._digests[unique]
            stale = (known["size"] != stamps[:, 0]) | (known["mtime_ns"] != stamps[:, 1])
            stale |= known["digest"] == _NOTHING
            found = list(pool.map(self._digest, unique[stale].tolist()))
        if found:
            fresh = stamps[stale]
            self._digests["digest"][unique[stale]] = np.frombuffer(b"".join(found), f"V{DIGEST_BYTES}")
            keep = (fresh[:, 1] < time.time_ns() - _FRESH_NS)[:, None] & (fresh != NO_STAMP).any(1)[:, None]
            stamped = np.where(keep, fresh, -1)
            self._digests["size"][unique[stale]] = stamped[:, 0]
            self._digests["mtime_ns"][unique[stale]] = stamped[:, 1]
            with contextlib.suppress(OSError):  # a memory that cannot be kept is made again
                write_records(self.folder / "digests", self._digests, unique[stale])
        result: NDArray[np.void] = self._digests["digest"][positions]
        return result

    def _digest(self, position: int) -> bytes:
        return content_digest(self.source.content(position))

    # their pixels

    def pixels(self, positions: Int64s) -> NDArray[np.uint8]:
        """uint8 (images, channels, height, width), decoded if that has not been done before."""
        if self._fill(positions):
            return np.ascontiguousarray(self._map()[positions])
        with ThreadPoolExecutor(_n_threads()) as pool:
            return np.stack([found[0] for found in pool.map(self._decoded, positions.tolist())])

    def sizes(self, positions: Int64s) -> Int64s:
        """(width, height) of the images before resizing; shape (images, 2)."""
        if self._fill(positions):
            assert self._rows is not None
            rows = self._rows[positions]
            return np.stack([rows["width"], rows["height"]], 1).astype(np.int64)
        with ThreadPoolExecutor(_n_threads()) as pool:
            return np.array(list(pool.map(self._size, positions.tolist())), np.int64).reshape(-1, 2)

    def prepare(self, positions: Int64s, on_decoded: OnDecoded = lambda _: None) -> int:
        """Decode what is missing, telling how many were just done; returns how many there were."""
        missing = len(self._missing(positions))
        self._fill(positions, on_decoded)
        return 0 if self.streams else missing

    def bad_images(self, positions: Int64s) -> list[BadImageError]:
        """Every image among these that cannot be decoded; the others are in the cache afterwards."""
        bad: list[BadImageError] = []
        if not self._fill(positions, bad=bad):
            with ThreadPoolExecutor(_n_threads()) as pool:
                tried = pool.map(self._decoded_or_error, np.unique(positions).tolist())
                bad = [found for found in tried if isinstance(found, BadImageError)]
        return bad

    def _map(self) -> NDArray[np.uint8]:
        """Opened anew for each reading, so that resident memory does not grow with the set."""
        p = self.preprocessing
        shape = (len(self.source), p.channels, p.height, p.width)
        return np.memmap(self.folder / "pixels", np.uint8, "r", shape=shape)

    def _missing(self, positions: Int64s) -> Int64s:
        if self._rows is None:
            self._rows = read_records(self.folder / "rows", _ROW, len(self.source))
            if bytes_of(self.folder / "pixels") < len(self.source) * self.preprocessing.n_bytes:
                self._rows["digest"] = _NOTHING  # somebody removed or cut what the records are about
        unique = np.unique(positions)
        missing: Int64s = unique[self._rows["digest"][unique] != self.digests(unique)]
        return missing

    def _fill(
        self,
        positions: Int64s,
        on_decoded: OnDecoded = lambda _: None,
        bad: list[BadImageError] | None = None,
    ) -> bool:
        """Have these images in the cache; False if it has no room for them.

        An image that cannot be decoded is an error, unless there is a list `bad` to put it in.
        """
        if self.streams:
            return False
        self._hold()
        if self._complete(positions):
            return True
        try:
            with self._locked():
                self._hold()
                self._rows = None  # another process may have decoded meanwhile
                missing = self._missing(positions)
                if len(missing) and not make_room(self.folder, len(missing) * self.preprocessing.n_bytes):
                    self.streams = True
                    return False
                self._decode_into_files(missing, on_decoded, bad)
        except OSError as error:
            if isinstance(error, PermissionError) or error.errno == 30:  # a cache nobody may write
                self.streams = True
                return False
            raise BnrecalError(
                f"--cache-dir: {self.folder}: {error.strerror} while keeping decoded images; "
                "make room, choose another folder, or set --cache-limit 0"
            ) from None
        return True

    def _complete(self, positions: Int64s) -> bool:
        """Whether all are there, without asking the files again once they were hashed in this process."""
        if self._rows is None or self._digests is None:
            return not len(self._missing(positions))
        known = self._digests["digest"][positions]
        return bool(((known != _NOTHING) & (self._rows["digest"][positions] == known)).all())

    def _decode_into_files(
        self, missing: Int64s, on_decoded: OnDecoded, bad: list[BadImageError] | None
    ) -> None:
        if not len(missing):
            return
        assert self._rows is not None
        image_bytes = self.preprocessing.n_bytes
        path = self.folder / "pixels"
        with open(path, "ab"), ThreadPoolExecutor(_n_threads()) as pool, open(path, "r+b") as file:
            if os.fstat(file.fileno()).st_size < len(self.source) * image_bytes:
                os.ftruncate(file.fileno(), len(self.source) * image_bytes)
            for start in range(0, len(missing), CHUNK):
                chunk = missing[start : start + CHUNK]
                whole = np.ones(len(chunk), bool)
                for k, found in enumerate(pool.map(self._decoded_or_error, chunk.tolist())):
                    if isinstance(found, BadImageError):
                        if bad is None:
                            raise found
                        bad.append(found)
                        whole[k] = False
                        continue
                    write_all(file.fileno(), found[0].tobytes(), int(chunk[k]) * image_bytes)
                    self._rows["width"][chunk[k]], self._rows["height"][chunk[k]] = found[1]
                chunk = chunk[whole]
                os.fsync(file.fileno())
                assert self._digests is not None
                self._rows["digest"][chunk] = self._digests["digest"][chunk]
                write_records(self.folder / "rows", self._rows, chunk)
                on_decoded(len(chunk))

    def _size(self, position: int) -> tuple[int, int]:
        """(width, height) by the file's head alone."""
        from PIL import Image

        content = self.source.content(position)
        if not isinstance(content, bytes):
            return content.shape[1], content.shape[0]
        try:
            with Image.open(BytesIO(content)) as image:
                return image.size
        except Exception:  # Pillow's readers raise what they like
            return self._decoded(position)[1]  # which says what is wrong

    def _decoded_or_error(self, position: int) -> tuple[Pixels, tuple[int, int]] | BadImageError:
        try:
            return self._decoded(position)
        except BadImageError as error:
            return error

    def _decoded(self, position: int) -> tuple[Pixels, tuple[int, int]]:
        from PIL import Image

        content = self.source.content(position)
        try:
            return self.preprocessing.decode(content)
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            what = str(error).split(" <")[0] or type(error).__name__
            root = getattr(self.source, "root", None)
            name = self.source.name(position) if root is None else root / self.source.name(position)
            raise BadImageError(
                position, f"{name}: not a whole image: {what}; mend it or use --skip-bad-images"
            ) from None

    # the files

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process fills a set at a time; the lock goes with the process that holds it."""
        with _ONE_THREAD:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / "lock", "ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                os.utime(self.folder / "lock")  # when the set was last used
                yield

    def _hold(self) -> None:
        """Keep other processes from removing the set while this one reads it."""
        if self._held is None and self.folder.is_dir():
            with contextlib.suppress(OSError):
                self._held = os.open(self.folder / "held", os.O_RDWR | os.O_CREAT, 0o666)
                weakref.finalize(self, os.close, self._held)
                fcntl.flock(self._held, fcntl.LOCK_SH)


_ONE_THREAD = threading.Lock()


def _n_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
