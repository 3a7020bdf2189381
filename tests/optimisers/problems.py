"""Small problems that the optimisers' tests step through."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def parameters(
    shapes: Sequence[tuple[int, ...]] = ((4, 3, 3, 3), (4,), (5, 4), (5,)),
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> list[nn.Parameter]:
    """Normal parameters, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in shapes]


def set_gradients(params: Sequence[Tensor], step: int, scale: float = 1.0) -> None:
    """The gradients of one step, the same for the same step, in a scale."""
    generator = torch.Generator().manual_seed(1000 + step)
    for p in params:
        g = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        p.grad = (scale * g).to(p.dtype)


def after_steps(
    make: Callable[[list[nn.Parameter]], Optimizer],
    n_steps: int,
    shapes: Sequence[tuple[int, ...]] = ((4, 3, 3, 3), (4,), (5, 4), (5,)),
    dtype: torch.dtype = torch.float64,
    scale: float = 1.0,
) -> list[Tensor]:
    """Where the parameters are after some steps."""
    params = parameters(shapes, dtype=dtype)
    optimiser = make(params)
    for step in range(n_steps):
        set_gradients(params, step, scale)
        optimiser.step()
    return [p.detach() for p in params]


def assert_same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Equal in every bit."""
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def assert_close(found: Sequence[Tensor], expected: Sequence[Tensor], rtol: float = 1e-12) -> None:
    torch.testing.assert_close(list(found), list(expected), rtol=rtol, atol=rtol)


class Network(nn.Module):
    """A convolution, BatchNorm and a linear layer, with a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:  # (images, 1, height, width) -> (images, 3)
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))  # type: ignore[no-any-return]


def network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network()


def train(model: nn.Module, optimiser: Optimizer, steps: range) -> None:
    """Steps of training; step k has its own images, so that a run can be taken up anywhere."""
    for k in steps:
        generator = torch.Generator().manual_seed(k)
        x = torch.randn(8, 1, 8, 8, generator=generator)
        y = torch.randint(3, (8,), generator=generator)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()


def resumed(
    make: Callable[[nn.Module], Optimizer], save: Callable[[object], object]
) -> tuple[list[Tensor], list[Tensor]]:
    """The weights of a run of ten steps, and those of one stopped after four and taken up elsewhere."""
    whole = network()
    train(whole, make(whole), range(10))
    first = network()
    optimiser = make(first)
    train(first, optimiser, range(4))
    saved = save(copy.deepcopy({"model": first.state_dict(), "optimiser": optimiser.state_dict()}))
    assert isinstance(saved, dict)
    second = Network()
    second.load_state_dict(saved["model"])
    optimiser = make(second)
    optimiser.load_state_dict(saved["optimiser"])
    train(second, optimiser, range(4, 10))
    return list(whole.state_dict().values()), list(second.state_dict().values())


def through_file(saved: object) -> object:
    """What a checkpoint gives back when it is read without running code."""
    import io

    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
