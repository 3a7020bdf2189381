"""Batches predicted together, each under the statistics right after it."""

import torch

from bnrecal.measure.prequential import _grouped
from bnrecal.recalibration.statistics import Statistics


def after(n_images: int, *layers: str) -> tuple[torch.Tensor, Statistics]:
    channels = torch.zeros(len(layers), dtype=torch.float64)
    sizes, calls = (1,) * len(layers), (1,) * len(layers)
    return torch.zeros(n_images, 1), Statistics(layers, sizes, channels, channels, 1, calls)


def test_batches_are_together_up_to_so_many_images_and_of_the_same_layers() -> None:
    """Four of 8 images at 16 at once: pairs; where a batch is the first to reach a layer a group ends."""
    same = [after(8, "a") for _ in range(4)]
    assert [len(group) for group in _grouped(same, 16)] == [2, 2]
    assert [len(group) for group in _grouped(same, 4)] == [1, 1, 1, 1]
    reached = [after(8, "a"), after(8, "a", "b"), after(8, "a", "b")]
    assert [len(group) for group in _grouped(reached, 64)] == [1, 2]
