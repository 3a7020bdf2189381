"""The folder of one training: its checkpoint while it runs, its weights, log and recipe when it is done."""

import hashlib
import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bnrecal.errors import BnrecalError
from bnrecal.host.files import append_whole, write_whole
from bnrecal.networks.saved_weights import write_weights
from bnrecal.study.recipe import Recipe
from bnrecal.train.checkpoint import (
    NAME,
    Checkpoint,
    DamagedError,
    read_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)
from bnrecal.train.recipe_file import recipe_text

WEIGHTS, LOG, RECIPE = "weights.safetensors", "log.jsonl", "recipe.toml"


@dataclass(frozen=True)
class Trained:
    """What a training left in its folder. `log`: an entry an epoch, as in log.jsonl."""

    weights: Path
    sha256: str  # of the weights file
    log: list[dict[str, Any]]

    @property
    def seconds(self) -> float:
        """Of all epochs, those before an interruption included."""
        return float(sum(entry["seconds"] for entry in self.log))


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A file system that refuses is one line; what stood there before stands."""
    try:
        yield
    except OSError as error:
        raise BnrecalError(f"{folder}: cannot be written: {error.strerror or error}") from None


def finished(folder: Path, identity: str) -> Trained | None:
    """The network of this identity that stands there whole, None if there is no finished one.

    Raises BnrecalError if there is another. Damaged weights are made again.
    """
    path = folder / RECIPE
    try:
        trained = tomllib.loads(path.read_text("utf-8")).get("trained", {})
    except FileNotFoundError:
        trained = None
    except (OSError, ValueError) as error:
        raise BnrecalError(f"{path}: cannot be read: {error}") from None
    if not isinstance(trained, dict | None):
        raise BnrecalError(f"{path}: damaged: trained is {trained!r}")
    weights = folder / WEIGHTS
    if trained is None:
        if weights.exists() and not (folder / NAME).exists():
            raise BnrecalError(
                f"{folder}: holds {WEIGHTS} without the {RECIPE} it came from; use another folder"
            )
        return None
    if trained.get("identity") != identity:
        raise BnrecalError(
            f"{folder}: holds a network of another recipe, images or start; use another folder"
        )
    sha256 = _sha256(weights)
    if sha256 != trained.get("weights_sha256"):
        return None
    return Trained(weights, sha256, _log(folder))


def resumed(folder: Path, identity: str) -> tuple[Checkpoint | None, str | None]:
    """(the checkpoint that stands there, a note for the user if it cannot be used).

    Raises BnrecalError for one of another training.
    """
    try:
        found = read_checkpoint(folder)
    except DamagedError as error:
        return None, f"{error}; trained from the beginning"
    if found is not None and found.identity != identity:
        raise BnrecalError(
            f"{folder}: holds a checkpoint of another recipe, other images or another network; use another "
            "folder"
        )
    return found, None


def moved_aside(folder: Path, identity: str) -> str | None:
    """Away, under another name, with what is of another training or cannot be read; what to say of it.

    For folders that are named by what is trained in them. What can be gone on with stays, and so does
    anything this process may not move.
    """
    try:
        if finished(folder, identity) is None:
            resumed(folder, identity)
        return None
    except BnrecalError as error:
        reason = str(error).partition(";")[0]
    n = 1
    while (aside := folder.with_name(f"{folder.name}.aside-{n}")).exists():
        n += 1
    with writing(folder):
        folder.rename(aside)
    return f"{reason}; moved to {aside.name}, trained anew"


def begin(folder: Path, log: list[dict[str, Any]]) -> None:
    """Make the folder, with the log of the epochs that are done."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / LOG, "".join(json.dumps(entry) + "\n" for entry in log).encode())


def keep(folder: Path, checkpoint: Checkpoint) -> None:
    """After an epoch: the checkpoint, then the epoch's line of the log."""
    with writing(folder):
        write_checkpoint(folder, checkpoint)
        append_whole(folder / LOG, (json.dumps(checkpoint.log[-1]) + "\n").encode())


def finish(
    folder: Path, module: nn.Module, recipe: Recipe, identity: str, log: list[dict[str, Any]]
) -> Trained:
    """Weights, then the recipe that says they are whole, then away with the checkpoint."""
    weights = folder / WEIGHTS
    write_weights(module, weights, {}, force=True)
    sha256 = _sha256(weights)
    trained = {"identity": identity, "recipe": recipe.key, "weights_sha256": sha256}
    with writing(folder):
        write_whole(folder / RECIPE, recipe_text(recipe, trained).encode())
        remove_checkpoint(folder)
    return Trained(weights, sha256, log)


def adopt(found: Trained, folder: Path, recipe: Recipe, identity: str) -> Trained:
    """The network of another folder in this one, under its own recipe; the log is that of the training."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / LOG, "".join(json.dumps(entry) + "\n" for entry in found.log).encode())
        write_whole(folder / WEIGHTS, found.weights.read_bytes())
        trained = {"identity": identity, "recipe": recipe.key, "weights_sha256": found.sha256}
        write_whole(folder / RECIPE, recipe_text(recipe, trained).encode())
        remove_checkpoint(folder)
    return Trained(folder / WEIGHTS, found.sha256, found.log)


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def _log(folder: Path) -> list[dict[str, Any]]:
    """What log.jsonl says; nothing if it is gone, since it decides nothing."""
    try:
        return [json.loads(line) for line in (folder / LOG).read_text("utf-8").splitlines()]
    except (OSError, ValueError):
        return []
