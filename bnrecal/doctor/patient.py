"""What is observed of a model, each thing once and only when a check asks for it.

Nothing is done to the model itself: all looks are at copies, since eval() may be overridden and a
BatchNorm that stays in train mode would write into its buffers. What cannot be observed raises
BnrecalError, and the checks that need it are skipped with that reason.
"""

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from bnrecal.data.normalisations import MeanStd
from bnrecal.doctor.chance import differ
from bnrecal.doctor.outputs import NotByImageError, Outputs
from bnrecal.doctor.recut import Reading, check_rereadable, compare_readings, recut, taken
from bnrecal.errors import BnrecalError
from bnrecal.measure.preparation import N_IMAGES, Better, Fit, fit_of, images_of, n_looked_at
from bnrecal.recalibration.batches import Forward, count_images
from bnrecal.recalibration.estimators import Pooled
from bnrecal.recalibration.frozen import Frozen, frozen_layers
from bnrecal.recalibration.input_fit import prepared_as
from bnrecal.recalibration.layers import inner_of
from bnrecal.recalibration.shift import Pair, Shift, shift_of, stored, worst_first
from bnrecal.recalibration.statistics import Statistics
from bnrecal.recalibration.walk import Walk

Evaluate = Callable[[nn.Module, Iterable[Any]], float]

SIZES = (1, 8, 64)  # batch sizes that are tried, where there are so many images
WALK_SIZE = 64  # images in a batch when statistics are re-estimated
MOST_SCORED = 513  # images of the metric: 8 x 64 and one more, so that the last batch is short
N_COMPARED = 64  # images whose outputs are compared


class ModelError(BnrecalError):
    """The model, or the user's evaluate, raised something of its own."""


@dataclass(frozen=True)
class Fresh:
    """Statistics re-estimated in batches of WALK_SIZE, each layer's input normalised by batch."""

    statistics: Statistics
    half: Statistics | None  # of every other batch, beginning with the first
    noise: dict[str, Shift]  # by layer: from the estimate of every other batch to that of all
    first_called: str | None


@dataclass(frozen=True)
class Sizes:
    """Batch sizes in which the same images are run, and how many of which images that is."""

    sizes: tuple[int, ...]
    n_images: int
    which: str  # "calibration" or "evaluation"

    @staticmethod
    def of(n: int, which: str, whole: bool = False) -> "Sizes":
        """Those of SIZES that n images fill, and all images at once where n is smaller than the last.

        Unless `whole`, so few images are left out that the last batch is short at every size but 1 and
        all: only then a metric averaged by batch shows.
        """
        step = next((size for size in reversed(SIZES[1:]) if size < n), n)
        if not whole and 1 < step < n:
            n = (n - 1) // step * step + 1
        tried = [size for size in SIZES if size < n]
        if n <= SIZES[-1]:
            tried += [n - 1, n] if 2 < n <= SIZES[1] and not whole else [n]
        return Sizes(tuple(dict.fromkeys(tried)), n, which)

    def __str__(self) -> str:
        """ "1, 8, 64"."""
        return ", ".join(map(str, self.sizes))

    @property
    def images(self) -> str:
        return f"{self.n_images:,} {self.which} image{'s' if self.n_images > 1 else ''}"


@dataclass
class Seen:
    """What happened in one forward of the first batch, in evaluation mode."""

    output: Any = None
    values: dict[str, list[int]] = field(default_factory=dict)  # layer -> values per channel of each call


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
        model = copy.deepcopy(self.in_evaluation)
        seen = Seen()

        def note(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                x: Tensor = args[0] if args else next(iter(kwargs.values()))
                seen.values.setdefault(name, []).append(x.numel() // max(1, x.shape[1]))

            return hook

        for name, module in model.named_modules():
            if isinstance(module, _BatchNorm):
                module.register_forward_pre_hook(note(name), with_kwargs=True)
        with _named("in evaluation mode"), torch.no_grad():
            seen.output = self.forward(model, self.kept[0])
        return seen

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
            return self.metric_of(prepared_as(self.in_evaluation, found.affine(images.shape[1])))
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
            return bool(self.active_dropout) or self.repeated_gap > self.repeated.tolerance
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
        fresh = _on_cpu(new.statistics)
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
            with _named(f"in batches of {size}"):
                found.append(Outputs.of(self._evaluating(), images, self.forward))
        self.half = found[-1].half
        return max(found[-1].distance(other) for other in found[:-1]), found[-1].tolerance

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
        model = _all_in_eval_mode(self.model)
        self.fresh.half.write_to(model)
        models = (self._by_batch(), self._evaluating(), model)
        by_batch, stored, others = (Outputs.of(model, images, self.forward) for model in models)
        return stored.distance(by_batch), others.distance(by_batch)

    @functools.cached_property
    def metric_stored(self) -> float:
        """The metric in whole batches of WALK_SIZE, as the model evaluates."""
        return self.metric_of(self._evaluating())

    @functools.cached_property
    def metric_by_batch(self) -> float:
        return self.metric_of(self._by_batch())

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
    def scored(self) -> "Sizes":
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
        with _named(f"evaluated in batches of {size}"), torch.no_grad():
            return float(self._evaluate(model, recut(images, size)))

    def _evaluating(self) -> nn.Module:
        return copy.deepcopy(self.in_evaluation)

    def _by_batch(self) -> nn.Module:
        """In evaluation mode but for its BatchNorms, whatever eval() is called on it."""
        model = _all_in_eval_mode(self.model)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.training = True
        model.__dict__["train"] = lambda mode=True: model  # eval() calls it
        return model

    def _with(self, fresh: Fresh) -> nn.Module:
        model = _all_in_eval_mode(self.model)
        fresh.statistics.write_to(model)
        return model

    def _re_estimated(self, images: list[Any], frozen: tuple[str, ...] = ()) -> Fresh:
        model = _all_in_eval_mode(self.model)
        batches = list(recut(images, WALK_SIZE))
        if len(batches) > 1 and count_images(batches[-1]) < WALK_SIZE // 2:
            batches.pop()  # a short last batch is normalised by too few images to be compared with
        order = batches[::2] + batches[1::2]  # so that halves are alike however the images are sorted
        half: Statistics | None = None
        with Walk(model, Pooled(), self.forward, frozen=frozen) as walk:
            for k, batch in enumerate(order):
                walk.step(batch)
                if 2 * (k + 1) == len(order) + len(order) % 2 and len(order) > 1:
                    half = walk.statistics()
            whole = walk.statistics()
        noise = {}
        if half is not None:
            old, new = _on_cpu(half), _on_cpu(whole)
            noise = {n: shift_of(n, old[n], new[n], self.norms[n].eps) for n in new if n in old}
        return Fresh(whole, half, noise, walk.first_called)


def _all_in_eval_mode(model: nn.Module) -> nn.Module:
    """A copy with every flag set by hand, since a model's own eval() may do less or more."""
    model = copy.deepcopy(model)
    for module in model.modules():
        module.training = False
    return model


def _on_cpu(statistics: Statistics) -> dict[str, Pair]:
    return {name: (mean.cpu(), var.cpu()) for name, (mean, var) in statistics.by_name().items()}


@contextmanager
def _named(how: str) -> Iterator[None]:
    """Any error of the model's own becomes one line that says how it was run."""
    try:
        yield
    except BnrecalError:
        raise
    except Exception as error:
        raise ModelError(f"{how} the model raised {type(error).__name__}: {error}") from error
