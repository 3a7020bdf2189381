"""The figure of small batches, its tables and its sentences."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnrecal.report.analysis.by_axes import variants_of
from bnrecal.report.analysis.norm_findings import norm_findings
from bnrecal.report.analysis.published import published_small_batches
from bnrecal.report.analysis.summary import make_report
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.report.formats.canvas import write_pictures
from bnrecal.report.formats.figures import pictures_of
from bnrecal.report.formats.small_batches import apart, small_batches_picture
from bnrecal.report.formats.variants import text_tables
from bnrecal.store.store import Row
from tests.report.analysis.test_by_axes import trained

NOTHING = Uncertainty(None)
LEVELS = {"bn": {2: 0.50, 32: 0.70}, "brn": {2: 0.60, 32: 0.70}, "cbn": {2: 0.45, 32: 0.70}}


def rows(scatter: float = 0.001, more: dict[str, str] | None = None) -> list[Row]:
    """bn, brn and cbn at norm batches 2 and 32, gn at none; re-estimation adds .05 to bn at 2."""
    found = []
    for seed in range(3):
        own = {"seed": seed} | (more or {})
        shift = scatter * (seed - 1)
        for norm, by_size in LEVELS.items():
            for size, level in by_size.items():
                again = level + shift + (0.05 if (norm, size) == ("bn", 2) else 0)
                recipe = {"norm": norm, "norm_batch": size, **own}
                found += trained(recipe, {("stored", None): level + shift, ("pooled", 64): again})
        found += trained({"norm": "gn", **own}, {("stored", None): 0.65 + shift})
    return found


def test_published_figures_are_those_of_their_sources() -> None:
    """Wu & He's BatchNorm and GroupNorm over five norm batches, and one or two of each other source."""
    at = {(p.source, p.norm, p.network, p.norm_batch): p.error_pct for p in published_small_batches()}
    assert len(at) == len(published_small_batches())
    sizes = (32, 16, 8, 4, 2)
    for norm, errors in (("bn", (23.6, 23.7, 24.8, 27.3, 34.7)), ("gn", (24.1, 24.2, 24.0, 24.2, 24.1))):
        assert tuple(at["Wu & He 2018", norm, "ResNet-50", n] for n in sizes) == errors
    assert at["Wu & Johnson 2021", "bn re-estimated", "ResNet-50", 2] == 32.0
    assert at["Ioffe 2017", "brn", "Inception-v3", 4] == 23.5
    assert at["MABN 2020", "bn", "ResNet-50", 2] == pytest.approx(100 - 64.78)


def test_the_figure_has_every_norm_and_the_published_ones_beside() -> None:
    """Errors in per cent, large to small; bn re-estimated is a line of its own, gn has no norm batch."""
    picture = next(p for p in pictures_of(make_report(rows())) if p.name == "small-batches")
    here, published = picture.panels
    assert "BN: 32 30.0, 2 50.0" in here.alt
    assert "BN re-estimated: 32 30.0, 2 45.0" in here.alt
    assert "GN: 35.0 at any" in here.alt
    assert "GN, Wu & He 2018: 32 24.1, 16 24.2" in published.alt
    assert "Student's t" in picture.caption


def test_panels_for_another_axis_and_none_for_another_metric() -> None:
    """Batches in pairs are a panel of their own; without top-1 or with one norm there is no figure."""
    both = rows() + rows(more={"batches": "class-pairs"})
    (variants,) = variants_of(both, None, None)
    picture = small_batches_picture(variants, NOTHING, "")
    assert picture is not None
    assert [p.title for p in picture.panels] == [
        "measured here, shuffled",
        "measured here, class-pairs",
        "published: ImageNet",
    ]
    (variants,) = variants_of([row | {"metric": "map50"} for row in rows()], None, None)
    assert small_batches_picture(variants, NOTHING, "") is None
    alone = [row for row in rows() if row["recipe"].get("norm") == "bn"]
    (variants,) = variants_of(alone, None, None)
    assert small_batches_picture(variants, NOTHING, "") is None


