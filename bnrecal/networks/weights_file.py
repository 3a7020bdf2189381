"""Weights from a file into a module, or one line that says why they do not belong there.

safetensors, or what torch.save wrote, read with weights_only=True: a pickle that wants to run code is
refused.
"""

import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bnrecal.errors import BnrecalError

# What training scripts wrap a state dict in, and what wrappers put before its names.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights", "ema")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

State = dict[str, Tensor]


def read_weights(path: Path) -> State:
    """The named tensors of a file. Raises BnrecalError for anything else it may hold."""
    if not os.path.isfile(path):
        raise BnrecalError(f"--weights: no file {path}")
    try:
        found = _read(path)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))  # torch's own advice is for whoever trusts the file
        what = f" ({named[1]})" if named else ""
        raise BnrecalError(
            f"--weights: {path} holds more than tensors and would run code when read{what}; refused; "
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
    and shows the first; so are whole numbers (weights quantised without their scale) for a network of
    floating point. Halves and doubles are rounded to the network's own precision.
    """
    own = _initialised(module)
    state = _without_prefix(state, own.keys())
    given = {_memory(own[name]) for name in own if name in state}  # a tied tensor stands under one name
    needed = [name for name in own if name.rpartition(".")[2] not in _STATISTICS]
    missing = [name for name in needed if name not in state and _memory(own[name]) not in given]
    unexpected = [name for name in state if name not in own]
    misshapen = [
        f"{name} {_shape(state[name])} in the file, {_shape(own[name])} in the network"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    mistyped = [
        f"{name} {_kind(state[name])} in the file, {_kind(own[name])} in the network"
        for name in needed
        if name in state and not _fits(state[name].dtype, own[name].dtype)
    ]
    unreadable = [
        name for name in own if name in state and (state[name].is_meta or state[name].layout != torch.strided)
    ]
    faults = [
        f"{len(names)} {kind} ({names[0]}{', ...' if len(names) > 1 else ''})"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("mis-shaped", misshapen),
            ("mis-typed", mistyped),
            ("sparse or empty", unreadable),
        )
        if names
    ]
    if faults:
        raise BnrecalError(f"--weights: {path} is not of this network: {'; '.join(faults)}")
    module.load_state_dict(dict(state), strict=False)


def _initialised(module: nn.Module) -> State:
    """The module's tensors; an error for a lazy layer, which has none before its first images."""
    found = module.state_dict(keep_vars=True)
    lazy = [name for name, tensor in found.items() if is_lazy(tensor)]
    if lazy:
        raise BnrecalError(f"--weights: {lazy[0]} of the network is lazy; run it on an image in its factory")
    return module.state_dict()


def _fits(given: torch.dtype, wanted: torch.dtype) -> bool:
    """Whether values keep their meaning: only floating point becomes floating point."""
    return torch.can_cast(given, wanted) and given.is_floating_point >= wanted.is_floating_point


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _memory(tensor: Tensor) -> tuple[object, ...]:
    """Alike for tensors that are the same memory, seen in the same way."""
    return tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride()


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
