"""Weights files: whole or not there, and back into the same module, tied tensors included."""

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import bnrecal.networks.saved_weights
from bnrecal import BnrecalError
from bnrecal.networks.saved_weights import write_weights
from bnrecal.networks.weights_file import load_weights, read_weights


class Tied(nn.Module):
    """An encoder whose weight is the decoder's too, and a BatchNorm that stands in two places."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder, self.decoder = nn.Linear(4, 4), nn.Linear(4, 4)
        self.decoder.weight = self.encoder.weight
        self.first = nn.BatchNorm1d(4)
        self.again = self.first
        nn.init.normal_(self.first.running_mean)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.decoder(self.again(self.encoder(self.first(x))))
        return y


def outputs(model: nn.Module) -> Tensor:
    y: Tensor = model.eval()(torch.arange(12.0).view(3, 4))
    return y


@pytest.mark.parametrize("by", ["safetensors", "--weights"])
def test_a_module_with_tied_tensors_comes_back(tmp_path: Path, by: str) -> None:
    """By safetensors' load_model and as --weights are read.

    load_model cannot be strict here: torch's BatchNorm fills in the num_batches_tracked of its dropped
    name by itself, and safetensors counts that as unexpected.
    """
    model, other = Tied(0), Tied(1)
    path = tmp_path / "w.safetensors"
    write_weights(model, path, {"bnrecal": "how"})
    if by == "safetensors":
        missing, unexpected = safetensors.torch.load_model(other, path, strict=False)
        assert (missing, unexpected) == (set(), ["first.num_batches_tracked"])
    else:
        load_weights(other, read_weights(path), path)
    assert torch.equal(outputs(model), outputs(other))


def test_views_of_one_tensor_are_written_each_by_itself(tmp_path: Path) -> None:
    """A supernet whose layers are overlapping windows of one weight."""
    whole = torch.randn(6)
    model = nn.Module()
    for name, window in (("small", whole[1:3]), ("large", whole[0:5])):
        model.register_buffer(name, window)
    write_weights(model, tmp_path / "w", {})
    state = safetensors.torch.load_file(tmp_path / "w")
    assert torch.equal(state["small"], whole[1:3])
    assert torch.equal(state["large"], whole[0:5])


def test_channels_last_half_precision_and_wrappers(tmp_path: Path) -> None:
    """Layout is no hindrance, precision is kept, DataParallel's and torch.compile's prefixes are not."""
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).bfloat16()
    inner = inner.to(memory_format=torch.channels_last)
    for k, model in enumerate((nn.DataParallel(inner), torch.compile(inner))):
        write_weights(model, tmp_path / f"{k}", {})
        state = safetensors.torch.load_file(tmp_path / f"{k}")
        assert state.keys() == inner.state_dict().keys()
        assert state["0.weight"].dtype == torch.bfloat16
        assert all(torch.equal(value, inner.state_dict()[name]) for name, value in state.items())


def test_what_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full when the bytes are to be kept: one line; with force the old file stays."""
    (tmp_path / "w").write_text("mine")

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(BnrecalError, match=r"cannot write .*/w: No space left on device"):
            write_weights(nn.BatchNorm2d(2), tmp_path / "w", {}, force=True)
    assert os.listdir(tmp_path) == ["w"]
    assert (tmp_path / "w").read_text() == "mine"


def test_a_file_that_appears_meanwhile_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, one name: the second gets an error, never the first one's file."""
    monkeypatch.setattr(bnrecal.networks.saved_weights, "check_free", lambda *_: None)
    (tmp_path / "w").write_text("theirs")
    with pytest.raises(BnrecalError, match="appeared meanwhile"):
        write_weights(nn.BatchNorm2d(2), tmp_path / "w", {})
    assert os.listdir(tmp_path) == ["w"]
    assert (tmp_path / "w").read_text() == "theirs"


class Odd(nn.Module):
    def get_extra_state(self) -> str:
        return "text"


def test_a_state_that_is_no_tensor_is_named(tmp_path: Path) -> None:
    """safetensors holds tensors alone; so do complex numbers stay out."""
    with pytest.raises(BnrecalError, match=r"state of 0._extra_state is no tensor"):
        write_weights(nn.Sequential(Odd()), tmp_path / "w", {})
    assert os.listdir(tmp_path) == []
