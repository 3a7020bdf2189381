"""Where images come from before they are decoded: files in a folder, or arrays in memory."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bnrecal.errors import BnrecalError

DIGEST_BYTES = 16
NO_STAMP = (0, 0)


class ImageSource(Protocol):
    """Images by position. A digest is of an image's content alone."""

    def __len__(self) -> int: ...

    @property
    def place(self) -> str:
        """What tells this source from others on this machine."""
        ...

    def name(self, position: int) -> str:
        """For messages and for lists of images."""
        ...

    def content(self, position: int) -> bytes | NDArray[np.uint8]:
        """The file's bytes, or pixels (height, width) or (height, width, 3)."""
        ...

    def stamp(self, position: int) -> tuple[int, int]:
        """(bytes, time of the last change in ns): as long as they stay, so does the digest."""
        ...


def content_digest(content: bytes | NDArray[np.uint8]) -> bytes:
    """16 bytes that tell one content from another (BLAKE2b)."""
    data = content if isinstance(content, bytes) else np.ascontiguousarray(content).tobytes()
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True)
class Files:
    """Image files `names`, relative to `root`, out of which no name may lead."""

    root: Path
    names: Sequence[str]
    listed_in: str  # who names them, for messages

    def __post_init__(self) -> None:
        for name in self.names:
            if name.startswith(("/", "\\")) or ".." in Path(name).parts or "\0" in name or not name:
                raise BnrecalError(f"{self.listed_in}: image {name!r} leaves the image folder {self.root}")
            try:
                name.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:  # half a character, as JSON can write it
                raise BnrecalError(f"{self.listed_in}: image {name!r} is no name a file can have") from None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def place(self) -> str:
        return os.path.realpath(self.root)

    def name(self, position: int) -> str:
        return self.names[position]

    def content(self, position: int) -> bytes:
        path = self._path(position)
        try:
            return path.read_bytes()
        except OSError as error:
            raise self._missing(path, error) from None

    def stamp(self, position: int) -> tuple[int, int]:
        path = self._path(position)
        try:
            found = os.stat(path)
        except OSError as error:
            raise self._missing(path, error) from None
        return found.st_size, found.st_mtime_ns

    def _path(self, position: int) -> Path:
        return self.root / self.names[position]

    def _missing(self, path: Path, error: OSError) -> BnrecalError:
        return BnrecalError(f"{path}: cannot be read: {error.strerror} (named by {self.listed_in})")


@dataclass(frozen=True)
class Arrays:
    """Images in memory: uint8 (images, height, width) or (images, height, width, 3)."""

    pixels: NDArray[np.uint8]
    listed_in: str

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def place(self) -> str:
        return f"{self.listed_in} {self.pixels.shape}"

    def name(self, position: int) -> str:
        return str(position)

    def content(self, position: int) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = self.pixels[position]
        return found

    def stamp(self, position: int) -> tuple[int, int]:
        return NO_STAMP
