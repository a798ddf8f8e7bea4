"""What every request passes first: keys, sizes, clocks, ids, and the one line that is written of it."""

from __future__ import annotations

import hmac
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from face_service import door
from face_service.door import Door
from face_service.testing import KEY, Service, picture
from resilient_faces.telemetry import JsonFormatter

PNG = picture()
PUBLIC = ["/health", "/health/live", "/health/ready", "/openapi.json"]


# -- the key -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "", "wrong", KEY[:-1], KEY + "x", KEY.upper()])
@pytest.mark.parametrize("path", ["/people", "/sessions", "/nowhere", "/people/ann", "/docs"])
def test_without_the_key_nothing_is_said(service: Service, key: str | None, path: str) -> None:
    """401 with a clear body, also for what is not there: who has no key learns no addresses."""
    answer = service.ask("GET", path, key=key)
    assert answer.status_code == 401
    assert answer.json() == {
        "status": 401,
        "message": "The header X-API-Key is missing or holds no valid key",
        "code": "UNAUTHORIZED",
    }


@pytest.mark.parametrize("path", PUBLIC)
def test_probes_need_no_key(service: Service, path: str) -> None:
    """Health and the description of what can be asked."""
    assert service.ask("GET", path, key=None).status_code == 200


def test_every_other_address_needs_it(service: Service) -> None:
    """All that the OpenAPI document has, so that a new address cannot be left open."""
    paths = service.ask("GET", "/openapi.json", key=None).json()["paths"]
    for path, operations in paths.items():
        for method in operations:
            answer = service.ask(method.upper(), path.replace("{", "").replace("}", ""), key=None)
            assert (answer.status_code == 401) is (path not in PUBLIC), (method, path)


def test_two_keys_during_a_rotation(start: Callable[..., Service]) -> None:
    """Either of them opens."""
    service = start(api_key=("the-old-key-of-this-service", "the-new-key-of-this-service"))
    for key in service.settings.api_key:
        assert service.ask("GET", "/people", key=key).status_code == 200
    assert service.ask("GET", "/people", key=KEY).status_code == 401


