"""`bnrecal show`."""

import json
import shlex
from pathlib import Path
from typing import Any

import click

from bnrecal.cli.folders import out_option, parted
from bnrecal.errors import BnrecalError

CELL = (
    *("task", "metric", "data_digest", "order_digest", "arch", "weights_digest", "batch_size", "n_samples"),
    *("n_updates", "estimator", "momentum", "seed"),
)
RESULT = (
    *("update", "eval", "recal_s", "update_s", "eval_s", "total_s", "evaluation_batch"),
    *("device", "started_at", "failure", "error"),
)


@click.command()
@click.argument("words", metavar="KEY [FOLDER]", nargs=-1)
@out_option
@click.option("--format", "layout", type=click.Choice(("text", "json")), default="text", show_default=True)
@click.pass_context
def show(context: click.Context, /, words: tuple[str, ...], out: Path, layout: str) -> int:
    """Show one row: its cell, figures, environment, and the command that repeats it.

    KEY is the row's key or its first digits, FOLDER where `bnrecal sweep` has put it.
    """
    from bnrecal.store.provenance import command_of, row_of_key
    from bnrecal.store.rows import is_evaluated
    from bnrecal.store.store import Store

    out, keys = parted(context, words, out)
    rows = Store(out).rows()
    if len(keys) != 1:
        known = ", ".join(dict.fromkeys(row["key"] for row in rows[:3]))
        such = f", such as {known}" if rows else f"; {out} has no rows"
        raise BnrecalError(f"KEY: {len(keys)} given, one is shown{such}")
    row = row_of_key(Store(out).latest(), keys[0])
    command = shlex.join(command_of(row, out))
    if layout == "json":
        click.echo(json.dumps({**row, "command": command}, indent=1))
        return 0
    attempts = [r["status"] for r in rows if r["key"] == row["key"]]
    said = f" ({', then '.join(attempts)})" if len(attempts) > 1 else ""
    click.echo(f"{row['key']}: {row['status']}{said}")
    inputs = row.get("inputs") or {}
    others = {n: v for n, v in row.items() if n not in (*CELL, *RESULT, *_SHOWN_ELSEWHERE)}
    for title, values in (
        ("cell", {name: row[name] for name in CELL if name in row}),
        ("inputs", inputs),
        ("result", {name: row.get(name) for name in RESULT if name in row or is_evaluated(row)}),
        ("environment", row.get("environment", {})),
        ("further", others),
    ):
        if values:
            click.echo(f"\n{title}")
        for name, value in values.items():
            click.echo(f"  {_plain(name):16} {_plain(value)}")
    click.echo(f"\nagain, into a folder of its own\n  {_plain(command)}")
    return 0


_SHOWN_ELSEWHERE = ("schema_version", "key", "status", "environment", "inputs")


def _plain(value: Any) -> str:
    """One line for a terminal: what came from a file must not move its cursor."""
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
