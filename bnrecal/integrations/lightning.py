"""Recalibration inside a Lightning fit: before each validation, or at its end.

For weights that were never trained with the running statistics beside them: weight averaging (SWA, EMA),
schedule-free optimisers, frozen momentum. Needs the extra `bnrecal[lightning]`.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, IterableDataset

from bnrecal.errors import BnrecalError, unknown_choice
from bnrecal.recalibration.batches import Forward, call
from bnrecal.recalibration.recalibrate import recalibrate, recalibrated
from bnrecal.recalibration.result import Recalibration

try:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import Checkpoint
    from lightning.pytorch.trainer.states import TrainerFn
    from lightning.pytorch.utilities.seed import isolate_rng
except ModuleNotFoundError as error:
    raise BnrecalError("bnrecal.integrations.lightning needs pip install 'bnrecal[lightning]'") from error

When = Literal["validation", "fit end"]
N_SAMPLES = 1024  # of the trainer's own loader


class RecalibrateBatchNorm(pl.Callback):
    """Re-estimates running statistics before each validation of a fit, or once when it has ended.

    Before validation it works on the weights that are about to be validated, whatever put them there:
    lightning's WeightAveraging (in either order of the callbacks), or hooks of the module that swap an
    optimiser's weights. At the fit's end it comes after StochasticWeightAveraging and WeightAveraging and
    before checkpoints. Nothing is done in the sanity check, nor in trainer.validate() and test().

    By default the new statistics stay, so that a checkpoint holds what was validated; training does not
    look at them. With `put_back` the old ones return when validation ends, and training goes on bit for bit
    as it would without this callback.

    The trainer's own images are read apart from its iterators and random numbers: a fixed random choice
    of the training set, drawn by `seed`, transformed and collated as in training, in batches of its size.
    Several processes share the choice, each reads its part, and all end with the statistics of the whole
    (bnrecal/recalibration/merge.py). BatchNorms that were in eval mode in the last training step are
    frozen and left alone.

    Args:
        when: "validation" or "fit end".
        loader: batches to use instead of the trainer's; each process reads its own, all of them if
            `n_samples` is None. A loader, list or other iterable that starts anew, or a callable that makes
            one.
        n_samples: images to read, in all processes together; None: 1,024 of the trainer's, or all there are.
        forward: forward(module, batch) on a batch moved by the trainer; by default module(batch) or its
            first element.
        put_back: whether the statistics before return after validation.
        seed: draws the choice of training images.
        settings: of `recalibrate`: estimator, momentum, progress.

    Attribute `report` is the last Recalibration, None before the first.

    Raises BnrecalError for values out of range, for a training loader that cannot be read beside the
    training (pass `loader`), and as `recalibrate` does.

    >>> from lightning.pytorch.callbacks import WeightAveraging
    >>> callbacks = [WeightAveraging(), RecalibrateBatchNorm(n_samples=512)]
    >>> trainer = pl.Trainer(callbacks=callbacks, accelerator="cpu", logger=False)  # doctest: +SKIP
    """

    def __init__(
        self,
        when: When = "validation",
        *,
        loader: Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
        n_samples: int | None = None,
        forward: Forward | None = None,
        put_back: bool = False,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__()
        if when not in get_args(When):
            raise unknown_choice("moment", when, get_args(When), "when")
        if n_samples is not None and n_samples < 1:
            raise BnrecalError(f"n_samples={n_samples}: at least 1, or None")
        if put_back and when == "fit end":
            raise BnrecalError("put_back: goes with when='validation'; nothing follows a fit's end")
        if loader is not None and not callable(loader) and iter(loader) is loader:
            raise BnrecalError("loader: an iterator can be read once; give a loader, a list or a callable")
        self.when, self.loader, self.n_samples, self.seed = when, loader, n_samples, seed
        self.forward, self.put_back, self.settings = forward or call, put_back, settings
        self.report: Recalibration | None = None
        self._scope = contextlib.ExitStack()  # holds the statistics to put back
        self._pending = False  # whether this validation is still to be prepared
        self._norms: list[_BatchNorm] = []
        self._frozen: set[nn.Module] = set()

    def setup(self, trainer: "pl.Trainer", pl_module: "pl.LightningModule", stage: str) -> None:
        """Take the place among the callbacks that `when` needs.

        First for validation, since callbacks that swap weights back would do so before the statistics are
        put back; at the fit's end last, but for checkpoints. (The trainer walks over its old list now.)
        """
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        others = [other for other in callbacks if other is not self]
        n = 0 if self.when == "validation" else sum(not isinstance(other, Checkpoint) for other in others)
        trainer.callbacks = [*others[:n], self, *others[n:]]  # type: ignore[attr-defined]

    def on_train_start(self, trainer: "pl.Trainer", pl_module: "pl.LightningModule") -> None:
        self._norms = [module for module in pl_module.modules() if isinstance(module, _BatchNorm)]

    def on_train_batch_end(
        self, trainer: "pl.Trainer", pl_module: "pl.LightningModule", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note which layers training holds frozen; in validation all are in eval mode."""
        self._frozen = {norm for norm in self._norms if not norm.training}

    def on_validation_epoch_start(self, trainer: "pl.Trainer", pl_module: "pl.LightningModule") -> None:
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        self._pending = fitting and self.when == "validation"

    def on_validation_batch_start(
        self,
        trainer: "pl.Trainer",
        pl_module: "pl.LightningModule",
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Before the first batch, when every other callback and the module have prepared the weights."""
        if not self._pending:
            return
        self._pending = False
        if not self.put_back:
            self._run(trainer, pl_module, recalibrate)
            return

        def held(model: nn.Module, batches: Iterable[Any], **settings: Any) -> Recalibration:
            return self._scope.enter_context(recalibrated(model, batches, **settings))

        self._run(trainer, pl_module, held)

    def on_validation_epoch_end(self, trainer: "pl.Trainer", pl_module: "pl.LightningModule") -> None:
        self._scope.close()

    def on_exception(
        self, trainer: "pl.Trainer", pl_module: "pl.LightningModule", exception: BaseException
    ) -> None:
        self._scope.close()

    def on_train_end(self, trainer: "pl.Trainer", pl_module: "pl.LightningModule") -> None:
        if self.when == "fit end":
            self._run(trainer, pl_module, recalibrate)

    def _run(
        self, trainer: "pl.Trainer", pl_module: "pl.LightningModule", do: Callable[..., Recalibration]
    ) -> None:
        """Recalibrate by `do`, on the device and in the precision of the fit."""
        batches, n = self._batches(trainer)

        def forward(model: nn.Module, batch: Any) -> Any:
            precision = trainer.precision_plugin
            with precision.forward_context():
                on_device = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
                return self.forward(model, precision.convert_input(on_device))

        # by name: training held them frozen on purpose, which calls for no warning
        names = [name for name, module in pl_module.named_modules() if module in self._frozen]
        settings = {"frozen": names or "none", **self.settings}
        with isolate_rng(), _as_in_training(pl_module, self._frozen):
            self.report = do(pl_module, batches, n_samples=n, forward=forward, **settings)

    def _batches(self, trainer: "pl.Trainer") -> tuple[Iterable[Any], int | None]:
        """This process's batches, and how many images of them to read."""
        world, rank = trainer.world_size, trainer.global_rank
        if self.loader is None:
            data: Any = trainer.train_dataloader
            whole = len(data.dataset) if _can_be_chosen_from(data) else None
            if whole is None:
                raise BnrecalError(
                    f"the trainer's loader ({type(data).__name__}) cannot be read beside the training; "
                    "give RecalibrateBatchNorm a loader= of its own"
                )
            if self.n_samples is not None and self.n_samples > whole:
                raise BnrecalError(f"n_samples={self.n_samples}: the training set has {whole} images")
            n = min(self.n_samples or N_SAMPLES, whole)
            drawn = torch.randperm(whole, generator=torch.Generator().manual_seed(self.seed))[:n]
            return _apart(data, drawn[rank::world]), None
        batches = self.loader() if callable(self.loader) else self.loader
        if self.n_samples is None:
            return batches, None
        return batches, self.n_samples // world + (rank < self.n_samples % world)


def _can_be_chosen_from(data: Any) -> bool:
    """Whether images can be taken from this loader's data set by index, in batches that it collates."""
    return (
        isinstance(data, DataLoader)
        and not isinstance(data.dataset, IterableDataset)
        and hasattr(data.dataset, "__len__")
        and (data.batch_size is not None or getattr(data.batch_sampler, "batch_size", None) is not None)
    )


def _apart(data: "DataLoader[Any]", indices: Tensor) -> Iterable[Any]:
    """The images of these indices, from a loader of its own that is set up as the given one."""
    size: int = data.batch_size or data.batch_sampler.batch_size  # type: ignore[union-attr]
    return DataLoader(
        data.dataset,
        batch_sampler=_in_turn(indices, size),
        num_workers=data.num_workers,
        collate_fn=data.collate_fn,
        pin_memory=data.pin_memory,
        timeout=data.timeout,
        worker_init_fn=data.worker_init_fn,
        multiprocessing_context=data.multiprocessing_context,
    )


def _in_turn(indices: Tensor, size: int) -> list[list[int]]:
    """Batches of indices; a last one of a single image joins the one before, for it has no variance."""
    order = indices.tolist()
    batches = [order[k : k + size] for k in range(0, len(order), size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2] += batches.pop()
    return batches


@contextlib.contextmanager
def _as_in_training(module: nn.Module, frozen: set[nn.Module]) -> Iterator[None]:
    """The modes by which `recalibrate` tells frozen layers: those of the last training step."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    touched = [module, *norms]
    modes = [m.training for m in touched]
    try:
        for m in touched:
            m.training = m not in frozen
        yield
    finally:
        for m, training in zip(touched, modes, strict=True):
            m.training = training
