import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

from bnrecal.cli.options import GRID
from bnrecal.cli.sweep import sweep
from bnrecal.store.provenance import recipe_of
from bnrecal.store.rows import COLUMNS, KINDS, line_of, parse_row
from bnrecal.study.axes import AXES, AXIS, LATER, MEASURED_ON, OPTIONS, TOLERANCE, Axis
from bnrecal.study.cells import TRAIN, Cell, Judgement, Training, is_judgement
from bnrecal.study.selection import NAMES
from bnrecal.study.study import Study, make_study

RESULTS = Path(__file__).parents[2] / "results"
NO_AXES = ("repeats", "train", "baseline", "reference")  # settings of a grid that are none


def test_a_cell_is_its_axes_and_what_it_is_measured_on() -> None:
    """Each field, of which the key is the digest, is an axis or named beside them, and conversely."""
    assert {field.name for field in fields(Cell)} == {*AXIS, *MEASURED_ON}
    assert set(AXIS).isdisjoint(MEASURED_ON)
    assert set(LATER) <= {*AXIS, *MEASURED_ON}


def test_columns_are_the_fields_of_a_cell_and_its_figures() -> None:
    """What a cell says of itself has a column; one that came later is in no older row."""
    assert {field.name for field in fields(Cell)} - set(LATER) <= set(COLUMNS)
    assert set(COLUMNS).isdisjoint(LATER)
    assert [name for name in COLUMNS if name in AXIS] == list(AXIS)


def test_settings_of_a_study_are_the_axes() -> None:
    """Each axis has its setting, of the same bounds and with the default that the help tells."""
    from bnrecal.study.inputs import Inputs

    own = [name for name in Study.model_fields if name not in Inputs.model_fields]
    assert [name for name in own if name not in NO_AXES] == list(OPTIONS)
    for axis in AXES:
        field = Study.model_fields[axis.option]
        assert field.default == axis.usual, axis.name


TRIED = (-1, 0, 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63)
BOUNDS = {"batch_size": TRIED, "n_samples": TRIED[2:], "momentum": (-0.5, 0.0, 0.5, 1.0, 1.5), "seed": TRIED}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_column_holds_what_a_setting_may_be(name: str) -> None:
    """A number is in the bounds of both or of neither; some are in and some are not."""
    assert set(BOUNDS) == {axis.name for axis in AXES if axis.holds is not str}
    row = json.loads((RESULTS / "published_grid" / "rows.jsonl").read_text().splitlines()[-1])
    fits = [_fits_row({**row, name: value}) for value in BOUNDS[name]]
    assert [_fits_study(AXIS[name], value) for value in BOUNDS[name]] == fits
    assert set(fits) == {True, False}


def _fits_study(axis: Axis, value: Any) -> bool:
    try:
        Study(**{axis.option: [value] if axis.several else value})
    except ValueError:
        return False
    return True


def _fits_row(row: dict[str, Any]) -> bool:
    try:
        KINDS[None].checker.validate_python(row)
    except ValueError:
        return False
    return True


def test_options_are_the_axes_and_the_settings_that_are_none() -> None:
    """`bnrecal sweep` has an option for each setting of the grid, and its help is the axis's."""

    @click.command()
    def command() -> None:
        """Every option of the grid."""

    for option in GRID:
        command = option(command)
    found = {str(parameter.name): parameter for parameter in command.params}
    assert list(found) == [*OPTIONS, "repeats", "baseline", "reference"]
    for axis in AXES:
        parameter = found[axis.option]
        assert isinstance(parameter, click.Option)
        assert parameter.help == axis.help
    assert set(found) <= {str(parameter.name) for parameter in sweep.params}


def test_the_default_that_an_option_tells_is_the_default() -> None:
    """What stands in brackets in the help gives the study that nothing said gives."""
    said = {axis.option: axis.help.rpartition("[")[2].rstrip("]") for axis in AXES if not axis.usual_said}
    settings = {name: text.split(",") if AXIS[OPTIONS[name]].several else text for name, text in said.items()}
    assert make_study(settings) == make_study({})


def test_one_tolerance_of_all_commands_that_ask_what_one_is_ready_to_lose() -> None:
    """`report`, `advise` and `compare` have one default; nobody else has an option of this first name."""
    from bnrecal.cli.app import cli

    found = {
        name: option.default
        for name, command in cli.commands.items()
        for option in command.params
        if option.opts[0] == "--tolerance"
    }
    assert found == dict.fromkeys(("report", "advise", "compare"), TOLERANCE)


def test_filters_know_every_field_of_a_cell_by_both_names() -> None:
    """--only takes the column's name and the option's."""
    assert set(NAMES) == {"key", *AXIS, *OPTIONS, *MEASURED_ON}


@pytest.mark.parametrize("file", sorted(RESULTS.rglob("rows.jsonl")), ids=lambda file: file.parent.name)
def test_stored_rows_are_read_and_keep_their_keys(file: Path) -> None:
    """Every stored key is the digest of what its row says, by today's cells, judgements and trainings."""
    rows = [parse_row(line, str(file)) for line in file.read_bytes().splitlines(keepends=True)]
    assert rows
    trainings = {row["key"]: _training(row) for row in rows if row.get("kind") == TRAIN}
    for row in rows:
        assert parse_row(line_of(row), "again") == row
        if row.get("kind") == TRAIN:
            assert trainings[row["key"]].key == row["key"]
            continue
        trained = trainings.get(row.get("trained"))
        if is_judgement(row):
            said = {field.name: row[field.name] for field in fields(Judgement) if field.name in row}
            assert Judgement(**{**said, "trained": trained}).key == row["key"]
            continue
        known = {field.name: row[field.name] for field in fields(Cell) if field.name not in LATER}
        assert Cell(**known, trained=trained).key == row["key"]


def _training(row: dict[str, Any]) -> Training:
    recipe = recipe_of(row)
    assert recipe is not None
    known = {field.name: row[field.name] for field in fields(Training) if field.name != "recipe"}
    return Training(**known, recipe=recipe)
