"""`bnrecal average`: the mean of files, what of them is not averaged, and files that do not match."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from bnrecal import BnrecalError
from bnrecal.integrations.averaging import average_files
from bnrecal.networks import embedded
from tests.conftest import Ran


def state(seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.randn(4, 3, generator=generator).to(dtype),
        "norm.running_mean": torch.randn(4, generator=generator),
        "norm.num_batches_tracked": torch.tensor(10 * (seed + 1)),
        "mask": torch.tensor([True, bool(seed % 2)]),
        "spectrum": torch.complex(*torch.randn(2, 2, generator=generator)),
    }


def written(folder: Path, *states: dict[str, Tensor]) -> list[Path]:
    paths = [folder / f"{'abcdef'[k]}.safetensors" for k in range(len(states))]
    for path, tensors in zip(paths, states, strict=True):
        save_file(tensors, path)
    return paths


def test_the_mean_of_three_files(tmp_path: Path) -> None:
    """Fractions and complex numbers by an oracle in float64; whole numbers and masks are the last file's."""
    states = [state(k) for k in range(3)]
    mean = average_files(written(tmp_path, *states))
    for name in ("conv.weight", "norm.running_mean"):
        expected = torch.stack([s[name].double() for s in states]).mean(0).float()
        assert torch.equal(mean[name], expected), name
    assert torch.allclose(mean["spectrum"], torch.stack([s["spectrum"] for s in states]).mean(0))
    assert int(mean["norm.num_batches_tracked"]) == 30
    assert torch.equal(mean["mask"], states[2]["mask"])


def test_half_precision_is_summed_in_double(tmp_path: Path) -> None:
    """Values near the largest half do not overflow, and small differences are not lost on the way."""
    paths = written(tmp_path, *({"w": torch.tensor([60000.0, 1 + k / 1024]).half()} for k in range(4)))
    mean = average_files(paths)["w"]
    assert mean.dtype == torch.float16
    assert mean.tolist() == [60000.0, torch.tensor(1 + 1.5 / 1024).half().item()]


def test_files_of_two_kinds(tmp_path: Path) -> None:
    """A training script's checkpoint beside safetensors: read as bnrecal reads weights anywhere."""
    (first,) = written(tmp_path, state(0))
    torch.save({"state_dict": state(1), "epoch": 3}, tmp_path / "b.pt")
    mean = average_files([first, tmp_path / "b.pt"])
    expected = (state(0)["conv.weight"].double() + state(1)["conv.weight"].double()) / 2
    assert torch.equal(mean["conv.weight"], expected.float())


def less(tensors: dict[str, Tensor], *names: str, **more: Tensor) -> dict[str, Tensor]:
    return {**{name: tensor for name, tensor in tensors.items() if name not in names}, **more}


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (
            less(state(1), "mask"),
            r"b\.safetensors is not of the network of .*a\.safetensors: 1 missing \(mask\)",
        ),
        (less(state(1), "mask", head=torch.ones(1)), r"1 missing \(mask\) and 1 more \(head\)$"),
        (less(state(1), mask=torch.ones(3) > 0), r"mask is 3 in .*b\.safetensors, 2 in .*a\.safetensors"),
        (less(state(1), mask=torch.ones(2)), r"mask is float32 in .*b\.safetensors, and a whole number in"),
        (
            less(state(1), "conv.weight", **{"conv.weight": torch.full((4, 3), float("nan"))}),
            r"b\.safetensors: conv\.weight holds NaN; leave this file out",
        ),
    ],
)
def test_files_that_do_not_match(tmp_path: Path, other: dict[str, Tensor], line: str) -> None:
    """Names, shapes, kinds and NaN: one line that names the tensor and the files."""
    with pytest.raises(BnrecalError, match=f"^average: .*{line}"):
        average_files(written(tmp_path, state(0), other))


def test_the_command_writes_once_and_says_what_is_left_to_do(
    bnrecal: Callable[..., Ran], tmp_path: Path
) -> None:
    """A safetensors file whose header names its sources; the note on statistics only where there are some."""
    paths = written(tmp_path, state(0), state(1))
    ran = bnrecal("average", *paths, "-o", "mean.safetensors")
    assert (ran.code, ran.out.startswith("mean.safetensors: the mean of 2 files, ")) == (0, True)
    assert "--then recalibrate" in ran.err
    assert torch.equal(load_file("mean.safetensors")["conv.weight"], average_files(paths)["conv.weight"])
    with safe_open("mean.safetensors", "pt") as file:
        assert file.metadata() == {"bnrecal_average": "mean of 2 files: a.safetensors, b.safetensors"}
    again = bnrecal("average", *paths, "-o", "mean.safetensors")
    assert again.code == 2
    assert "mean.safetensors exists" in again.err
    plain = written(tmp_path, {"w": torch.ones(2)}, {"w": torch.zeros(2)})
    assert bnrecal("average", *plain, "-o", "mean.safetensors", "--force").err == ""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["a.safetensors"], "average: 1 file; at least 2 are needed"),
        ([], "average: 0 files; at least 2 are needed"),
        (["a.safetensors", "no.pt"], "average: no file no.pt"),
        (["a.safetensors", "b.safetensors", "--bs", "8"], "--bs: goes with --then recalibrate alone"),
        (
            ["a.safetensors", "b.safetensors", "--then", "recalibrate", "--weights", "w"],
            "--weights: the average is what is recalibrated",
        ),
    ],
)
def test_misunderstandings(bnrecal: Callable[..., Ran], tmp_path: Path, arguments: Any, line: str) -> None:
    """Exit code 2 and one line; no output file appears."""
    written(tmp_path, state(0), state(1))
    ran = bnrecal("average", *arguments, "-o", "mean.safetensors")
    assert ran.code == 2
    assert line in ran.err
    assert not Path("mean.safetensors").exists()


def test_then_recalibrate_does_what_the_two_commands_do(bnrecal: Callable[..., Ran], tmp_path: Path) -> None:
    """The supernet averaged with a scaled copy of itself: the same weights and figures, and no trace of
    a folder of this machine in the header."""
    source = Path(embedded.__file__).parent / "weights"
    (weights,) = source.glob("*.safetensors")
    one = load_file(weights)
    two = {name: t * 1.01 if t.is_floating_point() else t for name, t in one.items()}
    paths = written(tmp_path, one, two)
    task = ("--task", "tiny", "--arch", "arch1", "--samples", 16, "--bs", 8)
    ran = bnrecal("average", *paths, "-o", "both.safetensors", "--then", "recalibrate", *task, "--json")
    assert ran.code == 0, ran.err
    assert bnrecal("average", *paths, "-o", "mean.safetensors").code == 0
    second = bnrecal(
        "recalibrate", "--weights", "mean.safetensors", *task, "-o", "apart.safetensors", "--json"
    )
    assert second.code == 0, second.err
    ours, theirs = load_file("both.safetensors"), load_file("apart.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert json.loads(ran.out)["after"] == json.loads(second.out)["after"]
    with safe_open("both.safetensors", "pt") as file:
        header = file.metadata()["bnrecal"]
    assert json.loads(header)["inputs"]["weights"] == "mean of a.safetensors, b.safetensors"
    assert str(tmp_path) not in header
