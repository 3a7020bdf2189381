"""A training that was left anywhere goes on to the same bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnrecal.errors import BnrecalError, NotANumberError
from bnrecal.networks.learner import Learner
from bnrecal.study.recipe import Recipe
from bnrecal.train.folder import Trained
from bnrecal.train.loop import Progress, train
from tests.train.images import bright_and_dark, small_network

RECIPE = Recipe(batch_size=16, epochs=4, augment="crop-flip", clip_norm=5.0, seed=2)


class LeftError(Exception):
    """Stands for whatever ends a training between two steps."""


def run(folder: Path, recipe: Recipe = RECIPE, **more: Any) -> Trained:
    learner = Learner(small_network(recipe.seed), "small")
    return train(recipe, bright_and_dark(), learner, folder, torch.device("cpu"), **more)


def leaving_at(step: int) -> Callable[[], None]:
    """A check that raises before the step of this number, counted over epochs."""
    left = iter([*[False] * step, True])

    def check() -> None:
        if next(left):
            raise LeftError

    return check


def tensors(trained: Trained) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    found: dict[str, Tensor] = load_file(trained.weights)
    return found


@pytest.mark.parametrize("step", [0, 1, 6, 7, 17, 23])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"optimizer": "adamw", "schedule": "one-cycle"},
        {"precision": "bfloat16"},
        {"precision": "float16"},
        {"physical_batch": 5},
    ],
)
def test_left_anywhere_ends_in_the_same_bits(tmp_path: Path, step: int, more: dict[str, Any]) -> None:
    """6 steps an epoch, dropout, crops, clipping: left before any step and called again, the file of weights
    and the losses are those of a training that nothing disturbed.
    """
    recipe = Recipe(**{**RECIPE.model_dump(exclude={"lr", "weight_decay"}), **more})
    whole = run(tmp_path / "whole", recipe)
    with pytest.raises(LeftError):
        run(tmp_path / "left", recipe, check=leaving_at(step))
    again = run(tmp_path / "left", recipe)
    assert again.sha256 == whole.sha256
    assert [e["loss"] for e in again.log] == [e["loss"] for e in whole.log]
    assert not (tmp_path / "left" / "checkpoint").exists()


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    """Called again it returns what stands there without a step; damaged weights are made again."""
    first = run(tmp_path)
    assert run(tmp_path, check=leaving_at(0)).sha256 == first.sha256
    first.weights.write_bytes(first.weights.read_bytes()[:-1])
    assert run(tmp_path).sha256 == first.sha256


def test_a_damaged_checkpoint_is_told_and_not_used(tmp_path: Path) -> None:
    """One flipped bit anywhere: the note says so, and training from the beginning gives the same bits."""
    whole = run(tmp_path / "whole")
    for place in (3, 40, -1, -2000):
        folder = tmp_path / str(place)
        with pytest.raises(LeftError):
            run(folder, check=leaving_at(9))
        data = bytearray((folder / "checkpoint").read_bytes())
        data[place] ^= 1
        (folder / "checkpoint").write_bytes(data)
        shown: list[Progress] = []
        again = run(folder, on_progress=shown.append)
        assert "damaged" in str(shown[0].note)
        assert again.sha256 == whole.sha256


def test_the_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    """With a checkpoint or with finished weights: one line, and nothing there is touched."""
    with pytest.raises(LeftError):
        run(tmp_path, check=leaving_at(7))
    other = RECIPE.model_copy(update={"seed": 5})
    for _ in range(2):
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(BnrecalError, match="another recipe"):
            run(tmp_path, other)
        assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
        run(tmp_path)


def test_a_loss_that_is_not_finite_names_epoch_and_step(tmp_path: Path) -> None:
    """A network that gives NaN from its 8th forward on fails in epoch 2, step 2; epoch 1 is kept."""

    class Breaking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.calls = small_network(0), 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            found: Tensor = self.inner(x)
            return found * (torch.nan if self.calls >= 8 else 1)

    with pytest.raises(NotANumberError, match="epoch 2, step 2"):
        train(RECIPE, bright_and_dark(), Learner(Breaking(), "b"), tmp_path, torch.device("cpu"))
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1
    assert (tmp_path / "checkpoint").exists()
    assert not (tmp_path / "weights.safetensors").exists()


def test_generators_and_settings_are_as_before(tmp_path: Path) -> None:
    """Training draws from generators of its own and puts cuDNN's switches back."""
    before = torch.get_rng_state(), torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    run(tmp_path)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == before[1:]
