"""Each lesson of the page about cameras names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "cameras.md"
LESSONS = 17


def test_each_lesson_names_its_tests() -> None:
    """All of them, in order, with words, and tests that exist in the file that is named."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(number) for number, *_ in rows] == list(range(1, LESSONS + 1))
    there: dict[str, set[str]] = {}
    for number, _, _, tests in rows:
        named = re.findall(r"`(\w+\.py)::(\w+)`", tests)
        assert named, f"lesson {number} names no test"
        assert " ".join(f"`{file}::{test}`" for file, test in named) == tests
        for file, test in named:
            if file not in there:
                (place,) = (ROOT / "tests").glob(f"*/{file}")
                body = ast.parse(place.read_text(encoding="utf-8")).body
                there[file] = {one.name for one in body if isinstance(one, ast.FunctionDef)}
            assert test in there[file], f"lesson {number}: {file} has no {test}"
