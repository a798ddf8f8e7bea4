"""The demonstration: its script, its receiver, its line to another terminal, what it judges; and one run of it."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from face_service.demo import control
from face_service.demo.control import Control, ControlError, ask
from face_service.demo.inbox import Inbox, Letter
from face_service.demo.judge import Done, judge
from face_service.demo.script import FAULTS, WHOLE, Step, parsed
from face_service.demo.watch import Row, Watch
from face_service.testing import until
from resilient_faces.adapters.insightface import MissingLibraryError
from resilient_faces.adapters.webhook import Destinations, SigningKey, Webhook
from resilient_faces.errors import OptionError

COMMAND = [sys.executable, "-m", "face_service"]
needs_insightface = pytest.mark.skipif(
    importlib.util.find_spec("insightface") is None, reason="the extra `insightface` is not installed"
)


@pytest.fixture(autouse=True)
def _own_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A demonstration that runs on this machine is left alone."""
    place = tempfile.mkdtemp(prefix="fs-")  # short: the address of a socket has a hundred characters
    monkeypatch.setenv("TMPDIR", place)
    monkeypatch.setattr(tempfile, "tempdir", place)


# -- the script ----------------------------------------------------------------------------------------------------


def test_a_script_is_read_in_order_of_time() -> None:
    """Whatever order it is written in."""
    assert parsed("12 restart 2, 3.5 kill 2 ,20 fault 1 drip,", 3) == (
        Step(3.5, "kill", 2),
        Step(12.0, "restart", 2),
        Step(20.0, "fault", 1, "drip"),
    )
    assert [str(step) for step in parsed(WHOLE, 3)] == ["kill 2", "restart 2", "freeze 1", "thaw 1"]
    assert parsed("", 3) == ()


BAD_STEPS = (
    *("kill 2", "x kill 2", "3 burn 2", "3 kill", "3 kill 0", "3 kill 4"),
    *("3 kill 2 drip", "3 fault 2", "3 fault 2 x", "3 fault 2 drip drip", "-1 kill 2", "inf kill 2"),
)


@pytest.mark.parametrize("text", BAD_STEPS)
def test_a_step_that_cannot_be_read(text: str) -> None:
    """It is named, with what a step looks like."""
    with pytest.raises(OptionError, match=r"a step is SECONDS VERB CAMERA") as caught:
        parsed(f"1 kill 1, {text}", 3)
    assert repr(text) in str(caught.value)


def test_help_names_every_fault() -> None:
    """What a camera of the demonstration can do wrong."""
    done = subprocess.run([*COMMAND, "camera", "--help"], capture_output=True, text=True, check=False, timeout=60)
    listed = done.stdout.partition("Faults:")[2].partition(".")[0].replace(",", " ").split()
    assert listed == list(FAULTS)


# -- the receiver --------------------------------------------------------------------------------------------------


def test_the_receiver_believes_signatures_alone(resilience: None) -> None:
    """What our sender signed is kept once; what anybody else sends is refused and counted."""
    key = SigningKey.new()
    rules = Destinations(schemes=("http",), ports=None, allow=("127.0.0.1/32",))
    with Inbox(key) as inbox:
        good = Webhook(key, destinations=rules, retry=None)
        assert good.send(inbox.url, {"status": "RUNNING"}, id="one")
        assert good.send(inbox.url, {"status": "RUNNING"}, id="one"), "a repetition is accepted"
        assert not Webhook(SigningKey.new(), destinations=rules, retry=None).send(inbox.url, {"status": "X"})
        assert httpx.post(inbox.url, json={"status": "X"}, trust_env=False).status_code == 401
    assert [letter.kind for letter in inbox.letters] == ["RUNNING"]
    assert (inbox.refused, inbox.repeated) == (2, 1)


# -- the line to another terminal ----------------------------------------------------------------------------------


def test_another_terminal_asks_and_is_answered() -> None:
    """One line there, one line back; an answer that says no is an error."""
    with Control(lambda question: {"ok": question["verb"] == "kill", "said": f"{question['camera']} is killed"}):
        assert ask({"verb": "kill", "camera": 2})["said"] == "2 is killed"
        with pytest.raises(ControlError, match="2 is killed"):
            ask({"verb": "burn", "camera": 2})
    with pytest.raises(ControlError, match="No demonstration is running"):
        ask({"verb": "kill", "camera": 2})


def test_one_demonstration_at_a_time() -> None:
    """A second one says so; what a killed one left is taken away."""
    path = control.socket_path()
    with Control(lambda _: {"ok": True}), pytest.raises(ControlError, match="running already"):
        Control(lambda _: {"ok": True})
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    with Control(lambda _: {"ok": True, "said": "here"}):
        assert ask({})["said"] == "here"
    assert not path.exists()


def test_a_directory_that_others_may_enter_is_not_used() -> None:
    """Somebody else could answer, or ask, there."""
    directory = control.socket_path().parent
    directory.chmod(0o777)
    with pytest.raises(ControlError, match="open to others"):
        control.socket_path()


def test_without_a_demonstration_there_are_no_cameras() -> None:
    """Exit code 3, and how to start one."""
    done = subprocess.run(
        [*COMMAND, "camera", "status"], capture_output=True, text=True, check=False, timeout=60, env=dict(os.environ)
    )
    assert done.returncode == 3
    assert "face-service demo" in done.stderr


# -- the judgement -------------------------------------------------------------------------------------------------


@dataclass
class Camera:
    number: int
    how: str = "running"
    since: float = -1000.0

    @property
    def person(self) -> str:
        return f"card-{self.number}"


