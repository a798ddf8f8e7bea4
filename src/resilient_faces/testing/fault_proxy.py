r"""A reverse proxy that damages chosen requests between a client and its servers, and keeps a ledger of all of them.

What it damages is a `FaultPlan`: data, made from a seed before the run, so two runs of one seed get the same faults.
A fault strikes the n-th request of an operation, or the first requests that concern one subject (a photo's key, a
token). With `after=True` the request is carried out first and the answer is spoilt: the effect is there, the client
cannot know. Refusing connections is no fault of one request: `refuse` and `accept` close and open the port.

    python -m resilient_faces.testing.fault_proxy --plan plan.json --ledger requests.jsonl \
        --route rekognition=http://127.0.0.1:8091 --route '*=http://127.0.0.1:4566'

prints one JSON line with its port, takes the lines `refuse` and `accept`, and ends when its standard input closes. The
ledger has one line when a request arrives and one when it is settled; bodies, credentials and headers never enter it.
"""

from __future__ import annotations

import argparse
import difflib
import http.client
import json
import os
import random
import re
import select
import socket
import struct
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from resilient_faces.telemetry.ledger import Ledger

MAX_BODY: Final = 64 * 1024 * 1024
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
)
_NO_BODY: Final = frozenset({204, 304})
_GARBAGE: Final = b"<!doctype html><html><head><title>Sign in</title></head><body>Welcome to the network</body></html>"


