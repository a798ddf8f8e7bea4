"""What the documentation shows as Python is code that runs: regions of docs/snippets/, here on a virtual clock."""

from __future__ import annotations

import re
import runpy
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = ROOT / "docs" / "snippets"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
SHOWN_WHOLE = [ROOT / "README.md"]  # pages that are read as they are, and so repeat the region's text

FENCE = re.compile(r"^(?P<indent> *)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
INCLUDE = re.compile(r'--8<-- "(?P<file>[\w./-]+\.py):(?P<region>\w+)"')
REGION = re.compile(
    r"^# --8<-- \[start:(?P<name>\w+)\]\n(?P<code>.*?)^# --8<-- \[end:(?P=name)\]", re.MULTILINE | re.DOTALL
)


def regions() -> dict[str, str]:
    """`file.py:region` and its text."""
    return {
        f"{path.relative_to(SNIPPETS).as_posix()}:{found['name']}": found["code"].strip("\n")
        for path in SNIPPETS.rglob("*.py")
        for found in REGION.finditer(path.read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize("path", sorted(SNIPPETS.rglob("*.py")), ids=lambda path: path.relative_to(SNIPPETS).as_posix())
@pytest.mark.usefixtures("clock")
def test_a_snippet_runs(path: Path) -> None:
    """Every file of snippets runs to its end, its own assertions included, without waiting."""
    runpy.run_path(str(path), run_name="__main__")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_python_in_a_page_is_a_region(page: Path) -> None:
    """A Python block of a page includes a region that is there, and holds nothing else."""
    known = regions()
    for found in FENCE.finditer(page.read_text(encoding="utf-8")):
        included = INCLUDE.fullmatch(found["code"].strip())
        assert included, f"{page.name} shows code that no test runs:\n{found['code']}"
        assert f"{included['file']}:{included['region']}" in known, f"{page.name} includes {included.group()}"


@pytest.mark.parametrize("page", SHOWN_WHOLE, ids=lambda path: path.name)
def test_python_in_the_readme_is_a_region(page: Path) -> None:
    """A Python block of the README is, to the letter, a region that a test runs."""
    known = set(regions().values())
    blocks = [textwrap.dedent(found["code"]).strip("\n") for found in FENCE.finditer(page.read_text(encoding="utf-8"))]
    assert blocks
    assert not [block for block in blocks if block not in known]
