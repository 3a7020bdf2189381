"""What is observed of a model, each thing once and only when a check asks for it.

Nothing is done to the model itself: all looks are at copies, since eval() may be overridden and a
BatchNorm that stays in train mode would write into its buffers. What cannot be observed raises
BnrecalError, and the checks that need it are skipped with that reason.
"""

import copy
import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from bnrecal.data.normalisations import MeanStd
from bnrecal.data.prepared import Better
from bnrecal.doctor.chance import Scored, differ
from bnrecal.doctor.copies import WALK_SIZE, Fresh, by_batch, on_cpu, re_estimated, with_statistics
from bnrecal.doctor.outputs import NotByImageError, Outputs
from bnrecal.doctor.recut import Reading, check_rereadable, compare_readings, recut, taken
from bnrecal.doctor.seen import Seen, named, seen_of
from bnrecal.doctor.sizes import Sizes
from bnrecal.errors import BnrecalError
from bnrecal.measure.preparation import N_IMAGES, Fit, fit_of, images_of, n_looked_at, towards
from bnrecal.recalibration.batches import Forward, count_images
from bnrecal.recalibration.frozen import Frozen, frozen_layers
from bnrecal.recalibration.input_fit import prepared_as
from bnrecal.recalibration.layers import inner_of
from bnrecal.recalibration.shift import Pair, Shift, shift_of, stored, worst_first

Evaluate = Callable[[nn.Module, Iterable[Any]], float]

MOST_SCORED = 513  # images of the metric: 8 x 64 and one more, so that the last batch is short
N_COMPARED = 64  # images whose outputs are compared


