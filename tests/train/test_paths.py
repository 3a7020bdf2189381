"""Paths of a supernet: uniform ones are uniform, fair ones are fair, and a step trains what it says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bnrecal.errors import BnrecalError
from bnrecal.networks.learner import Choices, Learner
from bnrecal.study.recipe import Recipe, make_recipe
from bnrecal.study.recipes import recipes_of
from bnrecal.train.bounded import bounded_paths, flops_of
from bnrecal.train.indicator import indicators
from bnrecal.train.loop import train
from bnrecal.train.objective import objective_of
from bnrecal.train.paths import paths
from bnrecal.train.step import Learning
from tests.train.images import bright_and_dark, small_network

CPU = torch.device("cpu")


class TwoLayers(nn.Module):
    """A supernet of the user's kind: blocks of candidates, and `subnet`."""

    def __init__(self, sizes: tuple[int, ...] = (3, 3)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
                for _ in range(size)
            )
            for size in sizes
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    def subnet(self, choices: list[int]) -> nn.Module:
        taken = [self.blocks[layer][choice] for layer, choice in enumerate(choices)]  # type: ignore[index]
        return nn.Sequential(self.stem, *taken, self.head)


def choices_of(module: nn.Module) -> Choices:
    assert isinstance(module, TwoLayers)
    operations = tuple(tuple(layer) for layer in module.blocks)  # type: ignore[arg-type]
    return Choices(tuple(map(len, operations)), module.subnet, operations)  # type: ignore[arg-type]


def learner(sizes: tuple[int, ...] = (3, 3)) -> Learner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Learner(TwoLayers(sizes), f"two {sizes}", choices=choices_of)


def learning(recipe: Recipe) -> Learning:
    objective = objective_of(bright_and_dark(), "logits", recipe, CPU)
    return Learning.of(learner(), recipe, objective, CPU, 6)


@settings(deadline=None)
@given(
    seed=st.integers(0, 9),
    epoch=st.integers(0, 9),
    steps=st.integers(1, 20),
    n_layers=st.integers(1, 6),
    m=st.integers(1, 5),
)
def test_fair_paths_take_each_operation_once(
    seed: int, epoch: int, steps: int, n_layers: int, m: int
) -> None:
    """In every step and layer the m paths are a permutation of the m operations."""
    found = paths("fair", seed, epoch, steps, (m,) * n_layers)
    assert found.shape == (steps, m, n_layers)
    assert (np.sort(found, axis=1) == np.arange(m)[None, :, None]).all()


def test_permutations_are_drawn_for_each_layer() -> None:
    """The layers of a step differ, and all 6 permutations of 3 come about as often (chi-square, 5 degrees of
    freedom, below the 99.9 % point 20.5).
    """
    found = paths("fair", 1, 0, 3000, (3, 3))
    assert (found[:, :, 0] != found[:, :, 1]).any(1).mean() > 0.7
    _, counts = np.unique(found[:, :, 0], axis=0, return_counts=True)
    assert len(counts) == 6
    assert ((counts - 500) ** 2 / 500).sum() < 20.5


def test_uniform_paths_are_uniform() -> None:
    """Chi-square of the operations of a layer and of pairs of layers, below 16.3 and 37.7 (99.9 %)."""
    found = paths("uniform", 3, 1, 8000, (4, 4, 4))[:, 0]
    for layer in range(3):
        counts = np.bincount(found[:, layer], minlength=4)
        assert ((counts - 2000) ** 2 / 2000).sum() < 16.3
    pairs = np.bincount(found[:, 0] * 4 + found[:, 2], minlength=16)
    assert ((pairs - 500) ** 2 / 500).sum() < 37.7


def test_a_fair_step_adds_the_gradients_of_its_paths() -> None:
    """Every operation gets the gradient of its one path, the shared stem the sum of all; one step of SGD."""
    recipe = Recipe(sampling="fair", batch_size=16, momentum=0, weight_decay=0, lr=0.1)
    at = torch.arange(16)
    task = bright_and_dark()
    x = task.to_input(torch.from_numpy(task.calibration_images(np.sort(task.order(0))[:16])))
    mine, by_hand = learning(recipe), learning(recipe)
    taken = paths("fair", 0, 0, 1, (3, 3))[0].tolist()
    start = {name: p.detach().clone() for name, p in mine.module.named_parameters()}
    mine.step(x, at, taken, 0.1, 0.0)
    for path in taken:
        module = choices_of(by_hand.module).path(path)
        by_hand.objective.loss(module(x), at).backward()  # type: ignore[no-untyped-call]
    for name, p in by_hand.module.named_parameters():
        assert p.grad is not None
        assert torch.allclose(start[name] - 0.1 * p.grad, mine.module.get_parameter(name), atol=1e-7)


