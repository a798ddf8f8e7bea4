"""What the documentation takes from the code says what the code says: `docs/generate.py` would change nothing."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MARKER = re.compile(r"<!-- generated: ([\w.-]+) -->")
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if MARKER.search(page.read_text(encoding="utf-8"))]
GENERATOR: dict[str, Any] = runpy.run_path(str(DOCS / "generate.py"))
PARTS: dict[str, Callable[[], str]] = GENERATOR["PARTS"]
FILES: dict[str, Callable[[], str]] = GENERATOR["FILES"]


@pytest.mark.usefixtures("resilience")
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_a_page_says_what_the_code_says(page: Path) -> None:
    """Its tables of options, kinds, events and rules are those of the code; `python docs/generate.py` mends them."""
    text = page.read_text(encoding="utf-8")
    assert GENERATOR["generated"](text) == text


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_drawing_shows_what_the_code_does(name: str) -> None:
    """A generated file is as the code would make it now."""
    assert FILES[name]() == (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_every_marker_is_filled(page: Path) -> None:
    """A marker names a part that there is, and is closed, so that none is passed over in silence."""
    text = page.read_text(encoding="utf-8")
    names = MARKER.findall(text)
    assert set(names) <= set(PARTS)
    assert len(names) == len(GENERATOR["PART"].findall(text)) == text.count("<!-- end -->")


def test_every_part_is_shown() -> None:
    """What can be generated stands on some page."""
    shown = {name for page in PAGES for name in MARKER.findall(page.read_text(encoding="utf-8"))}
    assert shown == set(PARTS)
