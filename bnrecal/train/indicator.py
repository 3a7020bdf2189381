"""The BN indicator of each candidate of a supernet as training goes on (BN-NAS, Chen et al., ICCV 2021)."""

from bnrecal.errors import BnrecalError
from bnrecal.networks.learner import Choices
from bnrecal.search.judges import operation_score


def indicators(choices: Choices) -> list[list[float | None]] | None:
    """Mean |gamma| of each operation's last normalisation, by layer and choice; None where there is none.

    None for the whole where the supernet does not name its operations.
    """
    if choices.operations is None:
        return None
    found: list[list[float | None]] = []
    for at, layer in enumerate(choices.operations):
        found.append([])
        for choice, operation in enumerate(layer):
            try:
                score = operation_score(operation, f"choice {choice} of layer {at}")
            except BnrecalError:  # no BatchNorm in it, or one without a scale
                found[-1].append(None)
            else:
                found[-1].append(round(score, 6))
    return found
