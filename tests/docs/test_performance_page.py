"""The page of the bench's figures has the rows of the bench, with the limits that hold today, and keeps within them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "performance.md"

if str(ROOT) not in sys.path:  # `bench` is no part of what is installed
    sys.path.insert(0, str(ROOT))

from bench.report import figure  # noqa: E402
from bench.table import TABLE, Row  # noqa: E402


def written() -> list[list[str]]:
    """The cells of all rows of the page."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return [row for row in rows if row[0] != "what"]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.key)
def test_a_row_of_the_bench_is_on_the_page_and_meets_its_limit(row: Row) -> None:
    """A row that was added, or whose limit was changed, must be measured and written down."""
    limits = [figure(row.ambitious, row.unit), figure(row.must, row.unit)]
    beside = row.baseline or row.unit
    found = [cells for cells in written() if cells[0] == row.title and cells[1] == beside and cells[3:5] == limits]
    assert found, f"{row.title!r} with the limits {limits} is not on {PAGE.name}; run python -m bench.document"
    for cells in found:
        figures = [float(text.replace(",", "")) for text in re.split(" / ", cells[2])]
        assert len(figures) == 3, "one for each Python"
        assert all(one <= row.must for one in figures)


def test_the_page_has_no_other_rows() -> None:
    assert len(written()) == len(TABLE)
