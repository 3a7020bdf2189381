"""What an architecture is worth without training it: pure functions of weights, costs or nothing at all.

    bn       mean |gamma| of the last BatchNorm of each chosen operation, summed over layers (BN-NAS,
             Chen et al., ICCV 2021, eq. 3)
    flops    multiply-accumulates: the larger network is taken for the better
    params   parameters, the same
    random   a number that belongs to the architecture's name: what knowing nothing gives
    eval     the recalibrated metric, stored the metric with the statistics the network has: these two are
             cells of a sweep
    module:function   the user's own

All are read as "more is better".
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bnrecal.data.draws import draws, stream_key
from bnrecal.data.user_code import imported, on_stderr
from bnrecal.errors import BnrecalError, unknown_choice
from bnrecal.search.space import Choices, Space, unit

if TYPE_CHECKING:
    from torch import nn

    from bnrecal.search.cost import Additive

JUDGES = ("bn", "eval", "stored", "flops", "params", "random")
MEASURED = ("eval", "stored")  # need images
ADDITIVE = ("bn", "flops", "params")  # a sum over layers: the exact optimum is within reach

Scores = Sequence[Mapping[int, float]]  # (layers){choice: its share of the sum}
OWN_ARGUMENTS = ("module", "arch", "images")


def check_judge(name: str, place: str = "--judge") -> None:
    """Refuse a name that is neither in JUDGES nor of the form module:function."""
    if name not in JUDGES and ":" not in name:
        raise unknown_choice("judge", name, [*JUDGES, "module:function"], place)


def operation_score(operation: "nn.Module | None", place: str) -> float:
    """Mean |gamma| over the channels of the operation's last BatchNorm; 0 for one that learns nothing.

    The last in the order of registration, which in an operation written down in the order it runs is the
    one that scales what it gives. An operation without BatchNorm and parameters (an identity, a pooling)
    counts 0. Raises BnrecalError for one that has parameters and no BatchNorm, or a last one without a
    learnt scale (affine=False): there is no gamma to read.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [] if operation is None else [m for m in operation.modules() if isinstance(m, _BatchNorm)]
    if operation is None or not (norms or any(True for _ in operation.parameters())):
        return 0.0
    if not norms:
        raise BnrecalError(f"--judge bn: {place} has no BatchNorm, so the indicator is undefined")
    if norms[-1].weight is None:
        raise BnrecalError(
            f"--judge bn: the last BatchNorm of {place} has no learnt scale (affine=False), so the indicator "
            "is undefined"
        )
    found = float(norms[-1].weight.detach().double().abs().mean())
    if not math.isfinite(found):
        raise BnrecalError(f"--judge bn: the scale of the last BatchNorm of {place} is not finite ({found})")
    return found


def bn_scores(space: Space, candidate: "Callable[[int, int], nn.Module | None]") -> Scores:
    """The indicator's share of every allowed choice; `candidate(layer, choice)` is a source's.

    Scores every architecture by looking at each operation once. Raises BnrecalError as `operation_score`.
    """
    return [
        {c: choice_score(space, candidate, at, c) for c in options}
        for at, options in enumerate(space.allowed)
    ]


def choice_score(
    space: Space, candidate: "Callable[[int, int], nn.Module | None]", layer: int, choice: int
) -> float:
    """The indicator's share of one choice of one layer."""
    place = f"choice {space.layers[layer][choice]} of layer {layer}"
    return operation_score(candidate(layer, choice), place)


def cost_scores(additive: "Additive", what: str) -> Scores:
    """The share of every choice in "flops" or "params", beyond those of the first choices."""
    return [{c: float(getattr(cost, what)) for c, cost in part.items()} for part in additive.parts]


def total(scores: Scores, choices: Choices) -> float:
    """The sum over layers, correctly rounded, so that it does not depend on the order of layers."""
    return math.fsum(share[c] for share, c in zip(scores, choices, strict=True))


def random_score(arch: str, seed: int) -> float:
    """Uniform in [0, 1); the same for this name and seed everywhere."""
    return unit(draws(stream_key("random-judge", seed, arch), np.zeros(1, np.int64), 1)[0, 0])


def own_judge(spec: str, place: str = "--judge") -> Callable[[Mapping[str, Any]], float]:
    """The user's "module:function" as judge({"module": ..., "arch": ..., "images": ...}).

    The function gets those of these arguments that it names (all of them with **): the network with its
    weights in eval mode, the architecture's name, and a batch of calibration images as the network gets
    them. What it prints goes to stderr. Raises BnrecalError for a function that asks for anything else,
    raises, or gives no finite number.
    """
    function = imported(spec, place)
    if not callable(function):
        raise BnrecalError(f"{place}: {spec} is a {type(function).__name__}, not a function")
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        raise BnrecalError(f"{place}: {spec} does not say which arguments it takes") from None
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    wanted = [name for name in OWN_ARGUMENTS if takes_any or name in {p.name for p in by_name}]
    unnamed = [f"{p.name} by position" for p in parameters if p.kind is p.POSITIONAL_ONLY]
    foreign = unnamed + [p.name for p in by_name if p.default is p.empty and p.name not in OWN_ARGUMENTS]
    if foreign:
        raise BnrecalError(
            f"{place}: {spec} needs {', '.join(foreign)}; allowed arguments: {', '.join(OWN_ARGUMENTS)}"
        )

    def judge(given: Mapping[str, Any]) -> float:
        try:
            said = on_stderr(function)(**{name: given[name] for name in wanted})
        except BnrecalError:
            raise
        except (Exception, SystemExit) as error:
            what = f"{type(error).__name__}: {error}"
            raise BnrecalError(f"{place}: {spec} ({given['arch']}) raised {what}") from error
        found = _number(said)
        if found is None:
            kind = type(said).__name__
            raise BnrecalError(f"{place}: {spec} ({given['arch']}) gives a {kind}; needs a finite number")
        if not math.isfinite(found):
            raise BnrecalError(f"{place}: {spec} ({given['arch']}) gives {found}; needs a finite number")
        return found

    return judge


def _number(said: Any) -> float | None:
    """None for what is no number, a text that reads as one too; a tensor may still hang on its graph."""
    if isinstance(said, str | bytes):
        return None
    try:
        return float(said.detach() if hasattr(said, "detach") else said)
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        return None
