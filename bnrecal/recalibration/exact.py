"""`exact`: statistics of what each layer sees in evaluation, whatever the batch size.

In a train-mode pass every layer but the first sees inputs that the layers before it normalised batch
by batch, so its statistics depend on how the images were split. Here the images are walked again and
again in evaluation mode, each pass pooling what the layers see under the statistics of the pass
before. After pass k the first k layers can change no more; the first pass starts from pooled
train-mode statistics, which are close, so far fewer passes than layers are needed in practice.
"""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from bnrecal.errors import BnrecalError
from bnrecal.recalibration.batches import Forward, exactly
from bnrecal.recalibration.estimators import Pooled
from bnrecal.recalibration.layers import find_layers
from bnrecal.recalibration.merge import walked
from bnrecal.recalibration.scope import copies, put_back
from bnrecal.recalibration.statistics import Statistics
from bnrecal.recalibration.walk import Walk

TOLERANCE = 1e-6  # largest change of a last pass: of a mean in standard deviations, of a variance relative


def exact_statistics(
    model: nn.Module,
    batches: Iterable[Any],
    n_samples: int | None,
    forward: Forward,
    on_batch: Callable[[int], None] = lambda n: None,
) -> tuple[Statistics, int]:
    """(statistics, passes over the images); the model is as before afterwards.

    `batches` is iterated once per pass and must give the same images each time. Raises BnrecalError
    for an iterator, which can be read only once.
    """
    if iter(batches) is batches:
        raise BnrecalError(
            "batches: exact reads the images several times and an iterator can be read once; give a "
            "list, a DataLoader without shuffling, or another iterable that starts anew"
        )
    layers, _ = find_layers(model)
    before = copies(layers)

    def one_pass(by_batch: bool) -> Statistics:
        with Walk(model, Pooled(), forward, by_batch=by_batch) as walk:

            def steps() -> None:
                for n, batch in exactly(batches, n_samples):
                    walk.step(batch)
                    on_batch(n)

            return walked(walk, steps)

    try:
        known = one_pass(by_batch=True)
        n_passes = 1
        while n_passes < len(layers) + 2:  # by then every layer is final
            known.write_to(model)
            last, known = known, one_pass(by_batch=False)
            n_passes += 1
            if _largest_change(last, known) <= TOLERANCE:
                break
        return known, n_passes
    finally:
        put_back(layers, before)


def _largest_change(a: Statistics, b: Statistics) -> float:
    deviation = b.var.clamp(min=1e-12).sqrt()
    mean = ((a.mean - b.mean).abs() / deviation).max()
    var = ((a.var - b.var).abs() / b.var.clamp(min=1e-12)).max()
    return float(mean.maximum(var))
