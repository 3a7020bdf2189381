"""Checks of each BatchNorm's settings, parameters and kind.

A check takes the patient and answers with a `Finding` whose name the table of checks fills in.
"""

import math
from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from bnrecal.doctor.finding import Finding, answer, named
from bnrecal.doctor.patient import Patient
from bnrecal.errors import BnrecalError

TF_MOMENTUM = 0.9  # from here on probably meant as the weight of the old value
LARGEST_EPS = 1e-3  # that any framework has as its default


def momentum(patient: Patient) -> Finding:
    """None averages over all steps since the start, 0 never moves, 1 keeps the last batch alone."""
    meanings = {
        "None": "averages all batches since training began, old weights' included",
        "0": "never moves",
        "1": "keeps the last batch alone",
        "high": "weighs the newest batch so; another framework's convention is 1 minus PyTorch's",
    }
    found: dict[str, list[str]] = {}
    for name, norm in patient.live.items():
        kind = "None" if norm.momentum is None else _momentum_kind(float(norm.momentum))
        if kind:
            found.setdefault(kind, []).append(name)
    if not found:
        values = sorted({float(norm.momentum or 0) for norm in patient.live.values()})
        return answer("fine", f"{', '.join(f'{v:g}' for v in values) or 'no layer has one'}")
    kind, layers = max(found.items(), key=lambda item: len(item[1]))
    value = patient.live[layers[0]].momentum
    what = f"{named(layers, len(patient.live))} have momentum {value}, which {meanings[kind]}"
    every = [name for names in found.values() for name in names]
    return answer(
        "wrong", what, "set momentum above 0, to 0.1 or smaller, then train on or recalibrate", every
    )


def _momentum_kind(value: float) -> str:
    if value == 0:
        return "0"
    if value == 1:
        return "1"
    return "high" if value >= TF_MOMENTUM or value < 0 or math.isnan(value) else ""


def eps(patient: Patient) -> Finding:
    """An eps beyond any default that is no small part of the layer's variance, or none at all."""
    bad = []
    for name, norm in patient.norms.items():
        value = float(norm.eps)
        if not value >= 0:
            bad.append(name)
        elif value > LARGEST_EPS and name in patient.stored:
            bad += [name] if value > 0.1 * _median_variance(patient, name) else []
    if not bad:
        values = sorted({float(norm.eps) for norm in patient.norms.values()})
        return answer("fine", ", ".join(f"{value:g}" for value in values) or "no layer has one")
    value = float(patient.norms[bad[0]].eps)
    what = f"{named(bad, len(patient.norms))} have eps {value:g}, no small part of their variance"
    return answer("wrong", what, "give them the eps they were trained with (PyTorch's default is 1e-5)", bad)


def _median_variance(patient: Patient, name: str) -> float:
    try:
        fresh = patient.fresh.statistics.by_name()
    except BnrecalError:
        fresh = {}
    return float(fresh[name][1].median() if name in fresh else patient.stored[name][1].median())


def affine(patient: Patient) -> Finding:
    """NaN or infinity in weight (gamma) or bias (beta); a weight of zero in every channel."""
    weights: dict[str, list[Tensor]] = {
        name: [p.detach() for p in (norm.weight, norm.bias) if p is not None]
        for name, norm in patient.norms.items()
    }
    bad = [name for name, ps in weights.items() if not all(bool(p.isfinite().all()) for p in ps)]
    if bad:
        what = f"{named(bad, len(patient.norms))} have NaN or infinity in weight or bias"
        return answer("wrong", what, "load the weights again; training diverged if they are in the file", bad)
    norms = patient.norms.items()
    zero = [name for name, norm in norms if norm.weight is not None and not bool(norm.weight.any())]
    if zero:
        what = f"{named(zero, len(patient.norms))} have weight 0 in every channel: nothing but bias comes out"
        remedy = "usual at the end of residual branches before training; elsewhere load the weights again"
        return answer("note", what, remedy, zero)
    return answer("fine", "weights and biases are finite")


def tracking_off(patient: Patient) -> Finding:
    """track_running_stats=False: before construction there are no buffers; afterwards they go stale."""
    none = [n for n, norm in patient.norms.items() if norm.running_mean is None or norm.running_var is None]
    total = len(patient.norms)
    if none:
        what = f"{named(none, total)} keep no statistics, so evaluation normalises by batch as well"
        remedy = "build them with track_running_stats=True and recalibrate, or use GroupNorm"
        return answer("wrong", what, remedy, none)
    stale = [name for name, norm in patient.live.items() if not norm.track_running_stats]
    if stale:
        what = f"{named(stale, total)} had track_running_stats set to False later: evaluation uses the "
        what += "buffers all the same, and training no longer updates them"
        return answer("wrong", what, "set track_running_stats = True again, and recalibrate", stale)
    if not total:
        return answer("fine", _without_batchnorm(patient))
    return answer("fine", f"all {total} BatchNorms keep statistics")


def _without_batchnorm(patient: Patient) -> str:
    kinds = Counter(
        type(module).__name__
        for module in patient.in_evaluation.modules()
        if isinstance(module, nn.GroupNorm | nn.LayerNorm | _InstanceNorm)
    )
    if not kinds:
        return "no BatchNorm at all"
    listed = ", ".join(f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in kinds.items())
    return f"no BatchNorm; nothing to recalibrate: each image is normalised by itself ({listed})"


def kinds(patient: Patient) -> Finding:
    """Types and precisions that ask for care."""
    modules = dict(patient.in_evaluation.named_modules())
    half = [
        name
        for name, norm in patient.live.items()
        if norm.running_var is not None and norm.running_var.dtype in (torch.float16, torch.bfloat16)
    ]
    sync = [name for name, norm in patient.norms.items() if isinstance(norm, nn.SyncBatchNorm)]
    foreign = [
        name
        for name, module in modules.items()
        if name not in patient.norms
        and not type(module).__name__.startswith("FrozenBatchNorm")
        and isinstance(getattr(module, "running_var", None), Tensor)
    ]
    said = []
    if half:
        said.append(
            f"{named(half, len(patient.norms))} store statistics in half precision; float32 is better"
        )
    if sync:
        said.append(f"{len(sync)} SyncBatchNorms: outside a process group like any other")
    if foreign:
        module = modules[foreign[0]]
        known = isinstance(module, _InstanceNorm)
        what = "evaluates with running statistics too" if known else "keeps statistics but is no BatchNorm"
        said.append(f"{foreign[0]}: a {type(module).__name__} {what}; recalibration leaves it alone")
    if said:
        return answer("note", "; ".join(said), "", [*half, *sync, *foreign])
    types = " and ".join(sorted({type(norm).__name__ for norm in patient.norms.values()}))
    return answer("fine", f"{len(patient.norms)} {types or 'BatchNorms'}, statistics in full precision")
