"""Progress: what a callback is told, and a bar that is drawn only where it was asked for."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import bnrecal
from bnrecal import BnrecalError
from bnrecal.recalibration.progress import n_images_in
from tests.recalibration.test_recalibrate import deep_net, images
from tests.recalibration.test_walk import everything, same


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(images(12))


def told(batches: Iterable[Any], **settings: Any) -> list[tuple[int, int | None]]:
    calls: list[tuple[int, int | None]] = []
    bnrecal.recalibrate(deep_net(), batches, progress=lambda done, of: calls.append((done, of)), **settings)
    return calls


def test_a_callback_is_told_the_images_read_and_those_in_all() -> None:
    """After each batch; in all from n_samples, from a list, from a loader, or None of a stream."""
    data = TensorDataset(images(20))
    assert told(images(20).split(8)) == [(8, 20), (16, 20), (20, 20)]
    assert told(images(20).split(8), n_samples=12) == [(8, 12), (12, 12)]
    assert told(DataLoader(data, 8)) == [(8, 20), (16, 20), (20, 20)]
    assert told(DataLoader(data, 8, drop_last=True)) == [(8, 16), (16, 16)]
    assert told(DataLoader(Stream(), 8)) == [(8, None), (12, None)]
    assert told(iter(images(16).split(8))) == [(8, None), (16, None)]


def test_exact_counts_every_pass_and_promises_no_end() -> None:
    """What is told grows to images times passes."""
    calls: list[tuple[int, int | None]] = []
    report = bnrecal.recalibrate(
        deep_net(), images(16).split(8), estimator="exact", progress=lambda *now: calls.append(now)
    )
    assert calls[-1] == (16 * report.n_passes, None)
    assert [done for done, _ in calls] == [8 * (k + 1) for k in range(2 * report.n_passes)]


def test_loaders_with_batches_of_ones_own() -> None:
    """A batch sampler that is not torch's tells no number of images."""
    data = TensorDataset(images(6))
    batches: Any = [[0, 1], [2, 3, 4, 5]]
    assert n_images_in(DataLoader(data, batch_sampler=batches), None) is None
    assert n_images_in(DataLoader(data, batch_size=None), None) is None


def test_a_bar_is_drawn_on_stderr_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing at all by default; with True the final count, and stdout stays empty."""
    bnrecal.recalibrate(deep_net(), images(16).split(8))
    silent = capsys.readouterr()
    assert silent.out == silent.err == ""
    bnrecal.recalibrate(deep_net(), images(16).split(8), progress=True)
    drawn = capsys.readouterr()
    assert drawn.out == ""
    assert "16 of 16 images" in drawn.err


def test_diagnose_tells_of_its_checks(capsys: pytest.CaptureFixture[str]) -> None:
    """One call a check, and a bar that ends at all of them."""
    calls: list[tuple[int, int | None]] = []
    found = bnrecal.diagnose(deep_net(), images(8).split(8), progress=lambda *now: calls.append(now))
    n = len(found.findings)
    assert calls == [(k + 1, n) for k in range(n)]
    bnrecal.diagnose(deep_net(), images(8).split(8), progress=True)
    assert f"{n} of {n} checks" in capsys.readouterr().err


def test_a_callback_that_raises_leaves_the_model_as_it_was() -> None:
    """Its own error comes through, and nothing has changed."""
    model = deep_net()
    before = everything(model)

    def stop(done: int, of: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bnrecal.recalibrate(model, images(16).split(8), progress=stop)
    assert same(everything(model), before)


def test_progress_is_a_truth_value_or_a_callable() -> None:
    """Anything else is one line, before anything is read."""
    progress: Any = "yes"
    with pytest.raises(BnrecalError, match="progress='yes': True, False, or a callable"):
        bnrecal.recalibrate(deep_net(), [torch.zeros(0)], progress=progress)
