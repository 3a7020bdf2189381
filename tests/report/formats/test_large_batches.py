"""The figure of large batches."""

import pytest

from bnrecal.report.analysis.by_axes import variants_of
from bnrecal.report.analysis.summary import make_report
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.report.formats.figures import pictures_of
from bnrecal.report.formats.large_batches import large_batches_picture
from bnrecal.store.store import Row
from tests.report.analysis.test_by_axes import trained

NOTHING = Uncertainty(None)


def rows(sizes: tuple[int, ...] = (64, 256, 1024)) -> list[Row]:
    """SGD at two rates, the higher one better but for the largest batch; LARS there, better than both."""
    found = []
    for seed in range(3):
        shift = 0.001 * (seed - 1)
        for size in sizes:
            for lr in (0.1, 0.4):
                level = 0.7 - size / 4000 + (0.1 if (lr == 0.4) == (size < 1024) else 0) + shift
                recipe = {"batch_size": size, "lr": lr, "seed": seed}
                found += trained(recipe, {("stored", None): level - 0.02, ("pooled", 64): level})
        lars = {"batch_size": 1024, "optimizer": "lars", "trust_coefficient": 0.02, "lr": 0.4, "seed": seed}
        found += trained(lars, {("stored", None): 0.6 + shift, ("pooled", 64): 0.65 + shift})
    return found


def test_each_optimiser_stands_with_its_best_recipe_at_each_batch() -> None:
    """Re-estimated and as it stands, in per cent; beside published ones, but for differences."""
    picture = next(p for p in pictures_of(make_report(rows())) if p.name == "large-batches")
    here, published = picture.panels
    assert "sgd: 64 78.4, 256 73.6, 1,024 54.4" in here.alt
    assert "sgd, as it stands: 64 76.4, 256 71.6, 1,024 52.4" in here.alt
    assert "lars: 1,024 65.0" in here.alt
    assert "lars, as it stands: 1,024 60.0" in here.alt
    assert "(NUS-HPC): 512 77.0, 1,024 77.0, 4,096 77.4, 8,192 77.1" in published.alt
    assert "seed 004" not in published.alt
    assert "open, dashed: the same as it stands" in picture.caption


def test_one_recipe_at_every_batch_is_a_line_of_its_own() -> None:
    """Where one alone is not the best everywhere; of a grid of rates there would be too many."""
    one = [row for row in rows() if row["recipe"].get("lr") == 0.1 or row["recipe"]["batch_size"] != 1024]
    (variants,) = variants_of(one, None, None)
    picture = large_batches_picture(variants, NOTHING, "")
    assert picture is not None
    assert "lr 0.1 at every batch: 64 68.4, 256 63.6, 1,024 54.4" in picture.panels[0].alt
    (variants,) = variants_of(rows(), None, None)
    picture = large_batches_picture(variants, NOTHING, "")
    assert picture is not None
    assert "at every batch" not in picture.panels[0].alt


def test_no_figure_without_a_second_batch_or_top_1() -> None:
    """Then the figure of trained networks is drawn, as of any other number; never both."""
    names = [p.name for p in pictures_of(make_report(rows()))]
    assert ("large-batches" in names, "trained" in names) == (True, False)
    single = [row for row in rows((64,)) if row["recipe"].get("optimizer") != "lars"]
    assert [p.name for p in pictures_of(make_report(single)) if p.topic == "trained"] == ["trained"]
    (variants,) = variants_of([row | {"metric": "map50"} for row in rows()], None, None)
    assert large_batches_picture(variants, NOTHING, "") is None


@pytest.mark.parametrize("estimated", [True, False])
def test_drawn_every_line_has_its_name_once(estimated: bool) -> None:
    """Lines as they stand are named where nothing was re-estimated."""
    from matplotlib.figure import Figure

    found = [row for row in rows() if estimated or row["estimator"] == "stored"]
    (variants,) = variants_of(found, None, None)
    picture = large_batches_picture(variants, NOTHING, "")
    assert picture is not None
    axes = Figure().add_subplot()
    picture.panels[0].draw(axes)
    assert axes.get_legend_handles_labels()[1] == ["sgd", "lars"]
    assert len(axes.containers) == (4 if estimated else 2)
