"""The command `face-service`, as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from face_service import cli
from face_service.testing import KEY, RTSP, SIGNING, picture

COMMAND = [sys.executable, "-m", "face_service"]
KEYS = {"FACE_SERVICE_API_KEY": KEY, "FACE_SERVICE_WEBHOOK_KEY": SIGNING.reveal()}


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FACE_SERVICE_")}
    return {**kept, **more}


class Running:
    """The service in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        assert process.stderr is not None
        self._reader = threading.Thread(target=lambda: self.said.extend(process.stderr or ()), daemon=True)
        self._reader.start()
        assert process.stdout is not None
        self.hello: dict[str, Any] = json.loads(process.stdout.readline() or "{}")

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        with httpx.Client(trust_env=False, headers={"X-API-Key": KEY}, timeout=10.0) as client:
            return client.request(method, self.hello["url"] + path, **options)

    def ends(self) -> int:
        code = self.process.wait(20)
        self._reader.join(5)
        return code

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.said]


@contextmanager
def running(folder: Path, *arguments: str, **settings: str) -> Iterator[Running]:
    command = [*COMMAND, "--port", "0", "--json", "--data", str(folder), *arguments]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**KEYS, **settings),
    )
    with process:
        try:
            yield Running(process)
        finally:
            if process.poll() is None:
                process.kill()


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60, env=environment(**settings)
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    """It says where it listens; on SIGTERM as on Ctrl-C sessions are stopped and counted, and the exit code is 0."""
    with running(tmp_path, FACE_SERVICE_CALLBACK_SCHEMES="https") as service:
        assert service.hello["url"] == f"http://127.0.0.1:{service.hello['port']}"
        assert (service.hello["schema"], service.hello["pid"]) == (1, service.process.pid)
        health = service.ask("GET", "/health").json()
        assert health["live"] is True
        assert health["services"]["insightface"]["status"] == "degraded", "there is no pack"
        about = {"slotId": 1, "callbackUrl": "https://127.0.0.1.example/", "cameras": [{"id": "c", "rtspUrl": RTSP}]}
        assert service.ask("POST", "/sessions", json=about).status_code == 200
        service.process.send_signal(number)
        assert service.ends() == 0
        lines = service.lines()
        said = [line["message"] for line in lines]
        assert "Cleanup complete: 1 tasks, 1 sessions" in said
        assert said.index("Shutting down service...") < said.index("Service shutdown complete")
        assert {"requestId", "step", "status", "errorCode"} <= set.intersection(*(set(line) for line in lines))
        everything = json.dumps(lines)
        assert "pl4nted" not in everything
        assert KEY not in everything
        assert SIGNING.reveal() not in everything


def test_a_child_ends_with_who_started_it(tmp_path: Path) -> None:
    """With the option that is for starters, the end of standard input is the end."""
    with running(tmp_path, "--until-eof") as service:
        assert service.process.stdin is not None
        service.process.stdin.close()
        assert service.ends() == 0


def test_a_request_that_is_under_way_is_answered(tmp_path: Path) -> None:
    """SIGTERM in the middle of an upload: what was begun within the grace is finished."""
    with running(tmp_path) as service:
        go = threading.Event()

        def body() -> Iterator[bytes]:
            yield b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.png"\r\n\r\n'
            go.wait(10)
            yield picture() + b"\r\n--x--\r\n"

        answers: list[int] = []

        def upload() -> None:
            headers = {"content-type": "multipart/form-data; boundary=x"}
            answers.append(service.ask("POST", "/people/a/photos", content=body(), headers=headers).status_code)

        uploading = threading.Thread(target=upload)
        uploading.start()
        threading.Event().wait(0.3)
        service.process.send_signal(signal.SIGTERM)
        threading.Event().wait(0.3)
        go.set()
        uploading.join(15)
        assert answers == [503], "there is no model here; what matters is that there was an answer"
        assert service.ends() == 0


def test_without_its_keys_it_does_not_start() -> None:
    """Exit code 2, and all that is missing, with the cure."""
    done = run()
    assert done.returncode == 2
    assert "FACE_SERVICE_API_KEY must be set" in done.stderr
    assert "FACE_SERVICE_WEBHOOK_KEY must be set" in done.stderr
    assert "face-service keys" in done.stderr
    assert done.stdout == ""


def test_keys_are_made_for_a_shell(tmp_path: Path) -> None:
    """Two lines that it accepts itself, other ones each time."""
    first, second = run("keys"), run("keys")
    assert first.returncode == 0
    assert first.stdout != second.stdout
    made = dict(line.split("=", 1) for line in first.stdout.splitlines())
    assert set(made) == set(KEYS)
    taken = run("--port", "99999", **made)
    assert "must be set" not in taken.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """Exit code 2, and what to do."""
    with running(tmp_path) as service:
        second = run("--port", str(service.hello["port"]), "--data", str(tmp_path / "2"), **KEYS)
    assert second.returncode == 2
    assert "cannot be listened on" in second.stderr
    assert "Take another port" in second.stderr


def test_a_host_that_is_another_machine(tmp_path: Path) -> None:
    """No other port would help."""
    done = run("--host", "192.0.2.1", "--port", "0", "--data", str(tmp_path), **KEYS)
    assert done.returncode == 2
    assert "--host 192.0.2.1" in done.stderr
    assert "Give --host an address of this machine." in done.stderr
    assert "another port" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--prot", "1"), "No such option"),
        (("--port", "99999"), "99999"),
        (("--log", "xml"), "xml"),
        (("serve",), "No such command"),
        (("--port", "1", "keys"), "or to no subcommand"),
        (("camera", "kill"), "needs the number of a camera"),
        (("demo", "--cameras", "1"), "1"),
        (("demo", "--seconds", "nan"), "'--seconds'"),
        (("--data", ""), "'--data': must be a path; got ''."),
        (("--pack", ""), "'--pack': must be a path; got ''."),
        (("--host", ""), "'--host': must be an address of this machine"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], said: str) -> None:
    """Exit code 2, and what is wrong."""
    done = run(*arguments, **KEYS)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr


def test_a_mistyped_setting(tmp_path: Path) -> None:
    """Exit code 2 before anything is started."""
    done = run(**KEYS, FACE_SERVICE_GRACEE="1")
    assert done.returncode == 2
    assert "Did you mean FACE_SERVICE_GRACE?" in done.stderr


def test_help_says_what_there_is() -> None:
    """Options, subcommands, exit codes, and under which licence models are."""
    done = run("--help")
    assert done.returncode == 0
    for word in ("--port", "keys", "demo", "camera", "FACE_SERVICE_", "non-commercial", "Exit codes"):
        assert word in done.stdout
    assert "--until-eof" not in done.stdout


@pytest.mark.parametrize(("module", "extra"), cli._NEEDED)
def test_a_missing_extra_is_named(module: str, extra: str) -> None:
    """Exit code 3, and what to install."""
    code = f"import sys; sys.modules[{module!r}] = None; from face_service.cli import main; sys.exit(main([]))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60, env=environment(**KEYS)
    )
    assert done.returncode == 3, done.stderr
    assert f"resilient-faces[{extra}]" in done.stderr


def test_without_click_it_says_so() -> None:
    """The command's own extra is named as well."""
    code = "import sys; sys.modules['click'] = None; from face_service.cli import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3
    assert "resilient-faces[cli]" in done.stderr
