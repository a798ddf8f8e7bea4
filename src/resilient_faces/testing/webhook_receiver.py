"""A webhook receiver on loopback that answers as it is told, and keeps what it got."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, TypeAlias

__all__ = ["Got", "Misbehaviour", "Receiver", "Reply"]

Misbehaviour: TypeAlias = Literal[
    "hang",  # reads the request and answers nothing
    "close",  # reads the request and closes
    "reset",  # reads the request and resets the connection
    "drip",  # sends its headers a byte at a time, for ever
    "drip_body",  # says 200 and sends its body a byte at a time, for ever
    "gigabyte",  # says 200 and sends 1 GB
    "gigabyte_of_headers",
    "informational",  # says 103 for ever
    "garbage",  # answers in no HTTP
]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is one."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    after: float = 0.0  # seconds


@dataclass(frozen=True, slots=True)
class Got:
    """One request, as it came."""

    method: str
    target: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes = field(repr=False)
    server_name: str | None  # that TLS was asked for


class Receiver:
    """Listens on a free port of 127.0.0.1 while its `with` block runs.

    Args:
        answers: What to answer in order, the last one for ever: statuses, `Reply`, or a misbehaviour.
        tls: Speak TLS with this context.

    Attributes:
        got: The requests so far.
        sent: Bytes of answers so far.
        cut: Connections that the other side ended while an answer was being sent.
    """

    def __init__(self, *answers: int | Reply | Misbehaviour, tls: ssl.SSLContext | None = None) -> None:
        self.got: list[Got] = []
        self.sent = 0
        self.cut = 0
        self._answers: list[int | Reply | Misbehaviour] = list(answers) or [200]
        self._tls = tls
        self._names: dict[int, str | None] = {}
        if tls is not None:
            tls.sni_callback = self._note_name
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: Final[int] = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._listen, name="webhook-receiver", daemon=True)]

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}/hook"

    def answer(self, *answers: int | Reply | Misbehaviour) -> None:
        """Answer like this from now on."""
        with self._lock:
            self._answers = list(answers)

    def __enter__(self) -> Receiver:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept, which close alone does not
        self._listener.close()
        for thread in self._threads:
            thread.join(5.0)

    def _note_name(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        self._names[id(connection)] = name

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection:
            connection.settimeout(10.0)
            if self._tls is None:
                self._talk(connection)
            else:
                with self._tls.wrap_socket(connection, server_side=True) as secured:
                    self._talk(secured)

    def _talk(self, connection: socket.socket) -> None:
        self.got.append(self._read(connection))
        with self._lock:
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        self._answer(connection, Reply(answer) if isinstance(answer, int) else answer)

    def _read(self, connection: socket.socket) -> Got:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more(connection)
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers.get("content-length", "0")):
            body += self._more(connection)
        return Got(method, target, headers, body, self._names.pop(id(connection), None))

    @staticmethod
    def _more(connection: socket.socket) -> bytes:
        data = connection.recv(65_536)
        if not data:
            raise ConnectionResetError
        return data

    def _answer(self, connection: socket.socket, answer: Reply | Misbehaviour) -> None:
        if isinstance(answer, Reply):
            self._over.wait(answer.after)
            headers = {"content-length": str(len(answer.body)), **answer.headers}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            self._send(connection, f"HTTP/1.1 {answer.status} Said\r\n{lines}\r\n".encode() + answer.body)
            return
        if answer == "hang":
            self._over.wait(30.0)
        elif answer == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif answer == "drip":
            self._drip(connection, b"HTTP/1.1 200 OK\r\nx-drip: ")
        elif answer == "drip_body":
            self._drip(connection, b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        elif answer == "gigabyte":
            self._flood(connection, b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        elif answer == "gigabyte_of_headers":
            self._flood(connection, b"HTTP/1.1 200 OK\r\nx-long: ")
        elif answer == "informational":
            while not self._over.is_set():
                self._send(connection, b"HTTP/1.1 103 Early Hints\r\n\r\n")
        elif answer == "garbage":
            self._send(connection, b"\x00\x01 this is no HTTP\r\n\r\n")

    def _send(self, connection: socket.socket, data: bytes) -> None:
        try:
            connection.sendall(data)
            self.sent += len(data)
        except OSError:
            self.cut += 1
            raise

    def _drip(self, connection: socket.socket, head: bytes) -> None:
        self._send(connection, head)
        while not self._over.wait(0.05):
            self._send(connection, b"a")

    def _flood(self, connection: socket.socket, head: bytes) -> None:
        self._send(connection, head)
        block, ends = b"a" * 65_536, time.monotonic() + 30.0
        for _ in range(1_000_000_000 // len(block)):
            if self._over.is_set() or time.monotonic() > ends:
                return
            self._send(connection, block)