class FaultKind(str, Enum):
    """What the client gets instead of the answer."""

    throttle = "throttle"  # the service's own throttling error
    server_error = "500"
    unavailable = "503"
    hang = "hang"  # no byte until the client gives up
    reset = "reset"  # RST
    truncated = "truncated"  # half the body (of an empty one: half the head), then the end of the connection
    garbage = "garbage"  # 200 with a body that is no answer
    partial = "partial"  # of a batch only the first half is carried out, and the answer says so


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """One row of a plan.

    Attributes:
        operation: Such as `rekognition.IndexFaces` or `s3.GetObject`.
        fault: What the client gets.
        nth: Strike this request of the operation, counted from 1; 0 if the subject decides.
        subject: Strike requests that concern this key, photo or token.
        times: How many requests of the subject to strike; 0 strikes all of them.
        after: Carry the request out first. A `truncated` or `partial` answer always comes after.
    """

    operation: str
    fault: FaultKind
    nth: int = 0
    subject: str | None = None
    times: int = 1
    after: bool = False


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """All faults of one run, fixed before it starts."""

    faults: tuple[PlannedFault, ...] = ()
    seed: int | None = None

    def to_json(self) -> str:
        rows = [{**asdict(row), "fault": row.fault.value} for row in self.faults]
        return json.dumps({"schema": 1, "seed": self.seed, "faults": rows}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> FaultPlan:
        """Read what `to_json` wrote, or somebody by hand.

        Raises:
            ValueError: It is no plan; the message names the row.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ValueError(f"FaultPlan is no JSON: {error}.") from None
        if not isinstance(data, dict):
            raise ValueError("FaultPlan must be an object with schema, seed and faults.")
        if data.get("schema") != 1:
            raise ValueError(f"FaultPlan has schema 1; got {data.get('schema')!r}. Make the plan anew.")
        rows = data.get("faults")
        if not isinstance(rows, list):
            raise ValueError(f"FaultPlan.faults must be a list of rows; got {type(rows).__name__}.")
        return cls(tuple(_row(f"faults[{number}]", row) for number, row in enumerate(rows)), data.get("seed"))


def _row(where: str, row: object) -> PlannedFault:
    """One row of a plan that was written as JSON: one that is read wrongly would strike nothing."""
    if not isinstance(row, dict):
        raise ValueError(f"FaultPlan.{where} must be an object; got {type(row).__name__}.")
    names = [one.name for one in fields(PlannedFault)]
    if unknown := [name for name in row if name not in names]:
        raise ValueError(f"FaultPlan.{where} has no member {unknown[0]!r}. It takes: {', '.join(names)}.")
    values = {"fault": None, "nth": 0, "subject": None, "times": 1, "after": False, **row}
    kinds = [kind.value for kind in FaultKind]
    operation, subject = values.get("operation"), values["subject"]
    rules = (
        ("operation", "such as s3.GetObject", isinstance(operation, str) and "." in operation),
        ("fault", f"one of {', '.join(kinds)}", values["fault"] in kinds),
        ("nth", "a whole number from 0 on", type(values["nth"]) is int and values["nth"] >= 0),
        ("subject", "a text or null", subject is None or isinstance(subject, str)),
        ("times", "a whole number from 0 on", type(values["times"]) is int and values["times"] >= 0),
        ("after", "true or false", isinstance(values["after"], bool)),
    )
    for name, rule, good in rules:
        if not good:
            value = values.get(name)
            shown = type(value).__name__ if name == "subject" else repr(value)  # which may be a person's photo
            raise ValueError(f"FaultPlan.{where}.{name} must be {rule}; got {shown}.")
    if not values["nth"] and subject is None:
        raise ValueError(f"FaultPlan.{where} must have nth or subject, or it strikes no request.")
    return PlannedFault(**{**values, "fault": FaultKind(values["fault"])})


def scatter(
    seed: int, wanted: Mapping[str, Iterable[tuple[FaultKind, bool, int]]], among: Mapping[str, int]
) -> tuple[PlannedFault, ...]:
    """Spread faults over an operation's requests by chance; the same arguments give the same rows.

    Args:
        seed: Decides which requests are struck.
        wanted: For each operation the rows (fault, after, how many).
        among: For each operation how many first requests may be struck.
    """
    rows: list[PlannedFault] = []
    for operation in sorted(wanted):
        chance = random.Random(f"{seed}/{operation}")
        faults = [(kind, after) for kind, after, count in wanted[operation] for _ in range(count)]
        room = range(1, among[operation] + 1)
        places = sorted(chance.sample(room, min(len(faults), len(room))))
        chance.shuffle(faults)
        rows.extend(
            PlannedFault(operation, kind, nth=place, after=after)
            for place, (kind, after) in zip(places, faults, strict=False)
        )
    return tuple(rows)


class _Picker:
    """Counts requests and says which fault strikes, if any. One lock around the counting."""

    def __init__(self, plan: FaultPlan) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, int] = defaultdict(int)
        self._struck: dict[PlannedFault, int] = defaultdict(int)
        self._by_place = {(row.operation, row.nth): row for row in plan.faults if row.nth}
        self._by_subject: dict[tuple[str, str], list[PlannedFault]] = defaultdict(list)
        for row in plan.faults:
            if row.subject is not None:
                self._by_subject[row.operation, row.subject].append(row)

    def pick(self, operation: str, subject: str | None) -> tuple[int, PlannedFault | None]:
        with self._lock:
            self._seen[operation] += 1
            nth = self._seen[operation]
            if subject is not None:
                for row in self._by_subject.get((operation, subject), ()):
                    if row.times == 0 or self._struck[row] < row.times:
                        self._struck[row] += 1
                        return nth, row
            return nth, self._by_place.get((operation, nth))


# -- what a request is about --------------------------------------------------------------------------------------

# The services by what their requests say: the prefix of X-Amz-Target, the service in the path of CBOR, the version of
# the query protocol.
_SERVICES: Final = {
    "RekognitionService": "rekognition",
    "DynamoDB_20120810": "dynamodb",
    "AmazonSQS": "sqs",
    "GraniteServiceVersion20100801": "cloudwatch",
    "AWSStepFunctions": "stepfunctions",
    "2010-03-31": "sns",
    "2010-08-01": "cloudwatch",
    "2011-06-15": "sts",
    "2012-11-05": "sqs",
}
_S3_OBJECT: Final = {"GET": "GetObject", "PUT": "PutObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}
_S3_BUCKET: Final = {"GET": "ListObjects", "PUT": "CreateBucket", "HEAD": "HeadBucket", "DELETE": "DeleteBucket"}
_CBOR_PATH: Final = re.compile(r"/service/([^/]+)/operation/([^/?]+)")
_FORM: Final = "application/x-www-form-urlencoded"
# The member that names what an operation is about: small, and no personal data. Found without parsing the whole body,
# which for IndexFaces is an image.
_SUBJECTS: Final[Mapping[str, re.Pattern[bytes]]] = {
    "rekognition.IndexFaces": re.compile(rb'"ExternalImageId"\s*:\s*"([^"\\]{1,255})"'),
    "rekognition.CreateCollection": re.compile(rb'"CollectionId"\s*:\s*"([^"\\]{1,255})"'),
    "dynamodb.TransactWriteItems": re.compile(rb'"ClientRequestToken"\s*:\s*"([^"\\]{1,64})"'),
}


class Headers(Protocol):
    """As much of a mapping of headers as naming a request needs."""

    def get(self, name: str, /) -> str | None: ...


def name_request(method: str, path: str, headers: Headers, body: bytes) -> tuple[str, str | None]:
    """The operation as `service.Operation`, and the key, photo or token that the request is about, if any."""
    target = _header(headers, "X-Amz-Target")
    prefix, _, operation = target.partition(".")
    if operation:
        name = f"{_SERVICES.get(prefix, prefix)}.{operation}"
        pattern = _SUBJECTS.get(name)
        found = None if pattern is None else pattern.search(body)
        return name, None if found is None else found.group(1).decode("ascii", "replace")
    cbor = _CBOR_PATH.match(path)
    if cbor is not None:
        return f"{_SERVICES.get(cbor.group(1), cbor.group(1))}.{cbor.group(2)}", None
    if method == "POST" and _header(headers, "Content-Type").startswith(_FORM):
        form = parse_qs(body.decode("utf-8", "replace"))
        version = form.get("Version", [""])[0]
        return f"{_SERVICES.get(version, version or 'query')}.{form.get('Action', [method])[0]}", None
    parts = urlsplit(path)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    if key:
        if method == "PUT" and _header(headers, "x-amz-copy-source"):
            return "s3.CopyObject", key
        return f"s3.{_S3_OBJECT.get(method, method)}", key
    if bucket and method == "POST" and "delete" in parse_qs(parts.query, keep_blank_values=True):
        return "s3.DeleteObjects", bucket
    return (f"s3.{_S3_BUCKET.get(method, method)}", bucket) if bucket else (f"http.{method}", None)


def _header(headers: Headers, name: str) -> str:
    return headers.get(name) or headers.get(name.lower()) or ""


# -- answers of the services themselves ---------------------------------------------------------------------------

_THROTTLES: Final[Mapping[str, tuple[int, str, str]]] = {
    "rekognition": (400, "ProvisionedThroughputExceededException", "Provisioned rate exceeded."),
    "dynamodb": (400, "ProvisionedThroughputExceededException", "The level of configured throughput was exceeded."),
    "sqs": (400, "ThrottlingException", "Rate exceeded."),
    "sns": (429, "Throttled", "Rate exceeded."),
    "cloudwatch": (400, "Throttling", "Rate exceeded."),
    "s3": (503, "SlowDown", "Please reduce your request rate."),
}
_SERVER_ERRORS: Final[Mapping[str, str]] = {
    "s3": "InternalError",
    "sns": "InternalError",
    "cloudwatch": "InternalServiceError",
}


def _error_answer(operation: str, kind: FaultKind, protocol: str) -> tuple[int, str, bytes]:
    """Status, content type and body as the service gives them in the protocol of the request."""
    service = operation.partition(".")[0]
    if kind is FaultKind.throttle:
        status, code, message = _THROTTLES.get(service, (429, "TooManyRequestsException", "Rate exceeded."))
    elif kind is FaultKind.server_error:
        status, code, message = 500, _SERVER_ERRORS.get(service, "InternalServerError"), "Internal server error."
    else:
        status, code, message = 503, "ServiceUnavailable", "Service is unable to handle the request."
    error = f"<Code>{code}</Code><Message>{message}</Message>"
    if protocol == "xml":
        return status, "application/xml", f"<?xml version='1.0' encoding='UTF-8'?><Error>{error}</Error>".encode()
    if protocol == "query":
        side = "Receiver" if status >= 500 else "Sender"
        text = f"<ErrorResponse><Error><Type>{side}</Type>{error}</Error><RequestId>0</RequestId></ErrorResponse>"
        return status, "text/xml", text.encode()
    if protocol == "cbor":
        return status, "application/cbor", _cbor_map({"__type": code, "message": message})
    return status, "application/x-amz-json-1.1", json.dumps({"__type": code, "Code": code, "Message": message}).encode()


def _protocol(headers: Headers, path: str) -> str:
    if _header(headers, "X-Amz-Target"):
        return "json"
    if _CBOR_PATH.match(path):
        return "cbor"
    return "query" if _header(headers, "Content-Type").startswith(_FORM) else "xml"


def _cbor_map(members: Mapping[str, str]) -> bytes:
    """A map of short texts (RFC 8949): one byte of type and length, longer texts with a second byte of length."""

    def text(value: str) -> bytes:
        data = value.encode()
        assert len(data) < 256
        return (bytes([0x60 | len(data)]) if len(data) < 24 else bytes([0x78, len(data)])) + data

    return bytes([0xA0 | len(members)]) + b"".join(text(name) + text(value) for name, value in members.items())


# -- batches of which only a part is done -------------------------------------------------------------------------


def _halve(operation: str, body: bytes) -> tuple[bytes, Callable[[dict[str, Any]], None]] | None:
    """The request with the first half of its entries, and what adds the others to the answer as not done."""
    try:
        request: dict[str, Any] = json.loads(body)
    except ValueError:
        return None
    if operation in ("dynamodb.BatchWriteItem", "dynamodb.BatchGetItem"):
        return _halve_items(request, gets=operation.endswith("GetItem"))
    entries = request.get("Entries")
    if not operation.startswith("sqs.") or not isinstance(entries, list):
        return None
    half = len(entries) // 2
    request["Entries"], rest = entries[:half], entries[half:]

    def refuse(answer: dict[str, Any]) -> None:
        failed = [{"Id": entry["Id"], "SenderFault": False, "Code": "InternalError"} for entry in rest]
        answer["Failed"] = [*(answer.get("Failed") or ()), *failed]
        answer.setdefault("Successful", [])

    return (json.dumps(request).encode() if half else b""), refuse


def _halve_items(request: dict[str, Any], *, gets: bool) -> tuple[bytes, Callable[[dict[str, Any]], None]]:
    kept: dict[str, Any] = {}
    left: dict[str, Any] = {}
    for table, wanted in request["RequestItems"].items():
        entries = wanted["Keys"] if gets else wanted
        half = len(entries) // 2
        for target, part in ((kept, entries[:half]), (left, entries[half:])):
            if part:
                target[table] = {**wanted, "Keys": part} if gets else part

    def leave(answer: dict[str, Any]) -> None:
        member = "UnprocessedKeys" if gets else "UnprocessedItems"
        answer[member] = {**(answer.get(member) or {}), **left}
        if gets:
            answer.setdefault("Responses", {})

    return (json.dumps({**request, "RequestItems": kept}).encode() if kept else b""), leave


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class _Cut(Exception):
    """The connection to the client is to be ended without an answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # with Nagle and unbuffered writes every call takes 40 ms
    wbufsize = -1
    timeout = 120
    server: FaultProxy

    def setup(self) -> None:
        super().setup()
        self._upstreams: dict[str, http.client.HTTPConnection] = {}

    def finish(self) -> None:
        for connection in self._upstreams.values():
            connection.close()
        try:
            super().finish()
        except OSError:  # the client is gone
            pass

    def parse_request(self) -> bool:
        self._arrived = time.monotonic()
        self._arrived_wall = time.time()
        return super().parse_request()

    def handle_expect_100(self) -> bool:
        answered = super().handle_expect_100()
        self.wfile.flush()  # writes are buffered: the client waits for this line before it sends the body
        return answered

    def _serve(self) -> None:
        try:
            body = self._body()
        except (ValueError, OSError):
            self.close_connection = True
            return
        operation, subject = name_request(self.command, self.path, self.headers, body)
        nth, fault = self.server.picker.pick(operation, subject)
        number = self.server.next_number()
        self.server.ledger.write(
            event="request",
            n=number,
            t=round(self._arrived, 6),
            at=round(self._arrived_wall, 4),
            op=operation,
            nth=nth,
            subject=subject,
            fault=None if fault is None else fault.fault.value,
            after=None if fault is None else fault.after,
        )
        status: int | None = None
        upstream: int | None = None
        try:
            answer: _Answer | None = None
            if fault is not None and fault.fault is FaultKind.partial:
                answer = self._half(operation, body)
                upstream = answer.status
            elif fault is None or fault.after or fault.fault is FaultKind.truncated:
                answer = self._forward(operation, body)
                upstream = answer.status
            if fault is not None:
                answer = self._spoil(operation, fault.fault, answer)
            if answer is not None:
                status = answer.status
                self._send(answer, whole=fault is None or fault.fault is not FaultKind.truncated)
        except _Cut:
            self.close_connection = True
        except (ConnectionError, TimeoutError, OSError):
            self.close_connection = True
        finally:
            self.server.ledger.write(
                event="answer",
                n=number,
                took=round(time.monotonic() - self._arrived, 4),
                upstream=upstream,
                status=status,
            )

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = _serve

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks: list[bytes] = []
            while True:
                size = int(self.rfile.readline(1024).split(b";", 1)[0], 16)
                if size == 0:
                    while self.rfile.readline(65536) not in (b"\r\n", b"\n", b""):
                        pass
                    return b"".join(chunks)
                chunks.append(self.rfile.read(size))
                self.rfile.readline(1024)
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            raise ValueError("body too large")
        body = self.rfile.read(length)
        if len(body) != length:
            raise ValueError("body incomplete")
        return body

    def _half(self, operation: str, body: bytes) -> _Answer:
        halves = _halve(operation, body)
        if halves is None:
            raise _Cut  # not a batch: the plan is wrong, and nothing is carried out
        first, add_rest = halves
        answer = self._forward(operation, first) if first else _Answer(200, (), b"{}")
        if answer.status != 200:
            return answer
        said = json.loads(answer.body)
        add_rest(said)
        payload = json.dumps(said).encode()
        # The checksum is of the answer that was changed here.
        headers = [(k, v) for k, v in answer.headers if k.lower() not in ("content-length", "x-amz-crc32")]
        return _Answer(200, (*headers, ("Content-Length", str(len(payload)))), payload)

    def _forward(self, operation: str, body: bytes) -> _Answer:
        upstream = self.server.upstream(operation.partition(".")[0])
        headers = [(name, value) for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP]
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        headers.append(("Content-Length", str(len(body))))
        connection = self._connection(upstream)
        try:
            # Host goes through as the client sent it: queue addresses are made from it.
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            payload = response.read()
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            raise _Cut from error
        kept = tuple(
            (name, value)
            for name, value in response.getheaders()
            if name.lower() not in _HOP_BY_HOP and name.lower() != "content-length"
        )
        length = response.getheader("Content-Length") if self.command == "HEAD" else str(len(payload))
        if response.status not in _NO_BODY and length is not None:
            kept += (("Content-Length", length),)
        return _Answer(response.status, kept, payload)

    def _connection(self, upstream: str) -> http.client.HTTPConnection:
        connection = self._upstreams.get(upstream)
        if connection is None:
            parts = urlsplit(upstream)
            connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=60)
            self._upstreams[upstream] = connection
        if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            connection.close()  # the server ended a kept connection: seen before sending, so nothing is sent twice
        if connection.sock is None:
            connection.connect()  # http.client sets TCP_NODELAY itself
        return connection

    def _spoil(self, operation: str, kind: FaultKind, answer: _Answer | None) -> _Answer | None:
        if kind is FaultKind.hang:
            self._hang()
            raise _Cut
        if kind is FaultKind.reset:
            # Linger 0 turns the close into an RST; the server closes the socket without a FIN first.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.server.without_fin(self.connection)
            raise _Cut
        if kind is FaultKind.truncated or kind is FaultKind.partial:
            return answer
        if kind is FaultKind.garbage:
            page = (("Content-Type", "text/html"), ("Content-Length", str(len(_GARBAGE))))
            return _Answer(200, page, _GARBAGE)
        protocol = _protocol(self.headers, self.path)
        status, content_type, body = _error_answer(operation, kind, protocol)
        request_id = str(uuid.uuid4())
        headers = [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("x-amzn-RequestId", request_id),
            ("x-amz-request-id", request_id),
        ]
        if protocol == "cbor":
            headers.append(("smithy-protocol", "rpc-v2-cbor"))  # else the client does not look at the body
        return _Answer(status, tuple(headers), body)

    def _hang(self) -> None:
        """Say nothing until the client goes away, the proxy stops, or a minute has passed."""
        ends = time.monotonic() + self.server.hang_seconds
        while time.monotonic() < ends and not self.server.stopping:
            readable, _, _ = select.select([self.connection], [], [], 0.1)
            if readable:  # the client closed; a pipelined request is not awaited here
                return

    def _send(self, answer: _Answer, *, whole: bool) -> None:
        self.send_response_only(answer.status)
        speaks = self.command != "HEAD" and answer.status not in _NO_BODY and bool(answer.body)
        if not whole:
            self.close_connection = True
            if not speaks:  # all that such an answer says is in its head: nothing of that comes but the status
                self.flush_headers()
                self.wfile.flush()
                return
            self.send_header("Connection", "close")
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        if speaks:
            self.wfile.write(answer.body if whole else answer.body[: len(answer.body) // 2])
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """The ledger is the log."""


class FaultProxy(ThreadingHTTPServer):
    """The proxy on a port of this machine.

    Args:
        plan: What to damage.
        routes: Base URL for a service name (`rekognition`, `dynamodb`, `sqs`, `s3`); `*` for all others.
        ledger: File that gets two JSON lines a request.
        hang_seconds: The longest silence.
        host: Address to listen on.
        port: 0 takes a free one.
    """

    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address: ClassVar[bool] = True  # type: ignore[misc]

    def __init__(
        self,
        plan: FaultPlan,
        routes: Mapping[str, str],
        *,
        ledger: Path | None = None,
        hang_seconds: float = 60.0,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.picker = _Picker(plan)
        self._open: set[socket.socket] = set()
        self.routes = dict(routes)
        self.ledger = Ledger(ledger)
        self.hang_seconds = hang_seconds
        self.stopping = False
        self._count = 0
        self._count_lock = threading.Lock()
        self._cut: set[int] = set()
        self._thread: threading.Thread | None = None
        try:
            super().__init__((host, port), _Handler)
        except BaseException:
            self.ledger.close()
            raise

    def server_bind(self) -> None:
        # HTTPServer.server_bind asks the resolver for the host's name, which can take seconds without a network.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{self.server_name}:{self.server_port}"

    def upstream(self, service: str) -> str:
        """Where requests for this service go."""
        found = self.routes.get(service) or self.routes.get("*")
        if found is None:
            raise ConnectionRefusedError(f"no route for {service}")
        return found

    def next_number(self) -> int:
        with self._count_lock:
            self._count += 1
            return self._count

    def without_fin(self, connection: socket.socket) -> None:
        self._cut.add(id(connection))

    def replan(self, plan: FaultPlan) -> None:
        """Follow another plan from now on; its requests are counted from 1 again."""
        self.picker = _Picker(plan)

    def refuse(self) -> None:
        """Close the port and all connections: who connects from now on is refused, as by a server that is down."""
        if self._stop_serving():
            self.socket.close()
        for connection in tuple(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed meanwhile
                pass

    def accept(self) -> None:
        """Open the same port again."""
        if self._thread is None and not self.stopping:
            self.socket = socket.socket(self.address_family, self.socket_type)
            self.server_bind()
            self.server_activate()
            self.start()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Inside the block connections are refused."""
        self.refuse()
        try:
            yield
        finally:
            self.accept()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        if id(request) in self._cut:
            self._cut.discard(id(request))
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is no news."""

    def start(self) -> FaultProxy:
        """Serve from a thread of this process."""
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def _stop_serving(self) -> bool:
        thread, self._thread = self._thread, None
        if thread is not None:
            self.shutdown()
            thread.join()
        return thread is not None

    def stop(self) -> None:
        self.stopping = True
        self._stop_serving()
        self.server_close()
        self.ledger.close()

    def __enter__(self) -> FaultProxy:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


# -- reading the ledger -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """One request as the proxy saw it. `t` is the proxy's monotonic clock in seconds, `fault` what was done to it."""

    n: int
    t: float
    operation: str
    subject: str | None
    fault: str | None
    after: bool
    status: int | None = None


def read_ledger(path: Path) -> list[SeenRequest]:
    """The requests of a proxy's ledger in the order of their arrival."""
    statuses: dict[int, int | None] = {}
    arrivals: list[dict[str, Any]] = []
    for row in _rows(path):
        if row["event"] == "answer":
            statuses[row["n"]] = row["status"]
        else:
            arrivals.append(row)
    seen = [
        SeenRequest(
            row["n"], row["t"], row["op"], row["subject"], row["fault"], bool(row["after"]), statuses.get(row["n"])
        )
        for row in arrivals
    ]
    return sorted(seen, key=lambda request: request.t)


def busiest_second(times: Iterable[float]) -> int:
    """The most events in any half-open second, wherever it starts."""
    ordered = sorted(times)
    most = first = 0
    for last, at in enumerate(ordered):
        while ordered[first] <= at - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):  # a last line without an end is a write that was cut
                yield json.loads(line)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proxy until standard input closes; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="fault_proxy", description="Reverse proxy that injects planned faults.", allow_abbrev=False
    )
    parser.add_argument(
        "--route",
        action="append",
        type=_route,
        default=[],
        metavar="SERVICE=URL",
        help="repeatable; * for the rest",
    )
    parser.add_argument("--plan", type=_plan, help="JSON file of a FaultPlan; without it nothing is damaged")
    parser.add_argument("--ledger", type=_file, help="file that gets two JSON lines a request")
    parser.add_argument("--host", type=_host, default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=0, help="0 takes a free port, which is printed")
    parser.add_argument("--hang-seconds", type=_seconds, default=60.0)
    options = parser.parse_args(arguments)
    routes = dict(options.route)
    if len(routes) < len(options.route):
        names = [name for name, _ in options.route]
        parser.error(f"--route names {next(name for name in names if names.count(name) > 1)} twice. Give each one URL.")
    try:
        proxy = FaultProxy(
            options.plan or FaultPlan(),
            routes,
            ledger=options.ledger,
            hang_seconds=options.hang_seconds,
            host=options.host,
            port=options.port,
        )
    except OSError as error:
        if error.filename is not None:
            parser.error(f"--ledger {options.ledger} cannot be written: {error.strerror}.")
        parser.error(f"--host {options.host} --port {options.port} cannot be listened on: {error.strerror}.")
    proxy.start()
    sys.stdout.write(json.dumps({"url": proxy.url, "port": proxy.server_port, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    _obey_stdin(proxy)
    proxy.stop()
    return 0


def _plan(text: str) -> FaultPlan:
    try:
        return FaultPlan.from_json(_file(text).read_text(encoding="utf-8"))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:  # its message shows a part of the file
        raise argparse.ArgumentTypeError(f"{text} must be JSON in UTF-8. Make it with FaultPlan.to_json.") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None


def _route(text: str) -> tuple[str, str]:
    service, _, address = text.partition("=")
    try:
        url = urlsplit(address)
        good = bool(service) and bool(url.scheme) and bool(url.hostname) and url.port != 0
    except ValueError:
        good = False
    if not good:
        shown = "an address alone" if "://" in service else f"{service!r} without one"  # which may hold a password
        raise argparse.ArgumentTypeError(f"must be SERVICE=URL, such as s3=http://127.0.0.1:4566; got {shown}.")
    if url.scheme != "http" or "@" in address or url.path.strip("/") or url.query or url.fragment:
        # All of it would be dropped without a word: the proxy connects to host and port, without TLS.
        rule = f"{service} must go to http://host:port, without TLS, a user, a password and a path"
        raise argparse.ArgumentTypeError(f"{rule}. What was given is not shown, since it may hold a password.")
    near = difflib.get_close_matches(service, {"s3", *_SERVICES.values()}, n=1, cutoff=0.8)
    if near and service not in near:
        raise argparse.ArgumentTypeError(f"must name a service; got {service!r}. Did you mean {near[0]}?")
    return service, address


def _file(text: str) -> Path:
    if not text:  # it would be the current directory
        raise argparse.ArgumentTypeError("must be a file; got ''. Leave the option out to do without.")
    return Path(text)


def _host(text: str) -> str:
    if not text.strip():  # as of a variable that is not set; it would mean all addresses
        rule = "must be an address of this machine, such as 127.0.0.1"
        raise argparse.ArgumentTypeError(f"{rule}; got {text!r}. 0.0.0.0 listens on all of them.")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535; got {text!r}.")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0.0:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, 0 or more; got {text!r}.")
    return seconds


def _obey_stdin(proxy: FaultProxy) -> None:
    """Do what the lines of standard input say, until it closes."""
    try:
        for line in sys.stdin:
            match line.strip():
                case "refuse":
                    proxy.refuse()
                case "accept":
                    proxy.accept()
    except (KeyboardInterrupt, ValueError, OSError):
        pass


if __name__ == "__main__":
    sys.exit(main())
