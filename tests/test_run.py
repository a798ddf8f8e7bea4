"""run.py, which works with nothing but the standard library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """As much of a clone as the clean-up needs, since it removes what lies beside it."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "src", clone / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", clone)
    return clone


def test_clean_takes_the_cached_emulator_without_any_environment(clone: Path, tmp_path: Path) -> None:
    """The tests make it too, so no environment of the demo need be there; what is somebody else's stays."""
    cache = tmp_path / "cache"
    (cache / "emulator" / "py3.12-0123456789ab" / "bin").mkdir(parents=True)
    (cache / "demo" / "run-1").mkdir(parents=True)
    (cache / "of-somebody-else").touch()
    (clone / ".venv" / "test-3.12").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(clone / "run.py"), "clean"],
        env={**os.environ, "RESILIENT_FACES_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert [path.name for path in cache.iterdir()] == ["of-somebody-else"]
    assert f"removed {cache / 'emulator'}" in done.stderr
    assert sorted(path.name for path in clone.iterdir()) == ["run.py", "src"]
    assert not list(clone.rglob("__pycache__"))
