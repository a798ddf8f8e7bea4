"""A part of a page that a proof makes, between `<!-- part of proof/NAME.py -->` and `<!-- end of it -->`."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Final

from _report import ROOT, Proof

END: Final = "<!-- end of it -->"


class Part:
    """One part of one page.

    Args:
        proof: The command that makes it; it gets `--write` and `--check`.
        page: The page, below docs/.
    """

    def __init__(self, proof: Proof, page: str) -> None:
        self._proof = proof
        self._page: Path = ROOT / "docs" / page
        self._begin = f"<!-- part of proof/{proof.name}.py -->"
        shown = self._page.relative_to(ROOT)
        proof.parser.add_argument("--write", action="store_true", help=f"write what was found into {shown}")
        proof.parser.add_argument("--check", action="store_true", help=f"fail if {shown} says something else")

    def _split(self) -> tuple[str, str, str]:
        before, begin, rest = self._page.read_text(encoding="utf-8").partition(self._begin)
        inside, end, after = rest.partition(END)
        if not begin or not end:
            self._proof.lacks(f"{self._page.name} has no place for it: {self._begin} ... {END}")
        return before + begin, inside.strip("\n"), end + after

    def text(self) -> str:
        """What the page says."""
        return self._split()[1]

    def write(self, text: str) -> None:
        """Have the page say this."""
        before, _, after = self._split()
        self._page.write_text(f"{before}\n\n{text.strip()}\n\n{after}", encoding="utf-8")

    def settle(self, text: str, *, but: str = "(?!)") -> None:
        """Write, or compare line by line, as the command line says.

        Args:
            text: What was found.
            but: What is not compared, as a pattern: figures that each run finds anew.
        """
        options = self._proof.options
        if options.write:
            self.write(text)
        if options.check:
            here, there = (re.sub(but, "...", one).split("\n") for one in (text.strip(), self.text()))
            for number, (found, said) in enumerate(itertools.zip_longest(here, there), 1):
                if found != said:
                    self._proof.check(False, f"{self._page.name}, line {number}: found {found!r}, it says {said!r}")
                    return
