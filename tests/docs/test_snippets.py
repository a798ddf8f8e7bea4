"""What the documentation shows as Python is code that runs, in the test's order and in the reader's.

The files of docs/snippets/ run on a virtual clock, with what their pages do not show. A reader has only the page: from
top to bottom its blocks must make or import every name that they use, except those which a paragraph "Yours: ..." of
the page leaves to the reader.
"""

from __future__ import annotations

import builtins
import logging
import re
import runpy
import symtable
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import resilient_faces

ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = ROOT / "docs" / "snippets"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
SHOWN_WHOLE = [ROOT / "README.md"]  # pages that are read as they are, and so repeat the region's text
AWAY = [ROOT / "docs" / "how-to" / "aws.md"]  # complete, but its blocks ask AWS

FENCE = re.compile(r"^(?P<indent> *)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
INCLUDE = re.compile(r'--8<-- "(?P<file>[\w./-]+\.py):(?P<region>\w+)"')
REGION = re.compile(
    r"^# --8<-- \[start:(?P<name>\w+)\]\n(?P<code>.*?)^# --8<-- \[end:(?P=name)\]", re.MULTILINE | re.DOTALL
)
YOURS = re.compile(r"^Yours: (?P<text>.+?)\n\n", re.MULTILINE | re.DOTALL)
BUILT_IN = {*dir(builtins), "__name__", "ExceptionGroup"}  # the last since Python 3.11


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


def blocks(page: str) -> Iterator[tuple[re.Match[str], str]]:
    """The Python blocks of a page as a reader sees them."""
    known = regions()
    for found in FENCE.finditer(page):
        code = textwrap.dedent(found["code"]).strip()
        included = INCLUDE.fullmatch(code)
        yield found, known[f"{included['file']}:{included['region']}"] if included else code


def yours(page: str) -> dict[str, int]:
    """The names that a page leaves to its reader, and where it has said so."""
    return {name: found.end() for found in YOURS.finditer(page) for name in re.findall(r"`(\w+)[`(]", found["text"])}


def names(code: str) -> tuple[set[str], set[str]]:
    """What a block makes, and what it takes from outside of its functions and classes."""

    def scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
        yield table
        for child in table.get_children():
            yield from scopes(child)

    top = symtable.symtable(code, "block", "exec")
    made = {one.get_name() for one in top.get_symbols() if one.is_assigned() or one.is_imported()}
    taken = {
        one.get_name()
        for scope in scopes(top)
        for one in scope.get_symbols()
        if one.is_referenced() and (scope is top or one.is_global())
    }
    return made, taken


def lacking(page: str) -> list[tuple[str, str]]:
    """Each name that nobody made before, with the block that uses it."""
    left_to_reader = yours(page)
    above: set[str] = set()
    missing = []
    for found, code in blocks(page):
        made, taken = names(code)
        known = made | BUILT_IN | {name for name, end in left_to_reader.items() if end <= found.start()}
        if not found["indent"]:  # a tab is read without the others
            known |= above
            above |= made
        missing += [(name, code) for name in sorted(taken - known)]
    return missing


@pytest.mark.parametrize("page", [*PAGES, *SHOWN_WHOLE], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_has_every_name_that_it_uses(page: Path) -> None:
    """A block uses what it makes, what a block above it made, and what the page said is the reader's."""
    missing = lacking(page.read_text(encoding="utf-8"))
    assert not missing, "\n\n".join(f"{name} is not there:\n{code}" for name, code in missing)


@pytest.mark.parametrize("page", [*PAGES, *SHOWN_WHOLE], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_the_readers_is_used_and_no_import(page: Path) -> None:
    """A page leaves to its reader what stands for code of theirs, never an import that was forgotten."""
    text = page.read_text(encoding="utf-8")
    left_to_reader = set(yours(text))
    used = {name for _, code in blocks(text) for name in names(code)[1]}
    assert left_to_reader <= used
    assert not left_to_reader & {*resilient_faces.__all__, *sys.stdlib_module_names}


def whole(page: Path) -> str:
    """All blocks of a page as one program; empty if something of the reader's is missing in it."""
    text = page.read_text(encoding="utf-8")
    return "" if yours(text) or page in AWAY else "\n\n".join(code for _, code in blocks(text))


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """A page that sets up logging does so for its reader, not for the tests after it."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "resilient_faces"]
    loggers = [logging.getLogger(name) for name in {"resilient_faces", *names}]
    before = [(one, one.level, list(one.handlers)) for one in loggers]
    yield
    for one, level, handlers in before:
        one.setLevel(level)
        one.handlers[:] = handlers


@pytest.mark.parametrize("page", [page for page in PAGES if whole(page)], ids=lambda path: path.stem)
@pytest.mark.usefixtures("resilience", "logging_as_it_was")
def test_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one program, on the real clock, in an empty directory."""
    program = tmp_path / "page.py"
    if sys.version_info < (3, 11):
        from exceptiongroup import ExceptionGroup

        monkeypatch.setattr(builtins, "ExceptionGroup", ExceptionGroup, raising=False)
    program.write_text(whole(page), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(program), run_name="__main__")


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        (["import os\nos.getcwd()"], []),
        (["os.getcwd()"], ["os"]),
        (["import os", "def f():\n    return os.getcwd()"], []),
        (["def f():\n    return os.getcwd()"], ["os"]),
        (["class A:\n    def f(self, x: Any) -> None: ..."], ["Any"]),
        (["os.getcwd()", "import os"], ["os"]),
        (["def f(x):\n    return [y for y in x]"], []),
    ],
)
def test_a_missing_name_is_found(shown: list[str], missing: list[str]) -> None:
    """In functions and annotations, too; an import further down comes too late."""
    page = "\n".join(f"```python\n{code}\n```\n" for code in shown)
    assert [name for name, _ in lacking(page)] == missing


def test_a_tab_stands_alone_and_the_readers_names_come_first() -> None:
    """Whoever reads one tab has not read the others; whoever is told too late has met the name already."""
    tabs = '=== "A"\n\n    ```python\n    a = 1\n    ```\n\n=== "B"\n\n    ```python\n    print(a)\n    ```\n'
    assert lacking(tabs) == [("a", "print(a)")]
    assert not lacking("Yours: `a`, a number.\n\n" + tabs)
    assert lacking(tabs + "\nYours: `a`, a number.\n\n") == [("a", "print(a)")]
