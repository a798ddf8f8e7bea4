"""A small Rekognition-compatible HTTP endpoint on the local recogniser, for machines without an account.

It speaks JSON 1.1 as the service does, so boto3, the AWS CLI and the JavaScript SDK work against it. Every image is
really decoded and really searched for faces; limits and error shapes are the service's own. What it stored is kept in
memory.

    python -m resilient_faces.adapters.local_rekognition --port 0 --ledger calls.jsonl

prints one JSON line with the port, and ends when its standard input closes or on SIGTERM. Each call leaves one line in
the ledger: time, operation, request id and what was done. Neither image bytes nor face crops are ever written; an
image is named by a hash.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import os
import re
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Final, TextIO, TypeAlias

from resilient_faces.adapters.recogniser import BasicEngine, Face, Recogniser, UnreadableImageError, decode

TARGET: Final = "RekognitionService."
MODEL_VERSION: Final = "7.0"
MAX_IMAGE_BYTES: Final = 5 * 1024 * 1024
MAX_BODY_BYTES: Final = 8 * 1024 * 1024  # 5 MiB are 4/3 of that in base64
MIN_SIDE: Final = 80  # px
MAX_FACES_A_IMAGE: Final = 100
ACCOUNT: Final = "000000000000"

Answer: TypeAlias = "dict[str, Any]"

_COLLECTION_ID: Final = re.compile(r"[a-zA-Z0-9_.\-]{1,255}")
_EXTERNAL_ID: Final = re.compile(r"[a-zA-Z0-9_.\-:]{1,255}")
_QUALITY: Final = frozenset({"NONE", "AUTO", "LOW", "MEDIUM", "HIGH"})

# Calls a second for each operation, as the service's defaults in us-west-2; `Limits.of` fills in the operator's own
# value.
_OPERATION_TPS: Final[Mapping[str, float]] = {
    "IndexFaces": 50.0,
    "ListFaces": 50.0,
    "CreateCollection": 5.0,
    "DeleteCollection": 5.0,
    "DescribeCollection": 5.0,
}


class ServiceError(Exception):
    """An error answer as the service gives it."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status


