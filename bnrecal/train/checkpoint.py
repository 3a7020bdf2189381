"""Where a training stands after an epoch, in one file that is whole or not there.

A line of JSON (what is trained, epochs done, digest of the rest) and a state written by torch.save, which is
read with weights_only. No random state is kept: what an epoch draws follows from (seed, epoch) alone.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bnrecal.errors import BnrecalError
from bnrecal.host.files import write_whole

VERSION = 1
NAME = "checkpoint"


class DamagedError(BnrecalError):
    """The file is not what was written."""


@dataclass(frozen=True)
class Checkpoint:
    """`state`: of module, optimiser and scaler. `log`: the epochs that are done."""

    identity: str  # of recipe, images and network
    state: dict[str, Any]
    log: list[dict[str, Any]]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the one before at once. Raises OSError as the file system does; the old one then stands."""
    buffer = io.BytesIO()
    torch.save(checkpoint.state, buffer)
    state = buffer.getvalue()
    log = json.dumps(checkpoint.log)
    header = {
        "version": VERSION,
        "identity": checkpoint.identity,
        "log": checkpoint.log,
        "sha256": _digest(checkpoint.identity + log, state),
    }
    write_whole(folder / NAME, json.dumps(header).encode() + b"\n" + state)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The one that stands there, None if there is none.

    Raises DamagedError if it is not as it was written, BnrecalError if it cannot be read.
    """
    path = folder / NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BnrecalError(f"{path}: cannot be read: {error.strerror}") from None
    first, _, state = data.partition(b"\n")
    try:
        header = json.loads(first)
        log = header["log"]
        sound = header["version"] == VERSION and header["sha256"] == _digest(
            str(header["identity"]) + json.dumps(log), state
        )
        identity = str(header["identity"])
    except (ValueError, TypeError, KeyError):
        sound = False
    if not sound:
        raise DamagedError(f"{path}: damaged, or of another version")
    return Checkpoint(identity, torch.load(io.BytesIO(state), weights_only=True), log)


def remove_checkpoint(folder: Path) -> None:
    (folder / NAME).unlink(missing_ok=True)


def _digest(head: str, state: bytes) -> str:
    found = hashlib.sha256(head.encode())
    found.update(state)
    return found.hexdigest()
