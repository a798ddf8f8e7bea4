"""JSON 1.1 over HTTP: requests in, answers and errors out, as the service gives them."""

from __future__ import annotations

import json
import logging
import socket
import threading
import uuid
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final

from resilient_faces.adapters.local_rekognition.answers import Answer, ServiceError
from resilient_faces.adapters.local_rekognition.service import RekognitionService

TARGET: Final = "RekognitionService."
LIVENESS_PATH: Final = "/local/liveness/"
MAX_BODY_BYTES: Final = 15 * 1024 * 1024  # CompareFaces sends two images of 5 MiB, 4/3 of that in base64
_SWALLOWED: Final = 64 * 1024 * 1024  # bytes of too large a body that are read, so that the client hears the answer

_log = logging.getLogger("resilient_faces.local_rekognition")


class _TooLarge(Exception):
    """The body is larger than any request of the service."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "local-rekognition"
    sys_version = ""
    disable_nagle_algorithm = True  # with Nagle and unbuffered writes every call takes 40 ms
    wbufsize = -1
    timeout = 120
    server: RekognitionServer

    def do_POST(self) -> None:
        request_id = str(uuid.uuid4())
        try:
            body = self._body()
        except _TooLarge:
            self._send(413, b"", request_id)  # as the gateway in front of the service
            return
        if body is None:
            self.close_connection = True
            return
        with self.server.busy():
            try:
                answer = self._answer(body, request_id)
            except ServiceError as error:
                self._error(error, request_id)
            except Exception as error:
                # The class alone: an error's text may hold what must stay inside.
                _log.error("request %s failed: %s", request_id, type(error).__name__)
                self._error(ServiceError("InternalServerError", "Internal server error", 500), request_id)
            else:
                self._send(200, json.dumps(answer).encode(), request_id)

    def do_GET(self) -> None:
        """Readiness: the service itself has no GET."""
        self._send(200, json.dumps({"status": "ready", **self.server.about}).encode(), str(uuid.uuid4()))

    def _answer(self, body: bytes, request_id: str) -> Answer:
        target = self.headers.get("X-Amz-Target", "")
        by_hand = self.path.startswith(LIVENESS_PATH)
        if not by_hand and not target.startswith(TARGET):
            raise ServiceError(
                "UnknownOperationException", "X-Amz-Target must name an operation of RekognitionService."
            )
        try:
            request = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            raise ServiceError("SerializationException", "The body is not JSON.") from None
        if not isinstance(request, dict):
            raise ServiceError("SerializationException", "The body is not a JSON object.")
        if by_hand:
            return self.server.service.feed_liveness(self.path[len(LIVENESS_PATH) :], request, request_id)
        return self.server.service.call(target[len(TARGET) :], request, request_id)

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._chunks()
        try:
            length = int(self.headers.get("Content-Length", "0"))
        except ValueError:
            return None
        if length > MAX_BODY_BYTES:
            self._swallow(length)
            raise _TooLarge
        body = self.rfile.read(max(0, length))
        return body if len(body) == length else None

    def _chunks(self) -> bytes | None:
        chunks: list[bytes] = []
        total = 0
        while True:
            line = self.rfile.readline(1024)
            try:
                size = int(line.split(b";", 1)[0], 16)
            except ValueError:
                return None
            if size == 0:
                while self.rfile.readline(65536) not in (b"\r\n", b"\n", b""):
                    pass
                return b"".join(chunks)
            total += size
            if size < 0 or total > MAX_BODY_BYTES:
                self.close_connection = True
                raise _TooLarge
            chunks.append(self.rfile.read(size))
            self.rfile.readline(1024)

    def _swallow(self, length: int) -> None:
        """Closing with unread bytes resets the connection, and the client would never see the answer."""
        self.close_connection = True
        left = min(length, _SWALLOWED)
        while left > 0:
            read = len(self.rfile.read(min(left, 1 << 16)))
            if read == 0:
                return
            left -= read

    def _error(self, error: ServiceError, request_id: str) -> None:
        answer = {
            "__type": error.code,
            "Code": error.code,
            "Logref": request_id,
            "Message": error.message,
        }
        self._send(error.status, json.dumps(answer).encode(), request_id)

    def _send(self, status: int, payload: bytes, request_id: str) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(payload)))
            self.send_header("x-amzn-RequestId", request_id)
            self.send_header("x-local-engine", str(self.server.about["engine"]))
            self.send_header("x-local-similarity", str(self.server.about["similarity"]))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(payload)
            self.wfile.flush()
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the client is gone; the work is done and on record

    def log_message(self, format: str, *args: object) -> None:
        """The ledger is the log."""


class _Busy:
    """Counts the requests in hand."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, seconds)


class RekognitionServer(ThreadingHTTPServer):
    """The endpoint on a port of this machine; port 0 takes a free one.

    Attributes:
        service: The operations.
        about: Engine, and whether its similarities are identities or hints; each answer's headers say it too.
    """

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address: ClassVar[bool] = True  # type: ignore[misc]

    def __init__(self, service: RekognitionService, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.service = service
        self.about: Mapping[str, object] = {
            "engine": service.engine.name,
            "similarity": "identity" if service.engine.names_people else "hint",
        }
        self._busy = _Busy()
        self._serving = False
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer.server_bind asks the resolver for the host's name, which can take seconds without a network.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is no news."""

    def busy(self) -> _Busy:
        """Held while a request is carried out and answered."""
        return self._busy

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._serving = True
        threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.05}, name="local-rekognition", daemon=True
        ).start()

    def stop(self, grace: float = 5.0) -> bool:
        """Take no more requests, finish those in hand within `grace` seconds, close; false if some were left."""
        if self._serving:  # shutdown waits for ever for a loop that was never begun
            self.shutdown()
        done = self._busy.wait(grace)
        self.server_close()
        self.service.close()
        return done

    @property
    def url(self) -> str:
        return f"http://{self.server_name}:{self.server_port}"


def until_input_closes(stream: Any) -> None:
    """Return when standard input ends or somebody interrupts: so a server cannot outlive who started it."""
    try:
        while stream.read(1024):
            pass
    except (KeyboardInterrupt, ValueError, OSError):
        return
