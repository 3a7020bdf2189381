"""bnrecal.recalibrate beside a bare train-mode forward, torch's update_bn and fvcore's precise BN.

    python experiments/bench/recalibrate.py [rounds]

All take the same in-memory, channels-last batches through the same model without gradients. Each
round runs every contestant once, in turn and in changing order; ratios are taken within a round, so
that a machine that slows down slows down both. Prints the median ratio over the rounds.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torchvision
from fvcore.nn.precise_bn import update_bn_stats
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

import bnrecal
from bnrecal import networks

N_IMAGES = {8: 512, 64: 1024}  # by batch size: enough to time, little enough for many rounds


def bare_forward(model: nn.Module, batches: list[Tensor]) -> None:
    model.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)


def ours(estimator: str) -> Callable[[nn.Module, list[Tensor]], None]:
    return lambda model, batches: void(bnrecal.recalibrate(model, batches, estimator=estimator))


def void(_: object) -> None:
    pass


CONTESTANTS: dict[str, Callable[[nn.Module, list[Tensor]], None]] = {
    "bare forward": bare_forward,
    "ema": ours("ema"),
    "cumulative": ours("cumulative"),
    "pooled": ours("pooled"),
    "torch update_bn": lambda model, batches: update_bn(batches, model.train()),
    "fvcore": lambda model, batches: update_bn_stats(model.train(), batches, len(batches)),
}


def seconds(run: Callable[[nn.Module, list[Tensor]], None], model: nn.Module, batches: list[Tensor]) -> float:
    started = time.perf_counter()
    run(model, batches)
    return time.perf_counter() - started


def compare(model: nn.Module, batches: list[Tensor], rounds: int) -> dict[str, float]:
    """Median over the rounds of each contestant's time by that of the bare forward."""
    models = {name: copy.deepcopy(model) for name in CONTESTANTS}
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    names = list(CONTESTANTS)
    for k in range(rounds + 1):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            taken = seconds(CONTESTANTS[name], models[name], batches)
            if k:  # the first round warms up
                times[name].append(taken)
    base = times["bare forward"]
    return {name: statistics.median(t / b for t, b in zip(times[name], base, strict=True)) for name in names}


def main(rounds: int) -> None:
    torch.manual_seed(0)
    contenders = {"resnet18": (torchvision.models.resnet18(weights=None), 3)}
    for arch in ("arch1", "arch2", "arch3"):
        contenders[arch] = (networks.get().build(arch).module, 1)
    print(f"time by that of a bare train-mode forward, {rounds} rounds, {torch.get_num_threads()} threads")
    print(f"{'':16}" + "".join(f"{name:>17}" for name in CONTESTANTS))
    for name, (model, channels) in contenders.items():
        model = model.to(memory_format=torch.channels_last)
        for batch_size, n in N_IMAGES.items():
            x = torch.randn(n, channels, 64, 64).to(memory_format=torch.channels_last)
            ratios = compare(model, list(x.split(batch_size)), rounds)
            print(
                f"{name:10} bs {batch_size:<3}" + "".join(f"{r:>17.3f}" for r in ratios.values()), flush=True
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 11)
