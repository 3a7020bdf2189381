"""Weights on disk as safetensors: whole or not there, and back into the same module.

safetensors refuses tensors that share memory. Of a group of tied names one is kept, and the header says
which name stands for which ({dropped: kept}), as `safetensors.torch.save_model` writes it; its `load_model`
and bnrecal/networks/weights_file.py put them back.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bnrecal.errors import BnrecalError
from bnrecal.host.files import appearing

if TYPE_CHECKING:
    from torch import nn


def check_free(path: Path, force: bool, place: str = "") -> None:
    """Raise BnrecalError if `path` exists and may not be replaced, or its folder cannot take a file."""
    where = f"{place}: " if place else ""
    if path.is_dir():
        raise BnrecalError(f"{where}{path} is a folder; name a file")
    if path.exists() and not force:
        raise BnrecalError(f"{where}{path} exists; choose another name or replace it by --force (force=True)")
    if not path.parent.is_dir():
        raise BnrecalError(f"{where}no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise BnrecalError(f"{where}cannot write to {path.parent}: permission denied")


def write_weights(model: "nn.Module", path: Path, metadata: Mapping[str, str], force: bool = False) -> None:
    """Write the module's state with `metadata` in the header; `path` appears whole or not at all.

    Raises BnrecalError if the file exists (without `force`), if it cannot be written, and for a state
    that safetensors does not know (other than tensors).
    """
    from bnrecal.recalibration.layers import inner_of

    check_free(path, force)
    try:
        with appearing(path, replace=force) as work:
            _save(inner_of(model), work, metadata)
    except FileExistsError:
        raise BnrecalError(f"{path} appeared meanwhile; it is left as it is") from None
    except OSError as error:
        raise BnrecalError(f"cannot write {path}: {error.strerror or error}") from None


def _save(model: "nn.Module", path: Path, metadata: Mapping[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file, save_model
    from torch import Tensor

    state = model.state_dict()
    foreign = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if foreign:
        raise BnrecalError(f"the state of {foreign[0]} is no tensor and cannot be stored in safetensors")
    try:
        save_model(model, str(path), dict(metadata) or None)  # no empty header
    except RuntimeError:  # views of a storage that no tensor covers whole: each gets its own copy
        save_file({name: value.clone().contiguous() for name, value in state.items()}, path, dict(metadata))
    except (SafetensorError, KeyError, ValueError) as error:
        if "No space" in str(error):
            raise BnrecalError(f"cannot write {path.parent}: no space left on the disk") from None
        raise BnrecalError(f"the weights cannot be stored in safetensors: {error}") from None
