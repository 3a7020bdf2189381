"""Outcomes as rows."""

from dataclasses import asdict
from typing import Any

from bnrecal.executors.executor import Outcome
from bnrecal.store.store import SCHEMA_VERSION, Row, finite_or_none
from bnrecal.study.cells import Cell, Judgement
from bnrecal.study.inputs import Inputs
from bnrecal.study.study import Study

FIGURES = ("update", "eval", "recal_s", "update_s", "eval_s", "total_s")
FIGURES_OF_TRAINING = ("loss", "train_s", "total_s")
FIGURES_OF_JUDGEMENT = ("score", "total_s")
_AS_MEASURED = ("update", "eval", "loss", "score")  # the others are times, rounded to microseconds


def row_of(outcome: Outcome, study: Study, study_file: str | None = None) -> Row:
    """The result row of an outcome; a figure that is no number makes the cell a failed one."""
    figures = {name: finite_or_none(value) for name, value in outcome.figures.items()}
    error, failure = outcome.error, outcome.failure
    lost = [name for name, value in outcome.figures.items() if value is not None and figures[name] is None]
    if error is None and lost:
        error, failure = f"{', '.join(lost)}: not a finite number", "not a number"
    return {
        "schema_version": SCHEMA_VERSION,
        "key": outcome.cell.key,
        "status": "failed" if error else "done",
        **outcome.cell.facts(),
        **_of_its_kind(outcome),
        **{n: v if v is None or n in _AS_MEASURED else round(v, 6) for n, v in figures.items()},
        "device": outcome.device,
        "started_at": outcome.started_at,
        "error": error,
        "environment": outcome.environment,
        "failure": failure,
        "inputs": study.model_dump(mode="json", include=set(Inputs.model_fields), exclude_none=True),
        "study": study_file,
        **outcome.usage,
    }


def _of_its_kind(outcome: Outcome) -> dict[str, Any]:
    """What rows of one kind have and those of others have not."""
    cell = outcome.cell
    if isinstance(cell, Judgement):
        recipe = {} if cell.trained is None else {"recipe": cell.trained.recipe.facts()}
        return {**recipe, **dict.fromkeys(FIGURES_OF_JUDGEMENT)}
    if not isinstance(cell, Cell):
        return {**dict.fromkeys(FIGURES_OF_TRAINING), "weights_sha256": outcome.weights_sha256}
    return {
        "n_updates": cell.n_updates,
        **({} if cell.trained is None else {"recipe": cell.trained.recipe.facts()}),
        **dict.fromkeys(FIGURES),
        "evaluation_batch": outcome.evaluation_batch,
        **({} if outcome.prepared is None else {"preparation": outcome.prepared.facts()}),
        **({} if outcome.left_alone is None else {"left_alone": asdict(outcome.left_alone)}),
    }
