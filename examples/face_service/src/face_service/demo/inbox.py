"""The demonstration's receiver of webhooks: it believes nothing without a good signature, and keeps what it got."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final

from resilient_faces.adapters.webhook import SignatureError, SigningKey, Verifier

__all__ = ["Inbox", "Letter"]

MOST_BYTES: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class Letter:
    """One webhook whose signature was good, and which was not a repetition."""

    at: float  # monotonic
    body: dict[str, Any]

    @property
    def kind(self) -> str:
        """What it tells, in one word."""
        return str(self.body.get("status") or self.body.get("callbackType"))

    @property
    def camera(self) -> str:
        """Id of the camera that it is about; empty if it is about none."""
        return str(self.body.get("cameraId") or self.body.get("recognition", {}).get("cameraId") or "")


class Inbox:
    """Listens on a free port of 127.0.0.1 while its `with` block runs.

    Attributes:
        letters: What came, in order.
        refused: Requests that were not accepted.
        repeated: Requests that were accepted before.
        port: Where it listens.
    """

    def __init__(self, key: SigningKey) -> None:
        self.letters: list[Letter] = []
        self.refused = self.repeated = 0
        self._verifier = Verifier(key)
        self._lock = threading.Lock()
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10.0

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", "0"))
                body = self.rfile.read(min(length, MOST_BYTES))
                self.send_response(inbox.take(dict(self.headers), body))
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """What came is in the list."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: Final = int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Where webhooks go."""
        return f"http://127.0.0.1:{self.port}/hook"

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Accept a request, or not; returns the status to answer with."""
        try:
            received = self._verifier.verify(headers, body)
        except SignatureError:
            with self._lock:
                self.refused += 1
            return 401
        with self._lock:
            if received.repeated:
                self.repeated += 1
            else:
                self.letters.append(Letter(time.monotonic(), json.loads(body)))
        return 204

    def __enter__(self) -> Inbox:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="inbox", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
