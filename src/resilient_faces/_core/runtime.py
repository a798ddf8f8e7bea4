"""Clock, chance, sleep and listeners: the one door between the policies and the world, and a manual one for tests."""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol

from resilient_faces._core.loops import running_asyncio, tell_if_blocking
from resilient_faces._light import dataclass
from resilient_faces.events import Event, Listener

__all__ = ["RUNTIME", "TELLING", "ManualRuntime", "OwnLock", "Runtime", "begin_anew", "logger_of", "on_fork"]

SLICE: Final = 0.25  # seconds after which an async wait looks whether the process is shutting down

_root: Final = logging.getLogger("resilient_faces")
_root.addHandler(logging.NullHandler())
_loggers: dict[str, logging.Logger] = {}


def logger_of(policy: str) -> logging.Logger:
    """The logger `resilient_faces.<policy>`."""
    logger = _loggers.get(policy)
    if logger is None:
        logger = _loggers[policy] = logging.getLogger(f"resilient_faces.{policy}")
    return logger


@dataclass(frozen=True, slots=True)
class Switches:
    """What is said to all retries of a process at once.

    Attributes:
        on: False: no retry repeats anything.
        stopped: The process is shutting down.
        attempts_cap: In test mode: attempts of any retry at most.
        delay_cap: In test mode: longest wait of any retry, in seconds.
    """

    on: bool = True
    stopped: bool = False
    attempts_cap: float = math.inf
    delay_cap: float = math.inf


if TYPE_CHECKING:

    class Sleep(Protocol):
        """Waits in a thread."""

        def __call__(self, seconds: float, function: Callable[..., object] | None = None, /) -> None: ...


TELLING: Final[ContextVar[tuple[Listener, ...]]] = ContextVar("resilient_faces.telling", default=())
"""The listeners that are being told of something."""


class Runtime:
    """One process's way to tell time, draw chances, wait and report. Its members can be swapped for a test.

    Attributes:
        monotonic: Seconds for what stays in this process.
        wall: Seconds since the epoch, for state that machines share.
        random: A draw from [0, 1).
        sleep: Wait in a thread, in the name of a guarded function if there is one: a wait that stops a running event
            loop is told, and the message names it.
        asleep: Wait in a task; also the one checkpoint when the seconds are zero.
        listeners: Who hears every event.
        log: The default listener, which writes to `logging`; None until the telemetry floor sets it.
        stopping: Set by `stop()`: waits end at once.
        stopped: Whether it is set: nothing is tried again.
        retrying: What the process's switches say to all retries; None as long as they say nothing.
    """

    __slots__ = (
        "asleep",
        "listeners",
        "log",
        "monotonic",
        "random",
        "retrying",
        "sleep",
        "stopped",
        "stopping",
        "wall",
    )

    def __init__(self) -> None:
        self.monotonic: Callable[[], float] = time.monotonic
        self.wall: Callable[[], float] = time.time
        self.random: Callable[[], float] = random.Random().random
        self.sleep: Sleep = self._sleep
        self.asleep: Callable[[float], Awaitable[None]] = self._asleep
        self.listeners: tuple[Listener, ...] = ()
        self.log: Listener | None = None
        self.stopping = threading.Event()
        self.stopped = False
        self.retrying: Switches | None = None

    def _sleep(self, seconds: float, function: Callable[..., object] | None = None) -> None:
        if seconds > 0.0:
            tell_if_blocking(function)
            self.stopping.wait(seconds)

    async def _asleep(self, seconds: float) -> None:
        if running_asyncio():
            import asyncio

            pause: Callable[[float], Awaitable[None]] = asyncio.sleep
        else:
            import anyio

            pause = anyio.sleep
        if seconds <= SLICE:
            await pause(seconds)
            return
        until = time.monotonic() + seconds
        while not self.stopped:
            left = until - time.monotonic()
            if left <= 0.0:
                break
            await pause(min(left, SLICE))

    def heard(self, level: int, policy: str) -> bool:
        """Whether anybody would hear an event of this logging level; if not, it need not be built."""
        return bool(self.listeners) or logger_of(policy).isEnabledFor(level)

    def tell(self, event: Event, *, logged: bool = False) -> None:
        """Hand the event to the default listener and to everybody else. A listener that raises cannot break a call.

        A listener is not told of what happens while it is being told: one that makes a guarded call would never end.

        Args:
            event: What happened.
            logged: Its line is in the log already, so that the default listener has nothing to do.
        """
        for listener in self.listeners if self.log is None or logged else (self.log, *self.listeners):
            telling = TELLING.get()
            if listener in telling:
                continue
            token = TELLING.set((*telling, listener))
            try:
                listener(event)
            except Exception as error:  # a listener's fault is the listener's; the call goes on
                _root.debug("listener %s raised %s", type(listener).__name__, type(error).__name__)
            finally:
                TELLING.reset(token)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; the answer takes it away again."""
        self.listeners = (*self.listeners, listener)

        def stop() -> None:
            self.listeners = tuple(one for one in self.listeners if one is not listener)

        return stop

    def stop(self, stopped: bool = True) -> None:
        """End all waits and try nothing again; False takes it back."""
        self.stopped = stopped
        self.switch(stopped=stopped)
        if stopped:
            self.stopping.set()
        else:
            self.stopping.clear()

    def switch(self, **changes: bool | float | None) -> None:
        """Change the process's switches for retries."""
        from dataclasses import replace

        now = replace(self.retrying or Switches(), **changes)  # type: ignore[arg-type]
        self.retrying = None if now == Switches() else now

    def reseed(self) -> None:
        """Draw from a fresh source: a forked child must not repeat its parent's chances."""
        self.random = random.Random().random


