"""How `face-service camera kill 2` in one terminal reaches the demonstration in another.

A socket in a directory that is this user's alone: whoever may open it may do what it can. One line of JSON there, one
back.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from resilient_faces.errors import ResilienceError

__all__ = ["Control", "ControlError", "NoDemonstrationError", "ask", "socket_path"]

MOST_BYTES: Final = 65_536
WITHIN: Final = 30.0  # seconds for an answer: a camera that is started has a film to encode first

Answer = dict[str, Any]


class ControlError(ResilienceError):
    """The demonstration said no, or must not be asked."""

    def __str__(self) -> str:
        return str(self.args[0])


class NoDemonstrationError(ControlError):
    """None is running."""


def socket_path() -> Path:
    """Where the demonstration of this user listens.

    Raises:
        ControlError: The directory is there and somebody else's.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    directory = Path(tempfile.gettempdir()) / f"face-service-{user}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if hasattr(os, "getuid") and (found.st_uid != user or found.st_mode & 0o077):
        raise ControlError(f"{directory} is open to others, and is not used. Remove it.")
    return directory / "demo.sock"


def ask(question: Answer) -> Answer:
    """Ask the running demonstration.

    Raises:
        NoDemonstrationError: There is none.
        ControlError: It said no.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(WITHIN)
            line.connect(str(socket_path()))
            line.sendall(json.dumps(question).encode() + b"\n")
            with line.makefile("rb") as answers:
                answer: Answer = json.loads(answers.readline(MOST_BYTES))
    except (OSError, ValueError):
        raise NoDemonstrationError("No demonstration is running. Start one with: face-service demo") from None
    if not answer.get("ok"):
        raise ControlError(str(answer.get("said", "It did not work.")))
    return answer


class Control:
    """Answers while its `with` block runs.

    Args:
        answer: Makes an answer of a question; called in a thread of its own.

    Raises:
        ControlError: Another demonstration of this user is running.
    """

    def __init__(self, answer: Callable[[Answer], Answer]) -> None:
        self._answer = answer
        self._path = socket_path()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listen()
        except BaseException:
            self._listener.close()
            raise

    def _listen(self) -> None:
        try:
            self._listener.bind(str(self._path))
        except OSError:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                try:
                    line.connect(str(self._path))
                except OSError:
                    self._path.unlink(missing_ok=True)  # left by one that was killed
                    self._listener.bind(str(self._path))
                else:
                    raise ControlError("A demonstration is running already.") from None
        self._listener.listen(8)

    def __enter__(self) -> Control:
        threading.Thread(target=self._serve, name="control", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept, which close alone does not
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(line,), daemon=True).start()

    def _talk(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), line:
            line.settimeout(WITHIN)
            with line.makefile("rb") as questions:
                question = json.loads(questions.readline(MOST_BYTES))
            line.sendall(json.dumps(self._answer(question)).encode() + b"\n")
