from dataclasses import replace
from pathlib import Path

import pytest

from bnrecal.errors import BnrecalError
from bnrecal.plan.grid import cells_of
from bnrecal.plan.opened import Opened
from bnrecal.plan.passes import passes_of
from bnrecal.study.cells import Cell
from bnrecal.study.study import make_study, read_study_file


def cells(**settings: object) -> list[Cell]:
    return cells_of(Opened.of(make_study({"task": "tiny", "baseline": False, **settings})))


def test_nothing_said_is_the_published_grid() -> None:
    """4 batch sizes x 3 sample counts x 3 architectures, ema with momentum .1."""
    study = make_study({"baseline": False})
    assert study.bs == (8, 16, 32, 64)
    assert study.samples == (2560, 5120, 10240)
    planned = cells_of(Opened.of(study))
    assert len(planned) == 36
    assert {(c.estimator, c.momentum, c.seed) for c in planned} == {("ema", 0.1, 0)}


def test_the_key_is_of_the_scientific_fields_alone() -> None:
    """The same cell planned twice has one key; any field changed gives another."""
    cell = cells()[0]
    assert cell.key == cells()[0].key
    changed = {
        "task": "x",
        "metric": "top1",
        "data_digest": "x",
        "order_digest": "x",
        "arch": "x",
        "weights_digest": "x",
        "batch_size": 5,
        "n_samples": 5,
        "estimator": "x",
        "momentum": 0.2,
        "seed": 9,
    }
    keys = {replace(cell, **{name: value}).key for name, value in changed.items()}
    assert len(keys | {cell.key}) == len(changed) + 1


def test_two_sample_counts_are_prefixes_of_one_order() -> None:
    """Different counts have different order digests; the same count has one whatever else varies."""
    by_count: dict[int, set[str]] = {}
    for cell in cells(bs=[4, 8], samples=[64, 128], momentum=[0.1, 0.2]):
        by_count.setdefault(cell.n_samples, set()).add(cell.order_digest)
    assert [len(digests) for digests in by_count.values()] == [1, 1]
    assert len(set.union(*by_count.values())) == 2
    assert cells(seed=1)[0].order_digest != cells(seed=0)[0].order_digest


def test_one_pass_serves_all_sample_counts() -> None:
    """A pass per architecture and batch size; a count that leaves a short batch walks by itself."""
    passes = passes_of(cells(bs=[8, 16], samples=[64, 128, 100], arch=["arch1"]))
    counts = sorted((p.first.batch_size, *(c.n_samples for c in p.cells)) for p in passes)
    assert counts == [(8, 64, 128), (8, 100), (16, 64, 128), (16, 100)]


def test_updates_count_the_short_batch() -> None:
    """100 images in batches of 8 are 13 updates."""
    assert cells(bs=[8], samples=[100])[0].n_updates == 13


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bs": ["0"]}, "--bs: '0'; allowed: 1 or more$"),
        ({"bs": ["8", "x"]}, "--bs: 'x' is no whole number$"),
        ({"samples": ["-3"]}, "--samples: '-3'"),
        ({"samples": [10], "bs": [64]}, "--samples: 10 samples do not fill one batch of 64"),
        ({"momentum": ["0"]}, "--momentum: '0'"),
        ({"momentum": ["1.5"]}, "--momentum: '1.5'; allowed: 1 or less$"),
        ({"momentum": ["x"]}, "--momentum: 'x' is no number$"),
        ({"image_size": "sixty"}, "--image_size: 'sixty': a side in pixels, such as 224, or HEIGHTxWIDTH"),
        ({"image_size": "0x9999"}, "--image_size: '0'; allowed: 1 or more$"),
        ({"momentum": ["nan"]}, "--momentum: 'nan'"),
        ({"seed": "-1"}, "--seed: '-1'"),
        ({"estimator": ["mean"]}, "--estimator: unknown estimator 'mean'; valid: ema"),
        ({"colour": "red"}, "colour: unknown setting 'colour'; valid: task, model"),
        ({"arch": []}, "--arch"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], message: str) -> None:
    """The value, the option and what is allowed, in one line."""
    places = {name: f"--{name}" for name in settings if name != "colour"}
    with pytest.raises(BnrecalError, match=message) as raised:
        make_study(settings, places)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "gaments"}, "--task: unknown task 'gaments'; valid: garments, tiny"),
        ({"samples": [512]}, "--samples: 512: task 'tiny' has 256 images"),
        ({"arch": ["arch9"]}, "--arch: unknown architecture 'arch9'"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(settings: dict[str, object], message: str) -> None:
    """What the task or the network does not have is named with what they have."""
    with pytest.raises(BnrecalError, match=message):
        cells(**settings)


def test_study_files_are_read(tmp_path: Path) -> None:
    """TOML with the field names of Study; repeated values count once."""
    path = tmp_path / "study.toml"
    path.write_text('task = "tiny"\nbs = [8, 8, 4]\nsamples = [64]\n')
    study = make_study(read_study_file(path))
    assert (study.task, study.bs, study.samples) == ("tiny", (8, 4), (64,))


@pytest.mark.parametrize("content", [b"bs = [", b"\xff\xfe", None])
def test_unreadable_study_files_are_named(tmp_path: Path, content: bytes | None) -> None:
    """Not TOML, not text, not there: one line with the path."""
    path = tmp_path / "study.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BnrecalError, match=r"--study: .*study.toml"):
        read_study_file(path)


def test_the_published_grid_file_is_the_default() -> None:
    """experiments/published_grid.toml says what a plain sweep runs."""
    path = Path(__file__).parents[2] / "experiments" / "published_grid.toml"
    assert make_study(read_study_file(path)) == make_study({})