def test_keys_are_compared_in_constant_time(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `hmac.compare_digest`, on digests of one length, with all keys."""
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def noting(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return compare(a, b)

    monkeypatch.setattr("face_service.door.hmac.compare_digest", noting)
    service.ask("GET", "/people", key="short")
    service.ask("GET", "/people", key="l" * 5000)
    service.ask("GET", "/people")
    assert len(compared) == 3
    assert {len(one) for pair in compared for one in pair} == {32}


def test_keys_reach_no_log(service: Service, everything: pytest.LogCaptureFixture) -> None:
    """Neither good ones nor bad ones."""
    service.ask("GET", "/people")
    service.ask("GET", "/people", key="pl4nted-wrong-key")
    service.ask("POST", "/sessions", headers={"X-Other": "pl4nted-header"}, json={"pl4nted": "pl4nted"})
    assert KEY not in everything.text
    assert "pl4nted" not in everything.text


# -- the line in the log -------------------------------------------------------------------------------------------


def test_a_line_for_each_request(service: Service, lines: Callable[[str], list[tuple[str, str]]]) -> None:
    """Method, route, status and code; what was put into the path, and the query, are left out."""
    service.ask("GET", "/people/pl4nted-person?token=pl4nted")
    service.ask("GET", "/pl4nted/address")
    service.ask("GET", "/health/live", key=None)
    service.engine.raises = RuntimeError("broken")
    service.embed(PNG)
    written = [(level, line.rpartition(" ")[0].rpartition(" ")[0]) for level, line in lines("face_service.access")]
    assert written == [
        ("INFO", "GET /people/{personId} 404 PERSON_NOT_FOUND"),
        ("INFO", "GET - 404 NOT_FOUND"),
        ("INFO", "GET /health/live 200 OK"),
        ("ERROR", "POST /embeddings/generate 500 IMAGE_PROCESSING_FAILED"),
    ]


@pytest.mark.usefixtures("everything")
def test_lines_carry_request_step_status_and_code(service: Service) -> None:
    """As JSON each line of a request has the four members that logs are searched by; its answer has the same id."""
    sink = io.StringIO()
    handler = logging.StreamHandler(sink)
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    service.engine.raises = RuntimeError("broken")
    try:
        answer = service.ask(
            "POST", "/people/ann/photos", files={"photo": ("a.png", PNG)}, headers={"X-Request-ID": "trip-17"}
        )
    finally:
        logging.getLogger().removeHandler(handler)
    assert answer.headers["x-request-id"] == "trip-17"
    written = [json.loads(line) for line in sink.getvalue().splitlines()]
    access = next(line for line in written if line["logger"] == "face_service.access")
    assert {name: access[name] for name in ("requestId", "step", "status", "errorCode")} == {
        "requestId": "trip-17",
        "step": "enrol",
        "status": "500",
        "errorCode": "IMAGE_PROCESSING_FAILED",
    }
    trouble = next(line for line in written if line["logger"] == "face_service.photos")
    assert (trouble["requestId"], trouble["step"]) == ("trip-17", "enrol")


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "ä", "a\tb"])
def test_an_id_that_is_none_is_replaced(service: Service, given: str) -> None:
    """Whoever calls may name the request, in letters and digits; nobody may write into the log."""
    answer = service.ask("GET", "/health/live", headers={"X-Request-ID": given.encode()})
    assert len(answer.headers["x-request-id"]) == 32


# -- requests that do not fit --------------------------------------------------------------------------------------


def test_an_invalid_request(service: Service, lines: Callable[[str], list[tuple[str, str]]]) -> None:
    """422 with the document's message; detail and log have places and rules, and nothing that was sent."""
    body = {"slotId": "pl4nted", "cameras": [{"id": "pl4nted!", "rtspUrl": "http://pl4nted"}], "pl4nted": 1}
    answer = service.ask("POST", "/sessions?key=pl4nted", json=body)
    assert answer.status_code == 422
    found = answer.json()
    assert set(found) == {"detail", "message"}
    assert found["message"] == "Request validation failed"
    assert all(set(one) == {"type", "loc", "msg"} for one in found["detail"])
    assert {one["loc"][1] for one in found["detail"]} == {"slotId", "callbackUrl", "cameras", "pl4nted"}
    assert not any("pl4nted" in one["msg"] for one in found["detail"])
    ((level, line),) = lines("face_service.errors")
    assert level == "ERROR"
    assert line.startswith("REQUEST VALIDATION ERROR | method=POST url=/sessions?... errors=[")
    assert "body.slotId" in line
    assert "pl4nted" not in line


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b"\xff\xfe", b"\xc3(", b"[" * 30_000], ids=len)
def test_a_body_that_is_no_json(service: Service, content: bytes) -> None:
    """An answer in the service's form, whatever it is."""
    answer = service.ask("POST", "/sessions", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in {422, 400}
    assert {"message"} <= set(answer.json())


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("PUT", "/people", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/embeddings/generate", 405, "METHOD_NOT_ALLOWED"),
    ],
)
def test_what_is_not_there(service: Service, method: str, path: str, status: int, code: str) -> None:
    """The framework's own errors have the service's form too."""
    answer = service.ask(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_allow_names_all_methods(service: Service) -> None:
    """Of an address with several routes, too."""
    assert service.ask("PUT", "/people/ann").headers["allow"] == "DELETE, GET"
    assert service.ask("PUT", "/sessions").headers["allow"] == "GET, POST"


def test_an_error_of_our_own_is_a_bare_500(
    service: Service, monkeypatch: pytest.MonkeyPatch, everything: pytest.LogCaptureFixture
) -> None:
    """Its text reaches neither caller nor log, and the server never sees it."""

    secret = "pl4nted: postgres://user:password@db"

    def broken() -> Any:
        raise RuntimeError(secret)

    monkeypatch.setattr(service.parts.sessions, "active", broken)
    answer = service.ask("GET", "/sessions")
    assert answer.status_code == 500
    assert answer.json() == {"status": 500, "message": "Internal server error", "code": "INTERNAL_ERROR"}
    assert "pl4nted" not in everything.text
    assert "Request failed: RuntimeError" in everything.text


# -- sizes, as ASGI ------------------------------------------------------------------------------------------------


class Line:
    """A connection by hand: what was read, what was answered."""

    def __init__(self, pieces: Iterator[bytes], headers: dict[bytes, bytes], *, slow: bool = False) -> None:
        self.pieces = pieces
        self.taken = 0
        self.events: list[str] = []
        self.sent: list[Any] = []
        self.slow = slow
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": "/embeddings/generate",
            "headers": [(b"x-api-key", KEY.encode()), *headers.items()],
        }

    async def receive(self) -> Any:
        if self.slow:
            await anyio.sleep_forever()
        piece = next(self.pieces, None)
        self.events.append("receive")
        self.taken += len(piece or b"")
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def send(self, message: Any) -> None:
        self.events.append(message["type"].rpartition(".")[2])
        self.sent.append(message)

    @property
    def answer(self) -> tuple[int, Any, dict[bytes, bytes]]:
        body = b"".join(one.get("body", b"") for one in self.sent[1:])
        return self.sent[0]["status"], json.loads(body), dict(self.sent[0]["headers"])


