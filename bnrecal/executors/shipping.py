"""Files a study names, packed for machines that lack them.

A bundle is plain data: an archive and which setting each part of it serves. Only files that a setting
names are packed, and modules of the user's own that lie in the working folder.
"""

import hashlib
import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from bnrecal.errors import BnrecalError
from bnrecal.host.files import appearing_folder, cache_folder
from bnrecal.study.inputs import Inputs

PATHS = ("weights", "calibration", "evaluation", "images", "data", "order")  # settings that may name files
MODULES = ("model", "transforms")  # settings that may be "module:name"


@dataclass(frozen=True)
class Bundle:
    """A tar archive; `paths` says where in it the file or folder of each setting is."""

    archive: bytes
    paths: dict[str, str]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.archive).hexdigest()[:32]


def pack(inputs: Inputs) -> Bundle:
    """The files and modules the settings of `inputs` name, as they are found from the working folder."""
    buffer = io.BytesIO()
    paths = {}
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in PATHS:
            value = getattr(inputs, name)
            if value is not None and (named := Path(value).resolve()).exists():
                paths[name] = f"settings/{name}/{named.name}"
                archive.add(named, paths[name], filter=_anonymous)
        for name in MODULES:
            if module := _own_module(getattr(inputs, name)):
                archive.add(module, str(module), filter=_anonymous)
    return Bundle(buffer.getvalue(), paths)


def unpack(bundle: Bundle, inputs: Inputs) -> Inputs:
    """`inputs` with every packed setting pointing to the unpacked file; modules into the working folder.

    The working folder becomes the unpacked one, in the user's cache. Raises BnrecalError where the disk
    does not take it.
    """
    folder = cache_folder() / "shipped" / bundle.digest
    try:
        if not folder.is_dir():
            with (
                appearing_folder(folder) as work,
                tarfile.open(fileobj=io.BytesIO(bundle.archive)) as archive,
            ):
                archive.extractall(work, filter="data")  # nothing outside the folder, no devices
        os.chdir(folder)
    except (OSError, tarfile.TarError) as error:
        raise BnrecalError(f"{folder}: shipped files cannot be unpacked: {error}") from None
    return inputs.model_copy(update={name: str(folder / path) for name, path in bundle.paths.items()})


def _own_module(value: str | None) -> Path | None:
    """The file or package in the working folder behind "package.module:name", relative to it."""
    top, colon, _ = (value or "").partition(":")
    top = top.partition(".")[0]
    if not colon or not top.isidentifier():
        return None
    return next((path for path in (Path(top), Path(f"{top}.py")) if path.exists()), None)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Content alone, so that the same files give the same archive."""
    if "__pycache__" in entry.name:
        return None
    entry.mtime = entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
