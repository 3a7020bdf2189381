"""Fenced blocks of README and docs/: `sh` is run, `python` too; anything else is only shown."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Code of one language, in the order of its page."""

    language: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    return [Block(*found.groups()) for found in FENCED.finditer(page.read_text("utf-8"))]


def commands_of(text: str) -> list[str]:
    """The commands of a block, lines that go on joined, comments left out."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    stripped = (re.sub(r"\s+# .*", "", line).strip() for line in lines)
    return [line for line in stripped if line and not line.startswith("#")]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))