class Quota:
    """A token bucket: `rate` calls a second, and at most one second's worth at once."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._size = max(1.0, rate)
        self._tokens = self._size
        self._clock = clock
        self._at = clock()
        self._lock = threading.Lock()

    def take(self) -> bool:
        now = self._clock()
        with self._lock:
            self._tokens = min(self._size, self._tokens + (now - self._at) * self._rate)
            self._at = now
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True


class Ledger:
    """One JSON line a call, written before the answer leaves, so that a lost answer is still on record."""

    def __init__(self, path: Path | None) -> None:
        self._file: TextIO | None = None if path is None else path.open("a", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()

    def write(self, **facts: object) -> None:
        if self._file is None:
            return
        line = json.dumps(facts, separators=(",", ":")) + "\n"
        with self._lock:
            self._file.write(line)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


@dataclass(slots=True)
class _Collection:
    created: float
    faces: dict[str, Answer] = field(default_factory=dict)  # face id -> Face
    images: dict[tuple[str, str], _Indexed] = field(
        default_factory=dict
    )  # (image hash, external id) -> what was stored


@dataclass(slots=True)
class _Indexed:
    """What one image with one external id led to; `ready` is set once it is known."""

    ready: threading.Event = field(default_factory=threading.Event)
    records: list[Answer] = field(default_factory=list)
    unindexed: list[Answer] = field(default_factory=list)
    failed: bool = False


class RekognitionService:
    """The operations, free of HTTP: `call(operation, request)` gives the answer or raises `ServiceError`.

    Later operations (searching, comparing, liveness) join the table `_operations` and need an engine that knows people.
    """

    def __init__(
        self,
        engine: Recogniser,
        *,
        region: str = "us-west-2",
        index_tps: float = 50.0,
        ledger: Ledger | None = None,
        searches_at_once: int | None = None,
    ) -> None:
        self._engine = engine
        self._region = region
        self._ledger = ledger or Ledger(None)
        self._collections: dict[str, _Collection] = {}
        self._lock = threading.Lock()
        self._searches = threading.BoundedSemaphore(searches_at_once or max(1, os.cpu_count() or 1))
        rates = {**_OPERATION_TPS, "IndexFaces": index_tps}
        self._quotas = {operation: Quota(rate) for operation, rate in rates.items()}
        self._operations: dict[str, Callable[[Answer], tuple[Answer, dict[str, object]]]] = {
            "CreateCollection": self._create_collection,
            "DeleteCollection": self._delete_collection,
            "DescribeCollection": self._describe_collection,
            "IndexFaces": self._index_faces,
            "ListFaces": self._list_faces,
        }

    def call(self, operation: str, request: Answer, request_id: str) -> Answer:
        """Carry one operation out and leave a line in the ledger.

        Raises:
            ServiceError: The answer is an error of the service.
        """
        arrived = time.time()
        facts: dict[str, object] = {}
        outcome = "ok"
        try:
            run = self._operations.get(operation)
            if run is None:
                raise ServiceError("UnknownOperationException", "This endpoint does not have the operation.")
            if not self._quotas[operation].take():
                raise ServiceError("ProvisionedThroughputExceededException", "Provisioned rate exceeded.")
            answer, facts = run(request)
            return answer
        except ServiceError as error:
            outcome = error.code
            raise
        except Exception:
            outcome = "InternalServerError"
            raise
        finally:
            subject = request.get("ExternalImageId")
            self._ledger.write(
                t=round(arrived, 4),
                took=round(time.time() - arrived, 4),
                op=operation,
                request_id=request_id,
                outcome=outcome,
                collection=_short(request.get("CollectionId")),
                external_id=_short(subject),
                **facts,
            )

    # -- collections ---------------------------------------------------------------------------------------------

    def _create_collection(self, request: Answer) -> tuple[Answer, dict[str, object]]:
        name = _identifier(request, "CollectionId", _COLLECTION_ID)
        with self._lock:
            if name in self._collections:
                raise ServiceError("ResourceAlreadyExistsException", f"The collection id: {name} already exists")
            self._collections[name] = _Collection(created=time.time())
        answer = {"StatusCode": 200, "CollectionArn": self._arn(name), "FaceModelVersion": MODEL_VERSION}
        return answer, {"done": "created"}

    def _delete_collection(self, request: Answer) -> tuple[Answer, dict[str, object]]:
        name = _identifier(request, "CollectionId", _COLLECTION_ID)
        with self._lock:
            if self._collections.pop(name, None) is None:
                raise _no_collection(name)
        return {"StatusCode": 200}, {"done": "deleted"}

    def _describe_collection(self, request: Answer) -> tuple[Answer, dict[str, object]]:
        name = _identifier(request, "CollectionId", _COLLECTION_ID)
        collection = self._existing(name)
        answer = {
            "FaceCount": len(collection.faces),
            "FaceModelVersion": MODEL_VERSION,
            "CollectionARN": self._arn(name),
            "CreationTimestamp": round(collection.created, 3),
            "UserCount": 0,
        }
        return answer, {}

    def _list_faces(self, request: Answer) -> tuple[Answer, dict[str, object]]:
        collection = self._existing(_identifier(request, "CollectionId", _COLLECTION_ID))
        most = _whole(request, "MaxResults", 4096, low=0, high=4096) or 4096
        token = request.get("NextToken")
        try:
            start = int(token) if token is not None else 0
        except (TypeError, ValueError):
            raise ServiceError("InvalidPaginationTokenException", "The pagination token is not valid.") from None
        with self._lock:
            faces = list(collection.faces.values())
        wanted = request.get("FaceIds")
        if wanted:
            faces = [face for face in faces if face["FaceId"] in wanted]
        answer: Answer = {"Faces": faces[start : start + most], "FaceModelVersion": MODEL_VERSION}
        if start + most < len(faces):
            answer["NextToken"] = str(start + most)
        return answer, {}

    # -- faces ---------------------------------------------------------------------------------------------------

    def _index_faces(self, request: Answer) -> tuple[Answer, dict[str, object]]:
        collection = self._existing(_identifier(request, "CollectionId", _COLLECTION_ID))
        external = request.get("ExternalImageId")
        if external is not None and not (isinstance(external, str) and _EXTERNAL_ID.fullmatch(external)):
            raise _invalid("ExternalImageId must be 1 to 255 of the characters a-z, A-Z, 0-9, _ . - :")
        if request.get("QualityFilter", "AUTO") not in _QUALITY:
            raise _invalid("QualityFilter must be NONE, AUTO, LOW, MEDIUM or HIGH")
        most = _whole(request, "MaxFaces", MAX_FACES_A_IMAGE, low=1, high=MAX_FACES_A_IMAGE)
        data = _image_bytes(request)
        image_hash = hashlib.sha256(data).hexdigest()
        if external is None:  # without an external id the service has nothing to tell a repetition by
            indexed = self._search(data, most, None)
            self._store(collection, indexed)
            return self._indexed_answer(indexed), _done(indexed, image_hash, repeated=False)
        key = (image_hash, external)
        while True:
            with self._lock:
                entry = collection.images.get(key)
                mine = entry is None
                if entry is None:
                    entry = collection.images[key] = _Indexed()
            if mine:
                break
            entry.ready.wait()  # the same image is being searched for another request: one search, one set of faces
            if not entry.failed:
                return self._indexed_answer(entry), _done(entry, image_hash, repeated=True)
        try:
            found = self._search(data, most, external)
        except BaseException:
            with self._lock:
                del collection.images[key]
            entry.failed = True
            entry.ready.set()
            raise
        entry.records, entry.unindexed = found.records, found.unindexed
        self._store(collection, entry)
        entry.ready.set()
        return self._indexed_answer(entry), _done(entry, image_hash, repeated=False)

    def _search(self, data: bytes, most: int, external: str | None) -> _Indexed:
        with self._searches:
            try:
                picture = decode(data)
            except UnreadableImageError:
                raise ServiceError("InvalidImageFormatException", "Request has invalid image format") from None
            if picture.width < MIN_SIDE or picture.height < MIN_SIDE:
                raise _invalid(f"Image dimensions must be at least {MIN_SIDE} x {MIN_SIDE} pixels")
            faces = self._engine.detect(picture)
        image_id = str(uuid.uuid4())
        indexed = _Indexed()
        for number, face in enumerate(faces):
            box = _bounding_box(face, picture.width, picture.height)
            detail: Answer = {"BoundingBox": box, "Confidence": face.score * 100}
            if number >= most:
                indexed.unindexed.append({"Reasons": ["EXCEEDS_MAX_FACES"], "FaceDetail": detail})
                continue
            stored: Answer = {
                "FaceId": str(uuid.uuid4()),
                "BoundingBox": box,
                "ImageId": image_id,
                "Confidence": face.score * 100,
                "IndexFacesModelVersion": MODEL_VERSION,
            }
            if external is not None:
                stored["ExternalImageId"] = external
            indexed.records.append({"Face": stored, "FaceDetail": detail})
        return indexed

    def _store(self, collection: _Collection, indexed: _Indexed) -> None:
        with self._lock:
            for record in indexed.records:
                face = record["Face"]
                collection.faces[face["FaceId"]] = face

    def _indexed_answer(self, indexed: _Indexed) -> Answer:
        return {
            "FaceRecords": indexed.records,
            "UnindexedFaces": indexed.unindexed,
            "FaceModelVersion": MODEL_VERSION,
        }

    def _existing(self, name: str) -> _Collection:
        with self._lock:
            collection = self._collections.get(name)
        if collection is None:
            raise _no_collection(name)
        return collection

    def _arn(self, name: str) -> str:
        return f"aws:rekognition:{self._region}:{ACCOUNT}:collection/{name}"


def _done(indexed: _Indexed, image_hash: str, *, repeated: bool) -> dict[str, object]:
    return {
        "done": "repeated" if repeated else "indexed",
        "faces": len(indexed.records),
        "stored": 0 if repeated else len(indexed.records),
        "image": image_hash[:16],
    }


def _bounding_box(face: Face, width: int, height: int) -> Answer:
    left, top, right, bottom = face.box
    return {
        "Left": left / width,
        "Top": top / height,
        "Width": (right - left) / width,
        "Height": (bottom - top) / height,
    }


def _image_bytes(request: Answer) -> bytes:
    image = request.get("Image")
    if not isinstance(image, dict) or "Bytes" not in image:
        if isinstance(image, dict) and "S3Object" in image:
            raise ServiceError(
                "InvalidS3ObjectException", "Unable to get object metadata from S3. Send Image.Bytes here."
            )
        raise _invalid("Image.Bytes is required")
    text = image["Bytes"]
    if not isinstance(text, str):
        raise _invalid("Image.Bytes must be base64 text")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("Image.Bytes must be base64 text") from None
    if not data:
        raise _invalid("Image.Bytes must hold at least one byte")
    if len(data) > MAX_IMAGE_BYTES:
        raise ServiceError("ImageTooLargeException", "Image size is too large")
    return data


def _identifier(request: Answer, name: str, pattern: re.Pattern[str]) -> str:
    value = request.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _invalid(f"{name} must match {pattern.pattern}")
    return value


def _whole(request: Answer, name: str, default: int, *, low: int, high: int) -> int:
    value = request.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _invalid(f"{name} must be a whole number from {low} to {high}")
    return value


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterException", f"Request has invalid parameters: {message}")


def _no_collection(name: str) -> ServiceError:
    return ServiceError("ResourceNotFoundException", f"Collection: {name} does not exist in this account")


def _short(value: object) -> object:
    return value[:255] if isinstance(value, str) else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # with Nagle and unbuffered writes every call takes 40 ms
    wbufsize = -1
    timeout = 120
    server: RekognitionServer

    def do_POST(self) -> None:
        request_id = str(uuid.uuid4())
        try:
            body = self._body()
        except ServiceError as error:
            self._error(error, request_id)
            return
        if body is None:
            self.close_connection = True
            return
        target = self.headers.get("X-Amz-Target", "")
        try:
            if not target.startswith(TARGET):
                raise ServiceError(
                    "UnknownOperationException", "X-Amz-Target must name an operation of RekognitionService."
                )
            try:
                request = json.loads(body or b"{}")
            except ValueError:
                raise ServiceError("SerializationException", "The body is not JSON.") from None
            if not isinstance(request, dict):
                raise ServiceError("SerializationException", "The body is not a JSON object.")
            answer = self.server.service.call(target[len(TARGET) :], request, request_id)
        except ServiceError as error:
            self._error(error, request_id)
        except Exception:
            self._error(ServiceError("InternalServerError", "Internal server error", 500), request_id)
        else:
            self._send(200, answer, request_id)

    def do_GET(self) -> None:
        """Readiness: the service itself has no GET."""
        self._send(200, {"status": "ready", "engine": self.server.engine_name}, str(uuid.uuid4()))

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
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
                if total > MAX_BODY_BYTES:
                    self.close_connection = True
                    raise ServiceError("ImageTooLargeException", "Request body is too large")
                chunks.append(self.rfile.read(size))
                self.rfile.readline(1024)
        try:
            length = int(self.headers.get("Content-Length", "0"))
        except ValueError:
            return None
        if length > MAX_BODY_BYTES:
            self.close_connection = True  # the rest of the body is not read
            raise ServiceError("ImageTooLargeException", "Request body is too large")
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def _error(self, error: ServiceError, request_id: str) -> None:
        answer = {
            "__type": error.code,
            "Code": error.code,
            "Logref": request_id,
            "Message": error.message,
        }
        self._send(error.status, answer, request_id)

    def _send(self, status: int, answer: Mapping[str, object], request_id: str) -> None:
        payload = json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(payload)))
            self.send_header("x-amzn-RequestId", request_id)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(payload)
            self.wfile.flush()
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the client is gone; the work is done and on record

    def log_message(self, format: str, *args: object) -> None:
        """The ledger is the log."""


class RekognitionServer(ThreadingHTTPServer):
    """The endpoint on a port of this machine; port 0 takes a free one."""

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address: ClassVar[bool] = True  # type: ignore[misc]

    def __init__(
        self, service: RekognitionService, *, engine_name: str, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.service = service
        self.engine_name = engine_name
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer.server_bind asks the resolver for the host's name, which can take seconds without a network.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is no news."""

    @property
    def url(self) -> str:
        return f"http://{self.server_name}:{self.server_port}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the endpoint until standard input closes; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="local_rekognition", description="Rekognition-compatible endpoint on this machine."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port, which is printed")
    parser.add_argument("--region", default="us-west-2")
    parser.add_argument("--ledger", type=Path, help="file that gets one JSON line a call")
    parser.add_argument("--index-tps", type=float, default=50.0, help="IndexFaces calls a second before throttling")
    parser.add_argument("--nice", type=int, default=0, help="run at this lower priority")
    options = parser.parse_args(arguments)
    if options.nice and hasattr(os, "nice"):
        os.nice(options.nice)
    engine = BasicEngine()
    engine.detect(decode(_blank()))  # loads what the first search needs
    ledger = Ledger(options.ledger)
    service = RekognitionService(engine, region=options.region, index_tps=options.index_tps, ledger=ledger)
    server = RekognitionServer(service, engine_name=engine.name, host=options.host, port=options.port)
    serve_until_stdin_closes(server)
    ledger.close()
    return 0


def serve_until_stdin_closes(server: RekognitionServer) -> None:
    """Say where the server listens, and serve until standard input closes: so it cannot outlive who started it."""
    sys.stdout.write(json.dumps({"url": server.url, "port": server.server_port, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    try:
        while sys.stdin.buffer.read(1024):
            pass
    except (KeyboardInterrupt, ValueError, OSError):
        pass
    server.shutdown()
    server.server_close()


def _blank() -> bytes:
    import io

    import PIL.Image

    sink = io.BytesIO()
    PIL.Image.new("L", (96, 96), 128).save(sink, "PNG")
    return sink.getvalue()


if __name__ == "__main__":
    sys.exit(main())
