"""What cells leave besides rows and evidence: trained networks, each in OUT/trained/KEY of its training."""

import io
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

from bnrecal.errors import BnrecalError
from bnrecal.host.files import appearing_folder

TRAINED = "trained"


def trained_folder(out: Path) -> Path:
    return out / TRAINED


def packed(folder: Path) -> bytes:
    """The files of a trained network as one archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return buffer.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    """The files of an archive, wholly or not at all, in the place of what an earlier try left there.

    Raises BnrecalError where the disk does not take them.
    """
    try:
        with appearing_folder(folder) as work:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                archive.extractall(work, filter="data")  # nothing outside the folder, no devices
            _set_aside(folder)
    except (OSError, tarfile.TarError) as error:
        raise BnrecalError(f"{folder}: a trained network cannot be written: {error}") from None


def _set_aside(folder: Path) -> None:
    """Remove what stands there, its name first."""
    with (
        suppress(FileNotFoundError),
        tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as away,
    ):
        folder.rename(Path(away) / "old")
