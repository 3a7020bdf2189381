"""Links of README, docs/ and the other Markdown files: what they name is there."""

import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, name_of

LINK = re.compile(r"\]\(([^)\s]+)\)")
FOLDERS = ("docs", "experiments", "results")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))])


def headings(path: Path) -> set[str]:
    """The anchors that a Markdown file offers."""
    found = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link names a file or folder of the repository, every anchor a heading."""
    for link in LINK.findall(document.read_text("utf-8")):
        if re.match(r"https?://|mailto:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (document.parent / place).resolve() if place else document
        assert target.exists(), f"{name_of(document)}: {link}"
        assert ROOT in target.parents
        if anchor and target.suffix == ".md":
            assert anchor in headings(target), f"{name_of(document)}: {link}"
