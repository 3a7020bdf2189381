"""Checks of how the model behaves: after eval(), by batch, read again, and on other images."""

import math

from bnrecal.data.normalisations import words
from bnrecal.doctor.chance import differ
from bnrecal.doctor.finding import RECALIBRATE, Finding, answer, named
from bnrecal.doctor.outputs import NotByImageError
from bnrecal.doctor.patient import Patient
from bnrecal.doctor.seen import ModelError
from bnrecal.doctor.sizes import Sizes
from bnrecal.doctor.statistics_checks import described, far
from bnrecal.doctor.weighing import PREPARE_FIRST, UNASKED, Gain
from bnrecal.errors import BnrecalError
from bnrecal.measure.preparation import BAD

SAME_METRIC = 1e-4  # a metric of about 1 may move so much for the order of additions alone
SAME_METRIC_HALF = 2e-2


def runs(patient: Patient) -> Finding:
    """A forward in evaluation mode gives finite outputs that depend on the image."""
    try:
        output = patient.seen.output
    except BnrecalError as error:
        remedy = "call it on a batch of this loader yourself; forward= says how, if it is not model(images)"
        return answer("wrong", str(error), remedy)
    try:
        outputs = patient.outputs_stored
    except BnrecalError:
        return answer("fine", f"one batch gives a {type(output).__name__}")
    if not outputs.finite:
        return answer("wrong", "outputs hold NaN or infinity", "look at the checks of statistics and weights")
    if not outputs.varies:
        return answer("wrong", "outputs are the same for every image", "look at statistics and weights")
    return answer("fine", f"finite outputs that depend on the image ({len(outputs.tensors[0])} images)")


def train_mode(patient: Patient) -> Finding:
    """BatchNorms that normalise by batch after eval(): train() overridden, or a flag set by hand."""
    stuck = [name for name, norm in patient.norms.items() if norm.training]
    total = len(patient.norms)
    if stuck:
        what = f"{named(stuck, total)} are in train mode after model.eval()"
        return answer("wrong", what, "some train() or eval() is overridden; let it pass the mode on", stuck)
    before = patient.trained_before
    alone = [name for name in patient.norms if before[name]] if not before[""] else []
    if alone:
        what = f"{named(alone, total)} are in train mode in a model in eval mode"
        return answer("wrong", what, "call model.eval() before evaluating", alone)
    if before[""]:
        return answer("note", "handed over in train mode; looked at after model.eval()")
    return answer("fine", f"all {total} BatchNorms are in eval mode")


def randomness(patient: Patient) -> Finding:
    """Dropout that stays active after eval(), and outputs that differ for the same batch."""
    active = patient.active_dropout
    remedy = "let eval() reach it, and pass training=self.training to functional dropout"
    if active:
        what = f"{len(active)} dropout layers ({', '.join(active[:3])}) stay active after eval()"
        return answer("wrong", what, remedy, active)
    if patient.repeated_gap > patient.repeated.rounding:
        what = f"the same batch twice gives outputs {patient.repeated_gap:.2g} standard deviations apart"
        return answer("wrong", what, remedy)
    return answer("fine", "the same batch twice gives the same outputs")


def _check_repeatable(patient: Patient) -> None:
    if patient.is_random:
        raise BnrecalError("outputs are random, so there is nothing to compare; see randomness")


def by_batch_size(patient: Patient) -> Finding:
    """Outputs and metric in batches of several sizes: an image's neighbours must not matter."""
    assert patient.seen
    compared = patient.compared_sizes
    if not patient.has_metric:
        _check_several(compared)
    try:
        _check_repeatable(patient)
        gap, allowed = patient.gap_between_sizes
    except ModelError as error:
        return answer("wrong", str(error), _NEIGHBOURS)
    except NotByImageError:
        if not patient.has_metric:
            raise
        gap, allowed = None, 0.0
    if gap is not None and gap > allowed:
        what = f"outputs at batch sizes {compared} differ by {gap:.2g} standard deviations"
        what += f" ({compared.images})"
        return answer("wrong", _metrics(patient, what), _NEIGHBOURS)
    if not patient.has_metric:
        what = f"outputs at batch sizes {compared} agree to {gap:.1g} standard deviations"
        return answer("fine", f"{what} ({compared.images})")
    return _by_metric(patient, gap)


def _check_several(tried: Sizes) -> None:
    if len(tried.sizes) < 2:
        raise BnrecalError(f"{tried.images}: too few for batches of different sizes")


def _by_metric(patient: Patient, gap: float | None) -> Finding:
    """The metric at each size, where the outputs agree to `gap` or cannot be compared (None)."""
    scored = patient.scored
    _check_several(scored)
    try:
        metrics = patient.metrics_by_size
    except ModelError as error:
        return answer("wrong", str(error), "evaluate(model, batches) has to take batches of any size")
    shown = ", ".join(f"{metric:.4f}" for metric in metrics)
    what = f"metric at batch sizes {scored}: {shown} ({scored.images})"
    allowed = SAME_METRIC_HALF if patient.half else SAME_METRIC
    if max(metrics) - min(metrics) <= allowed * max(1.0, *map(abs, metrics)) or all(map(math.isnan, metrics)):
        return answer("fine", what)
    if gap is None:
        return answer("wrong", what, _NEIGHBOURS)
    remedy = "do not average per-batch metrics: score all images together, or weigh batches by their images"
    return answer("wrong", f"{what}, though the outputs agree to {gap:.1g}", remedy)


