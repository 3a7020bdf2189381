"""Sphinx: docs/ as a site, by `make docs`. Nothing is fetched, neither by it nor by a reader's browser."""

import re
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
HOME = PROJECT["urls"]["Homepage"]

project = "bnrecal"
author = "The bnrecal contributors"
version = release = PROJECT["version"]
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "sphinx_copybutton",
]
default_role = "literal"  # docstrings write `name` as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"bnrecal {version}"
html_theme_options = {"source_repository": HOME, "source_branch": "main", "source_directory": "docs/"}
html_show_sphinx = False
copybutton_prompt_text = "$ "

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+[^)\s#]+)(#[^)\s]*)?\)")


def _to_repository(_: Any, name: str, source: list[str]) -> None:
    """Links to files outside docs/ lead to the repository; a file that is not there ends the build."""
    folder = (HERE / name).parent

    def absolute(found: re.Match[str]) -> str:
        target = (folder / found[2]).resolve()
        if target.is_relative_to(HERE):
            return found[0]
        if not target.exists():
            raise FileNotFoundError(f"docs/{name}: {found[2]}")
        kind = "tree" if target.is_dir() else "blob"
        return f"[{found[1]}]({HOME}/{kind}/main/{target.relative_to(ROOT).as_posix()}{found[3] or ''})"

    source[0] = LINK.sub(absolute, source[0])


def _as_rst(_: Any, __: str, ___: str, ____: Any, _____: Any, lines: list[str]) -> None:
    """What docstrings write as Markdown does: code that is indented, tables with bars."""
    made: list[str] = []
    is_code = False
    for k, line in enumerate(lines):
        begins = line.startswith("| ") or line.startswith("    ")
        if begins and not is_code and (k == 0 or not lines[k - 1].strip()):
            made += [f".. code-block:: {'text' if line.startswith('|') else 'python'}", ""]
            is_code = True
        elif line and not begins:
            is_code = False
        line = line if is_code or line.startswith(">>>") else line.replace("**", r"\**")  # of model(**batch)
        made.append(f"    {line}" if is_code and line.startswith("| ") else line)
    lines[:] = made


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _as_rst, priority=400)  # before napoleon
    app.connect("source-read", _to_repository)
