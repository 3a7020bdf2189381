"""A network whose BatchNorms take the images of several processes for one batch."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from bnrecal.errors import BnrecalError
from bnrecal.norms.across import Shared
from bnrecal.norms.convert import batchnorms, put_in_place
from bnrecal.norms.cross_iteration import CrossIterationBatchNorm2d
from bnrecal.norms.ghost import _GhostBatchNorm
from bnrecal.norms.kinds import replacements
from bnrecal.norms.renorm import _BatchRenorm


def synchronise(model: nn.Module, shared: Shared) -> nn.Module:
    """The model, its BatchNorms changed in place; state dicts stay as they were.

    A BatchNorm, torch's SyncBatchNorm and a Batch Renormalization without `norm_batch` take statistics over
    all processes; with one they keep their groups, and the running statistics see every process' groups one
    after another. Norms of single images need nothing.

    Raises BnrecalError for layers that depend on batches in another way: Cross-Iteration BatchNorm, a
    BatchNorm with a forward of its own, an InstanceNorm that keeps running statistics.
    """
    found, left = batchnorms(model)
    for name, layer in model.named_modules():
        own = isinstance(layer, _BatchNorm) and name in left
        keeps = isinstance(layer, _InstanceNorm) and layer.track_running_stats
        if own or keeps or isinstance(layer, CrossIterationBatchNorm2d):
            raise BnrecalError(
                f"{name or 'the model'}: a {type(layer).__name__} cannot take the images of several "
                "processes for one batch; train it in one process, with physical_batch where memory is short"
            )
    plain = {k: bn for k, bn in found.items() if not isinstance(bn, _GhostBatchNorm | _BatchRenorm)}
    made = replacements(model, plain, "bn", {"norm_batch": None})
    model = put_in_place(model, {plain[name]: layer for name, layer in made.items()})
    for layer in model.modules():
        if isinstance(layer, _GhostBatchNorm | _BatchRenorm):
            layer.shared = shared
    return model
