"""The recipe for EMA and schedule-free weights, as experiments/averaged_weights/train.py has it."""

import copy
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bnrecal

EXAMPLE = Path(__file__).parent.parent.parent / "experiments/averaged_weights/train.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE))


def few(example: dict[str, Any], split: str, n: int) -> Any:
    return tuple(part[:n] for part in example["garments"](split))


@pytest.mark.parametrize("way", ["by_ema", "by_schedule_free"])
def test_training_goes_on_as_if_nobody_had_evaluated(example: dict[str, Any], way: str) -> None:
    """Weights and statistics are bit for bit those of the same training without any evaluation."""
    train, val = few(example, "train", 320), few(example, "val", 100)
    looked = example[way](train, val, 2, 64)
    namespace = runpy.run_path(str(EXAMPLE))
    namespace[way].__globals__["both_ways"] = lambda *_: None
    unseen = namespace[way](train, val, 2, 64)
    for (name, ours), theirs in zip(looked.state_dict().items(), unseen.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("way", ["by_ema", "by_schedule_free"])
def test_evaluation_sees_the_statistics_of_the_weights_it_evaluates(
    example: dict[str, Any], way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The accuracy printed is that of a copy of the averaged weights, recalibrated by hand."""
    train, val = few(example, "train", 320), few(example, "val", 200)
    seen: list[nn.Module] = []
    namespace = runpy.run_path(str(EXAMPLE))
    plain = namespace["both_ways"]

    def watched(name: str, model: nn.Module, *rest: Any) -> None:
        seen.append(copy.deepcopy(model))
        plain(name, model, *rest)

    namespace[way].__globals__["both_ways"] = watched
    namespace[way](train, val, 2, 64)
    printed = [float(x) for x in re.findall(r"images (\d\.\d+)", capsys.readouterr().out)]
    assert len(printed) == len(seen) == 2
    for model, accuracy in zip(seen, printed, strict=True):
        bnrecal.recalibrate(model, train[0].split(32), n_samples=64)
        assert accuracy == pytest.approx(example["accuracy"](model, val), abs=5e-4)
