"""docs/requirements.md has a row for every item, and a row is `done` only with tests that exist.

Run as a program it checks outcomes as well: `python tests/docs/test_requirements.py OUTCOMES.json...` reads what
`pytest --outcomes=FILE` wrote and exits 1 unless each test that a `done` row names was collected, not skipped and
passed.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "requirements.md"
RANGES = {"000": 24, "001": 80, "002": 34, "003": 33, "004": 43}
CONTRADICTIONS = 33
IDS = [f"{scenario}-{number:02d}" for scenario, last in RANGES.items() for number in range(1, last + 1)]
IDS += [f"C{number}" for number in range(1, CONTRADICTIONS + 1)]


@dataclass(frozen=True)
class Row:
    """One item: its id, what it asks for, whether it is proved, and by which tests."""

    id: str
    text: str
    state: str
    tests: tuple[str, ...]


def read_rows(text: str) -> list[Row]:
    """The rows of the table; a line that looks like one and is not is an error."""
    rows = []
    for line in text.splitlines():
        if re.match(r"\|\s*(\d{3}-\d+|C\d+)\b", line):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            assert len(cells) == 4, f"not `| id | requirement | state | test |`: {line}"
            rows.append(Row(cells[0], cells[1], cells[2], tuple(cells[3].replace("`", "").split())))
    return rows


def form_faults(rows: list[Row]) -> Iterator[str]:
    """Rows that are missing, double, out of order, without words, or done without a test."""
    if [row.id for row in rows] != IDS:
        seen = [row.id for row in rows]
        yield f"missing {sorted(set(IDS) - set(seen))}, unknown {sorted(set(seen) - set(IDS))}, or not in order"
    for row in rows:
        if not row.text:
            yield f"{row.id} says nothing"
        if row.state not in {"done", "open"}:
            yield f"{row.id} is {row.state!r}; states are done and open"
        if row.state == "done" and not row.tests:
            yield f"{row.id} is done and names no test"
        for test in row.tests:
            if not test_exists(test):
                yield f"{row.id} names {test}, which is not there"


def test_exists(node: str) -> bool:
    """Whether the file of a node id has the named test; parameters in brackets are left to the run."""
    file, *names = node.partition("[")[0].split("::")
    path = ROOT / file
    if not names or not path.is_file():
        return False
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for name in names:
        found = [
            child
            for child in body
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and child.name == name
        ]
        if not found:
            return False
        body = found[0].body
    return True


test_exists.__test__ = False  # type: ignore[attr-defined]  # a helper, whatever its name looks like to pytest


def outcome_faults(rows: list[Row], outcomes: Mapping[str, str]) -> Iterator[str]:
    """Tests of `done` rows that were not collected, were skipped or failed; a bare id stands for all its parameters."""
    for row in rows:
        for test in row.tests if row.state == "done" else ():
            results = [outcome for node, outcome in outcomes.items() if node == test or node.startswith(f"{test}[")]
            if not results:
                yield f"{row.id}: {test} was not collected"
            elif set(results) != {"passed"}:
                yield f"{row.id}: {test} {', '.join(sorted(set(results) - {'passed'}))}"


def test_every_item_has_its_row() -> None:
    """All ids, once each and in order, with words, a known state, and tests that exist."""
    assert not list(form_faults(read_rows(TABLE.read_text(encoding="utf-8"))))


def test_a_bad_row_is_noticed() -> None:
    """Each rule about rows can fail."""
    here = "tests/docs/test_requirements.py"
    rows = [
        Row("000-01", "", "perhaps", ()),
        Row("000-02", "x", "done", ()),
        Row("000-03", "x", "done", (f"{here}::test_that_is_not_there", f"{here}::test_a_bad_row_is_noticed")),
    ]
    told = "\n".join(form_faults(rows))
    for expected in ("missing", "says nothing", "states are", "names no test", "not_there, which is not there"):
        assert expected in told
    assert "noticed" not in told


def test_a_done_row_needs_a_test_that_passed() -> None:
    """Not collected, skipped and failed are all not done; open rows ask for nothing."""
    outcomes = {
        "t.py::a": "passed",
        "t.py::b": "skipped",
        "t.py::c[1]": "passed",
        "t.py::c[2]": "failed",
        "t.py::cc": "failed",
    }
    rows = [Row("C1", "x", "done", (f"t.py::{name}",)) for name in ("a", "b", "c", "c[1]", "d")]
    rows.append(Row("C2", "x", "open", ("t.py::d",)))
    assert list(outcome_faults(rows, outcomes)) == [
        "C1: t.py::b skipped",
        "C1: t.py::c failed",
        "C1: t.py::d was not collected",
    ]


def main(files: list[str]) -> int:
    """Check the table against the outcomes of one or more runs: one pass somewhere, and no failure anywhere."""
    rows = read_rows(TABLE.read_text(encoding="utf-8"))
    outcomes: dict[str, str] = {}
    for file in files:
        for node, outcome in json.loads(Path(file).read_text())["outcomes"].items():
            worst_first = ("failed", "passed", "skipped")
            seen = {outcome, outcomes.get(node, outcome)}
            outcomes[node] = next(each for each in worst_first if each in seen)
    faults = [*form_faults(rows), *outcome_faults(rows, outcomes)]
    done = sum(row.state == "done" for row in rows)
    print(f"requirements: {len(rows)} rows, {done} done, {len(rows) - done} open, {len(faults)} faults")
    print("\n".join(faults), end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("test_requirements.py: name the files that `pytest --outcomes=FILE` wrote")
    sys.exit(main(sys.argv[1:]))