async def reads_everything(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


FORM = {b"content-type": b"multipart/form-data; boundary=x"}


def through(line: Line, *, photo_bytes: int = 1_000_000, uploads: int = 4, seconds: float = 5.0) -> Line:
    made = Door(reads_everything, keys=[KEY], most_photo_bytes=photo_bytes, most_uploads=uploads, body_seconds=seconds)

    async def serve() -> None:
        await made(line.scope, line.receive, line.send)

    anyio.run(serve)
    return line


def endless() -> Iterator[bytes]:
    while True:
        yield b"\0" * 65_536


def test_a_length_that_is_too_long_is_refused_unread() -> None:
    """By its header, before the first byte; then a little is read, so that the answer is seen, and never all."""
    line = through(Line(endless(), {**FORM, b"content-length": b"100000000"}))
    status, body, headers = line.answer
    assert (status, body["code"]) == (413, "PHOTO_TOO_LARGE")
    assert headers[b"connection"] == b"close"
    assert line.events[:2] == ["start", "body"], "the answer leaves before anything is read"
    assert 0 < line.taken <= door.LINGER_BYTES + 65_536


def test_a_body_without_a_length_is_counted() -> None:
    """Chunked, or with a length that lies: it is cut once there is too much of it."""
    for headers in ({**FORM, b"transfer-encoding": b"chunked"}, {**FORM, b"content-length": b"500"}):
        line = through(Line(endless(), headers), photo_bytes=1_000_000)
        status, body, _ = line.answer
        assert (status, body["code"]) == (413, "PHOTO_TOO_LARGE")
        assert line.taken <= 1_000_000 + door.AROUND_PHOTO + door.LINGER_BYTES + 2 * 65_536


def test_who_waits_for_a_word_before_sending_is_not_asked_to_send() -> None:
    """With `Expect: 100-continue` nothing is under way, so nothing is read."""
    line = through(Line(endless(), {**FORM, b"content-length": b"100000000", b"expect": b"100-continue"}))
    assert line.answer[0] == 413
    assert line.taken == 0


def test_what_is_no_form_may_be_small() -> None:
    """A request without a photo has no use for megabytes."""
    line = through(Line(endless(), {b"content-type": b"application/json", b"content-length": b"70000"}))
    assert (line.answer[0], line.answer[1]["code"]) == (413, "REQUEST_TOO_LARGE")
    line = through(Line(iter([b"{}"]), {b"content-type": b"application/json", b"content-length": b"2"}))
    assert line.answer[0] == 200


@pytest.mark.parametrize("length", [b"abc", b"-1", b"1e9", b"9" * 100_000])
def test_a_length_that_is_no_number(length: bytes) -> None:
    """Refused, however long it is."""
    assert through(Line(endless(), {**FORM, b"content-length": length})).answer[0] in {400, 413}


def test_a_body_that_does_not_come() -> None:
    """408 after the time that a body has, and the connection ends."""
    line = through(Line(endless(), {**FORM, b"content-length": b"500"}, slow=True), seconds=0.05)
    status, body, headers = line.answer
    assert (status, body["code"]) == (408, "REQUEST_TIMEOUT")
    assert headers[b"connection"] == b"close"


def test_uploads_at_a_time_are_counted() -> None:
    """One too many is told to come again; a place comes back when its request ends."""
    made = Door(reads_everything, keys=[KEY], most_photo_bytes=1000, most_uploads=1, body_seconds=5.0)
    first = Line(iter([b"a", b"b"]), FORM | {b"transfer-encoding": b"chunked"})
    second = Line(iter([b"a"]), FORM | {b"transfer-encoding": b"chunked"})
    third = Line(iter([b"a"]), FORM | {b"transfer-encoding": b"chunked"})

    async def serve() -> None:
        held, go = anyio.Event(), anyio.Event()
        receive = first.receive

        async def holding() -> Any:
            held.set()
            await go.wait()
            return await receive()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made, first.scope, holding, first.send)
            await held.wait()
            await made(second.scope, second.receive, second.send)
            go.set()
        await made(third.scope, third.receive, third.send)

    anyio.run(serve)
    assert first.answer[0] == third.answer[0] == 200
    status, body, headers = second.answer
    assert (status, body["code"]) == (503, "SERVICE_BUSY")
    assert headers[b"retry-after"] == b"1"


def test_a_connection_is_kept_when_all_was_read() -> None:
    """Only who is refused in the middle of sending loses the connection."""
    line = through(Line(iter([b"abc"]), {**FORM, b"content-length": b"3"}))
    assert b"connection" not in line.answer[2]


def test_no_log_of_the_framework_has_a_body(service: Service, everything: pytest.LogCaptureFixture) -> None:
    """Nothing below us writes what was sent, at any level."""
    logging.getLogger("python_multipart").setLevel(logging.DEBUG)
    service.embed(b"pl4nted", name="pl4nted.png", submission="pl4nted")
    assert "pl4nted" not in everything.text
