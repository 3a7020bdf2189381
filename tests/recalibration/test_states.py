"""States as values: in the block or apart they are the same, and nothing that was is changed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bnrecal.errors import NotANumberError
from bnrecal.recalibration.estimators import Ema, Moments, Pooled
from bnrecal.recalibration.layers import find_layers
from bnrecal.recalibration.states import Indices, LayerStates, Rule
from bnrecal.recalibration.walk import Walk

SIZES = (2, 3, 1)


def rule() -> Rule:
    layers, _ = find_layers(nn.Sequential(*(nn.BatchNorm2d(size) for size in SIZES)))
    return Rule(Pooled(), layers, reset=True)


def moments(indices: Indices, t: int) -> Moments:
    """Of batch t; the same for a layer whichever others are in the batch."""
    parts = [torch.arange(SIZES[i], dtype=torch.float64) + 10 * i + t for i in indices]
    mean = torch.cat(parts)
    return Moments(torch.full_like(mean, 4.0), mean, mean + 1)


@given(st.lists(st.sets(st.integers(0, 2), min_size=1), min_size=1, max_size=6))
def test_layers_do_not_depend_on_those_called_with_them(batches: list[set[int]]) -> None:
    """Whichever layers come together, each ends as if it were alone, in the model's order, calls counted."""
    whole, ours = rule(), LayerStates()
    for t, called in enumerate(batches):
        ours = whole.update(ours, tuple(sorted(called)), moments(tuple(sorted(called)), t))
    found = whole.statistics(ours, len(batches))
    assert found.layers == tuple(str(i) for i in sorted(set().union(*batches)))
    for name, (mean, var) in found.by_name().items():
        single, alone = rule(), LayerStates()
        for t, called in enumerate(batches):
            if int(name) in called:
                alone = single.update(alone, (int(name),), moments((int(name),), t))
        expected = single.statistics(alone, 1)
        assert torch.equal(mean, expected.mean)
        assert torch.equal(var, expected.var)
        assert whole.tracked(ours)[name] == expected.tracked[0]


def test_an_update_leaves_the_states_it_came_from_alone() -> None:
    """The same update twice from the same states gives the same, with another in between."""
    one = rule()
    before = one.update(LayerStates(), (0, 1, 2), moments((0, 1, 2), 0))
    first = one.statistics(one.update(before, (1,), moments((1,), 1)), 2)
    one.update(before, (0, 2), moments((0, 2), 5))
    again = one.statistics(one.update(before, (1,), moments((1,), 1)), 2)
    assert torch.equal(first.mean, again.mean)
    assert one.tracked(before) == {"0": 1, "1": 1, "2": 1}


def test_a_step_that_fails_leaves_no_trace_in_the_estimate() -> None:
    """A layer called twice takes its first call in before the second turns out NaN: neither is kept."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.norm(x[:2])
            return y + self.norm(x[2:])

    good = torch.arange(16.0).view(4, 1, 2, 2)
    bad = good.clone()
    bad[3] = float("nan")
    with Walk(Twice(), Ema(0.1)) as walk:
        walk.step(good)
        before = walk.statistics()
        with pytest.raises(NotANumberError):
            walk.step(bad)
        after = walk.statistics()
        assert torch.equal(before.mean, after.mean)
        assert (before.tracked, walk.tracked()) == ((2,), {"norm": 2})
