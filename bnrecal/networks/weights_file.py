"""Weights from a file into a module, or one line that says why they do not belong there.

safetensors, or what torch.save wrote, read with weights_only=True: a pickle that wants to run code is
refused.
"""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnrecal.errors import BnrecalError

# What training scripts wrap a state dict in, and what wrappers put before its names.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights", "ema")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

State = dict[str, Tensor]


def read_weights(path: Path) -> State:
    """The named tensors of a file. Raises BnrecalError for anything else it may hold."""
    if not path.is_file():
        raise BnrecalError(f"--weights: no file {path}")
    try:
        found = _read(path)
    except pickle.UnpicklingError as error:
        first = str(error).split("\n")[0][:120]
        raise BnrecalError(
            f"--weights: {path} holds more than tensors and would run code when read ({first}); refused; "
            "save its state_dict, best as safetensors"
        ) from None
    except OSError as error:
        raise BnrecalError(f"--weights: {path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # readers raise what they like on damaged files
        what = f"{type(error).__name__}: {error}"[:160]
        raise BnrecalError(f"--weights: {path} is no weights file, or a damaged one ({what})") from None
    return _unwrapped(found, path)


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols; what matters is refused below
        return torch.load(path, map_location="cpu", weights_only=True)


def _unwrapped(found: Any, path: Path) -> State:
    """The state dict inside what scripts put around it."""
    for _ in range(3):
        if isinstance(found, Mapping) and found and not any(isinstance(v, Tensor) for v in found.values()):
            inner = next((found[name] for name in _WRAPPERS if isinstance(found.get(name), Mapping)), None)
            if inner is None:
                break
            found = inner
    tensors = isinstance(found, Mapping) and {str(k): v for k, v in found.items() if isinstance(v, Tensor)}
    if not tensors:
        kind = type(found).__name__
        raise BnrecalError(f"--weights: {path} holds a {kind} without named tensors; needs a state dict")
    return tensors


def load_weights(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy into `module`, whole or not at all.

    Prefixes that wrappers add ("module.") are taken off. Running statistics may be missing: they are
    what is re-estimated. Any other missing, unexpected or mis-shaped name is an error that counts them
    and shows the first.
    """
    own = module.state_dict()
    state = _without_prefix(state, own.keys())
    needed = [name for name in own if name.rpartition(".")[2] not in _STATISTICS]
    missing = [name for name in needed if name not in state]
    unexpected = [name for name in state if name not in own]
    misshapen = [
        f"{name} {_shape(state[name])} in the file, {_shape(own[name])} in the network"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    faults = [
        f"{len(names)} {kind} ({names[0]}{', ...' if len(names) > 1 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", misshapen))
        if names
    ]
    if faults:
        raise BnrecalError(f"--weights: {path} is not of this network: {'; '.join(faults)}")
    module.load_state_dict(dict(state), strict=False)


def _without_prefix(state: Mapping[str, Tensor], wanted: Any) -> Mapping[str, Tensor]:
    """The names without the prefixes all share, as long as that makes more of them known."""
    for _ in range(3):
        shared = [p for p in _PREFIXES if all(name.startswith(p) for name in state)]
        if not shared or any(name in wanted for name in state):
            break
        state = {name.removeprefix(shared[0]): tensor for name, tensor in state.items()}
    return state


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
