"""Racing: evaluate on more and more images, and drop early who is not among the best.

At each look the metric is resampled over the images seen so far, all architectures on the same resamples,
so that what makes an image hard for everyone cancels in differences. An architecture is dropped when at
least k others are better by more than chance explains: by more than c standard errors of the paired
difference, where c is the 1 - alpha quantile of the largest such standardised difference by chance between
any of the leading k and any other (a max-t bound: Romano and Wolf, "Stepwise multiple testing as formalized
data snooping", Econometrica 73(4), 2005), found by Gaussian multipliers on the resamples. alpha is what is
promised, shared evenly among the looks that may drop someone.

What is promised is about the evaluation set, of which the images seen are a part drawn at random without
replacement: after n of N images a difference is known to its standard error times sqrt(1 - n / N).

So with the stated confidence none of the best k by the whole evaluation set is ever dropped. What the race
does not say is whether the best k of the evaluation set are the best in truth.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bnrecal.errors import BnrecalError
from bnrecal.metrics.boxes import Float64s
from bnrecal.metrics.resampling import Evidence, draw, resampled

N_RESAMPLES = 200  # standard errors are then known to 5 %
_MULTIPLIERS = 2000
_SEED = 20230601

# evidence of these architectures on the first n images of a random order, without those that failed
Evaluate = Callable[[Sequence[str], int], Mapping[str, Evidence]]


@dataclass(frozen=True)
class Look:
    """What one look at the first `n_images` images decided."""

    n_images: int
    kept: tuple[str, ...]  # highest metric first
    dropped: tuple[str, ...]
    failed: tuple[str, ...]
    critical: float  # standard errors that a difference had to exceed


@dataclass(frozen=True)
class Raced:
    """The best k, highest first, and how they were found."""

    best: tuple[tuple[str, float], ...]  # with the metric on the images of the last look
    looks: tuple[Look, ...]
    confidence: float
    n_evaluated: int  # architecture x image
    n_plain: int  # the same without a race
    n_tied: int = 0  # others with the metric of the last of the best, on the images of the last look

    @property
    def n_images(self) -> int:
        """Images on which the best were compared last."""
        return self.looks[-1].n_images

    def says(self, n_all: int) -> str:
        """How sure the answer is, of an evaluation set of `n_all` images."""
        k, percent = len(self.best), f"{100 * self.confidence:g} %"
        share = f"{self.n_evaluated / self.n_plain:.0%} of the evaluations"
        n_failed = len({arch for look in self.looks for arch in look.failed})
        of = f", of those that could be evaluated ({n_failed:,} could not)" if n_failed else ""
        best = f"the {k} best" if k > 1 else "the best"
        these = f"these are {best}" if k > 1 else "this is the best"
        order = ", their order among each other is not certain" if k > 1 else ""
        if not any(look.dropped for look in self.looks):
            if self.n_images == n_all:
                return f"nobody was dropped: {best} by all {n_all:,} images{of}{self._tied}"
            ended = f"the race ended at {self.n_images:,} of {n_all:,} images{order}"
            return f"no more than {k} to choose from{of}: {ended}"
        sure = f"with {percent} confidence"
        where = f"on the {n_all:,} evaluation images"
        if self.n_images < n_all:
            ended = f"the race ended at {self.n_images:,}{order} ({share})"
            return f"{sure} {these} {where}{of}; {ended}"
        none, was = ("none of ", "was") if k > 1 else ("", "was not")
        return f"{sure} {none}{best} {where} {was} dropped{of} ({share}){self._tied}"

    @property
    def _tied(self) -> str:
        """That others are as good as the last of the best, which then is there by chance."""
        if not self.n_tied:
            return ""
        last = "the last of them" if len(self.best) > 1 else "it"
        return f"; {self.n_tied:,} more {'has' if self.n_tied == 1 else 'have'} the same metric as {last}"


def survivors(
    samples: Float64s, values: Float64s, k: int, alpha: float, seen: float = 0.0
) -> tuple[np.ndarray, float]:
    """(mask of who stays, critical value) after one look.

    `values` (architectures,) is the metric, `samples` (architectures, resamples) the metric under the
    same resamples of images for all, `seen` the share of all images that these are. The chance that one of
    the truly best k is dropped is at most about `alpha`.
    """
    n = len(values)
    if n <= k:
        return np.ones(n, bool), math.inf
    centred = samples - samples.mean(1, keepdims=True)
    centred /= math.sqrt(samples.shape[1] - 1)
    covariance = centred @ centred.T
    variance = np.diag(covariance)
    error = np.sqrt(np.maximum(variance[:, None] + variance - 2 * covariance, 0))  # of differences
    critical = _critical(centred, error, np.argsort(-values, kind="stable")[:k], alpha)
    if math.isinf(critical):  # no difference by chance was seen at all
        return np.ones(n, bool), critical
    least = critical * error * math.sqrt(1 - seen)
    ahead = values[None, :] - values[:, None] > least  # [a, b]: b is better than a
    tiny = error <= 1e-9 * np.abs(values).max(initial=1e-300)
    ahead &= ~tiny  # the same predictions, or as good as: no evidence
    return ahead.sum(1) < k, critical


def race(
    archs: Sequence[str],
    k: int,
    sizes: Sequence[int],
    evaluate: Evaluate,
    confidence: float = 0.95,
    on_look: Callable[[Look], None] = lambda look: None,
) -> Raced:
    """The best k of `archs`, looked at on the first sizes[0], sizes[1], ... evaluation images.

    The last size is the whole evaluation set. Ends early once k are left. `on_look` is told each look.
    Raises BnrecalError for sizes that do not grow, fewer than k architectures and a confidence that is none.
    """
    if not 1 <= k <= len(archs) or len(set(archs)) < len(archs):
        raise BnrecalError(f"--race: the best {k} of {len(set(archs))} different architectures")
    if not sizes or min(sizes) < 2 or list(sizes) != sorted(set(sizes)):
        raise BnrecalError(
            f"--race: sizes {', '.join(map(str, sizes))}; need growing numbers of images from 2 on"
        )
    if not 0.5 <= confidence < 1:
        raise BnrecalError(f"--race: confidence {confidence}; allowed: from 0.5 to below 1")
    alpha = (1 - confidence) / max(1, len(sizes) - 1)  # the last look drops nobody
    alive, looks, before, n_evaluated = list(archs), [], 0, 0
    values = np.zeros(len(archs))
    for size in sizes:
        evidence = evaluate(alive, size)
        n_evaluated += len(alive) * (size - before)
        before = size
        failed = tuple(arch for arch in alive if arch not in evidence)
        alive = [arch for arch in alive if arch in evidence]
        if len(alive) < k:
            raise BnrecalError(
                f"--race: {len(failed)} architectures failed, {len(alive)} are left; needs {k}"
            )
        once = np.ones((size, 1), np.int32)
        values = np.array([resampled(evidence[arch], once)[0] for arch in alive])
        stays, critical = np.ones(len(alive), bool), math.inf
        if size < sizes[-1] and len(alive) > k:
            weights = draw(size, N_RESAMPLES)
            samples = np.array([resampled(evidence[arch], weights) for arch in alive])
            stays, critical = survivors(samples, values, k, alpha, size / sizes[-1])
        dropped = tuple(arch for arch, stay in zip(alive, stays, strict=True) if not stay)
        alive = [arch for arch, stay in zip(alive, stays, strict=True) if stay]
        values = values[stays]
        order = np.argsort(-values, kind="stable")
        looks.append(Look(size, tuple(alive[i] for i in order), dropped, failed, critical))
        on_look(looks[-1])
        if len(alive) == k:
            break
    best = tuple((alive[i], float(values[i])) for i in np.argsort(-values, kind="stable")[:k])
    n_tied = max(0, int((values >= best[-1][1]).sum()) - k)  # nothing ties with what is no number
    return Raced(best, tuple(looks), confidence, n_evaluated, len(archs) * sizes[-1], n_tied)


def _critical(centred: Float64s, error: Float64s, leading: np.ndarray, alpha: float) -> float:
    """The 1 - alpha quantile of the largest standardised difference between a leader and another."""
    random = np.random.Generator(np.random.PCG64(_SEED))
    chance = centred @ random.standard_normal((centred.shape[1], _MULTIPLIERS))  # (archs, multipliers)
    largest = np.full(_MULTIPLIERS, -np.inf)
    others = np.setdiff1d(np.arange(len(centred)), leading)
    for a in leading:
        scale = error[a, others]
        there = scale > 0
        if there.any():
            above = (chance[others[there]] - chance[a]) / scale[there, None]
            largest = np.maximum(largest, above.max(0))
    return float(np.quantile(largest, 1 - alpha)) if np.isfinite(largest).all() else math.inf
