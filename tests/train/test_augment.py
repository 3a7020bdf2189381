"""Views of images: what they may show, and what they depend on."""

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from bnrecal.train.augment import PADDING, viewed, views


def some(n: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(1, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator)


@settings(deadline=None)
@example(n=1, height=1, width=1, seed=3, epoch=3)  # the corner, in which nothing of the image is left
@given(
    n=st.integers(1, 9),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 9),
)
def test_a_view_is_a_crop_mirrored_or_not(n: int, height: int, width: int, seed: int, epoch: int) -> None:
    """Image by image: slicing the padded image and flipping it gives the same pixels, of the same kind."""
    images = some(n, height, width)
    seen = views("crop-flip", seed, epoch, np.arange(n))
    assert seen is not None
    found = viewed(images, seen)
    assert found.dtype == torch.uint8
    for k in range(n):
        mirrored, down, right = seen[k]
        assert 0 <= down <= 2 * PADDING
        assert 0 <= right <= 2 * PADDING
        crop = F.pad(images[k], [PADDING] * 4)[:, down : down + height, right : right + width]
        assert torch.equal(found[k], crop.flip(-1) if mirrored else crop)


def test_views_depend_on_the_image_alone() -> None:
    """The same in any batch and order; other ones for another epoch, seed or image."""
    whole = views("crop-flip", 1, 2, np.arange(50))
    assert whole is not None
    picked = np.array([40, 3, 17])
    assert np.array_equal(views("crop-flip", 1, 2, picked), whole[picked])  # type: ignore[arg-type]
    for other in (views("crop-flip", 1, 3, np.arange(50)), views("crop-flip", 2, 2, np.arange(50))):
        assert not np.array_equal(other, whole)  # type: ignore[arg-type]
    assert len(np.unique(whole, axis=0)) > 25


def test_flip_moves_nothing_and_none_changes_nothing() -> None:
    """Flips alone are about a half of the images; without augmentation the images come back as they are."""
    seen = views("flip", 0, 0, np.arange(1000))
    assert seen is not None
    assert (seen[:, 1:] == PADDING).all()
    assert 400 < seen[:, 0].sum() < 600
    images = some(4, 5, 6)
    assert views("none", 0, 0, np.arange(4)) is None
    assert viewed(images, None) is images
    found = viewed(images, np.array([[1, PADDING, PADDING]] * 4))
    assert torch.equal(found, images.flip(-1))


def test_every_offset_is_as_likely_as_the_others() -> None:
    """Chi-square over 20,000 draws stays below its 99.9 % point for 8 degrees of freedom, 26.1."""
    seen = views("crop-flip", 5, 0, np.arange(20000))
    assert seen is not None
    for column in (1, 2):
        counts = np.bincount(seen[:, column], minlength=9)
        assert ((counts - 20000 / 9) ** 2 / (20000 / 9)).sum() < 26.1
