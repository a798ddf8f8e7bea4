"""The pytest plugin: `clock`, `mode` and `resilience`, and nothing at all for who does not ask for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEADER = """
import sys
import pytest
from resilient_faces.testing import script
"""


def run(directory: Path, source: str, *options: str, installed: bool = False) -> str:
    """What a pytest of its own says about this test file, with our plugin by name or as it is installed."""
    (directory / "test_user.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--rootdir", str(directory), *options]
    environment = dict(os.environ)
    if not installed:
        command += ["-p", "resilient_faces.testing.plugin"]
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # others take their time to load
    done = subprocess.run(
        [*command, "test_user.py"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


def test_clock(tmp_path: Path) -> None:
    """Sleeps move it and nothing else; chance is what the test sets; afterwards the runtime is the real one."""
    said = run(
        tmp_path,
        HEADER
        + """
import time
from resilient_faces import retry
from resilient_faces.retry import exponential, full
from resilient_faces._core.runtime import RUNTIME

def test_manual(clock):
    clock.chance = 0.5
    began = time.monotonic()
    policy = retry(attempts=4, backoff=exponential(100.0, cap=1000.0), jitter=full())
    assert policy.call(script(*[ConnectionResetError()] * 3, "fine").function()) == "fine"
    assert clock.slept == [50.0, 100.0, 200.0]
    assert time.monotonic() - began < 5.0
    clock.advance(5.0)
    assert RUNTIME.monotonic() == clock.now == 1000.0 + 350.0 + 5.0

def test_real():
    assert RUNTIME.monotonic is time.monotonic and RUNTIME.wall is time.time
""",
    )
    assert "2 passed" in said, said


def test_mode(tmp_path: Path) -> None:
    """One test, three runs: plain code, asyncio, trio."""
    said = run(
        tmp_path,
        HEADER
        + """
from resilient_faces import retry
seen = []

def test_all(mode, clock):
    scripted = script(ConnectionResetError(), "fine")
    assert mode.run(retry(backoff=1.0), scripted) == "fine"
    import sniffio
    def where():
        try:
            return sniffio.current_async_library()
        except sniffio.AsyncLibraryNotFoundError:
            return "sync"
    assert mode.call(mode.wrap(where)) == mode.name
    seen.append(mode.name)

def test_seen():
    assert seen == ["sync", "asyncio", "trio"]
""",
    )
    assert "4 passed" in said, said


@pytest.mark.parametrize("fixture", ["resilience", "clock", "mode"])
def test_registries_are_fresh_for_each_test(tmp_path: Path, fixture: str) -> None:
    """Circuits, services, listeners and switches of one test are unknown to the next."""
    said = run(
        tmp_path,
        HEADER
        + f"""
from resilient_faces import Breaker, circuits, listen, services, last_outcome, retries_off, shutdown
from resilient_faces._core.runtime import RUNTIME
kept = []

@pytest.mark.parametrize("number", [1, 2, 3])
def test_one({fixture}, number):
    assert "db" not in circuits
    assert services.health().services == ()
    assert RUNTIME.listeners == ()
    assert not RUNTIME.stopping.is_set()
    assert RUNTIME.retrying is None
    breaker = Breaker("db", recovery_timeout=float(number))
    breaker.circuit.force_open()
    kept.append(breaker)
    services.degrade("db")
    listen(print)
    shutdown()
    RUNTIME.switch(attempts_cap=1)

def test_after():
    assert "db" not in circuits and services.degraded() == () and RUNTIME.listeners == ()
""",
    )
    assert f"{3 * (3 if fixture == 'mode' else 1) + 1} passed" in said, said


def test_inert_until_asked(tmp_path: Path) -> None:
    """Installed, it imports nothing heavy, swaps nothing and resets nothing."""
    said = run(
        tmp_path,
        """
import sys

def test_nothing_is_imported():
    for name in ("tenacity", "wrapt", "opentelemetry", "resilient_faces.pipeline"):
        assert name not in sys.modules
    import time
    from resilient_faces._core.runtime import RUNTIME
    assert RUNTIME.monotonic is time.monotonic and RUNTIME.retrying is None

def test_state_is_left_alone():
    from resilient_faces import Breaker
    global kept
    kept = Breaker("db")

def test_state_was_left_alone():
    from resilient_faces import circuits
    assert "db" in circuits
""",
        installed=True,
    )
    assert "3 passed" in said, said


def test_the_fixtures_are_listed(tmp_path: Path) -> None:
    """With their first lines, so that a user finds them."""
    said = run(tmp_path, "def test(): pass", "--fixtures", installed=True)
    for name, words in (
        ("clock", "A manual runtime in place of the process's own"),
        ("mode", "The test runs three times"),
        ("resilience", "start afresh and leave nothing behind"),
    ):
        assert name in said
        assert words in said


def test_trio_is_asked_for(tmp_path: Path) -> None:
    """Without it its run is skipped, and says what to install."""
    said = run(
        tmp_path,
        "import sys\nsys.modules['trio'] = None\n\ndef test_all(mode):\n    assert mode.name != 'trio'\n",
        "-rs",
    )
    assert "2 passed, 1 skipped" in said, said
    assert "pip install trio" in said
