"""Norms and layer-wise rates against float64 and against the formula by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from torch import Tensor

from bnrecal.optimisers.trust import layer_rates, norms

VALUES = st.one_of(st.just(0.0), st.floats(1e-6, 1e6), st.floats(-1e6, -1e-6))
SHAPES = st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    return torch.from_numpy(draw(st_numpy.arrays("float64", SHAPES, elements=VALUES)).copy())


@given(st.lists(tensors(), min_size=1, max_size=4))
def test_norms_are_euclidean(several: list[Tensor]) -> None:
    """The norm over all entries, whatever the shape, also of no entries, to float32."""
    found = norms([t.float() for t in several])
    expected = torch.stack([(t * t).sum().sqrt() for t in several])
    assert found.dtype is torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_norms_do_not_overflow(dtype: torch.dtype) -> None:
    """10,000 entries near float16's largest value have norm 100 times it, which float16 cannot hold."""
    assert norms([torch.full((100, 100), 6e4, dtype=dtype)]).item() == pytest.approx(6e6, rel=2e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_norms_do_not_underflow(dtype: torch.dtype) -> None:
    """Squares of 1e-5 are 0 in float16."""
    assert norms([torch.full((100,), 1e-5, dtype=dtype)]).item() == pytest.approx(1e-4, rel=1e-2)


def test_the_rate_by_hand() -> None:
    """|w| = 5, |g| = 2, beta .1, eta .02, eps .5: .02 * 5 / (2 + .5 + .5) = 1/30."""
    w, g = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])
    rate = layer_rates([w], [g], trust_coefficient=0.02, weight_decay=0.1, eps=0.5)
    assert rate.item() == pytest.approx(1 / 30)


@pytest.mark.parametrize("clip_at", [None, 0.1, 10.0])
def test_a_zero_norm_gives_the_plain_rate(clip_at: float | None) -> None:
    """Zero weights, a zero gradient, or both: factor 1, clipped or not, at any rate of the optimiser."""
    zero, some = torch.zeros(2, 2), torch.ones(2, 2)
    rates = layer_rates(
        [zero, some, zero], [some, zero, zero], trust_coefficient=1e-3, weight_decay=0.1, clip_at=clip_at
    )
    assert rates.tolist() == [1, 1, 1]


@given(
    w=st.floats(1e-3, 1e3),
    g=st.floats(1e-3, 1e3),
    lr=st.floats(1e-4, 1e2),
    decay=st.sampled_from([0.0, 1e-2]),
)
def test_clipping_takes_the_smaller_rate(w: float, g: float, lr: float, decay: float) -> None:
    """The clipped factor times the optimiser's rate is min(lambda, rate)."""
    params, grads = [torch.tensor([w], dtype=torch.float64)], [torch.tensor([g], dtype=torch.float64)]
    rate = layer_rates(params, grads, trust_coefficient=0.02, weight_decay=decay).item()
    factor = layer_rates(params, grads, trust_coefficient=0.02, weight_decay=decay, clip_at=lr).item()
    assert math.isclose(factor * lr, min(rate, lr), rel_tol=1e-12)


def test_a_rate_of_zero_clips_to_one() -> None:
    """In the first step of a warm-up from 0 the factor is 1, not NaN."""
    one = [torch.ones(2, 2)]
    assert layer_rates(one, one, trust_coefficient=1e-3, clip_at=0.0).tolist() == [1]
