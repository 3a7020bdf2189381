"""The public way in: `diagnose` runs the table of checks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from bnrecal.data.normalisations import MeanStd
from bnrecal.doctor import behaviour_checks as behaviour
from bnrecal.doctor import settings_checks as settings
from bnrecal.doctor import statistics_checks as statistics
from bnrecal.doctor.finding import Diagnosis, Finding
from bnrecal.doctor.patient import Evaluate, Patient
from bnrecal.errors import BnrecalError
from bnrecal.recalibration.batches import Forward, call
from bnrecal.recalibration.frozen import Frozen
from bnrecal.recalibration.progress import Progress, following


@dataclass(frozen=True)
class Check:
    """One thing that may be wrong."""

    name: str
    looks_at: str
    run: Callable[[Patient], Finding]


CHECKS = (
    Check("runs", "a forward in evaluation mode: finite, and depends on the image", behaviour.runs),
    Check("never-updated", "mean 0, variance 1 and no batch tracked", statistics.never_updated),
    Check("broken-statistics", "NaN, infinity, zero or negative variance", statistics.broken_statistics),
    Check("momentum", "None, 0, 1, or another framework's convention", settings.momentum),
    Check("eps", "an eps that is no small part of the variance", settings.eps),
    Check("affine", "NaN, infinity or zeros in weight and bias", settings.affine),
    Check("tracking", "track_running_stats off, at construction or later", settings.tracking_off),
    Check("train-mode", "BatchNorm in train mode after eval()", behaviour.train_mode),
    Check("frozen", "BatchNorms that recalibration leaves alone for their mode", statistics.frozen),
    Check("randomness", "dropout in evaluation", behaviour.randomness),
    Check("loader", "a second reading gives the same images", behaviour.reading),
    Check("batch-size", "outputs and metric in batches of several sizes", behaviour.by_batch_size),
    Check("values", "values per channel in a batch", statistics.few_values),
    Check("preparation", "mean and std of the images beside those of training", behaviour.preparation),
    Check("shift", "stored beside re-estimated statistics", statistics.shifted),
    Check("train-gap", "evaluation beside normalising by batch", behaviour.train_gap),
    Check("domain", "evaluation images beside calibration images", behaviour.domain),
    Check("used", "layers no image reaches, or passes several times", statistics.unreached),
    Check("kinds", "precision and types", settings.kinds),
)


def diagnose(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    evaluation: Iterable[Any] | None = None,
    evaluate: Evaluate | None = None,
    forward: Forward | None = None,
    n_samples: int = 1024,
    frozen: Frozen = "auto",
    normalisation: MeanStd | None = None,
    on_check: Callable[[str], None] = lambda name: None,
    progress: Progress = False,
) -> Diagnosis:
    """Look for what makes `model` evaluate badly, or otherwise at another batch size.

    Nothing is changed: all looks are at copies. About ten forwards of `n_samples` images or fewer,
    which are kept in memory meanwhile.

    Args:
        model: any module.
        batches: images as it is trained or recalibrated with, in the batches used for that; as in
            `recalibrate`. A loader or a list, so that it can be read again.
        evaluation: other images that it is evaluated on, in the same form.
        evaluate: evaluate(model, batches) -> metric, higher is better; gets the first images of
            `evaluation`, or of `batches` if there is none, in batches of several sizes, and a copy of
            the model in eval mode (for one check its BatchNorms normalise by batch all the same).
        forward: forward(model, batch); by default model(batch) or its first element.
        n_samples: images to read of each.
        frozen: which BatchNorms keep the statistics they have, as in `recalibrate`.
        normalisation: (mean, std) with a value, or one per channel: images are (pixels / 255 - mean) / std.
            None: guessed from their range, where it says.
        on_check: told the name of each check before it runs.
        progress: True draws a bar on stderr; a callable is told (checks done, checks in all).

    Raises:
        BnrecalError: no images, images that cannot be counted, a model that cannot be copied, unknown
            names of frozen layers.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).eval()  # was never in train mode
    >>> images = [torch.randn(16, 1, 8, 8) + 5 for _ in range(4)]
    >>> found = diagnose(model, images)
    >>> found["never-updated"].level
    'wrong'
    """
    if n_samples < 1:
        raise BnrecalError(f"n_samples={n_samples}: at least 1")

    def taken_in() -> Patient:
        return Patient(
            model, batches, evaluation, evaluate, forward or call, n_samples, frozen, normalisation
        )

    return examine(model, taken_in, on_check, progress)


def examine(
    model: nn.Module,
    taken_in: Callable[[], Patient],
    on_check: Callable[[str], None],
    progress: Progress = False,
) -> Diagnosis:
    """Run the table of checks on the patient that this makes of the model; random states stay as they are."""
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices):
        patient = taken_in()
        findings = []
        with following(progress, "checking", "checks") as tell:
            for done, check in enumerate(CHECKS, 1):
                on_check(check.name)
                findings.append(_run(check, patient))
                tell(done, len(CHECKS))
    return Diagnosis(tuple(findings), patient.n_images, patient.batch_size)


def _run(check: Check, patient: Patient) -> Finding:
    try:
        found = check.run(patient)
    except BnrecalError as error:
        return Finding(check.name, "skipped", str(error) if patient.runs else "the model does not run")
    return replace(found, check=check.name)
