"""What is published names no machine and no package registry, and ends its lines as everybody does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = frozenset(
    {".git", ".venv", "site", "dist", "build", "out", "node_modules", "__pycache__", ".resilient-faces"}
)

FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.~$}-])/(?:home|root|Users|work|farm)/[\w.-]+"),
    "a package registry": re.compile(
        # Host names spelt backwards, since this file is tracked too.
        "|".join(name[::-1] for name in ("gro.ipyp", "detsohnohtyp", "sjmpn", "gkpnray", "gnalog.yxorp"))
        + r"|--(?:extra-)?index-url|index-url\s*="
    ),
    "a hash of a lock file": re.compile(r"--hash=sha256:"),
}


def tracked() -> list[Path]:
    """Files under version control or about to be; without git (a source archive), all files."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ) if (ROOT / ".git").exists() else None  # fmt: skip
    if listed is not None and listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in ROOT.rglob("*") if not NOT_OURS & set(path.relative_to(ROOT).parts)]


def texts() -> list[tuple[str, str]]:
    found = []
    for path in tracked():
        if path.is_file() and path != Path(__file__).resolve():
            try:
                found.append((path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")))
            except UnicodeDecodeError:
                continue
    assert found
    return found


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what: str) -> None:
    """Neither machines nor registries: a clone works wherever it is and whatever index its user has set."""
    pattern = FORBIDDEN[what]
    hits = [
        f"{name}:{number}: {match.group()}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if (match := pattern.search(line))
    ]
    assert not hits


def test_constraints_are_plain_pins() -> None:
    """Each line of a constraints file is a comment or name==version."""
    plain = re.compile(r"#.*|[a-z0-9][a-z0-9-]*==[\w.!+]+")
    files = sorted((ROOT / "constraints").glob("*.txt"))
    assert files
    bad = [
        f"{path.name}: {line}" for path in files for line in path.read_text().splitlines() if not plain.fullmatch(line)
    ]
    assert not bad