@pytest.mark.parametrize("sampling", ["uniform", "fair"])
def test_a_supernet_trains(tmp_path: Path, sampling: str) -> None:
    """The loss falls; operations are all trained."""
    recipe = Recipe(sampling=sampling, batch_size=20, epochs=6)  # type: ignore[arg-type]
    source = learner()
    before = {name: t.clone() for name, t in source.module.state_dict().items()}
    trained = train(recipe, bright_and_dark(), source, tmp_path, CPU)
    assert trained.log[-1]["loss"] < trained.log[0]["loss"]
    from safetensors.torch import load_file

    after: dict[str, Tensor] = load_file(trained.weights)
    assert all(not torch.equal(before[name], after[name]) for name in before if name.endswith("0.weight"))


def test_unequal_layers_cannot_be_fair(tmp_path: Path) -> None:
    """One line that says how many each has; uniform takes them."""
    with pytest.raises(BnrecalError, match="this supernet has 3, 2"):
        train(Recipe(sampling="fair"), bright_and_dark(), learner((3, 2)), tmp_path, CPU)
    train(Recipe(sampling="uniform", epochs=1), bright_and_dark(), learner((3, 2)), tmp_path / "u", CPU)


def test_sampling_and_network_must_fit(tmp_path: Path) -> None:
    """A supernet without sampling and a network with it are refused."""
    with pytest.raises(BnrecalError, match="sampling: none"):
        train(Recipe(), bright_and_dark(), learner(), tmp_path, CPU)
    single = Learner(TwoLayers().subnet([0, 0]), "one")
    with pytest.raises(BnrecalError, match="sampling: fair needs a supernet"):
        train(Recipe(sampling="fair"), bright_and_dark(), single, tmp_path, CPU)


def test_last_norm_trains_the_last_norm_of_each_operation(tmp_path: Path) -> None:
    """Everything else keeps its bits, running statistics included where momentum is 0."""
    recipe = Recipe(sampling="fair", trainable="last-norm", bn_momentum=0, epochs=2, batch_size=20)
    source = learner()
    before = {name: t.clone() for name, t in source.module.state_dict().items()}
    notes: list[str | None] = []
    trained = train(recipe, bright_and_dark(), source, tmp_path, CPU, lambda now: notes.append(now.note))
    assert not any(notes)
    from safetensors.torch import load_file

    changed = {n for n, t in load_file(trained.weights).items() if not torch.equal(t, before[n])}
    changed = {name for name in changed if not name.endswith("num_batches_tracked")}
    assert changed == {
        f"blocks.{layer}.{k}.3.{part}" for layer in (0, 1) for k in range(3) for part in ("weight", "bias")
    }


@pytest.mark.parametrize("sampling", ["uniform", "fair"])
def test_a_path_on_which_nothing_learns_changes_nothing(tmp_path: Path, sampling: str) -> None:
    """Identities under last-norm: such a step is passed over, the others learn, and the log goes on."""
    source = learner()
    for layer in source.module.blocks:  # type: ignore[union-attr]
        layer[2] = nn.Identity()  # type: ignore[index]
    recipe = Recipe(sampling=sampling, trainable="last-norm", bn_momentum=0, epochs=3, batch_size=4)
    drawn = paths(sampling, recipe.seed, 0, 100, (3, 3)).reshape(-1, 2).tolist()
    assert [2, 2] in drawn
    before = {name: t.clone() for name, t in source.module.state_dict().items()}
    trained = train(recipe, bright_and_dark(), source, tmp_path, CPU)
    from safetensors.torch import load_file

    changed = {n for n, t in load_file(trained.weights).items() if not torch.equal(t, before[n])}
    assert {name for name in changed if not name.endswith("num_batches_tracked")} == {
        f"blocks.{layer}.{k}.3.{part}" for layer in (0, 1) for k in (0, 1) for part in ("weight", "bias")
    }
    assert [np.isfinite(entry["loss"]) for entry in trained.log] == [True] * 3


def test_a_supernets_log_has_the_indicator_of_each_candidate(tmp_path: Path) -> None:
    """Mean |gamma| of the last BatchNorm of each, after each epoch; that of a plain network has none."""
    recipe = Recipe(sampling="fair", batch_size=20, epochs=2)
    trained = train(recipe, bright_and_dark(), learner(), tmp_path / "paths", CPU)
    from safetensors.torch import load_file

    after = load_file(trained.weights)
    expected = [
        [float(after[f"blocks.{layer}.{k}.3.weight"].abs().mean()) for k in range(3)] for layer in (0, 1)
    ]
    assert np.allclose(trained.log[-1]["bn_indicator"], expected, atol=1e-6)
    assert trained.log[0]["bn_indicator"] != trained.log[1]["bn_indicator"]
    alone = train(
        Recipe(epochs=1), bright_and_dark(), Learner(small_network(0), "one"), tmp_path / "one", CPU
    )
    assert "bn_indicator" not in alone.log[0]


def test_a_candidate_without_gamma_has_no_indicator() -> None:
    """None for one without BatchNorm or without a scale, 0 for one that does nothing."""
    bare = nn.Sequential(nn.Conv2d(4, 4, 1))
    unscaled = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False))
    layer = (nn.Identity(), bare, unscaled, nn.BatchNorm2d(4))
    assert indicators(Choices((4,), lambda _: bare, (layer,))) == [[0.0, None, None, 1.0]]
    assert indicators(Choices((4,), lambda _: bare)) is None


