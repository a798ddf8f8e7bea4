"""`resilient-faces demo indexing`, start to end, as a user runs it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("click", reason="the extra `cli` is not installed")
pytest.importorskip("boto3", reason="the extra `aws` is not installed")
pytest.importorskip("skimage", reason="the extra `demo` is not installed")

from resilient_faces.cli.demo import _program
from resilient_faces.testing.emulator import EmulatorUnavailable, cache_folder, ensure_environment

COMMAND = [sys.executable, "-m", "resilient_faces"]


@pytest.fixture(scope="session")
def installed() -> Path:
    """The emulator's environment, kept between test runs."""
    try:
        ensure_environment()
    except EmulatorUnavailable as error:
        pytest.skip(str(error))
    return cache_folder() / "emulator"


@pytest.fixture
def environment(installed: Path, tmp_path: Path) -> dict[str, str]:
    """Runs leave their folders here, and use the emulator that is installed; a hang costs 4 s."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "emulator").symlink_to(installed)
    mine = {"RESILIENT_FACES_CACHE": str(tmp_path / "cache"), "RESILIENT_FACES_INDEX_TIMEOUT": "4"}
    return {**os.environ, **mine}


def run(arguments: Sequence[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, env=environment, timeout=240
    )


def test_twenty_photos_with_faults(environment: dict[str, str]) -> None:
    """Every photo indexed once although answers were lost; only JSON on standard output; nothing left running."""
    done = run(["demo", "indexing", "--count", "20", "--seed", "4", "--json"], environment)
    report: dict[str, Any] = json.loads(done.stdout)
    broken = [name for name, one in report["invariants"].items() if not one["holds"] and name != "right_counts"]
    assert broken == [], done.stdout
    assert done.returncode == (0 if report["ok"] else 1)
    assert (report["schema"], report["photos"], report["indexed"], report["failed"]) == (1, 20, 20, 0)
    assert report["faults"]["reset after the work"] >= 1
    assert report["retries"] >= 1
    assert report["requests_per_photo"] > 1
    assert report["max_in_any_second"] <= 51
    assert {"seconds", "faces", "misses", "plan"} <= set(report)
    assert "indexing" in done.stderr


def test_the_rate_binds(environment: dict[str, str]) -> None:
    """At 5 a second no second has more than 6 requests, retries included."""
    arguments = ["demo", "indexing", "--count", "20", "--seed", "4", "--rate", "5", "--faults", "none", "--json"]
    report = json.loads(run(arguments, environment).stdout)
    assert report["invariants"]["rate_held"]["holds"], report["invariants"]
    assert report["max_in_any_second"] in (4, 5, 6)
    assert report["seconds"] > 3.5


def test_own_photos_are_counted(environment: dict[str, str], tmp_path: Path) -> None:
    """A folder of JPEGs: counted, not judged; one that is no picture fails, and that is as planned."""
    import PIL.Image

    folder = tmp_path / "own"
    folder.mkdir()
    PIL.Image.new("RGB", (200, 200), (0, 99, 0)).save(folder / "green.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    done = run(["demo", "indexing", "--photos", str(folder), "--faults", "none", "--json"], environment)
    report = json.loads(done.stdout)
    assert (done.returncode, report["indexed"], report["failed"], report["right_counts"]) == (0, 1, 1, None)
    assert list(report["planned_failures"].values()) == ["no picture"]
    assert "green" not in "".join(path.read_text() for path in (tmp_path / "cache").glob("demo/run-*/*.jsonl"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_its_servers_and_tells(environment: dict[str, str], number: signal.Signals) -> None:
    """What was done is said, and no child is left."""
    arguments = [*COMMAND, "demo", "indexing", "--count", "100", "--faults", "none"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("indexing"):
                break
        children = _children(process.pid)
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(30) == 130
    assert "Interrupted while indexing" in rest
    assert "All servers are stopped" in rest
    for _ in range(100):
        if not any(map(_runs, children)):
            break
        time.sleep(0.05)
    assert not any(map(_runs, children))


def _children(pid: int) -> list[int]:
    """Ids of the processes that a process started; none where the system does not tell."""
    tasks = Path(f"/proc/{pid}/task")
    found = [path.read_text() for path in tasks.glob("*/children")] if tasks.is_dir() else []
    return [int(number) for text in found for number in text.split()]


def _runs(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo", "indexing", "--cuont", "3"], "No such option"),
        (["demo", "indexing", "--faults", "some"], "'some' is not one of"),
        (["demo", "indexing", "--rate", "0"], "--rate"),
        (["demo", "indexing", "--rate", "nan"], "'--rate'"),
        (["demo", "indexing", "--photos", "/no/such/folder"], "does not exist"),
        (["demo", "--clean", "indexing"], "--clean runs nothing"),
        (["dmeo"], "No such command"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    """Exit code 2 and what was wrong; nothing is started."""
    done = run(arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_a_mistyped_setting_is_refused() -> None:
    """The environment is checked like the command line."""
    done = run(["demo", "indexing"], {**os.environ, "RESILIENT_FACES_RAET": "3"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "Did you mean RESILIENT_FACES_RATE?" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("RATE", "many", "RESILIENT_FACES_RATE"),
        ("RATE", "2000", "RESILIENT_FACES_RATE"),
        ("WORKERS", "0", "RESILIENT_FACES_WORKERS must be from 1 to 256 (threads); got 0."),
        ("HANDLING", "40", "RESILIENT_FACES_HANDLING must be less than RESILIENT_FACES_VISIBILITY (30 s)"),
        ("REGION", "foo bar", "RESILIENT_FACES_REGION must be a region such as us-west-2; got 'foo bar'."),
    ],
)
def test_a_wrong_setting_is_named_as_it_was_given(variable: str, value: str, said: str, tmp_path: Path) -> None:
    """By its variable; a rate of the environment counts, and is not the default's victim."""
    cache = {"RESILIENT_FACES_CACHE": str(tmp_path)}
    done = run(["demo", "indexing"], {**os.environ, **cache, f"RESILIENT_FACES_{variable}": value})
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Settings." not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--help"], ["demo"], ["demo", "--help"], ["demo", "indexing", "-h"]])
def test_help(arguments: list[str]) -> None:
    """Every level explains itself."""
    done = run(arguments)
    assert done.returncode == 0
    assert "Usage: resilient-faces" in done.stdout


