"""In which order an epoch takes the images."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnrecal import tasks
from bnrecal.data.draws import permutation, stream_key
from bnrecal.errors import BnrecalError
from bnrecal.study.recipe import Recipe, make_recipe
from bnrecal.train.epochs import Batches
from bnrecal.train.order import epoch_order
from tests.train.images import bright_and_dark
from tests.train.test_resume import LeftError, leaving_at, run, tensors

PAIRS = {"batch_size": 16, "epochs": 2, "seed": 2, "norm_batch": 2, "batches": "class-pairs"}


def test_shuffled_is_what_it_was() -> None:
    """Trainings of before keep their order, and the default stays out of the key."""
    assert (epoch_order(3, 4, 50, None) == permutation(stream_key("train-order", 3, 4), 50)).all()
    assert Recipe(batches="shuffled").key == Recipe().key != Recipe(batches="class-pairs").key


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_pairs_are_of_one_class_as_far_as_counts_allow(sizes: list[int], seed: int) -> None:
    """Every image once; all pairs but those of the odd ones see one class, each class gives size // 2."""
    labels = permutation(seed, sum(sizes)) % max(1, sum(sizes))
    labels = np.repeat(np.arange(len(sizes)), sizes)[labels]
    order = epoch_order(seed, 0, len(labels), labels)
    assert sorted(order) == list(range(len(labels)))
    pairs = labels[order][: len(labels) // 2 * 2].reshape(-1, 2)
    one_class = pairs[pairs[:, 0] == pairs[:, 1], 0]
    assert [int((one_class == k).sum()) for k in range(len(sizes))] == [size // 2 for size in sizes]


def test_pairs_change_with_epoch_and_seed_and_lie_anywhere() -> None:
    """Partners, order of the pairs, and who stays single are drawn anew; classes are not in their order."""
    labels = np.repeat([0, 1, 2], [21, 20, 21])
    orders = [epoch_order(seed, epoch, 62, labels) for seed, epoch in [(0, 0), (0, 1), (1, 0)]]
    assert len({tuple(order) for order in orders}) == 3
    partners = [{frozenset(pair) for pair in order.reshape(-1, 2).tolist()} for order in orders]
    assert all(len(a & b) < 15 for a, b in itertools.pairwise(partners))
    mixed = [
        [k for k, (a, b) in enumerate(labels[epoch_order(0, e, 62, labels)].reshape(-1, 2)) if a != b]
        for e in range(20)
    ]
    assert all(len(places) == 1 for places in mixed)
    assert len({places[0] for places in mixed}) > 5
    classes = labels[orders[0]].reshape(-1, 2)[:, 0]
    assert (np.diff(classes) < 0).sum() > 5


def test_batches_are_pairs_of_one_class() -> None:
    """What training reads: each norm batch of 2 has one class, each batch more; shuffled ones have not."""
    task = bright_and_dark()
    for kind, wanted in (("class-pairs", True), ("shuffled", False)):
        recipe = Recipe(**{**PAIRS, "batches": kind})
        batches = list(Batches.of(task, recipe, torch.device("cpu")).epoch(0))
        labels = [task.calibration_labels[np.sort(task.order(0))][at] for _, at in batches]
        assert all(len(set(found)) == 2 for found in labels)
        pairs = np.concatenate(labels).reshape(-1, 2)
        assert (pairs[:, 0] == pairs[:, 1]).all() == wanted
        image, place = batches[0][0][5], int(batches[0][1][5])
        same = task.to_input(torch.from_numpy(task.calibration_images(np.sort(task.order(0))[[place]])))[0]
        assert torch.equal(image, same)


def test_pairs_train_otherwise_and_resume_to_the_bit(tmp_path: Path) -> None:
    """Other weights than shuffled; left in the second epoch and called again: the same file."""
    whole = run(tmp_path / "whole", Recipe(**PAIRS))
    with pytest.raises(LeftError):
        run(tmp_path / "left", Recipe(**PAIRS), check=leaving_at(9))
    assert run(tmp_path / "left", Recipe(**PAIRS)).sha256 == whole.sha256
    shuffled = tensors(run(tmp_path / "shuffled", Recipe(**{**PAIRS, "batches": "shuffled"})))
    assert any(not torch.equal(shuffled[name], tensor) for name, tensor in tensors(whole).items())


def test_a_detector_has_no_pairs() -> None:
    """Several objects on an image are no class: one line."""
    with pytest.raises(BnrecalError, match="batches: 'class-pairs' is for classification, task tiny is det"):
        Batches.of(tasks.get("tiny"), Recipe(batches="class-pairs", batch_size=8), torch.device("cpu"))


@pytest.mark.parametrize(
    ("more", "place"),
    [({"batch_size": 15}, "batch_size: 15"), ({"batch_size": 12, "norm_batch": 3}, "norm_batch: 3")],
)
def test_what_would_cut_pairs_is_refused(more: dict[str, int], place: str) -> None:
    """Odd batches and odd norm batches; a norm batch of 1 sees no partner and is none of them."""
    with pytest.raises(BnrecalError, match=f"{place} images cut pairs of one class"):
        make_recipe({"batches": "class-pairs", **more})
    make_recipe({"batches": "class-pairs", "batch_size": 12, "norm_batch": 1})
    make_recipe(more)
