"""BatchNorm over the images of several processes: real ones, by gloo."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnrecal import norms
from bnrecal.errors import BnrecalError
from bnrecal.norms.across import Shared
from bnrecal.norms.synchronised import synchronise
from bnrecal.train.ranks import ALONE, Ranks
from tests.train.together import in_processes

PARTS = (5, 1, 3)  # images of each process, so unequal as it can be
SHAPES = {"flat": (9, 4), "pixels": (9, 4, 3, 2), "last": (9, 4, 3, 2)}
CASES = [(kind, shape) for kind in ("bn", "plain mean", "brn") for shape in SHAPES]


def layer_of(kind: str, shape: str) -> nn.Module:
    torch.manual_seed(1)
    plain = (nn.BatchNorm1d if shape == "flat" else nn.BatchNorm2d)(4).double()
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    if kind == "plain mean":
        plain.momentum = None
    if kind == "brn":
        return norms.convert(plain, "brn", rmax=1.5, dmax=0.2)
    return plain


def data(shape: str) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    x, dy = torch.randn(2, *SHAPES[shape], dtype=torch.float64) * 3 + 7
    if shape == "last":
        x = x.contiguous(memory_format=torch.channels_last)
    return x, dy


def forward_and_back(layer: nn.Module, x: Tensor, dy: Tensor) -> list[Tensor]:
    """(y, dx, dgamma, dbeta) of a second forward, whose running statistics a first one has moved."""
    layer.train()(x - 1)
    layer.zero_grad()
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(dy)
    of_weights = [p.grad for p in layer.parameters() if p.grad is not None]
    assert x.grad is not None
    return [y.detach(), x.grad, *of_weights]


def parts_of_all(ranks: Ranks) -> list[Any]:
    found = []
    for kind, shape in CASES:
        layer = synchronise(layer_of(kind, shape), Shared(ranks.rank, PARTS))
        x, dy = (t.split(PARTS)[ranks.rank] for t in data(shape))
        y, dx, *of_weights = forward_and_back(layer, x, dy)
        found.append((y, dx, [ranks.summed(g) for g in of_weights], dict(layer.state_dict())))
    return found


def test_values_gradients_and_statistics_are_those_of_one_batch() -> None:
    """BatchNorm, with momentum and as a plain mean, and Batch Renormalization at its bounds, on three unequal
    parts: outputs, gradients of inputs, gamma and beta, and state dicts agree with one process to 1e-12."""
    every = in_processes(len(PARTS), parts_of_all)
    for k, (kind, shape) in enumerate(CASES):
        layer = layer_of(kind, shape)
        y, dx, *of_weights = forward_and_back(layer, *data(shape))
        close(torch.cat([found[k][0] for found in every]), y)
        close(torch.cat([found[k][1] for found in every]), dx)
        for found in every:
            for mine, whole in zip(found[k][2], of_weights, strict=True):
                close(mine, whole)
            state = layer.state_dict()
            assert list(found[k][3]) == list(state)
            for name, tensor in found[k][3].items():
                close(tensor, state[name])


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def of_shifted(ranks: Ranks) -> Tensor:
    """The output for float32 values a thousand deviations from zero."""
    torch.manual_seed(3)
    x = (torch.randn(64, 2, 8, 8) + 1000).split((40, 24))[ranks.rank]
    return synchronise(nn.BatchNorm2d(2), Shared(ranks.rank, (40, 24))).train()(x).detach()


def test_a_mean_far_from_zero_does_not_cancel() -> None:
    """Sums of squares in float32 would be off by more than a tenth here."""
    torch.manual_seed(3)
    x = (torch.randn(64, 2, 8, 8) + 1000).double()
    expected = F.batch_norm(x, None, None, training=True)
    found = torch.cat(in_processes(2, of_shifted)).double()
    assert (found - expected).abs().max() < 1e-3


def test_state_dicts_stay_and_other_norms_are_left() -> None:
    """Names are the plain network's, GroupNorm is what it was, and a ghost keeps its groups."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
    before = list(model.state_dict())
    after = synchronise(model, Shared(0, (2, 2)))
    assert list(after.state_dict()) == before
    assert type(after[2]) is nn.GroupNorm  # type: ignore[index]
    ghost = synchronise(norms.convert(nn.BatchNorm2d(4), "bn", norm_batch=2), Shared(0, (2, 2)))
    assert ghost.norm_batch == 2


class Own(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


@pytest.mark.parametrize(
    "layer",
    [
        Own(4),
        nn.InstanceNorm2d(4, track_running_stats=True),
        norms.CrossIterationBatchNorm2d(4, compensate=False),
    ],
)
def test_what_cannot_be_shared_is_refused(layer: nn.Module) -> None:
    """Layers that depend on batches in another way, by their name and kind."""
    with pytest.raises(BnrecalError, match=rf"1: a {type(layer).__name__} cannot take the images of several"):
        synchronise(nn.Sequential(nn.Conv2d(3, 4, 1), layer), Shared(0, (2, 2)))


def test_one_process_is_left_alone() -> None:
    """Sums over one process are what they were, and what is told is what was said."""
    value = torch.ones(3)
    assert ALONE.summed(value) is value
    assert ALONE.told("x") == "x"