class Patient:
    """A model with images; see the module's docstring. Attributes raise BnrecalError where they cannot be."""

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Any],
        evaluation: Iterable[Any] | None,
        evaluate: Evaluate | None,
        forward: Forward,
        n_samples: int,
        frozen: Frozen = "auto",
        normalisation: MeanStd | None = None,
        frozen_rule: Frozen | None = None,  # that named `frozen`, where it says names; None: itself
    ) -> None:
        self.normalisation = normalisation
        self.forward, self._batches, self._evaluation = forward, batches, evaluation
        self._evaluate, self.n_samples = evaluate, n_samples
        self.half = False  # whether outputs were found to be in half precision
        model = inner_of(model)
        self.frozen = frozen_layers(model, frozen)
        self.frozen_rule = frozen if frozen_rule is None else frozen_rule
        self.trained_before = {name: module.training for name, module in model.named_modules()}
        try:
            self.model = copy.deepcopy(model)
            self.in_evaluation = copy.deepcopy(model).eval()
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise BnrecalError(f"the model cannot be copied, which a diagnosis needs: {what}") from error
        self.norms = {n: m for n, m in self.in_evaluation.named_modules() if isinstance(m, _BatchNorm)}
        self.stored = stored(model)
        self.kept = taken(batches, n_samples)
        if not self.kept:
            raise BnrecalError("batches: empty; at least one batch of images is needed")
        self.n_images = sum(map(count_images, self.kept))
        self.batch_size = max(map(count_images, self.kept))

    @property
    def live(self) -> dict[str, _BatchNorm]:
        """The BatchNorms that keep statistics."""
        return {name: self.norms[name] for name in self.stored}

    @property
    def has_metric(self) -> bool:
        return self._evaluate is not None

    @functools.cached_property
    def reading(self) -> Reading:
        check_rereadable(self._batches)
        return compare_readings(self.kept, self._batches)

    @functools.cached_property
    def seen(self) -> Seen:
        """One forward of the first batch as the model evaluates."""
        return seen_of(self.in_evaluation, self.kept[0], self.forward)

    @functools.cached_property
    def runs(self) -> bool:
        """Whether a forward in evaluation mode ends."""
        try:
            return bool(self.seen)
        except BnrecalError:
            return False

    @functools.cached_property
    def fit(self) -> Fit:
        """How the images fit the first BatchNorms' statistics, and how they would fit better."""
        assert self.seen
        images = images_of(self.kept[:1])
        n = N_IMAGES if images is None else n_looked_at(*images.shape[2:])
        return fit_of(self.in_evaluation, taken(self.kept, n), self.forward, self.normalisation)

    @functools.cached_property
    def better_prepared(self) -> Better | None:
        """Another normalisation that fits far better; None also where the metric is worse with it."""
        try:
            found, images = self.fit.better, images_of(self.kept[:1])
        except BnrecalError:
            return None
        if found is None or images is None or self.metric_prepared is None:
            return found
        now, then = self.metric_stored, self.metric_prepared
        return None if then < now and differ(now, then, self.n_in_whole_batches) else found

    @functools.cached_property
    def metric_prepared(self) -> float | None:
        """The metric with the stored statistics and the images prepared so; None without one."""
        images, found = images_of(self.kept[:1]), self.fit.better
        if not self.has_metric or images is None or found is None or self.is_random:
            return None
        try:
            return self.metric_of(prepared_as(self.in_evaluation, towards(found, images.shape[1])))
        except BnrecalError:
            return None

    @functools.cached_property
    def repeated(self) -> Outputs:
        """The first batch once more, as in `seen`."""
        return Outputs.of(self._evaluating(), [self.kept[0]], self.forward)

    @functools.cached_property
    def repeated_gap(self) -> float:
        """Distance between the outputs of the first batch, run twice."""
        first = Outputs.gathered([(count_images(self.kept[0]), self.seen.output)])
        return first.distance(self.repeated)

    @property
    def active_dropout(self) -> list[str]:
        """Dropout that stays active after eval()."""
        modules = self.in_evaluation.named_modules()
        return [n for n, m in modules if isinstance(m, _DropoutNd) and m.training and m.p > 0]

    @property
    def is_random(self) -> bool:
        """Whether the same images are known to give different outputs."""
        try:
            return bool(self.active_dropout) or self.repeated_gap > self.repeated.rounding
        except NotByImageError:
            return False

    @functools.cached_property
    def fresh(self) -> Fresh:
        return self._re_estimated(self.kept)

    @functools.cached_property
    def as_recalibrated(self) -> Fresh:
        """The same where frozen layers keep what they have, as `recalibrate` leaves them."""
        return self._re_estimated(self.kept, self.frozen) if self.frozen else self.fresh

    @functools.cached_property
    def evaluation(self) -> list[Any] | None:
        """The first evaluation images, read once; None if none were given."""
        if self._evaluation is None:
            return None
        kept = taken(self._evaluation, self.n_samples)
        if not kept:
            raise BnrecalError("evaluation: empty; at least one batch of images is needed")
        return kept

    @functools.cached_property
    def elsewhere(self) -> Fresh | None:
        """Statistics re-estimated from the evaluation images; None if there are no others."""
        return None if self.evaluation is None else self._re_estimated(self.evaluation)

    @functools.cached_property
    def shifts(self) -> list[Shift]:
        """From the stored statistics to the fresh ones, the largest first."""
        return self.compared(self.stored, self.fresh)

    def compared(self, old: dict[str, Pair], new: Fresh) -> list[Shift]:
        fresh = on_cpu(new.statistics)
        known = [name for name in fresh if name in old]
        return worst_first(shift_of(n, old[n], fresh[n], self.norms[n].eps) for n in known)

    @functools.cached_property
    def compared_sizes(self) -> Sizes:
        """Calibration images and batch sizes at which outputs are compared."""
        return Sizes.of(min(N_COMPARED, self.n_images), "calibration", whole=True)

    @functools.cached_property
    def gap_between_sizes(self) -> tuple[float, float]:
        """(largest distance between the outputs at `compared_sizes`, what arithmetic explains)."""
        found = []
        for size in self.compared_sizes.sizes:
            images = recut(taken(self.kept, self.compared_sizes.n_images), size)
            with named(f"in batches of {size}"):
                found.append(Outputs.of(self._evaluating(), images, self.forward))
        self.half = found[-1].half
        return max(found[-1].distance(other) for other in found[:-1]), found[-1].rounding

    @functools.cached_property
    def outputs_stored(self) -> Outputs:
        images = list(recut(taken(self.kept, 2 * WALK_SIZE), WALK_SIZE))
        return Outputs.of(self._evaluating(), images, self.forward)

    @functools.cached_property
    def gaps_to_train_mode(self) -> tuple[float, float]:
        """Distance to the outputs by batch with the stored statistics, and with those of other images.

        The second is what the choice of images explains: statistics of every other batch, outputs of
        batches between them.
        """
        if self.fresh.half is None:
            raise BnrecalError(f"needs two batches of {WALK_SIZE} images")
        images = list(recut(self.kept, WALK_SIZE))[1:4:2]
        others_too = with_statistics(self.model, self.fresh.half)
        models = (by_batch(self.model), self._evaluating(), others_too)
        running, stored, others = (Outputs.of(model, images, self.forward) for model in models)
        return stored.distance(running), others.distance(running)

    @functools.cached_property
    def metric_stored(self) -> float:
        """The metric in whole batches of WALK_SIZE, as the model evaluates."""
        return self.metric_of(self._evaluating())

    @functools.cached_property
    def metric_by_batch(self) -> float:
        return self.metric_of(by_batch(self.model))

    @functools.cached_property
    def metric_recalibrated(self) -> float:
        """With the statistics that `recalibrate` would give it."""
        return self.metric_of(self._with(self.as_recalibrated))

    @functools.cached_property
    def metric_all_fresh(self) -> float:
        """With every BatchNorm re-estimated, frozen ones too."""
        return self.metric_of(self._with(self.fresh)) if self.frozen else self.metric_recalibrated

    @functools.cached_property
    def metrics_by_size(self) -> tuple[float, ...]:
        """The metric at each of `scored`'s sizes, as the model evaluates."""
        n = self.scored.n_images
        return tuple(self._metric(self._evaluating(), size, n) for size in self.scored.sizes)

    @property
    def n_to_score(self) -> int:
        """Images the metric may be taken of: evaluation images, if there are some."""
        images = self.kept if self.evaluation is None else self.evaluation
        return min(sum(map(count_images, images)), MOST_SCORED)

    @functools.cached_property
    def scored(self) -> Sizes:
        """Images and batch sizes of `metrics_by_size`."""
        return Sizes.of(self.n_to_score, "calibration" if self.evaluation is None else "evaluation")

    @property
    def n_in_whole_batches(self) -> int:
        """Images of `metric_of`: batches of one size, so that a metric averaged by batch is right too."""
        return self.n_to_score // WALK_SIZE * WALK_SIZE or self.n_to_score

    def metric_of(self, model: nn.Module) -> float:
        """Of this model, in whole batches."""
        return self._metric(model, WALK_SIZE, self.n_in_whole_batches)

    def _metric(self, model: nn.Module, size: int, n: int) -> float:
        assert self._evaluate is not None
        images = taken(self.kept if self.evaluation is None else self.evaluation, n)
        with named(f"evaluated in batches of {size}"), torch.no_grad():
            found = self._evaluate(model, recut(images, size))
        return found if isinstance(found, Scored) else float(found)

    def _evaluating(self) -> nn.Module:
        return copy.deepcopy(self.in_evaluation)

    def _with(self, fresh: Fresh) -> nn.Module:
        return with_statistics(self.model, fresh.statistics)

    def _re_estimated(self, images: list[Any], frozen: tuple[str, ...] = ()) -> Fresh:
        eps = {name: norm.eps for name, norm in self.norms.items()}
        return re_estimated(self.model, images, self.forward, eps, frozen)
