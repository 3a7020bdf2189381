"""Networks that were exported, folded or prepared for quantisation: why each is refused, and what to do."""

from typing import Any

from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from bnrecal.errors import BnrecalError

NONE = "none at all; where they were folded into convolutions, recalibrate before folding"
_WRITE = (
    "recalibrate the module it was exported from, then report.statistics.write_to(program.module()) puts "
    "the statistics into the program"
)
EXPORTED = f"torch.export: its BatchNorms are operations of a graph; {_WRITE}"


def check_module(model: Any) -> None:
    """Raise BnrecalError for what is no module, naming the way for an exported program."""
    if isinstance(model, ExportedProgram):
        raise BnrecalError(f"the model is an exported program, whose operations cannot be changed; {_WRITE}")
    if not isinstance(model, nn.Module):
        raise BnrecalError(f"the model is a {type(model).__name__}; needs a torch.nn.Module")


def normalises(graph: GraphModule) -> bool:
    """Whether a traced graph calls batch normalisation as an operation."""
    return any(node.op == "call_function" and "batch_norm" in str(node.target) for node in graph.graph.nodes)


def check_quantisation(model: nn.Module) -> None:
    """Raise BnrecalError for a network whose forward changes more than statistics, or uses them otherwise.

    A convolution fused with its BatchNorm for quantisation-aware training scales its weights by the
    running statistics, also while they are estimated (Krishnamoorthi, "Quantizing deep convolutional
    networks", 2018, section 3.2.2). Observers take every forward into the ranges that they keep.
    """
    inner: set[nn.Module] = set()  # what a fake quantiser observes with, if it does
    for name, module in model.named_modules():
        kinds = {kind.__name__ for kind in type(module).__mro__}
        what = f"{name or 'the model itself'} ({type(module).__name__})"
        if "_ConvBnNd" in kinds:
            raise BnrecalError(
                f"{what} scales its weights by the statistics that would be re-estimated, as "
                "quantisation-aware training does; recalibrate before the network is prepared for it"
            )
        if "FakeQuantizeBase" in kinds:
            inner.update(module.modules())
        observes = bool(module.observer_enabled) if "FakeQuantizeBase" in kinds else module not in inner
        if kinds & {"ObserverBase", "FakeQuantizeBase"} and observes:
            raise BnrecalError(
                f"{what} would take these images into the ranges it observes; switch observers off "
                "(model.apply(torch.ao.quantization.disable_observer)), or recalibrate before preparing"
            )