def test_bounded_paths_lie_in_a_bin_drawn_uniformly() -> None:
    """Three bins as often (chi-square, 2 degrees of freedom, below 13.8), every path in one of them."""
    costs = (1.0, 3.0, 9.0)
    bins = (10.0, 25.0, 5.0)
    found, outside = bounded_paths(bins, lambda path: int(sum(costs[c] for c in path)), 0, 0, 600, (3,) * 4)
    assert found.shape == (600, 1, 4)
    assert outside == 0
    totals = np.array(costs)[found[:, 0]].sum(1)
    assert ((totals >= 10) & (totals < 25)).all()
    counts = np.bincount(((totals - 10) // 5).astype(int), minlength=3)
    assert ((counts - 200) ** 2 / 200).sum() < 13.8
    again, _ = bounded_paths(bins, lambda path: int(sum(costs[c] for c in path)), 0, 0, 600, (3,) * 4)
    assert (again == found).all()
    other, _ = bounded_paths(bins, lambda path: int(sum(costs[c] for c in path)), 0, 1, 600, (3,) * 4)
    assert (other != found).any()


def test_an_empty_bin_takes_the_nearest_and_all_empty_is_an_error() -> None:
    """Totals are even, so of the bins [3, 4), [4, 5) one is empty; above all paths there is nothing."""
    found, outside = bounded_paths((3.0, 5.0, 1.0), lambda path: 2 * sum(path), 0, 0, 40, (2, 2, 2))
    totals = [2 * int(path.sum()) for path in found[:, 0]]
    assert set(totals) <= {2, 4}
    assert 0 < outside < 40
    with pytest.raises(
        BnrecalError, match="no path from 100 to 110 FLOPs was drawn; those nearest have 6 to 6"
    ):
        bounded_paths((100.0, 110.0, 5.0), lambda path: 2 * sum(path), 0, 0, 40, (2, 2, 2))


def test_flops_of_a_path_are_counted_and_bounded_training_takes_them(tmp_path: Path) -> None:
    """Sums over layers equal to a count of the path; weights of operations outside the bounds stay."""
    source = learner()
    module = source.module
    assert isinstance(module, TwoLayers)
    module.blocks[1][2] = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))  # type: ignore[index]
    flops = flops_of(choices_of(module), source, (3, 12, 12))
    assert flops((0, 0)) == flops((1, 1)) == 3 * 9 * 4 * 25 + 2 * 16 * 25 + 8
    assert flops((0, 2)) == flops((0, 0)) + 16 * 8 * 25
    before = {name: t.clone() for name, t in module.state_dict().items()}
    recipe = Recipe(sampling="uniform", flops_bins=(3000, flops((0, 0)) + 1, 10000), batch_size=20, epochs=3)
    notes: list[str | None] = []
    trained = train(recipe, bright_and_dark(), source, tmp_path, CPU, lambda now: notes.append(now.note))
    assert not any(notes)
    from safetensors.torch import load_file

    after = load_file(trained.weights)
    assert torch.equal(after["blocks.1.2.0.weight"], before["blocks.1.2.0.weight"])
    assert not torch.equal(after["blocks.1.0.0.weight"], before["blocks.1.0.0.weight"])


def test_paths_outside_their_bin_are_told(tmp_path: Path) -> None:
    """Where half of the bins are empty the training says so, and each epoch's line has the count."""
    source = learner()
    costs = flops_of(choices_of(source.module), source, (3, 12, 12))((0, 0))
    recipe = Recipe(sampling="uniform", flops_bins=(costs, costs + 2000, 1000), batch_size=4, epochs=2)
    notes: list[str | None] = []
    trained = train(recipe, bright_and_dark(), source, tmp_path, CPU, lambda now: notes.append(now.note))
    assert notes[0] is not None
    assert "paths of an epoch lie outside their bin" in notes[0]
    assert all(entry["outside_bins"] > 0 for entry in trained.log)


def test_bins_are_heeded_by_uniform_paths_alone() -> None:
    """A recipe's key has them only where they change something; elsewhere they are refused."""
    bins = (1e6, 2e6, 1e5)
    assert Recipe(sampling="uniform", flops_bins=bins).key != Recipe(sampling="uniform").key
    assert Recipe(sampling="fair", flops_bins=bins).key == Recipe(sampling="fair").key
    with pytest.raises(BnrecalError, match="flops_bins: changes nothing without sampling uniform"):
        make_recipe({"sampling": "fair", "flops_bins": bins})
    with pytest.raises(BnrecalError, match=r"flops_bins: 2e.06, 1e.06"):
        make_recipe({"sampling": "uniform", "flops_bins": (2e6, 1e6, 1e5)})
    (one,) = recipes_of({"sampling": "uniform", "flops_bins": list(bins)})
    assert one.flops_bins == bins
