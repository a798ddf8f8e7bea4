"""In CI a skip is a failure, and outcomes are kept for the requirement rows: what tests/conftest.py promises."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
MARKER = "markers =\n  other_platform: belongs elsewhere\n"
TESTS = """
import pytest

def test_runs(): pass

def test_skips(): pytest.skip("no reason")

@pytest.mark.skipif(True, reason="marked")
def test_is_marked(): pass

@pytest.mark.other_platform
@pytest.mark.skipif(True, reason="not here")
def test_elsewhere(): pass

@pytest.mark.xfail(reason="known", strict=True)
def test_is_known(): assert False

@pytest.fixture
def late(): yield; pytest.skip("in the end")

def test_skips_in_the_end(late): pass
"""


def outcomes_of(folder: Path, tests: str, in_ci: bool, *options: str) -> tuple[int, dict[str, str], str]:
    """Exit code, outcomes by name and output of a run of these tests under our conftest."""
    shutil.copy(CONFTEST, folder)
    (folder / "pytest.ini").write_text(f"[pytest]\n{MARKER}")
    (folder / "test_it.py").write_text(tests)
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "PYTEST_ADDOPTS"}}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--outcomes=kept.json", *options],
        cwd=folder,
        env={**environment, **({"CI": "true"} if in_ci else {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    kept = json.loads((folder / "kept.json").read_text())["outcomes"]
    return done.returncode, {node.partition("::")[2]: outcome for node, outcome in kept.items()}, done.stdout


def test_a_skip_fails_in_ci(tmp_path: Path) -> None:
    """However a test is skipped, but for another platform; expected failures stay what they are."""
    code, outcomes, output = outcomes_of(tmp_path, TESTS, in_ci=True)
    assert code == 1
    assert {name for name, outcome in outcomes.items() if outcome == "failed"} == {
        "test_skips",
        "test_is_marked",
        "test_skips_in_the_end",
    }, output
    assert outcomes["test_runs"] == "passed"
    assert outcomes["test_elsewhere"] == "skipped"
    assert "In CI that is a failure" in output


def test_a_skip_is_a_skip_elsewhere(tmp_path: Path) -> None:
    """On a developer's machine a missing tool is no failure."""
    code, outcomes, output = outcomes_of(tmp_path, TESTS, in_ci=False)
    assert code == 0, output
    assert "failed" not in outcomes.values()
    assert outcomes["test_skips"] == outcomes["test_is_marked"] == "skipped"


@pytest.mark.parametrize("in_ci", [True, False])
def test_a_module_that_skips_itself(tmp_path: Path, in_ci: bool) -> None:
    """`importorskip` at module level hides a whole file."""
    code, _, output = outcomes_of(tmp_path, "import pytest; pytest.importorskip('no_such_module')", in_ci)
    assert code != 0
    assert ("In CI that is a failure" in output) is in_ci


def test_an_extra_that_is_left_out_on_purpose(tmp_path: Path) -> None:
    """`--without EXTRA` accepts the skips of that extra, and of no other."""
    tests = "import pytest\n" + "\n".join(
        f"def test_{extra}(): pytest.skip('the extra `{extra}` is not installed')" for extra in ("insightface", "rtsp")
    )
    _, outcomes, output = outcomes_of(tmp_path, tests, True, "--without", "insightface")
    assert outcomes == {"test_insightface": "skipped", "test_rtsp": "failed"}, output
