"""Many subnets judged: one by one, along shared beginnings, in a race; and what judges without images cost.

    python experiments/bench/search.py steps        (a step of FairNAS alone)
    python experiments/bench/search.py [subnets] [of them one by one] [groups measured, by default all]

Random subnets of the embedded supernet, pooled statistics of 128 images in batches of 32, 2,048 images
evaluated. One by one is what a sweep does with a pass (Workplace.run, the update metric included) without
writing its rows; every k-th subnet of the sorted list is measured that way, and compared figure by figure.
Portions of both are taken in turn, so that a drifting machine treats both alike. Then the best 10 are raced.
One thread throughout; prints seconds a subnet, ratios and where the time goes.
"""

import copy
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from bnrecal import networks, tasks
from bnrecal.executors.executor import Job
from bnrecal.executors.workplace import Workplace
from bnrecal.measure.measured import Measured
from bnrecal.measure.prefixes import Node, chain_of, grouped, n_nodes, tree_of
from bnrecal.measure.together import growing_evidence, measure_group
from bnrecal.metrics.resampling import draw, resampled
from bnrecal.networks.embedded import SPACE
from bnrecal.networks.forward import plain_forward
from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import Opened
from bnrecal.search import judges, knapsack
from bnrecal.search.cost import Costs
from bnrecal.search.racing import race
from bnrecal.study.cells import Cell, Pass
from bnrecal.study.inputs import make_inputs
from bnrecal.study.recipe import Recipe
from bnrecal.study.study import Study, make_study
from bnrecal.train.epochs import Batches
from bnrecal.train.objective import objective_of
from bnrecal.train.paths import paths
from bnrecal.train.step import Learning

K, SIZES = 10, (256, 512, 1024, 2048)
CPU = torch.device("cpu")


def study_of(n: int) -> Study:
    archs = networks.get().random(n, 0)
    return make_study(
        {"arch": archs, "bs": [32], "samples": [128], "estimator": ["pooled"], "baseline": False}
    )


