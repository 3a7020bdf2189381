"""Checks of each BatchNorm's statistics: whether they are any, and how well they fit the images."""

import math
from collections.abc import Iterable

from bnrecal.doctor.copies import Fresh
from bnrecal.doctor.finding import RECALIBRATE, Finding, answer, named
from bnrecal.doctor.patient import Patient
from bnrecal.doctor.small_batches import FEW_IMAGES, given_back, images_together, study_rows, what_helped
from bnrecal.doctor.weighing import thaw, weighed
from bnrecal.errors import BnrecalError
from bnrecal.recalibration.batches import count_images
from bnrecal.recalibration.shift import Shift

FAR_MEAN = 0.25  # old standard deviations, root mean square over a layer's channels
FAR_VARIANCE = 1.5  # times, up or down, typically
NOISE = 4.0  # a shift also has to be so many times what the choice of images explains
FEW_VALUES = 16  # per channel in a batch: its variance is off by a third then, typically


def _reached(patient: Patient, layers: Iterable[str]) -> list[str]:
    """Those of the layers that the images reach; all of them if the model does not run."""
    try:
        called = patient.seen.values
    except BnrecalError:
        return list(layers)
    return [name for name in layers if name in called]


def _never_updated(patient: Patient) -> list[str]:
    """Layers with mean 0 and variance 1, or sigma = sqrt(var + eps) = 1 where that is what is stored."""
    found = []
    for name, (mean, var) in patient.stored.items():
        norm = patient.norms[name]
        away = 1.001 * norm.eps if hasattr(norm, "running_std") else 0.0
        if bool((mean == 0).all() and ((var - 1).abs() <= away).all()):
            found.append(name)
    return found


def _damaged(patient: Patient) -> list[str]:
    """Layers with NaN, infinity or a negative variance."""
    return [
        name
        for name, (mean, var) in patient.stored.items()
        if not bool(mean.isfinite().all() and var.isfinite().all() and (var >= 0).all())
    ]


def never_updated(patient: Patient) -> Finding:
    """Mean 0 and variance 1 in every channel: what construction gives, and a supernet keeps."""
    layers = _reached(patient, _never_updated(patient))
    if not layers:
        return answer("fine", f"all {len(patient.stored)} BatchNorms hold statistics of their own")
    most = max(_tracked(patient, name) or 0 for name in layers)
    tracked = f"though up to {most} batches were tracked" if most else "no batch was ever tracked"
    what = f"{named(layers, len(patient.stored))} hold mean 0 and variance 1, {tracked}"
    return weighed(patient, what, layers)


def _tracked(patient: Patient, name: str) -> int | None:
    tracked = patient.norms[name].num_batches_tracked
    return None if tracked is None else int(tracked)


def broken_statistics(patient: Patient) -> Finding:
    """NaN, infinity, negative variance; zero variance where the layer's input does vary."""
    layers = _damaged(patient)
    if layers:
        kinds = "NaN, infinity or a negative variance"
        return answer("wrong", f"{named(layers, len(patient.stored))} hold {kinds}", RECALIBRATE, layers)
    n_zero = sum(int((var == 0).sum()) for _, var in patient.stored.values())
    if not n_zero:
        return answer("fine", "finite everywhere, variances above zero")
    false = _false_zeros(patient)
    if not false:
        return answer("note", f"{n_zero} channels have variance 0, and no image gives them another")
    what = f"{named(false, len(patient.stored))} hold a variance of 0 for inputs that vary"
    return weighed(patient, what, false)


def _false_zeros(patient: Patient) -> list[str]:
    """Layers with a variance of 0 in a channel whose input does vary."""
    zero = {n: var == 0 for n, (_, var) in patient.stored.items() if bool((var == 0).any())}
    if not zero:
        return []
    try:
        fresh = patient.fresh.statistics.by_name()
    except BnrecalError:
        return list(zero)  # no image says that it is meant
    return [n for n, where in zero.items() if n in fresh and bool((fresh[n][1].cpu()[where] > 1e-8).any())]


