"""Several processes train the network that one process trains: real processes, by gloo."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bnrecal import networks, tasks
from bnrecal.errors import BnrecalError
from bnrecal.study.inputs import make_inputs
from bnrecal.study.recipe import make_recipe
from bnrecal.train.epochs import Batches
from bnrecal.train.objective import objective_of
from bnrecal.train.ranks import Ranks
from bnrecal.train.request import Request
from bnrecal.train.shards import check_shards, shards
from tests.train.together import CPU, in_processes, request, train_all, write_place

# 50 images. Three processes share 16 as 5, 5 and 6, a short last batch of 5 as 1, 2 and 2, and five norm
# batches in the same way.
RECIPES: dict[str, dict[str, Any]] = {
    "whole batch": {"drop_last": False, "batch_size": 15},
    "norm batch": {"norm_batch": 4, "batch_size": 20},
    "several forwards": {"physical_batch": 6, "batch_size": 16},
    "brn": {"norm": "brn"},
    "brn, norm batch": {"norm": "brn", "norm_batch": 2, "epochs": 3},
    "gn": {"norm": "gn", "groups": 2},
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
    "lars": {"optimizer": "lars", "lr": 0.5, "clip_norm": 1.0},
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_place(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def requests(place: Path, n: int, recipes: dict[str, dict[str, Any]]) -> dict[str, Request]:
    usual = {"batch_size": 16, "epochs": 1, "lr": 0.1, "augment": "crop-flip"}
    return {name: request(place, f"{name} {n}", **{**usual, **more}) for name, more in recipes.items()}


def largest_difference(one: Path, several: Path, of: str = "") -> float:
    """Of any weight or statistic whose name has `of`, by its value where that is more than 1."""
    mine, others = (load_file(folder / "weights.safetensors") for folder in (one, several))
    assert list(mine) == list(others)
    by = {
        k: (mine[k].double() - others[k].double()).abs() / mine[k].double().abs().clamp(min=1) for k in mine
    }
    return max(float(difference.max()) for difference in by.values())


def test_three_processes_give_what_one_gives(place: Path) -> None:
    """Weights and running statistics to 1e-5 after an epoch: a short last batch, unequal parts, groups,
    several forwards a step, Batch Renormalization (where its bounds are open, too), no statistics at all, a
    gradient that is clipped, layer-wise rates. The log has the same losses, and how many processes it was."""
    one, three = requests(place, 1, RECIPES), requests(place, 3, RECIPES)
    errors = in_processes(3, train_all, three)
    assert errors == [None] * 3
    for name in RECIPES:
        one[name].run(CPU, lambda _: None)
        limit = 2e-2 if name in ("bfloat16", "float16") else 1e-5  # where three digits are kept
        assert largest_difference(one[name].out, three[name].out) < limit, name
        alone, log = (
            [json.loads(line) for line in (of[name].out / "log.jsonl").read_text().splitlines()]
            for of in (one, three)
        )
        assert [entry["processes"] for entry in log] == [3] * len(log)
        assert all("processes" not in entry for entry in alone)
        for entry, expected in zip(log, alone, strict=True):
            assert entry["loss"] == pytest.approx(expected["loss"], abs=max(2e-4, limit))


def test_a_supernet_and_a_detector(place: Path) -> None:
    """Paths drawn and strictly fair on scenes, in two processes: what one process trains to 5e-5. Two threads
    in the place of one change up to 1e-5 there by themselves: BatchNorm's kernel adds up a channel's 80,000
    values in float32, one after the other."""
    inputs = make_inputs({"task": "tiny"})
    found = {}
    for n in (1, 2):
        for sampling in ("uniform", "fair"):
            recipe = make_recipe({"sampling": sampling, "epochs": 1, "batch_size": 64, "lr": 0.001})
            found[sampling, n] = Request(recipe, inputs, None, place / f"{sampling} {n}")
    assert in_processes(2, train_all, {s: found[s, 2] for s in ("uniform", "fair")}) == [None] * 2
    for sampling in ("uniform", "fair"):
        found[sampling, 1].run(CPU, lambda _: None)
        assert largest_difference(found[sampling, 1].out, found[sampling, 2].out, of="weight") < 5e-5


def test_a_loss_over_objects_is_weighed_by_objects() -> None:
    """Parts of a batch with unequal numbers of objects: weighed as processes weigh them, their losses add up
    to the batch's; weighed by images they do not."""
    task = tasks.of(make_inputs({"task": "tiny"}))
    learner = networks.of(make_inputs({"task": "tiny"}), task).learner("arch1", 0)
    recipe = make_recipe({"batch_size": 9})
    objective = objective_of(task, learner.head, recipe, CPU)
    images, at = next(Batches.of(task, recipe, CPU).epoch(0))
    with torch.no_grad():
        output = learner.module.eval()(images)
        whole = float(objective.loss(output, at))
        parts = [
            (objective.loss(output[s], at[s]), objective.weight(at[s]), s) for s in (slice(2), slice(2, 9))
        ]
    by_objects = sum(float(loss) * weight for loss, weight, _ in parts) / objective.weight(at)
    by_images = sum(float(loss) * len(at[s]) for loss, _, s in parts) / len(at)
    assert by_objects == pytest.approx(whole, rel=1e-5)
    assert abs(by_images - whole) > 1e-3 * whole


