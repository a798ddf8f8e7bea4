"""For tests and proofs: the service in this process, with a recogniser and cameras that do as they are told."""

from __future__ import annotations

import argparse
import io
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import anyio
import httpx
import numpy as np
import PIL.Image
from anyio.from_thread import start_blocking_portal

from face_service.app import create_app
from face_service.server import end_with_input, log_to, serve
from face_service.settings import Settings
from face_service.watching import Parts
from resilient_faces.adapters.recogniser import Face, Picture
from resilient_faces.adapters.rtsp import CameraDeadError, Health, State
from resilient_faces.adapters.webhook import Destinations, SigningKey, Webhook

KEY: Final = "an-api-key-that-is-long-enough"
SIGNING: Final = SigningKey.new()
LENGTH: Final = 8


class StubEngine:
    """Finds as many faces as it is told, each with the score it is told, and knows pictures by their first pixel."""

    name, names_people = "stub", True

    def __init__(self, space: str = "stub") -> None:
        self.space = space
        self.faces = 1
        self.score = 0.93
        self.raises: Exception | None = None
        self.looked = 0
        self.hold: Callable[[], object] | None = None

    def detect(self, picture: Picture) -> tuple[Face, ...]:
        self.looked += 1
        if self.hold is not None:
            self.hold()
        if self.raises is not None:
            raise self.raises
        box = (0, 0, picture.width // 2, picture.height)
        return tuple(Face(box, self.score) for _ in range(self.faces))

    def embed(self, picture: Picture, faces: tuple[Face, ...]) -> Any:
        rows = np.zeros((len(faces), LENGTH), np.float32)
        rows[:, int(picture.pixels[0, 0, 0]) * LENGTH // 256] = 1.0
        return rows

    def similarity(self, cosine: float) -> float:
        return 100.0 * cosine


class IdleCamera:
    """A camera that gives no frame, and dies when it is told."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.state = State.opening
        self.dead = False
        self.closed = 0
        self._death = anyio.Event()

    async def __aenter__(self) -> IdleCamera:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed += 1

    async def atake(self) -> Any:
        if not self.dead:
            await self._death.wait()
            raise CameraDeadError(self.id, self.state)
        await anyio.sleep_forever()

    def latest(self) -> None:
        return None

    def health(self) -> Health:
        return Health(self.id, self.state, self.dead, None, 0.0, 0, 0, 0, 0, 0, {}, 0.0, "", None)

    def die(self) -> None:
        self.state, self.dead = State.refused, True
        self._death.set()


def unanswered() -> Webhook:
    """Delivers nothing: no name has an address."""

    def resolve(host: str, port: int) -> list[str]:
        raise OSError("no packet leaves this machine")

    return Webhook(SIGNING, destinations=Destinations(), retry=None, resolve=resolve)


class Service:
    """The application, running. Asked as any client asks it, but in this process."""

    def __init__(self, folder: Path, engine: StubEngine | None = None, **settings: Any) -> None:
        self.engine = engine or StubEngine()
        self.make: Callable[[Path], Any] = lambda pack: self.engine  # may be set until it starts
        self.cameras: dict[str, IdleCamera] = {}
        given: dict[str, Any] = {"api_key": (KEY,), "webhook_key": (SIGNING.reveal(),), "data": folder, "grace": 0.1}
        self.settings = Settings(**{**given, **settings})
        self.app = create_app(self.settings, self.made)
        self._stack = ExitStack()

    def made(self) -> Parts:
        """Its parts, with stubs for what lies outside."""

        def watch(plan: Any, slot: int) -> IdleCamera:
            self.cameras[plan.id] = IdleCamera(plan.id)
            return self.cameras[plan.id]

        return Parts(self.settings, make=self.make, cameras=watch, webhook=unanswered())

    @property
    def parts(self) -> Parts:
        parts: Parts = self.app.state.parts
        return parts

    def __enter__(self) -> Service:
        self.portal = self._stack.enter_context(start_blocking_portal("asyncio"))
        lifespan = self.app.router.lifespan_context(self.app)
        self._stack.enter_context(self.portal.wrap_async_context_manager(lifespan))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stack.close()

    def ask(self, method: str, path: str, *, key: str | None = KEY, **options: Any) -> httpx.Response:
        """One request, with the key unless told otherwise."""
        headers = {**({} if key is None else {"X-API-Key": key}), **options.pop("headers", {})}

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                return await client.request(method, path, headers=headers, **options)

        return self.portal.call(send)

    def embed(self, photo: bytes, *, name: str = "photo.jpg", submission: object = 7) -> httpx.Response:
        return self.ask(
            "POST", "/embeddings/generate", files={"photo": (name, photo)}, data={"submissionId": str(submission)}
        )

    def enrol(self, person: str, shade: int = 200) -> httpx.Response:
        return self.ask("POST", f"/people/{person}/photos", files={"photo": ("p.png", picture(shade=shade))})

    def begin(self, slot: int = 1, *cameras: str, **members: Any) -> httpx.Response:
        about = [{"id": one, "name": f"Camera {one}", "rtspUrl": RTSP} for one in cameras or ("c1",)]
        body = {"slotId": slot, "callbackUrl": CALLBACK, "cameras": about, **members}
        return self.ask("POST", "/sessions", json=body)


RTSP = "rtsp://viewer:pl4nted-secret@127.0.0.1:1/live"
CALLBACK = "https://school.example/hook?token=pl4nted-token"


def picture(width: int = 64, height: int = 48, *, shade: int = 200, kind: str = "PNG", **options: Any) -> bytes:
    """A plain picture file."""
    sink = io.BytesIO()
    PIL.Image.new("RGB", (width, height), (shade, 90, 90)).save(sink, kind, **options)
    return sink.getvalue()


def until(true: Callable[[], object], within: float = 10.0) -> None:
    """Wait until it is true."""
    ends = time.monotonic() + within
    while not true():
        assert time.monotonic() < ends, f"not within {within:g} s"
        time.sleep(0.01)


def main(arguments: list[str] | None = None) -> int:
    """Serve it on a free port, until standard input ends: for whoever asks it through a real connection."""
    parser = argparse.ArgumentParser(description="The face service with a stub for a model, cameras and receivers")
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args(arguments)
    service = Service(given.data, port=0)
    threading.Thread(target=end_with_input, daemon=True).start()
    log_to(sys.stderr, "json")
    return serve(service.settings, as_json=True, make=service.made)


if __name__ == "__main__":
    sys.exit(main())