def frozen(patient: Patient) -> Finding:
    """BatchNorms that `recalibrate` leaves alone for their mode or name, and constants (FrozenBatchNorm)."""
    constants = [
        name
        for name, module in patient.in_evaluation.named_modules()
        if type(module).__name__.startswith("FrozenBatchNorm")
    ]
    layers = patient.frozen
    if not layers:
        if constants:
            return answer("note", f"{len(constants)} FrozenBatchNorms: constants, nothing to recalibrate")
        return answer("fine", "no BatchNorm is frozen")
    rule = patient.frozen_rule
    why = {"auto": "being in eval mode while others are in train mode", "by_mode": "being in eval mode"}
    reason = why[rule] if isinstance(rule, str) else "being named so"
    where = f"{named(layers, len(patient.live))} count as frozen, {reason}"
    moved = [shift.layer for shift in far(patient.fresh, patient.shifts) if shift.layer in layers]
    if moved:
        what = f"{where}, and {len(moved)} of them do not fit these images"
        return weighed(patient, what, moved, of_all=True)
    return answer("note", f"{where}; they fit these images", f"if that is not meant: {thaw(patient)}", layers)


def far(fresh: Fresh, shifts: Iterable[Shift]) -> list[Shift]:
    """The shifts that are too large to come from the choice of images."""
    found = []
    for shift in shifts:
        noise = fresh.noise.get(shift.layer)
        mean, factor = FAR_MEAN, math.log(FAR_VARIANCE)
        if noise is not None and math.isfinite(noise.size):
            mean, factor = max(mean, NOISE * noise.mean), max(factor, NOISE * math.log(noise.var_factor))
        if not (shift.mean <= mean and math.log(shift.var_factor) <= factor):
            found.append(shift)
    return found


def described(shift: Shift) -> str:
    if not math.isfinite(shift.size):
        return f"{shift.layer or 'the model itself'}: not comparable"
    return (
        f"{shift.layer or 'the model itself'}: means {shift.mean:.2g} standard deviations off, "
        f"variances {shift.var_ratio:.2g} times ({shift.var_lowest:.2g} to {shift.var_highest:.2g})"
    )


def shifted(patient: Patient) -> Finding:
    """Stored statistics beside those of these images, each layer's input normalised by batch."""
    explained = {*_never_updated(patient), *_damaged(patient), *patient.frozen}
    explained |= set(_false_zeros(patient))
    shifts = [shift for shift in patient.shifts if shift.layer not in explained]
    if not shifts:
        return answer("fine", "no other layer than those named above")
    layers = far(patient.fresh, shifts)
    if not layers:
        furthest = described(shifts[0])
        return answer("fine", f"{len(shifts)} layers fit {patient.n_images:,} images; furthest {furthest}")
    first = patient.fresh.first_called
    cause = ""
    if first in {shift.layer for shift in layers}:
        cause = "; the first layer too: other images, or prepared otherwise, than in training"
    names = [shift.layer for shift in layers]
    what = f"{named(names, len(patient.stored))} do not fit: {described(layers[0])}{cause}"
    return weighed(patient, what, names)


def few_values(patient: Patient) -> Finding:
    """Values per channel in the batches given: images x height x width."""
    values = {name: min(counts) for name, counts in patient.seen.values.items() if name in patient.norms}
    if not values:
        return answer("skipped", "no batch reaches a BatchNorm")
    least = min(values, key=lambda name: values[name])
    what = f"{least or 'the model itself'} gets {values[least]} values per channel in a batch of "
    what += f"{count_images(patient.kept[0])}"
    layers = sorted((n for n, count in values.items() if count < FEW_VALUES), key=lambda n: values[n])
    n_together = images_together(patient)
    helped = what_helped(n_together, study_rows()) if layers or n_together <= FEW_IMAGES else ""
    if not layers and n_together > FEW_IMAGES:
        return answer("fine", f"{what}, the fewest of all")
    if not layers:
        few = f"one normalisation sees {n_together} image{'s' * (n_together != 1)}; {what}"
        return answer("note", f"{few}; {given_back(patient)}", f"if it was trained so: {helped}")
    remedy = "use larger batches, or the estimator exact, or train with GroupNorm instead; "
    remedy += f"{given_back(patient)}; {helped}"
    return answer("wrong", f"{named(layers, len(patient.norms))} have too few: {what}", remedy, layers)


def unreached(patient: Patient) -> Finding:
    """BatchNorms that no image passes, and one that it passes several times."""
    called = patient.seen.values
    idle = [name for name in patient.norms if name not in called]
    if idle:
        what = f"{named(idle, len(patient.norms))} are not used in a forward; recalibration leaves them alone"
        return answer("note", what, "", idle)
    shared = [name for name, counts in called.items() if len(counts) > 1]
    if shared:
        what = f"{named(shared, len(patient.norms))} are called several times in a forward, with one set "
        return answer("note", what + "of statistics for all", "give each use a BatchNorm of its own", shared)
    return answer("fine", f"every BatchNorm is used, once in a forward ({len(called)})")
