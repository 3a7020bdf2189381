"""A training step under each norm beside one under BatchNorm, on a small residual network.

    python experiments/bench/norms.py [rounds] [threads]

Forward, cross-entropy, backward and a step of SGD on 32 x 32 images held in memory, in both memory
formats (the repository trains in channels-last). Each round runs every norm once, in turn and in changing
order; ratios are taken within a round, so that a machine that slows down slows down all. Prints the
median ratio over the rounds; BatchNorm's own row is its milliseconds.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnrecal.norms import convert

WIDTHS = (16, 32, 64)
GROUPS = 8


class Block(nn.Module):
    """Two convolutions with BatchNorm and a way around them."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        stride = 1 if n_in == n_out else 2
        self.conv1, self.norm1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out)
        self.conv2, self.norm2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out)
        self.around: nn.Module = nn.Identity()
        if stride == 2:
            self.around = nn.Sequential(nn.Conv2d(n_in, n_out, 1, 2, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)), inplace=True)))
        return F.relu(inner + self.around(x), inplace=True)


def residual_net() -> nn.Sequential:
    """A ResNet-14 for 32 x 32 images: 16, 32 and 64 channels, two blocks of each."""
    first = nn.Sequential(
        nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()
    )
    pairs = [(WIDTHS[max(0, k - 1)], width) for k, width in enumerate(WIDTHS)]
    blocks = [block for n_in, n in pairs for block in (Block(n_in, n), Block(n, n))]
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 10))


def _torch_group_norm(model: nn.Module) -> nn.Module:
    """torch's own GroupNorm in the place of every BatchNorm."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(GROUPS, child.num_features))
    return model


CONTESTANTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "bn": lambda m: convert(m, "bn"),
    "bn, norm batch 2": lambda m: convert(m, "bn", norm_batch=2),
    "bn, norm batch 8": lambda m: convert(m, "bn", norm_batch=8),
    "brn": lambda m: convert(m, "brn", rmax=3.0, dmax=5.0),
    "brn, norm batch 8": lambda m: convert(m, "brn", rmax=3.0, dmax=5.0, norm_batch=8),
    "cbn, window 4": lambda m: convert(m, "cbn", window=4),
    "cbn, norm batch 8": lambda m: convert(m, "cbn", window=4, norm_batch=8),
    "naive-cbn, window 4": lambda m: convert(m, "naive-cbn", window=4),
    "gn": lambda m: convert(m, "gn", groups=GROUPS),
    "gn of torch": _torch_group_norm,
    "ln": lambda m: convert(m, "ln"),
    "in": lambda m: convert(m, "in"),
}

LIMITS = {
    **dict.fromkeys(("bn, norm batch 2", "bn, norm batch 8"), 1.6),
    "brn": 1.5,
    **dict.fromkeys(("cbn, window 4", "cbn, norm batch 8"), 2.5),
}


def step_ms(model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, labels: Tensor) -> float:
    started = time.perf_counter()
    optimiser.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    optimiser.step()
    return (time.perf_counter() - started) * 1000


def compare(batch_size: int, memory: torch.memory_format, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each contestant's step in each round."""
    torch.manual_seed(0)
    start = residual_net()
    models = {name: make(start).to(memory_format=memory).train() for name, make in CONTESTANTS.items()}  # type: ignore[call-overload]
    optimisers = {name: torch.optim.SGD(model.parameters(), 1e-3) for name, model in models.items()}
    x = torch.randn(batch_size, 3, 32, 32).to(memory_format=memory)
    labels = torch.randint(10, (batch_size,))
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    names = list(CONTESTANTS)
    for k in range(-4, rounds):  # four to warm up, and to fill CBN's window
        for name in names[k % len(names) :] + names[: k % len(names)]:
            taken = step_ms(models[name], optimisers[name], x, labels)
            if k >= 0:
                times[name].append(taken)
    return times


def main(rounds: int, threads: int) -> None:
    torch.set_num_threads(threads)
    columns = [(n, f) for f in (torch.channels_last, torch.contiguous_format) for n in (32, 64)]
    found = [compare(n, memory, rounds) for n, memory in columns]
    print(f"training step by BatchNorm's, {rounds} rounds, {torch.get_num_threads()} threads")
    print(f"{'':22}" + "".join(f"{str(f).split('.')[-1].split('_')[0]:>10} {n:>3}" for n, f in columns))
    for name in CONTESTANTS:
        cells = []
        for times in found:
            base = times["bn"]
            ratio = statistics.median(t / b for t, b in zip(times[name], base, strict=True))
            cells.append(f"{statistics.median(base):11.1f} ms" if name == "bn" else f"{ratio:14.2f}")
        limit = f"   at most {LIMITS[name]}" if name in LIMITS else ""
        print(f"{name:22}" + "".join(cells) + limit, flush=True)


if __name__ == "__main__":
    arguments = [int(text) for text in sys.argv[1:]]
    main(*arguments, *(15, 1)[len(arguments) :])
