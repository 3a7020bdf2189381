"""`exact`: statistics of what each layer sees in evaluation, whatever the batch size.

In a train-mode pass every layer but the first sees inputs that the layers before it normalised batch
by batch, so its statistics depend on how the images were split. Here the images are walked again and
again in evaluation mode, each pass pooling what the layers see under the statistics of the pass
before. After pass k the first k layers can change no more, so it takes about as many passes as there
are BatchNorms; it ends when a pass changes nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from bnrecal.errors import BnrecalError
from bnrecal.recalibration.batches import Forward, exactly
from bnrecal.recalibration.estimators import Pooled
from bnrecal.recalibration.frozen import Frozen
from bnrecal.recalibration.layers import find_layers
from bnrecal.recalibration.merge import together, walked
from bnrecal.recalibration.scope import copies, put_back
from bnrecal.recalibration.statistics import Statistics
from bnrecal.recalibration.walk import Walk

SETTLED = 1e-6  # largest change of a last pass: of a mean in standard deviations, of a variance relative
_SETTLED = 1e-4  # enough for layers called several times, which approach their values but never reach them
_OTHER_IMAGES = 1e-3  # the first layer called sees the images themselves, the same in every pass
_PASSES_SHARED = 50


def exact_statistics(
    model: nn.Module,
    batches: Iterable[Any],
    n_samples: int | None,
    forward: Forward,
    on_batch: Callable[[int], None] = lambda n: None,
    frozen: Frozen = "auto",
) -> tuple[Statistics, int]:
    """(statistics, passes over the images); the model is as before afterwards.

    `batches` is iterated once per pass and must give the same images each time. Raises BnrecalError
    for an iterator, which can be read only once, for images that change from pass to pass, and if a
    layer that is called several times in a forward does not settle.
    """
    check_rereadable(batches)
    layers, _ = find_layers(model, frozen)
    before = copies(layers)

    def one_pass(by_batch: bool) -> tuple[Statistics, int, str]:
        """Statistics, BatchNorm calls in a batch and the first layer called, alike in all processes."""
        with Walk(model, Pooled(), forward, by_batch=by_batch, frozen=frozen) as walk:

            def steps() -> None:
                for n, batch in exactly(batches, n_samples):
                    walk.step(batch)
                    on_batch(n)

            found = walked(walk, steps)
            facts = together(lambda: (walk.most_calls, walk.first_called))  # an empty shard knows neither
        return found, max(calls for calls, _ in facts), next(name for _, name in facts if name is not None)

    try:
        known, n_calls, _ = one_pass(by_batch=True)
        shared = n_calls > len(known.layers)
        most_passes = _PASSES_SHARED if shared else len(known.layers) + 2  # by then each layer is final
        used = known
        for n_passes in range(2, most_passes + 1):
            used.write_to(model)
            known, _, first_called = one_pass(by_batch=False)
            change = _changes(used, known)
            if not shared and change[first_called] > _OTHER_IMAGES:
                raise BnrecalError("batches: exact reads the images several times and got others each time")
            if max(change.values()) <= SETTLED:
                return known, n_passes
            used = _between(used, known) if shared else known
        if shared and max(change.values()) > _SETTLED:
            raise BnrecalError(f"exact: layers called several times did not settle in {most_passes} passes")
        return known, most_passes
    finally:
        put_back(layers, before)


def check_rereadable(batches: Iterable[Any]) -> None:
    """Refuse an iterator: it can be read once."""
    if iter(batches) is batches:
        raise BnrecalError(
            "batches: exact reads the images several times and an iterator can be read once; give a "
            "list, a DataLoader without shuffling, or another iterable that starts anew"
        )


def _between(a: Statistics, b: Statistics) -> Statistics:
    """Half-way: a shared layer's statistics answer to themselves, and full steps may go back and forth."""
    if a.layers != b.layers:
        return b
    return replace(b, mean=(a.mean + b.mean) / 2, var=(a.var + b.var) / 2)


def _changes(a: Statistics, b: Statistics) -> dict[str, float]:
    """The largest change of each layer of `b` since `a`."""
    old = a.by_name()
    found = {}
    for name, (mean, var) in b.by_name().items():
        if name not in old:
            raise BnrecalError(f"exact: {name} is called in one pass over the images and not in another")
        floor = var.clamp(min=1e-12)
        by_mean = (mean - old[name][0]).abs() / floor.sqrt()
        by_var = (var - old[name][1]).abs() / floor
        found[name] = float(by_mean.max().maximum(by_var.max()))
    return found
