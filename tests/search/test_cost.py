"""FLOPs and parameters: counted right, added up only where they add."""

import pytest
import torch
from torch import nn

from bnrecal import networks
from bnrecal.networks.embedded import SPACE
from bnrecal.networks.forward import plain_forward
from bnrecal.search.cost import Built, Cost, Costs, count
from bnrecal.search.space import Space


def forward(module: nn.Module, x: torch.Tensor) -> object:
    return module(x)


def test_a_network_counted_by_hand() -> None:
    """Convolution (groups too): output positions x output channels x inputs a group x kernel; linear: inputs
    x outputs; BatchNorm has parameters and no multiply-accumulates; buffers are no parameters."""
    network = nn.Sequential(
        nn.Conv2d(4, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 5, 1, 2, groups=8),
        nn.Flatten(),
        nn.Linear(8 * 16, 10),
    )
    flops = 16 * 8 * 4 * 9 + 16 * 8 * 25 + 128 * 10
    params = 8 * 4 * 9 + 16 + 8 * 25 + 8 + 1290
    assert count((network, forward), (4, 8, 8)) == Cost(flops, params)


def test_shared_parameters_count_once() -> None:
    """One module at two places: its operations twice, its parameters once."""
    layer = nn.Linear(5, 5, bias=False)
    assert count((nn.Sequential(nn.Flatten(), layer, layer), forward), (5, 1, 1)) == Cost(50, 25)


class Sequence(nn.Module):
    """(images, 8, height, width) as a sequence of 8 features, through a layer for such; its first output."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(2).transpose(1, 2)
        found = self.layer(x, x, x) if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x)
        return found[0] if isinstance(found, tuple) else found


class Attending(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


@pytest.mark.parametrize(
    ("layer", "flops"),
    [
        (Attending(), 2 * 256 * 256 * 8),
        (nn.MultiheadAttention(8, 2, batch_first=True), 4 * 256 * 8 * 8 + 2 * 256 * 256 * 8),
        (
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
            4 * 256 * 8 * 8 + 2 * 256 * 256 * 8 + 2 * 256 * 8 * 16,
        ),
        (nn.LSTM(8, 16, batch_first=True), 256 * 4 * 16 * (8 + 16)),
        (nn.GRU(8, 16, batch_first=True), 256 * 3 * 16 * (8 + 16)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_attention_and_recurrent_layers_by_hand(layer: nn.Module, flops: int) -> None:
    """Projections, scores and sums over 256 tokens of 8: nothing hides in a fused kernel. Afterwards torch
    runs such layers as before."""
    before = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    assert count((Sequence(layer), forward), (8, 16, 16)).flops == flops
    assert (torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled) == before


class Counting:
    """Builds embedded subnets and counts how many."""

    def __init__(self) -> None:
        self.n, self.source = 0, networks.get()

    def __call__(self, arch: str) -> Built:
        self.n += 1
        return self.source.build(arch).module, plain_forward


def test_sums_over_layers_are_exact_in_the_embedded_space() -> None:
    """From 57 or fewer builds, the cost of random architectures equals what counting each gives; and none is
    built again for it."""
    build = Counting()
    costs = Costs(SPACE, build, (1, 64, 64))
    assert costs.additive is not None
    assert build.n <= 1 + 8 * 3 + 32
    n_before = build.n
    found = {arch: costs.of(arch) for arch in SPACE.random(20, 5)}
    assert build.n == n_before
    assert all(count(build(arch), (1, 64, 64)) == cost for arch, cost in found.items())


def widths(arch: str) -> Built:
    """Two layers whose widths depend on each other: the second costs width x width."""
    a, b = map(int, arch.split("-"))
    return nn.Sequential(nn.Flatten(), nn.Linear(4, a, bias=False), nn.Linear(a, b, bias=False)), forward


def test_costs_that_do_not_add_up_are_counted_one_by_one() -> None:
    """Widths that multiply are noticed, and each architecture is then counted itself, once."""
    built: list[str] = []

    def build(arch: str) -> Built:
        built.append(arch)
        return widths(arch)

    space = Space((("2", "4", "8"),) * 2)
    costs = Costs(space, build, (4, 1, 1))
    assert costs.additive is None
    for arch in map(space.encode, space.every()):
        a, b = map(int, arch.split("-"))
        assert costs.of(arch) == costs.of(arch) == Cost(4 * a + a * b, 4 * a + a * b)
    assert len(built) == len(set(built)) == 9


def test_a_rare_combination_is_found_when_it_is_confirmed() -> None:
    """Of 4,096 architectures one costs more than its sum: nobody meets it at random, and asked of it
    by itself the sums are given up."""

    def build(arch: str) -> Built:
        layers = [nn.Linear(4, 4, bias=digit == "1") for digit in arch]
        if arch == "1" * 12:
            layers.append(nn.Linear(4, 4))
        return nn.Sequential(nn.Flatten(), *layers), forward

    space = Space((("0", "1"),) * 12, separator="")
    costs = Costs(space, build, (4, 1, 1))
    assert costs.confirm(["0" * 12, "01" * 6])
    assert costs.additive is not None
    assert costs.of("1" * 12).flops == 12 * 16
    assert not costs.confirm(["1" * 12])
    assert costs.additive is None
    assert costs.of("1" * 12).flops == 13 * 16
    assert costs.confirm(["1" * 12])


def test_forbidden_choices_are_counted_when_asked_for() -> None:
    """An architecture outside the space's allowed choices still has its own cost."""
    costs = Costs(SPACE.without(["*:3"]), Counting(), (1, 64, 64))
    full = count((networks.get().build("arch3").module, forward), (1, 64, 64))
    assert costs.of("arch3") == full


def test_the_module_counted_keeps_its_weights() -> None:
    """Counting runs in eval mode: running statistics stay what they were."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count((network, forward), (1, 4, 4))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("place", ["cpu", "meta"])
def test_a_network_is_counted_where_it_lies(place: str) -> None:
    """Also on a device without memory."""
    assert count((nn.Conv2d(1, 2, 1, bias=False).to(place), forward), (1, 4, 4)) == Cost(32, 2)
