"""The commands that cure a slim image are one text: in the error, on the page, and where the proof carries them out."""

from __future__ import annotations

import re
from pathlib import Path

from resilient_faces.adapters.insightface import MissingLibraryError

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_has_the_commands_of_the_error() -> None:
    """Word for word, as one types them."""
    page = (ROOT / "docs" / "how-to" / "gallery.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## On a slim image$(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    typed = re.findall(r"^\$ (.+)$", section, re.MULTILINE)
    assert typed == [MissingLibraryError.HEADLESS, MissingLibraryError.LIBRARIES]
    error = str(MissingLibraryError("insightface", "libGL.so.1"))
    assert re.findall(r"`([^`]+)`", error) == typed


def test_the_proof_types_what_the_page_says() -> None:
    """It reads the commands from the page, and has none of its own."""
    proof = (ROOT / "proof" / "slim_image.py").read_text(encoding="utf-8")
    assert 'PAGE: Final = ROOT / "docs" / "how-to" / "gallery.md"' in proof
    for command in (MissingLibraryError.HEADLESS, MissingLibraryError.LIBRARIES, "libgl1"):
        assert command not in proof


def test_other_pages_lead_to_it() -> None:
    """A command that stands in several places is changed in one of them."""
    for file in sorted((ROOT / "docs").rglob("*.md")):
        text = file.read_text(encoding="utf-8")
        found = [one for one in (MissingLibraryError.HEADLESS, MissingLibraryError.LIBRARIES, "libgl1") if one in text]
        assert not found or file.name == "gallery.md", file
