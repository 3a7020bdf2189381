"""`bnrecal doctor`."""

import json
import textwrap
from pathlib import Path
from typing import Any

import click

from bnrecal.cli import single
from bnrecal.cli.messages import UNBROKEN, complain, say
from bnrecal.cli.options import SectionedCommand, device_option, input_options

COLOURS = {"wrong": "red", "note": "yellow", "fine": "green", "skipped": "bright_black"}


@click.command(cls=SectionedCommand)
@input_options
@single.with_options(single.ARCH, single.BATCH, single.COUNT, single.SEED, single.FROZEN, device_option)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(
    context: click.Context,
    /,
    study: Path | None,
    device: str,
    frozen: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Find out why a network evaluates badly, or otherwise at another batch size.

    Every check gives a line of evidence, and a remedy where something is wrong. Exit code 3 then.
    """
    from bnrecal.doctor.checkup import diagnose_one
    from bnrecal.host.device import choose_device
    from bnrecal.host.threads import threads_fitting

    opened = single.one_setting(context, study, options)
    rule = single.frozen_of(frozen)
    with threads_fitting():
        found = diagnose_one(opened, choose_device(device), say, rule)
    click.echo(json.dumps(found.to_dict(), indent=1) if as_json else _drawn(found))
    if found.wrong:
        return complain(f"wrong: {', '.join(finding.check for finding in found.wrong)}", 3)
    return 0


def _drawn(found: Any) -> str:
    """The findings in 80 columns, what is wrong first."""
    lines = [f"{found.n_images:,} images, in batches of {found.batch_size}", ""]
    for level in ("wrong", "note", "fine", "skipped"):
        for finding in found.of(level):
            head = f"{level:8}{finding.check:18}"
            text = textwrap.wrap(finding.evidence, 80 - len(head), **UNBROKEN) or [""]
            lines.append(click.style(f"{level:8}", COLOURS[level]) + f"{finding.check:18}{text[0]}")
            lines += [f"{'':26}{line}" for line in text[1:]]
            remedy = textwrap.wrap(f"-> {finding.remedy}", 54, **UNBROKEN) if finding.remedy else []
            lines += [f"{'':26}{line}" for line in remedy]
    return "\n".join(lines)
