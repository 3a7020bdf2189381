"""Whether a network says that its images were scaled otherwise in training, and the metric bears it out."""

import math
from collections.abc import Callable

import torch

from bnrecal.data.image_cache import BadImageError
from bnrecal.data.prepared import Prepared
from bnrecal.measure.images import CalibrationBatches, ForwardSize, evaluation_parts
from bnrecal.measure.preparation import fit_of, n_looked_at, normalisation_of, towards
from bnrecal.metrics.resampling import Evidence, draw, n_images, resampled
from bnrecal.networks.network import Network
from bnrecal.recalibration.input_fit import prepared_as
from bnrecal.report.analysis.uncertainty import FEWEST_IMAGES, Interval, percentile_interval
from bnrecal.tasks.task import Int64s, Task

SEED = 0  # of the images looked at where a cell has no order of its own


def prepared_otherwise(
    task: Task,
    network: Network,
    device: torch.device,
    ids: Int64s,
    as_they_are: Callable[[], tuple[float, Evidence]],
    size: ForwardSize | None = None,
) -> Prepared | None:
    """Another normalisation that the network's statistics fit far better, by the first of these images.

    None also where the metric, given as it is with the images as they are, falls by it beyond noise, and
    where one of these images cannot be read: a cell that needs it says so, one that does not stands.
    """
    try:
        some = list(CalibrationBatches(task, device, ids[: n_looked_at(*task.input_shape[1:])], 64))
    except BadImageError:
        return None
    better = fit_of(network.module, some, network.forward, normalisation_of(task)).better
    if better is None:
        return None
    now, evidence = as_they_are()
    changed = prepared_as(network.module, towards(better, task.input_shape[0]))
    parts = evaluation_parts(task, changed, network, device, size)
    interval = change(evidence, task.evidence(parts))
    then = task.score_evaluation(parts)
    falls = interval is not None and interval[1] < 0
    return None if falls or not (math.isfinite(now) and math.isfinite(then)) else Prepared(better, now, then)


def change(before: Evidence, after: Evidence) -> Interval | None:
    """The paired interval of the change over resamples of the evaluation images; None for too few."""
    if n_images(before) < FEWEST_IMAGES:
        return None
    weights = draw(n_images(before))
    return percentile_interval(resampled(after, weights) - resampled(before, weights))