RUNTIME: Final = Runtime()


if TYPE_CHECKING:

    class Forkable(Protocol):
        """Something with locks or permits that a forked child must renew."""

        def after_fork(self) -> None: ...


_forkables: weakref.WeakSet[Forkable] = weakref.WeakSet()


def on_fork(thing: Forkable) -> None:
    """Have `thing.after_fork()` called in each forked child."""
    _forkables.add(thing)


class OwnLock:
    """A plain lock that a forked child has anew, whoever held the parent's."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def begin_anew() -> None:
    """For tests: whatever lives and remembers calls (circuits, limiters, last answers, ...) is as it was at first."""
    for thing in list(_forkables):
        begin = getattr(thing, "begin_anew", None)
        if begin is not None:
            begin()


def _in_child() -> None:
    if isinstance(getattr(RUNTIME.random, "__self__", None), random.Random):  # not while a test sets the chances
        RUNTIME.reseed()
    RUNTIME.stopping = threading.Event()  # its lock may have been held when the process forked
    RUNTIME.stop(RUNTIME.stopped)
    for thing in list(_forkables):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class ManualRuntime:
    """A clock that moves when told to, sleeps that only move it, and chances that are set beforehand.

    Attributes:
        now: The monotonic time, in seconds.
        epoch: Wall-clock time at monotonic zero, in seconds since the epoch.
        slept: Every wait so far, in seconds, in order.
        chance: What `random` answers: a number from [0, 1), or a function that draws one.
    """

    def __init__(self, now: float = 1000.0, epoch: float = 1_700_000_000.0, chance: float = 0.5) -> None:
        self.now = now
        self.epoch = epoch
        self.slept: list[float] = []
        self.chance: float | Callable[[], float] = chance
        self.on_sleep: Callable[[float], None] | None = None

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.epoch + self.now

    def random(self) -> float:
        return self.chance() if callable(self.chance) else self.chance

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.now += seconds

    def _wait(self, seconds: float) -> None:
        if RUNTIME.stopped:
            return
        self.slept.append(seconds)
        self.now += seconds
        if self.on_sleep is not None:
            self.on_sleep(seconds)

    def sleep(self, seconds: float, function: Callable[..., object] | None = None) -> None:
        """Waiting is letting time pass."""
        if seconds > 0.0:
            tell_if_blocking(function)
        self._wait(seconds)

    async def asleep(self, seconds: float) -> None:
        """Waiting is letting time pass, with one checkpoint so that other tasks get their turn."""
        self._wait(seconds)
        if running_asyncio():
            import asyncio

            await asyncio.sleep(0)
        else:
            import anyio

            await anyio.lowlevel.checkpoint()

    @contextmanager
    def installed(self) -> Iterator[ManualRuntime]:
        """Be the process's runtime inside the `with` block."""
        before = (RUNTIME.monotonic, RUNTIME.wall, RUNTIME.random, RUNTIME.sleep, RUNTIME.asleep)
        RUNTIME.monotonic, RUNTIME.wall, RUNTIME.random = self.monotonic, self.wall, self.random
        RUNTIME.sleep, RUNTIME.asleep = self.sleep, self.asleep
        try:
            yield self
        finally:
            RUNTIME.monotonic, RUNTIME.wall, RUNTIME.random, RUNTIME.sleep, RUNTIME.asleep = before
