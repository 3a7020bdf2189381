"""What a ranking has to measure and to judge: cells of a grid, and judgements that need no evaluation."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bnrecal.errors import BnrecalError
from bnrecal.plan.grid import cells_of, weights_of
from bnrecal.plan.opened import Opened
from bnrecal.search.judges import MEASURED, check_judge
from bnrecal.study.axes import STORED
from bnrecal.study.cells import Cell, Judgement

SHOWN = 32  # images that a judge of the user's own is shown


def to_rank(opened: Opened, judges: Sequence[str]) -> tuple[list[Cell], list[Judgement]]:
    """Every architecture of the study before every judge, as cells and as judgements.

    `eval` stands for every setting of the study's grid, `stored` for the networks as they stand. Raises
    BnrecalError for an unknown judge and one that has nothing to say of these networks.
    """
    for judge in judges:
        check_judge(judge)
    if "bn" in judges and opened.source.space is None:
        raise BnrecalError(
            f"--judge bn: {opened.study.model} names no choices, so there is nothing to sum up; see "
            "docs/ranking.md for what a supernet tells"
        )
    if "bn" in judges and opened.source.space is not None and not opened.recipes:
        space = opened.source.space
        opened.source.candidate(0, space.allowed[0][0])  # says if it has none, before anything is done
    study = opened.study.model_copy(update={"baseline": "stored" in judges, "reference": False})
    measured = cells_of(replace(opened, study=study)) if set(judges) & set(MEASURED) else []
    cells = [cell for cell in measured if cell.estimator == STORED or "eval" in judges]
    return cells, list(_judgements(opened, [judge for judge in judges if judge not in MEASURED]))


def _judgements(opened: Opened, judges: Sequence[str]) -> Iterator[Judgement]:
    study, task = opened.study, opened.task
    if not judges:
        return
    data_digest = task.data_digest()
    ids = task.order(study.seed)[:SHOWN]
    every = list(weights_of(opened, data_digest))
    for judge in judges:
        own = ":" in judge
        common = Judgement(
            task=task.name,
            metric=task.metric,
            data_digest=data_digest,
            judge=judge,
            arch="",
            weights_digest="",
            seed=study.seed if own or judge == "random" else None,
            order_digest=task.order_digest(ids) if own else None,
            n_samples=len(ids) if own else 0,
            code_digest=_digest_of_code(judge) if own else None,
        )
        for weights in every:
            for arch, digest in weights.digests.items():
                yield replace(common, arch=arch, weights_digest=digest, trained=weights.trained)


def _digest_of_code(judge: str) -> str:
    from bnrecal.data.user_code import code_of
    from bnrecal.search.judges import own_judge

    own_judge(judge)  # refused before anything is done
    return hashlib.sha256(code_of(judge)).hexdigest()[:16]
