"""Scripted failures: a function that does, call by call, what a list says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from resilient_faces._core.runtime import RUNTIME

__all__ = ["Hang", "Scripted", "script"]


@dataclass(frozen=True, slots=True)
class Hang:
    """One call takes so many seconds of the runtime's clock, and then does `then`."""

    seconds: float
    then: object = None


Line: TypeAlias = object  # an exception (instance or class) is raised, a `Hang` waits, anything else is returned


class Scripted:
    """Does what its lines say, one a call; the last line is repeated.

    Attributes:
        calls: Arguments of each call so far, as `(args, kwargs)`.
        times: Monotonic time of each call so far, in seconds.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = list(lines)
        if not self._lines:
            raise ValueError("script() needs at least one line; the last one is repeated")
        self._lock = threading.Lock()
        self.calls: list[tuple[tuple[object, ...], dict[str, object]]] = []
        self.times: list[float] = []

    @property
    def count(self) -> int:
        """Calls so far."""
        return len(self.calls)

    def _next(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Line:
        with self._lock:
            line = self._lines[min(len(self.calls), len(self._lines) - 1)]
            self.calls.append((args, kwargs))
            self.times.append(RUNTIME.monotonic())
        return line

    def function(self) -> Callable[..., object]:
        """The script as a plain function."""

        def scripted(*args: object, **kwargs: object) -> object:
            line = self._next(args, kwargs)
            while isinstance(line, Hang):
                RUNTIME.sleep(line.seconds)
                line = line.then
            return _perform(line)

        return scripted

    def coroutine(self) -> Callable[..., object]:
        """The script as a coroutine function."""

        async def scripted(*args: object, **kwargs: object) -> object:
            line = self._next(args, kwargs)
            while isinstance(line, Hang):
                await RUNTIME.asleep(line.seconds)
                line = line.then
            return _perform(line)

        return scripted


def _perform(line: Line) -> object:
    if isinstance(line, BaseException) or (isinstance(line, type) and issubclass(line, BaseException)):
        raise line
    return line


def script(*lines: Line) -> Scripted:
    """A function that does what these lines say, one a call: exceptions are raised, values returned.

    Args:
        lines: Exceptions or classes of them, `Hang(seconds, then)`, or values; the last one is repeated.
    """
    return Scripted(lines)
