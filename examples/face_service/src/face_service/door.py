"""What every request passes before anything of its body is read: its id, its key, its size; and its line in the log.

The framework reads a whole form before it asks for a key, and unpacks what it was sent before it counts it. So this
stands in front of it, as plain ASGI: a caller without a key gets an answer to the headers alone, a body is counted
while it comes, and one that is too long, too slow or one too many is refused in the middle.

Whoever is refused in the middle of sending must be let finish a sentence: a server that just closes resets the
connection, and the answer is lost with it. So the answer goes out first, then a little more is read and dropped, and
then the connection ends. Never is a refused body read whole.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
import uuid
from collections.abc import Iterable, MutableMapping
from typing import TYPE_CHECKING, Final

import anyio

from face_service.errors import ApiError, Code, log_failure, template_of
from resilient_faces import request

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["KEY_HEADER", "PUBLIC", "Door"]

KEY_HEADER: Final = "X-API-Key"
PUBLIC: Final = frozenset({"/health", "/health/live", "/health/ready", "/openapi.json"})
"""What can be asked without a key: what probes and tools ask, and nothing about people."""

SMALL_BODY: Final = 65_536  # bytes of a request that carries no photo
AROUND_PHOTO: Final = 16_384  # bytes of a form beside its photo
LINGER: Final = 1.0  # seconds that somebody who is refused may go on sending
LINGER_BYTES: Final = 1_048_576

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9_-]{1,64}")
_log: Final = logging.getLogger("face_service.access")


class Door:
    """ASGI middleware, the outermost.

    Args:
        app: What lies behind.
        keys: Any of them opens.
        most_photo_bytes: Bytes of a photo at most.
        most_uploads: Forms that are being received or answered at a time.
        body_seconds: Seconds in which a body must have come.
    """

    def __init__(
        self, app: ASGIApp, *, keys: Iterable[str], most_photo_bytes: int, most_uploads: int, body_seconds: float
    ) -> None:
        self._app = app
        self._keys = tuple(hashlib.sha256(key.encode()).digest() for key in keys)
        self._most_form = most_photo_bytes + AROUND_PHOTO
        self._most_uploads = most_uploads
        self._body_seconds = body_seconds
        self._uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(reversed(scope["headers"]))  # of several, the first counts
        given = headers.get(b"x-request-id", b"")
        ours = given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        passage = _Passage(scope, receive, send, headers, ours, self._body_seconds)
        scope["face_service.request_id"] = ours
        with request(ours, "receive"):
            await self._serve(scope, headers, passage)

    async def _serve(self, scope: Scope, headers: MutableMapping[bytes, bytes], passage: _Passage) -> None:
        began = time.perf_counter()
        form = headers.get(b"content-type", b"").lower().startswith(b"multipart/form-data")
        upload = False
        try:
            if scope["path"] not in PUBLIC and not self._known(headers.get(KEY_HEADER.lower().encode(), b"")):
                raise ApiError(401, Code.unauthorized, f"The header {KEY_HEADER} is missing or holds no valid key")
            passage.admit(self._most_form if form else SMALL_BODY)
            if form:
                if self._uploads >= self._most_uploads:
                    raise ApiError(503, Code.busy, "Too many uploads at the moment", retry_after=1.0)
                upload = True
                self._uploads += 1
            await self._app(scope, passage.receive, passage.send)
        except ApiError as error:
            scope["face_service.code"] = error.code.value
            await passage.refuse(error)
        except Exception as error:
            # The framework would give it to the server, which writes its text to the log.
            scope["face_service.code"] = Code.internal_error.value
            log_failure(_log, "Request failed", error)
            await passage.refuse(ApiError(500, Code.internal_error, "Internal server error"))
        finally:
            if upload:
                self._uploads -= 1
            self._tell(scope, passage.status, time.perf_counter() - began)

    def _known(self, given: bytes) -> bool:
        """Compare with every key, in constant time: neither length nor content shows in how long it takes."""
        digest = hashlib.sha256(given).digest()
        good = False
        for key in self._keys:
            good |= hmac.compare_digest(digest, key)
        return good

    @staticmethod
    def _tell(scope: Scope, status: int, seconds: float) -> None:
        code = scope.get("face_service.code", "")
        step = getattr(scope.get("route"), "name", "")
        where = template_of(scope) or "-"  # a path that leads nowhere is the sender's own word
        extra = {"step": step, "status": str(status), "errorCode": code}
        words = "%s %s %d %s %.0f ms", scope["method"], where, status, code or "OK", seconds * 1000
        _log.log(logging.ERROR if status >= 500 and status not in {501, 503} else logging.INFO, *words, extra=extra)


class _Passage:
    """One request's way in and out.

    Attributes:
        status: Of the answer; 0 if there was none.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: MutableMapping[bytes, bytes],
        request_id: str,
        seconds: float,
    ) -> None:
        self.status = 0
        self._scope = scope
        self._receive = receive
        self._send = send
        self._id = request_id.encode()
        self._length = headers.get(b"content-length")
        self._expects = b"expect" in headers  # whoever waits for a word before sending has nothing under way
        self._whole = self._length in {None, b"0"} and b"transfer-encoding" not in headers
        self._limit = 0
        self._taken = 0
        self._seconds = seconds
        self._ends: float | None = None

    def admit(self, limit: int) -> None:
        """Let a body of so many bytes in.

        Raises:
            ApiError: Its own headers say that it is longer, or nothing.
        """
        self._limit = limit
        if self._length is None:
            return
        if not self._length.isdigit():
            raise ApiError(400, Code.bad_request, "The header Content-Length is no number")
        # By its digits first: int() of a hundred thousand of them takes its time.
        if len(self._length) > 15 or int(self._length) > limit:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next piece of the body, counted and timed.

        Raises:
            ApiError: Too much of it, or too slow.
        """
        if self._whole:
            return await self._receive()
        now = anyio.current_time()
        if self._ends is None:
            self._ends = now + self._seconds
        message: Message | None = None
        with anyio.move_on_after(self._ends - now):
            message = await self._receive()
        if message is None:
            raise ApiError(408, Code.request_timeout, f"The body did not come within {self._seconds:g} s")
        self._note(message)
        if self._taken > self._limit:
            raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        """Send a piece of the answer; in the end of one that came too early, let the sender see it."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self._id)]
            if not self._whole:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        elif not self._whole and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def refuse(self, error: ApiError) -> None:
        """Answer with an error, if nothing was answered yet."""
        if self.status == 0:
            await error.response()(self._scope, self.receive, self.send)

    def _note(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self._whole = True  # nothing more will come
        else:
            self._taken += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)

    async def _linger(self) -> None:
        if self._expects and self._taken == 0:
            return
        most = self._taken + LINGER_BYTES
        with anyio.move_on_after(LINGER):
            while not self._whole and self._taken < most:
                self._note(await self._receive())

    def _too_large(self) -> ApiError:
        if self._limit > SMALL_BODY:
            return ApiError(
                413, Code.photo_too_large, f"The photo must have {self._limit - AROUND_PHOTO} bytes at most"
            )
        return ApiError(413, Code.request_too_large, f"The request must have {self._limit} bytes at most")