@dataclass
class Stage:
    """A system that has ended well, until the test says otherwise."""

    folder: Path
    cameras: list[Camera] = field(default_factory=lambda: [Camera(1), Camera(2)])
    exit_code: int = 0
    planted: tuple[str, ...] = ("pl4nted",)

    def __post_init__(self) -> None:
        self.inbox = type("Box", (), {"letters": [], "refused": 0})()
        for number in (1, 2):
            self.tell(recognition={"personId": f"card-{number}", "cameraId": str(number)}, callbackType="RECOGNITION")
        self.log = self.folder / "service.log"
        self.log.write_text("Cleanup complete: 2 tasks, 1 sessions\n")

    def tell(self, **body: Any) -> None:
        self.inbox.letters.append(Letter(0.0, body))  # type: ignore[attr-defined]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def watch(stage: Stage) -> Watch:
    rows = tuple(Row(number, "running", "live", False, 0.1, 50, True) for number in (1, 2))
    session = {"recognised": 2, "delivered": 2, "undelivered": 0}
    return Watch(stage, rows=rows, health={"live": True}, session=session)  # type: ignore[arg-type]


def broken(stage: Stage, watch: Watch) -> list[str]:
    report = judge(stage, watch, ())  # type: ignore[arg-type]
    assert report.holds is (report.to_json()["holds"] is not False)
    return [finding.rule for finding in report.findings if not finding.holds]


def test_a_good_run_holds(stage: Stage, watch: Watch) -> None:
    """And its report can be written as JSON."""
    assert broken(stage, watch) == []
    report = judge(stage, watch, (Done(3.0, Step(3.0, "kill", 2), "camera 2 is killed"),))  # type: ignore[arg-type]
    found = json.loads(json.dumps(report.to_json()))
    assert (found["schema"], found["holds"], found["webhooks"]) == (1, True, {"RECOGNITION": 2})
    assert found["done"] == [{"at": 3.0, "what": "kill 2", "said": "camera 2 is killed"}]


def test_each_rule_can_be_broken(stage: Stage, watch: Watch) -> None:
    """A judgement that cannot say no says nothing."""
    stage.inbox.refused = 1  # type: ignore[attr-defined]
    stage.tell(recognition={"personId": "card-1", "cameraId": "2"}, callbackType="RECOGNITION")
    stage.inbox.letters.pop(1)  # type: ignore[attr-defined]
    stage.exit_code = -9
    stage.log.write_text("pl4nted")
    watch.deaths, watch.revivals, watch.failures, watch.health = {2}, {2}, 1, {}
    watch.rows = (watch.rows[0], Row(2, "running", "stalled", True, 9.0, 50, False))
    assert len(broken(stage, watch)) == 11


def test_a_death_that_was_told_is_in_order(stage: Stage, watch: Watch) -> None:
    """And so is the last one, which is told as the end of the session."""
    watch.deaths = {2}
    assert broken(stage, watch) == ["the receiver hears of each camera that dies"]
    stage.tell(status="CAMERA_DISCONNECTED", cameraId="2")
    assert broken(stage, watch) == []
    watch.deaths, watch.session = {1, 2}, {}
    stage.log.write_text("Cleanup complete: 0 tasks, 0 sessions")
    stage.tell(status="STOPPED")
    assert broken(stage, watch) == []


# -- a whole run ---------------------------------------------------------------------------------------------------


def children_of(pid: int) -> set[int]:
    """Processes that were started by this one, where the system tells."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.add(int(entry.parent.name))
    return found


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, "demo", "--cameras", "2", "--seconds", "18", "--script", "3 kill 2, 11 restart 2", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    with process:
        yield process
        if process.poll() is None:
            process.terminate()


@needs_insightface
def test_a_camera_dies_and_is_revived(demo: subprocess.Popen[str]) -> None:
    """Real cameras, the real service, real webhooks: everything that must hold does, and nothing is left running."""
    deadline = time.monotonic() + 60
    while not (children := children_of(demo.pid)) or len(children) < 3:
        assert time.monotonic() < deadline
        assert demo.poll() is None, demo.communicate()
        time.sleep(0.05)
    out, said = demo.communicate(timeout=90)
    assert demo.returncode == 0, (out, said)
    report = json.loads(out)
    assert report["holds"]
    assert report["webhooks"]["RECOGNITION"] == 2
    assert report["webhooks"]["CAMERA_DISCONNECTED"] == 1
    assert [one["what"] for one in report["done"]] == ["kill 2", "restart 2"]
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


@needs_insightface
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(demo: subprocess.Popen[str], number: signal.Signals) -> None:
    """It ends its children, says what was done, and exits as interrupted commands do."""
    deadline = time.monotonic() + 60
    while len(children := children_of(demo.pid)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    demo.send_signal(number)
    out, said = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert out == ""
    assert "Everything that was started is stopped." in said
    # One that was being started when the signal came ends by itself, when its standard input does.
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def test_without_insightface_it_names_the_extra() -> None:
    """Exit code 3 before anything is started."""
    code = "import sys; sys.modules['insightface'] = None; from face_service.cli import main; sys.exit(main(['demo']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3
    assert "resilient-faces[insightface]" in done.stderr


@needs_insightface
def test_a_system_without_its_libraries_is_told_the_cure(tmp_path: Path) -> None:
    """On a slim system OpenCV cannot be loaded: exit code 3, what to install, and no process left."""
    (tmp_path / "cv2.py").write_text('raise ImportError("libGL.so.1: cannot open shared object file")')
    done = subprocess.run(
        [*COMMAND, "demo", "--seconds", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 3, done.stderr
    assert MissingLibraryError.LIBRARIES in done.stderr
