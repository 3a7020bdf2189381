"""The arithmetic of a step: what is written where."""

import pytest
import torch

from bnrecal.optimisers.updates import add_updates, scaled_sum_into, scaled_sums


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("decay", [0.0, 0.1, -0.1])
@pytest.mark.parametrize("scaled", [False, True])
def test_in_place_or_in_new_memory(dtype: torch.dtype, decay: float, scaled: bool) -> None:
    """Both forms of LARC's sum agree to the bit, with float64 to rounding, and leave the gradient alone."""
    generator = torch.Generator().manual_seed(0)
    g, p = (torch.randn(5, 7, generator=generator).to(dtype) for _ in range(2))
    scale, room, before = torch.tensor(0.37), torch.full_like(g, float("nan")), g.clone()
    (new,) = scaled_sums([g], [p], decay, [scale] if scaled else None)
    into = scaled_sum_into(room, g, p, decay, scale if scaled else None)
    assert torch.equal(new, into)
    assert torch.equal(g, before)
    assert (into is room) == bool(decay or scaled)
    expected = (g.double() + decay * p.double()) * (0.37 if scaled else 1)
    torch.testing.assert_close(new.double(), expected, rtol=0, atol=4 * torch.finfo(dtype).eps)


def test_parameters_may_be_their_own_target() -> None:
    """w - rate (g + decay w) with the old w throughout."""
    p, g = torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 20.0]])
    for rates in (0.1, [torch.tensor(0.1)]):
        w = p.clone()
        add_updates([w], [w], [g], rates, 0.5, -1)
        torch.testing.assert_close(w, torch.tensor([[-0.05, -0.1]]))
