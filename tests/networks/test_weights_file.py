"""Weights files: what is unwrapped, what may be missing, what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import nn

from bnrecal.errors import BnrecalError
from bnrecal.networks.weights_file import load_weights, read_weights


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())


WRAPPED: dict[str, Callable[[dict[str, Any]], object]] = {
    "plain": lambda state: state,
    "parallel": lambda state: {f"module.{k}": v for k, v in state.items()},
    "compiled parallel": lambda state: {f"module._orig_mod.{k}": v for k, v in state.items()},
    "checkpoint": lambda state: {"epoch": 1, "optimizer": {"lr": 0.1}, "state_dict": state},
    "nested": lambda state: {"model": {"state_dict": {f"model.{k}": v for k, v in state.items()}}},
    "ordered": lambda state: __import__("collections").OrderedDict(state),
}


@pytest.mark.parametrize("how", WRAPPED)
def test_what_scripts_put_around_a_state_dict(tmp_path: Path, how: str) -> None:
    """Checkpoints and the prefixes of wrappers are taken off."""
    source, target = network(1), network(2)
    torch.save(WRAPPED[how](dict(source.state_dict())), tmp_path / "w.pth")
    load_weights(target, read_weights(tmp_path / "w.pth"), tmp_path / "w.pth")
    assert same(source, target)


def test_statistics_may_be_missing(tmp_path: Path) -> None:
    """A supernet that never kept running statistics has none in its file: they are re-estimated anyway."""
    state = {k: v for k, v in network(1).state_dict().items() if "running" not in k and "tracked" not in k}
    save_file(state, tmp_path / "w.safetensors")
    target = network(2)
    load_weights(target, read_weights(tmp_path / "w.safetensors"), tmp_path / "w.safetensors")
    assert torch.equal(target.get_parameter("0.weight"), state["0.weight"])


def test_a_file_of_another_network_changes_nothing(tmp_path: Path) -> None:
    """Missing, unexpected and mis-shaped names are counted, the first of each shown; nothing is copied."""
    state = dict(network(1).state_dict())
    state["3.weight"] = torch.zeros(5, 8)
    state["extra"] = state.pop("0.bias")
    target, before = network(2), network(2)
    message = r"1 missing \(0.bias\); 1 unexpected \(extra\); 1 mis-shaped \(3.weight 5x8 in the file, 3x8"
    with pytest.raises(BnrecalError, match=message):
        load_weights(target, state, tmp_path / "w.pth")
    assert same(target, before)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, torch.zeros(3), {}, "text"])
def test_files_without_named_tensors(tmp_path: Path, content: object) -> None:
    """Named with what they hold."""
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BnrecalError, match=r"w\.pth holds a .* without named tensors"):
        read_weights(tmp_path / "w.pth")


GOOD = {"w.safetensors": save(dict(network().state_dict()))}


@given(edits=st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_damaged_files_never_trace_back(tmp_path: Path, suffix: str, edits: list[tuple[int, int]]) -> None:
    """Any bytes changed: the file loads, or there is one BnrecalError."""
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(dict(network().state_dict()), path)
    else:
        path.write_bytes(GOOD["w.safetensors"])
    data = bytearray(path.read_bytes())
    for at, value in edits:
        data[at % len(data)] = value
    path.write_bytes(bytes(data))
    target, message = network(2), ""
    try:
        load_weights(target, read_weights(path), path)
    except BnrecalError as error:
        message = str(error)
    assert not message or same(target, network(2))  # refused whole


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_rounded(tmp_path: Path, kind: torch.dtype) -> None:
    """Also where everything was converted, the counts of batches with it."""
    state = {name: tensor.to(kind) for name, tensor in network(1).state_dict().items()}
    target = network(2)
    load_weights(target, state, tmp_path / "w.pth")
    assert torch.equal(target.get_parameter("0.weight"), state["0.weight"].float())


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.complex64])
def test_kinds_of_numbers_that_mean_something_else(tmp_path: Path, kind: torch.dtype) -> None:
    """Quantised weights without their scale are no weights."""
    state = dict(network(1).state_dict())
    state["0.weight"] = state["0.weight"].to(kind)
    with pytest.raises(BnrecalError, match=r"1 mis-typed \(0.weight \w+ in the file, float32 in the network"):
        load_weights(network(2), state, tmp_path / "w.pth")


def test_tensors_without_plain_memory(tmp_path: Path) -> None:
    """Sparse ones, and those that say only what shape they had."""
    for other in (torch.Tensor.to_sparse, lambda tensor: tensor.to("meta")):
        state = dict(network(1).state_dict())
        state["3.weight"] = other(state["3.weight"])
        with pytest.raises(BnrecalError, match=r"1 sparse or empty \(3.weight\)"):
            load_weights(network(2), state, tmp_path / "w.pth")


def test_weights_for_a_lazy_layer(tmp_path: Path) -> None:
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    with pytest.raises(BnrecalError, match=r"1.weight of the network is lazy"):
        load_weights(lazy, dict(network(1).state_dict()), tmp_path / "w.pth")


def test_a_name_too_long_for_a_file() -> None:
    with pytest.raises(BnrecalError, match="no file aaa"):
        read_weights(Path("a" * 300))


def test_a_pickle_that_would_run_code_is_named_by_what_it_holds(tmp_path: Path) -> None:
    """A whole module is refused in one line, without the advice torch has for whoever trusts the file."""
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(
        BnrecalError, match=r"run code when read \(torch\.nn\S*Linear\); refused; save its"
    ) as e:
        read_weights(tmp_path / "whole.pt")
    assert "trust" not in str(e.value)