def plain_steps(ranks: Ranks, wanted: Request) -> dict[str, Tensor]:
    """What PyTorch alone makes of a recipe: each process a network whose BatchNorms see its part alone."""
    recipe = wanted.recipe
    task = tasks.of(wanted.inputs)
    learner = networks.of(wanted.inputs, task).learner("net", recipe.seed)
    module = DistributedDataParallel(learner.module.to(memory_format=torch.channels_last).train())
    from bnrecal.train.parameters import make_optimiser, set_learning_rate
    from bnrecal.train.schedule import learning_rate

    batches = Batches.of(task, recipe, CPU)
    objective = objective_of(task, "logits", recipe, CPU)
    optimiser = make_optimiser(learner.module.parameters(), recipe)
    each = recipe.batch_size // ranks.n
    mine = slice(ranks.rank * each, (ranks.rank + 1) * each)
    for step, (images, at) in enumerate(batches.epoch(0)):
        set_learning_rate(optimiser, learning_rate(recipe, step, batches.steps))
        optimiser.zero_grad()
        objective.loss(module(images[mine]), at[mine]).backward()
        optimiser.step()
    return {name: p.detach().clone() for name, p in learner.module.named_parameters()}


def test_a_norm_batch_is_a_card_without_synchronisation(place: Path) -> None:
    """`batch_size` 48 with `norm_batch` 6 in one process trains what eight processes with 6 images each and
    plain BatchNorms train under DistributedDataParallel, to 1e-5; and eight processes of this project too.

    In small what "4,096 on eight cards without SyncBatchNorm" is: batch_size = 4096, norm_batch = 512.
    """
    settings = {"batch_size": 48, "norm_batch": 6, "epochs": 1, "lr": 0.1}
    one, eight = request(place, "one", **settings), request(place, "eight", **settings)
    one.run(CPU, lambda _: None)
    weights = load_file(one.out / "weights.safetensors")
    for found in in_processes(8, both_ways, eight):
        for name, expected in found.items():
            assert (weights[name] - expected).abs().max() < 1e-5, name
    assert largest_difference(one.out, eight.out) < 1e-5
    start = networks.of(one.inputs, tasks.of(one.inputs)).learner("net", 0).module.state_dict()
    assert (weights["0.weight"] - start["0.weight"]).abs().max() > 1e-2  # it did learn


def both_ways(ranks: Ranks, wanted: Request) -> dict[str, Tensor]:
    wanted.run(CPU, lambda _: None, ranks)
    return plain_steps(ranks, wanted)