def test_without_the_extra_it_says_what_to_install() -> None:
    """Without click: exit code 3 and the one line that helps."""
    program = "import sys; sys.modules['click'] = None; from resilient_faces.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert "pip install 'resilient-faces[cli]'" in done.stderr


def test_without_scikit_image_nothing_is_started(tmp_path: Path) -> None:
    """A missing part is known before anything is installed or run."""
    program = (
        "import importlib.util as u, sys; real = u.find_spec;"
        "u.find_spec = lambda name, package=None: None if name == 'skimage' else real(name, package);"
        "from resilient_faces.__main__ import main; sys.argv = ['resilient-faces', 'demo', 'indexing']; main()"
    )
    env = {**os.environ, "RESILIENT_FACES_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 3
    assert "resilient-faces[demo]" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["", str(Path(sys.executable).parent)])
def test_what_it_says_to_run_can_be_run(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Also where the command is not to be found by its name, as under `run.py`."""
    monkeypatch.setenv("PATH", path)
    done = subprocess.run([*shlex.split(_program()), "demo", "--help"], capture_output=True, text=True, check=False)
    assert "Usage: resilient-faces demo" in done.stdout


def test_clean_says_what_it_removed(tmp_path: Path) -> None:
    """And that there was nothing, the second time."""
    (tmp_path / "demo" / "run-1").mkdir(parents=True)
    env = {**os.environ, "RESILIENT_FACES_CACHE": str(tmp_path)}
    assert "removed" in run(["demo", "--clean"], env).stdout
    assert run(["demo", "--clean"], env).stdout == "nothing to remove\n"
