"""What a user's type checker sees, strictly: mypy and pyright over the two files beside this one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COMMANDS = {
    "mypy": [
        "mypy",
        "--strict",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        str(HERE / "usage.py"),
        str(HERE / "mistakes.py"),
    ],
    "pyright": ["pyright", "--project", str(ROOT / "pyproject.toml"), "--pythonpath", sys.executable],
}


@pytest.mark.parametrize("checker", COMMANDS)
def test_a_users_code_checks(checker: str, tmp_path: Path) -> None:
    """Right uses pass, every mistake is an error, and no ignore comment is left over."""
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed; it is in the dependency group `types`")
    command = [sys.executable, "-m", *COMMANDS[checker]]
    if checker == "mypy":
        command += ["--cache-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
