"""Axes and marks: outliers do not press the others together, and no mark lies on one of another colour."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnrecal.report.analysis.summary import make_report
from bnrecal.report.formats.figures import pictures_of
from bnrecal.report.formats.spacing import focus, lie_apart, mark_size, places
from bnrecal.store.store import Store
from tests.report.kept import rows_of

RESULTS = Path(__file__).parents[3] / "results"


def bare(values: list[float]) -> list[tuple[float, None]]:
    return [(value, None) for value in values]


def test_one_value_far_off_does_not_press_the_others_together() -> None:
    """Eleven of about .48 and one of .36: the axis is that of the eleven, intervals included."""
    near = [0.476, 0.477, 0.478, 0.479] * 3
    low, high = focus([*((value, (value - 0.012, value + 0.012)) for value in near[:-1]), (0.364, None)])
    assert 0.45 < low < 0.464
    assert 0.491 < high < 0.5


def test_values_that_belong_to_the_others_are_shown() -> None:
    """A fifth of them, or one that is no longer axis away, is no outlier."""
    low, high = focus(bare([0.70] * 4 + [0.75] * 16))
    assert low < 0.70
    low, _ = focus(bare([0.474, 0.475, 0.476, 0.477, 0.478, 0.479, 0.480, 0.481, 0.482, 0.483, 0.484, 0.466]))
    assert low < 0.466
    assert high > 0.75


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_an_axis_shows_nine_tenths_of_the_values_and_is_not_empty(values: list[float]) -> None:
    low, high = focus(bare(values))
    assert low < high
    assert sum(not low <= value <= high for value in values) <= max(1, 0.1 * len(values))


@given(st.integers(1, 8))
def test_series_beside_each_other_stay_in_their_place(n: int) -> None:
    """Evenly, around the middle, and nearer to their own place than to the next."""
    shifts = places(n)
    assert sum(shifts) == pytest.approx(0)
    assert all(abs(shift) < 0.5 for shift in shifts)
    assert mark_size(11, n, 270) <= 4.5


def test_lines_that_meet_are_told_from_lines_that_do_not() -> None:
    apart, near = {0.0: 0.1, 1.0: 0.2}, {0.0: 0.5, 1.0: 0.21}
    assert lie_apart([apart, {0.0: 0.5, 1.0: 0.6}], 1.0)
    assert not lie_apart([apart, near], 1.0)
    assert lie_apart([{0.0: 0.1}, {1.0: 0.1}], 1.0)  # over no common place


def marks_of(axes: Any) -> list[tuple[str, float, float, float]]:
    """(colour, x, y, points across) of every mark that lies in the axes, in points."""
    axes.figure.canvas.draw()
    found = []
    for line in axes.get_lines():
        if line.get_marker() in ("None", "", None):
            continue
        for x, y in axes.transData.transform(line.get_xydata()) * 72 / axes.figure.dpi:
            left, bottom, right, top = axes.bbox.extents * 72 / axes.figure.dpi
            if left <= x <= right and bottom <= y <= top:
                found.append((line.get_color(), x, y, line.get_markersize()))
    return found


@pytest.mark.parametrize("study", ["published_grid", "images_needed", "norm_batch"])
def test_no_mark_lies_on_one_of_another_colour(study: str, tmp_path: Path) -> None:
    """In the figures by images, by setting, by time and along a training axis, at the size of a panel."""
    from matplotlib.figure import Figure

    folder = rows_of(study, tmp_path)
    for picture in pictures_of(make_report(Store(folder).evaluated(), folder)):
        if picture.topic == "law":  # all cells on one curve: there they have to meet
            continue
        for panel in picture.panels:
            axes = Figure(panel.inches or (4.6, 3.5), layout="constrained").add_subplot()
            panel.draw(axes)
            for one, two in combinations(marks_of(axes), 2):
                if one[0] != two[0]:
                    away = max(abs(one[1] - two[1]), abs(one[2] - two[2]))
                    assert away > 0.7 * (one[3] + two[3]) / 2, (picture.name, panel.title)


def test_ranking_names_its_settings_upright_in_words() -> None:
    """No label is turned; none stands for two settings."""
    from matplotlib.figure import Figure

    folder = RESULTS / "published_grid"
    (picture,) = (
        p for p in pictures_of(make_report(Store(folder).evaluated(), folder)) if p.topic == "ranking"
    )
    axes = Figure(picture.panels[0].inches).add_subplot()
    picture.panels[0].draw(axes)
    labels = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    assert {label.get_rotation() for label in labels} == {0.0}
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == len(set(names)) == 13
    assert names[0] == "as it stands"
