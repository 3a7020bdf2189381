"""The mean of checkpoints: one network from several, whose running statistics then belong to none.

"Averaging Weights Leads to Wider Optima and Better Generalization" (Izmailov et al., 2018), section 3.2:
the average's BatchNorm statistics have to be estimated anew.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bnrecal.errors import BnrecalError
from bnrecal.host.files import appearing
from bnrecal.networks.saved_weights import check_free
from bnrecal.networks.weights_file import read_weights

State = dict[str, Tensor]


def average_files(paths: Sequence[Path]) -> State:
    """The mean of the tensors of these files, taken one file at a time, in float64.

    Floating point and complex tensors are averaged and rounded to the precision that the last file has;
    whole numbers and truth values (num_batches_tracked, positions, masks) are the last file's.

    Raises BnrecalError, naming the file, for fewer than two, for what cannot be read, for names, shapes
    or kinds that differ from the first file's, and for NaN.
    """
    if len(paths) < 2:
        raise BnrecalError(f"average: {len(paths)} file{'' if paths else 's'}; at least 2 are needed")
    sums: State = {}
    last: State = {}
    for path in paths:
        last = _read(path)
        if not sums:
            sums = {name: _wide(tensor) for name, tensor in last.items()}
            continue
        _check_alike(sums, last, paths[0], path)
        for name, tensor in last.items():
            if _averaged(tensor):
                sums[name] += _wide(tensor)
    return {
        name: (sums[name] / len(paths)).to(tensor.dtype) if _averaged(tensor) else tensor.clone()
        for name, tensor in last.items()
    }


def write_average(state: Mapping[str, Tensor], path: Path, sources: Sequence[Path], force: bool) -> None:
    """Write as safetensors, whole or not at all; the header counts and names the files averaged.

    Raises BnrecalError if the file exists (without `force`) or cannot be written.
    """
    from safetensors.torch import save_file

    check_free(path, force, "--output")
    names = ", ".join(source.name for source in sources)
    try:
        with appearing(path, replace=force) as work:
            whole = {name: tensor.contiguous() for name, tensor in state.items()}
            save_file(whole, work, {"bnrecal_average": f"mean of {len(sources)} files: {names}"})
    except FileExistsError:
        raise BnrecalError(f"{path} appeared meanwhile; it is left as it is") from None
    except OSError as error:
        raise BnrecalError(f"cannot write {path}: {error.strerror or error}") from None


def has_statistics(state: Mapping[str, Tensor]) -> bool:
    """Whether the file holds running statistics of a BatchNorm."""
    return any(name.rpartition(".")[2] == "running_mean" for name in state)


def _read(path: Path) -> State:
    try:
        state = read_weights(path)
    except BnrecalError as error:
        raise BnrecalError(f"average: {str(error).removeprefix('--weights: ')}") from None
    for name, tensor in state.items():
        if _averaged(tensor) and bool(tensor.isnan().any()):
            raise BnrecalError(f"average: {path}: {name} holds NaN; leave this file out")
    return state


def _check_alike(first: Mapping[str, Tensor], other: Mapping[str, Tensor], a: Path, b: Path) -> None:
    """One line on the first name, shape or kind in which `other`, from `b`, is not as `first`, from `a`."""
    missing = [name for name in first if name not in other]
    more = [name for name in other if name not in first]
    if missing or more:
        counts = [f"{len(x)} {what} ({x[0]})" for x, what in ((missing, "missing"), (more, "more")) if x]
        raise BnrecalError(f"average: {b} is not of the network of {a}: {' and '.join(counts)}")
    for name, tensor in first.items():
        ours, theirs = _shape(tensor), _shape(other[name])
        if ours != theirs:
            raise BnrecalError(f"average: {name} is {theirs} in {b}, {ours} in {a}")
        if _averaged(tensor) != _averaged(other[name]):
            kind = str(other[name].dtype).removeprefix("torch.")
            was = "a fraction" if _averaged(tensor) else "a whole number"
            raise BnrecalError(f"average: {name} is {kind} in {b}, and {was} in {a}")


def _averaged(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _wide(tensor: Tensor) -> Tensor:
    if not _averaged(tensor):
        return tensor
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64, copy=True)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
