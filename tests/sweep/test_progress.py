"""What a run shows while it works."""

import io

from rich.console import Console

from bnrecal.sweep.progress import decoding


def test_decoding_is_counted_on_a_terminal_alone() -> None:
    """A line with the count where somebody looks; nothing where nothing is missing, or into a file."""
    shown = {}
    for name, terminal, counts in (("file", False, (5, 7)), ("idle", True, ()), ("terminal", True, (5, 7))):
        stream = io.StringIO()
        with decoding(Console(file=stream, force_terminal=terminal, width=80)) as on_decoded:
            for n in counts:
                on_decoded(n)
        shown[name] = stream.getvalue()
    assert "decoding images" not in shown["file"] + shown["idle"]
    assert "decoding images" in shown["terminal"]
    assert "12" in shown["terminal"]