def sharing(
    cells: Sequence[Cell], study: Study, n_plain: int, n_groups: int | None
) -> tuple[dict[str, Measured], float]:
    """(figures of all by shared beginnings, seconds of one subnet by itself)."""
    task = tasks.of(study)
    source = networks.of(study, task)
    place = Workplace(Job(study, "cpu"))
    groups, _ = grouped(cells, source)
    n_all = len(groups)
    groups = groups[:: max(1, n_all // n_groups)][:n_groups] if n_groups else groups
    every = max(1, len(cells) // n_plain)
    shared: dict[str, Measured] = {}
    shared_s = plain_s = 0.0
    largest, n_done = 0.0, 0
    parts: dict[str, list[float]] = {"calibrating": [], "predicting and scoring": []}
    for group in groups:
        started = time.perf_counter()
        for cell, outcome in measure_group(group, task, source, CPU, lambda _: None):
            assert isinstance(outcome, Measured), outcome
            shared[cell.arch] = outcome
            parts["calibrating"].append(outcome.recal_s)
            parts["predicting and scoring"].append(outcome.eval_s)
        shared_s += time.perf_counter() - started
        started = time.perf_counter()
        for cell in group[::every]:
            (alone,) = place.run(Pass((cell,)), lambda *_: None)
            found = alone.figures["eval"]
            assert found is not None
            largest = max(largest, abs(found - shared[cell.arch].eval))
            n_done += 1
        plain_s += time.perf_counter() - started
    one, together = plain_s / n_done, shared_s / len(shared)
    chains = [[chain_of(source, c.arch) or () for c in group] for group in groups]
    nodes = sum(n_nodes(tree_of(of)) for of in chains)
    print(f"{len(cells):,} subnets; {len(groups)} of {n_all} groups measured, {n_done} subnets one by one")
    print(f"  one by one            {one:.4f} s a subnet")
    print(f"  shared beginnings     {together:.4f} s a subnet, {one / together:.2f} times faster")
    print(f"  largest difference    {largest:g} mAP@0.5")
    print(f"  links computed        {nodes:,} of {sum(map(len, (c for of in chains for c in of))):,}")
    image = torch.zeros(1, *task.input_shape)
    work = [flops_of(root, image) for of in chains for root in tree_of(of)]
    once, all_of = (sum(column) for column in zip(*work, strict=True))
    print(f"  their FLOPs           {once / all_of:.3f} of all, {all_of / once:.2f} times fewer")
    for name, seconds in parts.items():
        print(f"  of it {name:23}{statistics.mean(seconds):.4f} s")
    return shared, one


def flops_of(node: Node, x: torch.Tensor) -> tuple[int, int]:
    """(FLOPs of this subtree's links, each once; the same times the subnets that run through each)."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        y = copy.deepcopy(node.link).eval()(x)
    once = counter.get_total_flops()
    below = [flops_of(child, y) for child in node.below.values()]
    return once + sum(b[0] for b in below), once * len(node.members) + sum(b[1] for b in below)


def racing(cells: Sequence[Cell], study: Study, figures: dict[str, Measured], one: float) -> None:
    """The best 10 by racing, beside the best 10 of all figures."""
    task = tasks.of(study)
    source = networks.of(study, task)
    started = time.perf_counter()
    evaluate = growing_evidence(cells, task, source, CPU)
    found = race([cell.arch for cell in cells], K, SIZES, evaluate)
    taken = (time.perf_counter() - started) / len(cells)
    print(f"race for the best {K}: {taken:.4f} s a subnet, {one / taken:.2f} times faster than one by one")
    for look in found.looks:
        kept_n, gone = len(look.kept), len(look.dropped)
        print(
            f"  {look.n_images:>5} images: {gone} dropped, {kept_n} kept, beyond {look.critical:.2f} errors"
        )
    if len(figures) == len(cells):
        least = sorted((r.eval for r in figures.values()), reverse=True)[K - 1]
        kept = sum(figures[arch].eval >= least for arch, _ in found.best)
        print(f"  {kept} of the best {K} by all images are among them")
    print(f"  {found.says(task.n_evaluation)}")
    if len(figures) == len(cells):
        last = next(look.critical for look in reversed(found.looks) if math.isfinite(look.critical))
        for errors in (1.645, last):
            share = least_share([figures[cell.arch] for cell in cells], errors)
            print(f"  who knew all, {errors:.2f} errors apart: at least {share:.0%} of the evaluations")


def least_share(figures: Sequence[Measured], critical: float) -> float:
    """The share of evaluations that a race must make which knows everybody's whole evidence beforehand.

    It looks after every image, from the first size on, and an architecture goes as soon as its gap to the
    K-th best is `critical` standard errors of the paired difference, times sqrt(1 - n / N) as in racing.py.
    """
    n_all = SIZES[-1]
    weights = draw(n_all, 200)
    samples = np.array([resampled(one.evidence, weights) for one in figures])
    values = samples.mean(1)
    kth = np.argsort(-values)[K - 1]
    gap = values[kth] - values
    error = (samples[kth] - samples).std(1) * math.sqrt(n_all)  # of one image
    # gap = critical x error / sqrt(n) x sqrt(1 - n / N), solved for n
    enough = 1 / (1 / n_all + (gap / np.maximum(critical * error, 1e-12)) ** 2)
    return float(np.clip(np.where(gap > 0, enough, n_all), SIZES[0], n_all).mean() / n_all)


def without_images() -> None:
    """The BN indicator of 1,000 subnets, costs, and the exact optimum of the embedded space."""
    source = networks.get()
    started = time.perf_counter()
    scores = judges.bn_scores(SPACE, source.candidate)
    found = [judges.total(scores, SPACE.decode(arch)) for arch in SPACE.random(1000, 0)]
    print(f"BN indicator of {len(found):,} subnets: {time.perf_counter() - started:.3f} s, weights read")
    started = time.perf_counter()
    costs = Costs(SPACE, lambda arch: (source.build(arch).module, plain_forward), (1, 64, 64))
    assert costs.additive is not None
    print(f"costs of {SPACE.size:,} architectures, added up: {time.perf_counter() - started:.3f} s")
    flops = [{c: (cost.flops,) for c, cost in part.items()} for part in costs.additive.parts]
    bound = sorted(sum(part[c][0] for part, c in zip(flops, path, strict=True)) for path in SPACE.every())
    started = time.perf_counter()
    best = knapsack.best(scores, flops, [bound[len(bound) // 2]])
    print(f"exact optimum below the median FLOPs: {time.perf_counter() - started:.3f} s")
    started = time.perf_counter()
    same = knapsack.by_trying_all(scores, flops, [bound[len(bound) // 2]])
    print(f"the same by trying all: {time.perf_counter() - started:.3f} s, equal: {same == best}")


def training_steps(rounds: int = 40) -> None:
    """A strictly fair step (FairNAS) beside steps by one uniform path (SPOS), taken in turn, batch 64."""
    task = tasks.of(make_inputs({}))
    source = networks.of(make_inputs({}), task)
    learning, batches = {}, {}
    for sampling in ("uniform", "fair"):
        recipe = Recipe(sampling=sampling, bn_momentum=0.0, lr=0.001)
        learner = source.learner(None, 0)
        objective = objective_of(task, learner.head, recipe, CPU)
        of = Batches.of(task, recipe, CPU)
        learning[sampling] = Learning.of(learner, recipe, objective, CPU, of.steps)
        batches[sampling] = of.epoch(0)
    seconds: dict[str, list[float]] = {"uniform": [], "fair": []}
    choices = learning["fair"].choices
    assert choices is not None
    m = choices.sizes[0]
    drawn = {name: paths(name, 0, 0, rounds * m, choices.sizes).tolist() for name in learning}
    for at in range(rounds):
        for name, n in (("uniform", m), ("fair", 1)):  # as many paths of each
            for k in range(n):
                images, places = next(batches[name])
                started = time.perf_counter()
                learning[name].step(images, places, drawn[name][at * m + k], 0.001, 0.0)
                seconds[name].append(time.perf_counter() - started)
    uniform = [statistics.mean(seconds["uniform"][at * m : (at + 1) * m]) for at in range(rounds)]
    ratios = sorted(fair / one for fair, one in zip(seconds["fair"], uniform, strict=True))
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    print(
        f"a fair step is {statistics.median(ratios):.2f} steps by one path (quartiles {low:.2f} to "
        f"{high:.2f}; limit {m}): {statistics.median(seconds['fair']):.3f} s"
    )


def main(n: int = 1000, n_plain: int = 50, n_groups: int | None = None) -> None:
    torch.set_num_threads(1)
    without_images()
    training_steps()
    study = study_of(n)
    cells = cells_of(Opened.of(study))
    figures, one = sharing(cells, study, n_plain, n_groups)
    racing(cells, study, figures, one)


if __name__ == "__main__":
    if sys.argv[1:] == ["steps"]:
        torch.set_num_threads(1)
        training_steps()
    else:
        main(*map(int, sys.argv[1:]))