_NEIGHBOURS = "look at train mode and track_running_stats above: something normalises by batch in evaluation"


def _metrics(patient: Patient, what: str) -> str:
    """The same with the metric at each batch size, if there is one to be had."""
    if not patient.has_metric:
        return what
    try:
        shown = ", ".join(f"{metric:.4f}" for metric in patient.metrics_by_size)
    except BnrecalError as error:
        return f"{what}; {error}"
    return f"{what}; metric at batch sizes {patient.scored}: {shown} ({patient.scored.images})"


def train_gap(patient: Patient) -> Finding:
    """Evaluation by the stored statistics beside normalising by batch and by re-estimated ones."""
    _check_repeatable(patient)
    if patient.has_metric:
        return _gap_in_metric(patient)
    stored, again = patient.gaps_to_train_mode
    what = f"outputs are {stored:.2g} standard deviations from those by batch, "
    what += f"{again:.2g} with statistics of other images"
    if stored <= 2 * again + 0.1:
        return answer("fine", what)
    return answer("wrong", f"{what}: {_STRANGERS}", PREPARE_FIRST if patient.better_prepared else UNASKED)


_STRANGERS = "the stored ones do not belong to these weights or images"


def _gap_in_metric(patient: Patient) -> Finding:
    """The metric with stored, batch and re-estimated statistics: which is better, and what follows."""
    now, batch, fresh = patient.metric_stored, patient.metric_by_batch, patient.metric_recalibrated
    n, which = patient.n_in_whole_batches, patient.scored.which
    what = f"metric {now:.4f} with the stored statistics, {batch:.4f} by batch, {fresh:.4f} re-estimated"
    what += f"{' but for frozen ones' if patient.frozen else ''} ({n:,} {which} images)"
    kind = Gain(now, fresh, n, which).kind
    if kind == "repairs" or (math.isnan(now) and kind == "neither"):
        remedy = PREPARE_FIRST if patient.better_prepared else RECALIBRATE
        return answer("wrong", f"{what}: {_STRANGERS}", remedy)
    if kind == "harms":
        return answer("note", what, "leave the stored ones: re-estimating them would do harm")
    if batch > now and differ(now, batch, n):
        return answer(
            "note", f"{what}: batches help, re-estimating does not", "evaluate images by themselves"
        )
    return answer("fine", what)


def reading(patient: Patient) -> Finding:
    """A second reading of the loader, image by image and bit by bit."""
    found = patient.reading
    if found.same:
        return answer("fine", f"a second reading gives the same {found.n_images:,} images in the same order")
    where = f"a second reading differs from image {found.first_difference} on"
    if found.dataset_changes:
        what = f"{where}: dataset[i] gives another image each time"
        return answer("wrong", what, "use evaluation transforms: no random crop, flip or erasing")
    if found.n_other == 0 or found.dataset_changes is False:
        what = f"{where}: another order"
        return answer("wrong", what, "shuffle=False, or one fixed order drawn from a seed")
    what = f"{where}: {found.n_other:,} of {found.n_images:,} images were not there before"
    return answer("wrong", what, "no random transform, and one fixed order")


def preparation(patient: Patient) -> Finding:
    """Whether the first BatchNorms' statistics say that the images were scaled otherwise in training."""
    fit = patient.fit
    if math.isnan(fit.distance):
        raise BnrecalError("the first BatchNorms hold no statistics to compare the images with")
    how = "as they are" if fit.given is None else f"with {words(fit.given)}"
    what = f"the images {how} are {fit.distance:.2g} from the first BatchNorms' statistics"
    better = patient.better_prepared
    if better is not None:
        metric = patient.metric_prepared
        seen = (
            "" if metric is None else f"; metric {patient.metric_stored:.4f} as they are, {metric:.4f} then"
        )
        return answer("wrong", better.evidence + seen, better.remedy)
    if fit.distance < BAD:
        return answer("fine", f"{what}; below {BAD:g} they fit")
    if fit.given is None:
        raise BnrecalError(f"{what}, and do not say how they were scaled; normalisation=(mean, std) does")
    if fit.better is not None:
        return answer("note", f"{what}; with {words(fit.better.value)} closer, but the metric is lower then")
    return answer("note", f"{what}, and no usual mean and std brings them near")


def domain(patient: Patient) -> Finding:
    """Statistics of the evaluation images beside those of the calibration images, by batch in both."""
    other = patient.elsewhere
    if other is None:
        return answer("skipped", "no other images to evaluate on were given")
    known = {n: (mean.cpu(), var.cpu()) for n, (mean, var) in patient.fresh.statistics.by_name().items()}
    shifts = patient.compared(known, other)
    layers = far(other, shifts)
    if not layers:
        return answer("fine", f"alike in {len(shifts)} layers; furthest {described(shifts[0])}")
    first = next((s for s in layers if s.layer == other.first_called), layers[0])
    what = f"{named((s.layer for s in layers), len(shifts))} see other values there: {described(first)}"
    remedy = "prepare both sets alike (scale, mean, std, channel order, size), or calibrate on such images"
    return answer("wrong", what, remedy, [shift.layer for shift in layers])
