"""Everything that the demonstration starts: cameras, receiver, service; and what can be done to it.

The cameras are real RTSP servers, each a process of its own with a password, showing a card that moves. The service is
the real one in a process of its own, with the generated card pack as its model. All of it listens on loopback.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx

from face_service.demo.inbox import Inbox
from face_service.demo.script import Step
from resilient_faces.adapters.webhook import SigningKey
from resilient_faces.testing.card_pack import photo, write_pack
from resilient_faces.testing.children import Child, ChildError
from resilient_faces.testing.rtsp_server import Fault, RtspProcess

__all__ = ["SLOT", "ServedCard", "System"]

SLOT: Final = 1
WIDTH, HEIGHT, RATE = 640, 360, 10.0
_ANSWER_WITHIN: Final = 10.0  # seconds
_SETTINGS: Final = {
    "CALLBACK_SCHEMES": "http",
    "CALLBACK_PORTS": "any",
    "CALLBACK_ALLOW": "127.0.0.1/32",
    "CAMERA_OPEN": "2",
    "CAMERA_STALL": "1.5",
    "CAMERA_LOST": "4",
    "CAMERA_SLOW": "1.5",
    "PACE": "0.5",
    "AGREE": "2",
    "AGREE_OF": "3",
    "HEARTBEAT": "10",
    "GRACE": "5",
    "LOOK_EVERY": "1",
}
"""Shorter than anybody would set them: so that one does not wait for what there is to see."""


class ServedCard:
    """One camera of the demonstration, and what was done to it.

    Attributes:
        number: From 1.
        person: Who is on the card that it shows.
        how: `running`, `killed`, `frozen`, or the name of a fault.
        since: Monotonic time since when.
    """

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.person = f"card-{number}"
        self.password = secrets.token_urlsafe(9)
        self._process = RtspProcess(
            folder / f"camera-{number}",
            width=WIDTH,
            height=HEIGHT,
            rate=RATE,
            seconds=4.0,
            cards=True,
            first=number,
            password=self.password,
        )
        self._lock = threading.Lock()
        self.how = "running"
        self.since = time.monotonic()

    @property
    def url(self) -> str:
        """Its address, with user and password."""
        return self._process.url()

    def do(self, step: Step) -> str:
        """Do something to it; returns what was done, or why not."""
        with self._lock:
            killed, frozen = self.how == "killed", self.how == "frozen"
            if killed and step.verb != "restart":
                return f"camera {self.number} is killed; restart it first"
            if frozen and step.verb == "fault":
                return f"camera {self.number} is frozen; thaw it first"
            if step.verb == "kill":
                self._process.kill()
                self._now("killed")
            elif step.verb == "freeze":
                self._process.freeze()
                self._now("frozen")
            elif step.verb == "thaw":
                self._process.thaw()
                self._now("running")
            elif step.verb == "fault":
                fault = Fault(step.fault)
                self._process.tell(0, fault)
                self._now("running" if fault is Fault.none else fault.value)
            else:
                if not killed:
                    self._process.kill()
                self._process.start()
                self._now("running")
            return f"camera {self.number} is {self.how}"

    def _now(self, how: str) -> None:
        self.how, self.since = how, time.monotonic()

    def stop(self) -> None:
        """End it, in whatever state it is."""
        with self._lock:
            self._process.stop()


class System:
    """All of it, while its `with` block runs.

    Args:
        folder: For data and logs.
        cameras: How many.
        tell: Is told what is being done.

    Attributes:
        cameras: They.
        inbox: The receiver.
        service: The service's process.
        planted: Words that no log may have.
    """

    def __init__(self, folder: Path, cameras: int, tell: Callable[[str], None]) -> None:
        self._folder = folder
        self._count = cameras
        self._tell = tell
        self._stack = contextlib.ExitStack()
        self._key = secrets.token_urlsafe(32)
        self._signing = SigningKey.new()
        self.cameras: list[ServedCard] = []
        self.exit_code: int | None = None

    def __enter__(self) -> System:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        self._tell("writing the card pack")
        write_pack(self._folder / "data" / "pack")
        self.inbox = self._stack.enter_context(Inbox(self._signing))
        self._tell("starting the service")
        self.log = self._folder / "service.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FACE_SERVICE_")}
        settings = {f"FACE_SERVICE_{name}": value for name, value in _SETTINGS.items()}
        keys = {"FACE_SERVICE_API_KEY": self._key, "FACE_SERVICE_WEBHOOK_KEY": self._signing.reveal()}
        command = [sys.executable, "-m", "face_service", "--port", "0", "--json", "--until-eof"]
        self.service = Child(
            "the service",
            [*command, "--data", str(self._folder / "data")],
            log=self.log,
            env={**kept, **settings, **keys},
            says_hello=True,
            within=60.0,
        )
        self._stack.callback(self._end_service)
        self._client = self._stack.enter_context(
            httpx.Client(
                base_url=self.service.hello["url"],
                headers={"X-API-Key": self._key},
                timeout=_ANSWER_WITHIN,
                trust_env=False,
            )
        )
        self._need_model()
        for number in range(1, self._count + 1):
            self._tell(f"starting camera {number} of {self._count}")
            camera = ServedCard(number, self._folder)
            self._stack.callback(camera.stop)
            self.cameras.append(camera)
            self._tell(f"enrolling card {number}")
            self.ask("POST", f"/people/{camera.person}/photos", files={"photo": ("card.jpg", photo(number))})
        self._tell("beginning the session")
        about = [{"id": str(one.number), "name": f"Camera {one.number}", "rtspUrl": one.url} for one in self.cameras]
        self.ask("POST", "/sessions", json={"slotId": SLOT, "callbackUrl": self.inbox.url, "cameras": about})

    def _need_model(self) -> None:
        """The pack was just written, so what is missing now is missing for good.

        Raises:
            ChildError: The service could not load it; the end of its log says why, and what to do.
        """
        reason = self.health()["services"]["insightface"]["reason"]
        if reason:
            said = [json.loads(line)["message"] for line in self.log.read_text(encoding="utf-8").splitlines()]
            why = [line for line in said if line.startswith("Failed to load")]
            raise ChildError(f"The service has no model ({reason}). {' '.join(why[-1:])}")

    @property
    def planted(self) -> tuple[str, ...]:
        """What nobody may find in a log: keys, passwords, people."""
        known = [word for one in self.cameras for word in (one.password, one.person)]
        return (self._key, self._signing.reveal(), *known)

    def ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Ask the service, which must say yes."""
        response = self._client.request(method, path, **options)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    def session(self) -> dict[str, Any] | None:
        """How the session stands; None if there is none any more."""
        response = self._client.get(f"/sessions/{SLOT}")
        if response.status_code == 404:
            return None
        response.raise_for_status()
        found: dict[str, Any] = response.json()["data"]
        return found

    def health(self) -> dict[str, Any]:
        """What the service says of itself."""
        found: dict[str, Any] = self._client.get("/health").json()
        return found

    def do(self, step: Step) -> str:
        """Do something to a camera; returns what was done."""
        return self.cameras[step.camera - 1].do(step)

    def end(self) -> None:
        """End the service as an operator would, and see how it ends."""
        self._end_service()

    def _end_service(self) -> None:
        if self.exit_code is None:
            self.exit_code = self.service.stop(grace=15.0)
