"""The emulator's environment, and children that end with their starter."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resilient_faces.testing import emulator
from resilient_faces.testing.children import Child, ChildError, python_module
from resilient_faces.testing.emulator import EmulatorUnavailable, cache_folder, ensure_environment, pinned_versions

ECHO = "import json, sys; print(json.dumps({'url': 'u'}), flush=True); sys.stdin.read()"


def test_versions_are_pinned() -> None:
    """Every requirement names one version."""
    lines = [line for line in pinned_versions().splitlines() if line and not line.startswith("#")]
    assert any(line.startswith("ministack==") for line in lines)
    assert all("==" in line for line in lines)


def test_the_cache_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """RESILIENT_FACES_CACHE wins; without any home the temporary folder is taken."""
    monkeypatch.setenv("RESILIENT_FACES_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("RESILIENT_FACES_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("LOCALAPPDATA", "")
    monkeypatch.setenv("HOME", "")
    assert cache_folder().is_absolute()


def test_an_environment_that_cannot_be_made_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No index, no emulator: the error names the cause and the cure, and nothing half-made stays."""
    monkeypatch.setattr(emulator, "pinned_versions", lambda: "no-such-package-of-this-name==1.0\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    told: list[str] = []
    with pytest.raises(EmulatorUnavailable, match="RESILIENT_FACES_CACHE"):
        ensure_environment(tmp_path, tell=told.append)
    assert told
    assert not [path for path in (tmp_path / "emulator").iterdir() if path.is_dir()]


def test_the_emulator_sees_nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its environment is made for it: loopback only, no credentials, no proxy, no containers of the user."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:2375")
    given = emulator._environment(tmp_path, 1234)
    assert (given["BIND_HOST"], given["GATEWAY_PORT"], given["SFTP_ENABLED"]) == ("127.0.0.1", "1234", "0")
    assert "mine" not in given.values()
    assert given["DOCKER_HOST"] == f"unix://{tmp_path}/no-docker.sock"


def test_a_child_says_hello_and_ends_when_asked(tmp_path: Path) -> None:
    """Its first line is read; closing its standard input is enough to end it."""
    with Child("echo", [sys.executable, "-c", ECHO], log=tmp_path / "log", says_hello=True) as child:
        assert child.hello == {"url": "u"}
        assert child.running
    assert child.process.returncode == 0


def test_a_child_that_does_not_listen_is_made_to_end(tmp_path: Path) -> None:
    """First asked, then told, then killed; only this process is meant."""
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('{}', flush=True); time.sleep(60)"
    )
    child = Child("stubborn", [sys.executable, "-c", stubborn], log=tmp_path / "log", says_hello=True)
    assert child.stop(grace=0.1) < 0


def test_a_child_that_dies_early_is_quoted(tmp_path: Path) -> None:
    """The error carries what the child said last."""
    with pytest.raises(ChildError, match="no luck"):
        Child("short", [sys.executable, "-c", "raise SystemExit('no luck')"], log=tmp_path / "log", says_hello=True)


def test_children_end_with_a_killed_starter(tmp_path: Path) -> None:
    """Even kill -9 of the starter leaves no child behind."""
    starter = (
        "import sys, os, signal; from pathlib import Path; from resilient_faces.testing.children import Child;"
        f"child = Child('c', [sys.executable, '-c', {ECHO!r}], log=Path({str(tmp_path / 'log')!r}), says_hello=True);"
        "print(child.process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    for _ in range(100):
        if not _runs(pid):
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its starter")


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie that its new parent has not fetched yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_module_runs_as_a_child(tmp_path: Path) -> None:
    """The proxy's command line, as the demonstration starts it."""
    with python_module("proxy", "resilient_faces.testing.fault_proxy", log=tmp_path / "log") as child:
        assert child.hello["url"].startswith("http://127.0.0.1:")
