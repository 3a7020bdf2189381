"""In which order an epoch takes the images: shuffled, or in pairs of one class.

Pairs are Batch Renormalization's own test of batches that are no random draw (Ioffe 2017):
each minibatch of 32 held two images of each of 16 classes, normalised together, and BatchNorm learned that
an image has a companion, which it has not in evaluation. Here a batch of 32 is 16 pairs of random classes,
which may repeat, and a norm batch of 2 is one pair: it sees one class alone.
"""

import numpy as np

from bnrecal.data.draws import Int64s, permutation, stream_key
from bnrecal.study.recipe import Recipe
from bnrecal.tasks.classification import Classification
from bnrecal.tasks.task import Task


def labels_for(task: Task, recipe: Recipe, ids: Int64s) -> Int64s | None:
    """The classes of these calibration images; None where the order does not ask for them."""
    if recipe.batches == "shuffled":
        return None
    assert isinstance(task, Classification)  # or the recipe does not fit the task
    return np.asarray(task.calibration_labels)[ids]


def epoch_order(seed: int, epoch: int, n_images: int, labels: Int64s | None) -> Int64s:
    """Places of all images, each once, new in each epoch; with labels (n_images,) in pairs of one class.

    An image whose class has an odd number is left without a partner, another one each epoch: such images
    are paired with one another, and the one that an odd n_images leaves comes last.
    """
    order = permutation(stream_key("train-order", seed, epoch), n_images)
    if labels is None:
        return order
    by_class = order[np.argsort(labels[order], kind="stable")]
    _, starts, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    odd = np.zeros(n_images, bool)
    odd[(starts + sizes - 1)[sizes % 2 == 1]] = True
    single = by_class[odd][permutation(stream_key("train-singles", seed, epoch), int(odd.sum()))]
    joined = np.concatenate([by_class[~odd], single])
    pairs = joined[: n_images // 2 * 2].reshape(-1, 2)
    pairs = pairs[permutation(stream_key("train-pairs", seed, epoch), len(pairs))]
    return np.concatenate([pairs.reshape(-1), joined[n_images // 2 * 2 :]])