def test_labels_do_not_touch_and_the_same_rows_give_the_same_file(tmp_path: Path) -> None:
    """Drawn, no two names overlap; large norm batches are on the left."""
    from matplotlib.figure import Figure

    picture = next(p for p in pictures_of(make_report(rows())) if p.name == "small-batches")
    for panel in picture.panels:
        figure = Figure(figsize=panel.inches, layout="constrained")
        axes = figure.add_subplot()
        panel.draw(axes)
        left, right = axes.get_xlim()
        assert left > right
        figure.draw_without_rendering()
        boxes = sorted((text.get_window_extent() for text in axes.texts), key=lambda box: box.y0)
        assert len(boxes) >= 5
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))
    once, twice = (write_pictures([picture], tmp_path / name) for name in "ab")
    assert once[0].read_bytes() == twice[0].read_bytes()


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_labels_stand_apart_in_their_order(values: list[float]) -> None:
    """Eight units apart, within the panel, in order; where all have room they stand where they belong."""
    places = apart(sorted(values), 8, 0, 100)
    assert all(b - a >= 8 - 1e-6 for a, b in pairwise(places))
    assert places[0] >= -1e-6
    assert places[-1] <= 100 + 1e-6
    if all(b - a >= 8 for a, b in pairwise(sorted(values))):
        assert places == pytest.approx(sorted(values))


def test_tables_have_norms_without_a_norm_batch_beside_the_others() -> None:
    """A column "any", in the table as they stand and in the re-estimated one, which says so."""
    (variants,) = variants_of(rows(), None, None)
    stands, again = text_tables(variants, NOTHING)
    for table in (stands, again):
        assert table.headers == ("norm \\ norm batch", "2", "32", "any")
        assert {line[0]: line[3][:6] for line in table.rows} == {
            "bn": "-",
            "brn": "-",
            "cbn": "-",
            "gn": "0.6500",
        }
    assert stands.title == "as it stands"
    assert again.title == (
        "re-estimated (pooled, batch size 32, 64 images); networks without statistics as they stand"
    )
    assert again.rows[0][1].startswith("0.5500")


def test_sentences_say_who_is_told_apart_at_which_norm_batch() -> None:
    """At 2 brn, gn and re-estimated bn beat bn, cbn loses; at 32 gn loses, the others are not told apart."""
    (variants,) = variants_of(rows(), None, None)
    first, second = (str(found) for found in norm_findings(variants, NOTHING))
    assert first.startswith("At norm batch 32, against bn as it stands (0.7000): worse: gn -0.0500")
    assert "not told apart" in first
    assert "better" not in first
    assert "better beyond noise: gn +0.1500" in second
    assert second.index("bn re-estimated +0.0500") < second.index("worse: cbn -0.0500")
    assert "over 3 trainings" in second
    assert "the same networks at every norm batch: gn" in second
    few = [row for row in rows() if row["recipe"]["seed"] == 0]
    (variants,) = variants_of(few, None, None)
    assert "nothing says how certain; other seeds may differ more" in str(norm_findings(variants, NOTHING)[0])


def test_the_same_networks_evaluated_otherwise_have_a_scatter_of_their_own() -> None:
    """Trainings that scatter by .02 do not hide what re-estimation gives each of them."""
    found = []
    for seed, (of_bn, of_brn) in enumerate(((0.0, 0.02), (0.02, -0.02), (-0.02, 0.0))):
        for size in (2, 32):
            own = {"norm_batch": size, "seed": seed}
            gain = 0.006 if size == 2 else 0.0
            gain += 0.0005 * (seed - 1)
            found += trained(
                {"norm": "bn", **own}, {("stored", None): 0.6 + of_bn, ("pooled", 64): 0.6 + of_bn + gain}
            )
            found += trained({"norm": "brn", **own}, {("stored", None): 0.606 + of_brn})
    (variants,) = variants_of(found, None, None)
    texts = {f.topic: f.text for f in norm_findings(variants, NOTHING)}
    assert "better beyond noise: bn re-estimated +0.0060" in texts["norms at norm batch 2"]
    assert "not told apart: brn +0.0060" in texts["norms at norm batch 2"]
    assert "bn re-estimated +0.0000" in texts["norms at norm batch 32"].partition("not told apart")[2]
