"""`bnrecal rank --race K`: the best few, found on growing sets of evaluation images."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnrecal.cli.messages import say
from bnrecal.errors import BnrecalError

if TYPE_CHECKING:
    from bnrecal.plan.opened import Opened
    from bnrecal.search.racing import Look, Raced
    from bnrecal.study.cells import Cell

FIRST_LOOK = 256  # images; then twice as many at each look, up to all


def raced(opened: "Opened", cells: Sequence["Cell"], k: int, device: str) -> "Raced":
    """The race of these cells, in this process.

    Raises BnrecalError unless they are of one setting, of networks that are there and chains of modules.
    """
    from bnrecal.host.device import choose_device
    from bnrecal.measure.together import growing_evidence
    from bnrecal.plan.passes import IN_ONE_WALK
    from bnrecal.search.racing import race

    running = [cell for cell in cells if cell.estimator in IN_ONE_WALK]
    settings = {(c.estimator, c.momentum, c.batch_size, c.n_samples, c.seed) for c in running}
    if len(settings) > 1:
        raise BnrecalError(
            f"--race: eval at {len(settings)} settings; a race goes by one (--estimator, --bs, --samples)"
        )
    if not settings or opened.recipes:
        raise BnrecalError(
            f"--race: needs judge eval at one setting (--estimator {', '.join(IN_ONE_WALK)}; --bs, "
            "--samples) of networks that are there"
        )
    archs = [cell.arch for cell in running]
    sizes = looks(opened.task.n_evaluation)
    evaluate = growing_evidence(running, opened.task, opened.source, choose_device(device))
    say(f"a race of {len(archs):,} for the best {k}, on {', '.join(f'{n:,}' for n in sizes)} images")

    def on_look(look: "Look") -> None:
        say(f"looked at {look.n_images:,} images: {len(look.dropped):,} dropped, {len(look.kept):,} kept")

    return race(archs, k, sizes, evaluate, on_look=on_look)


def looks(n_images: int) -> list[int]:
    """Numbers of images looked at: doubled from the first on, all of them last."""
    found = []
    n = FIRST_LOOK
    while n < n_images:
        found.append(n)
        n *= 2
    return [*found, n_images]


def race_text(found: "Raced", n_images: int, layout: str) -> str:
    """The best, what each look decided, and how sure the answer is."""
    if layout == "json":
        looks = [
            {
                "images": look.n_images,
                "kept": list(look.kept),
                "dropped": list(look.dropped),
                "failed": list(look.failed),
            }
            for look in found.looks
        ]
        answer = {"best": dict(found.best), "looks": looks, "says": found.says(n_images)}
        return json.dumps(answer, indent=1) + "\n"
    lines = [f"{at:>3}. {arch}  {value:.4f}" for at, (arch, value) in enumerate(found.best, 1)]
    for look in found.looks:
        kept, dropped = len(look.kept), len(look.dropped)
        failed = f", {len(look.failed):,} failed: {', '.join(look.failed)}" if look.failed else ""
        lines.append(f"{look.n_images:,} images: {kept:,} kept, {dropped:,} dropped{failed}")
    said = found.says(n_images)
    if layout == "md":
        lines = [f"- {line.strip()}" for line in lines]
    return "\n".join([*lines, "", f"{said[0].upper()}{said[1:]}."]) + "\n"