def test_a_training_goes_on_in_another_number_of_processes(place: Path) -> None:
    """An epoch in two processes, one in one and one in three: the network of one process, to 1e-5; and what
    is finished is taken for finished by any number."""
    settings = {"batch_size": 16, "epochs": 3, "lr": 0.1}
    whole, parts = request(place, "whole", **settings), request(place, "parts", **settings)
    whole.run(CPU, lambda _: None)
    assert in_processes(2, until_epoch, parts, 1) == ["stopped"] * 2
    assert until_epoch(None, parts, 2) == "stopped"
    assert in_processes(3, train_all, {"": parts}) == [None] * 3
    assert largest_difference(whole.out, parts.out) < 1e-5
    log = [json.loads(line) for line in (parts.out / "log.jsonl").read_text().splitlines()]
    assert [entry.get("processes", 1) for entry in log] == [2, 1, 3]
    before = (parts.out / "weights.safetensors").stat().st_mtime_ns
    parts.run(CPU, lambda _: None)
    assert (parts.out / "weights.safetensors").stat().st_mtime_ns == before


class EnoughError(Exception):
    pass


def until_epoch(ranks: Ranks | None, wanted: Request, n_epochs: int) -> str:
    """Train so many epochs of the recipe, then leave."""
    from bnrecal.train.loop import train

    task = tasks.of(wanted.inputs)
    learner = networks.of(wanted.inputs, task).learner("net", wanted.recipe.seed)
    n_steps = n_epochs * (50 // wanted.recipe.batch_size)
    log = wanted.out / "log.jsonl"
    done = len(log.read_text().splitlines()) if log.exists() else 0
    left = [n_steps - done * (50 // wanted.recipe.batch_size)]

    def check() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise EnoughError

    more = {} if ranks is None else {"ranks": ranks}
    try:
        train(wanted.recipe, task, learner, wanted.out, CPU, check=check, **more)
    except EnoughError:
        return "stopped"
    return "ended"


def test_parts_are_whole_groups_in_order() -> None:
    """Consecutive, as equal as whole norm batches allow, and all images once."""
    recipe = make_recipe({"batch_size": 28, "norm_batch": 4})
    cut = shards(slice(28, 56), recipe, 3)
    assert [(part.start, part.stop) for part in cut] == [(28, 36), (36, 44), (44, 56)]
    assert [p.stop - p.start for p in shards(slice(0, 5), make_recipe({}), 3)] == [1, 2, 2]


@pytest.mark.parametrize(
    ("settings", "sizes", "n", "says"),
    [
        ({"norm_batch": 16}, {64}, 5, "a forward has 4 norm batches of 16; use at most 4"),
        ({"batch_size": 3}, {3}, 4, "a forward has 3 images; use at most 3"),
        ({"drop_last": False}, {64, 2}, 3, r"2 images \(a short last one; drop_last leaves it out\)"),
        ({"physical_batch": 60}, {64}, 5, r"4 images \(a short last one"),
    ],
)
def test_a_process_without_images_is_refused(
    settings: dict[str, Any], sizes: set[int], n: int, says: str
) -> None:
    """Before anything is trained, with how many processes would do."""
    recipe = make_recipe(settings)
    with pytest.raises(BnrecalError, match=says):
        check_shards(sizes, recipe, n)
    check_shards(sizes, recipe, 2)


def drawn_noise(ranks: Ranks) -> Tensor:
    from bnrecal.train.numerics import seed_epoch

    seed_epoch(0, 0, ranks.rank)
    return nn.Dropout(0.5)(torch.ones(64))


def test_processes_drop_different_values() -> None:
    """Dropout in the second process is not that of the first one, which draws as one process does."""
    alone = drawn_noise(Ranks())
    assert torch.equal(alone, drawn_noise(Ranks(0, 2)))
    assert not torch.equal(alone, drawn_noise(Ranks(1, 2)))
