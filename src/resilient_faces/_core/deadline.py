"""The deadline joint: one point in time for everything inside, carried by context.

It lives in the engine because a retry with `max_elapsed` brings one; `limits.deadline` is its public face.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from resilient_faces._core.context import DEADLINE
from resilient_faces._core.outcome import name_of
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.errors import DeadlineExceededError

if TYPE_CHECKING:
    import asyncio

__all__ = ["PASSED", "Limit", "about", "exceeded", "limit_here", "under_deadline", "until", "within"]

Sync = Callable[..., object]
Async = Callable[..., Awaitable[object]]


PASSED: Final = object()
"""What `within` answers if the time ran out first."""


class _Asyncio:
    """asyncio's own ways, bound once asyncio is there: most programs without coroutines never load it."""

    running_loop: Callable[[], asyncio.AbstractEventLoop | None] | None = None
    current_task: Callable[[asyncio.AbstractEventLoop], asyncio.Task[object] | None]
    cancelled: type[BaseException]


def _under_asyncio() -> asyncio.AbstractEventLoop | None:
    """The running loop of an asyncio whose tasks count their cancellations; None under anything else."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or sys.version_info < (3, 11):
        return None
    _Asyncio.current_task = asyncio.current_task
    _Asyncio.cancelled = asyncio.CancelledError
    _Asyncio.running_loop = asyncio._get_running_loop  # noqa: SLF001  the quick way to ask without an exception
    return _Asyncio.running_loop()


class Limit:
    """A time limit for what this task awaits.

    It does what `asyncio.timeout` does, by the same means, but without coroutines to enter and to leave it: what they
    cost pays for the deadline that a time limit puts into the context. The task is cancelled when the time has passed,
    and the cancellation is taken back at the end.
    """

    __slots__ = ("_before", "_handle", "_passed", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        task = _Asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a time limit of a coroutine needs a task: await it in one")
        self._task = task
        self._before = task.cancelling()  # type: ignore[attr-defined]  # Python 3.11
        self._passed = False
        self._handle = loop.call_at(loop.time() + seconds, self._pass)  # all that `call_later` does

    def _pass(self) -> None:
        self._passed = True
        self._task.cancel()

    def end(self, error: BaseException | None) -> bool:
        """Take the limit off. Whether `error` is how it came to bear: its own cancellation, and nobody else's."""
        self._handle.cancel()  # which also lets go of this object
        task = self._task
        del self._task  # whose error's traceback holds the frame that holds this object
        if not self._passed:
            return False
        alone = task.uncancel() <= self._before  # type: ignore[attr-defined]  # Python 3.11
        return alone and isinstance(error, _Asyncio.cancelled)


def limit_here(seconds: float) -> Limit | None:
    """A limit that begins now, if this task runs under an asyncio that knows how; it costs a third of anyio's."""
    loop = (_Asyncio.running_loop or _under_asyncio)()
    return None if loop is None else Limit(loop, seconds)


async def within(seconds: float, function: Async, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    """What the function returns, or `PASSED` if it was cut short because its seconds ran out.

    A `TimeoutError` of the function, or of a timeout inside of it, comes out unchanged, even if it came too late.
    """
    limit = limit_here(seconds)
    if limit is None:
        import anyio

        with anyio.move_on_after(seconds):
            return await function(*args, **kwargs)
        return PASSED
    try:
        value = await function(*args, **kwargs)
    except BaseException as error:
        if not limit.end(error):
            raise
        return PASSED
    limit.end(None)
    return value


_MARK: Final = "__resilient_faces_end__"


def exceeded(name: str, end: float) -> DeadlineExceededError:
    """What to raise when the deadline that ends then has passed; `about` knows it again."""
    error = DeadlineExceededError(name, None)
    setattr(error, _MARK, end)
    return error


def about(error: BaseException, end: float) -> bool:
    """Whether the error says that the deadline which ends then has passed."""
    if not isinstance(error, DeadlineExceededError):
        return False
    # Event loops have clocks of their own, so it may come a moment too early; and others raise it without a mark.
    return getattr(error, _MARK, None) == end or RUNTIME.monotonic() >= end


def until(seconds: float) -> float:
    """The nearer of the deadline in force and one in so many seconds, as monotonic time."""
    own = RUNTIME.monotonic() + seconds
    outer = DEADLINE.get()
    return own if outer is None or own < outer else outer


def under_deadline(function: Sync, seconds: float, asynchronous: bool) -> Sync:
    """The function with `seconds` for it and everything inside it.

    Async code is cut off when they have passed; blocking code cannot be, but it can read `remaining()`, no retry waits
    beyond the deadline, and what looks at the clock does not start after it.
    """
    if asynchronous:
        return _async(function, seconds)  # type: ignore[arg-type]
    return _sync(function, seconds)


def _sync(function: Sync, seconds: float) -> Sync:
    @functools.wraps(function)
    def guarded(*args: object, **kwargs: object) -> object:
        end = until(seconds)
        if end <= RUNTIME.monotonic():
            raise exceeded(name_of(function), end)
        token = DEADLINE.set(end)
        try:
            return function(*args, **kwargs)
        finally:
            DEADLINE.reset(token)

    return guarded


def _async(function: Async, seconds: float) -> Async:
    @functools.wraps(function)
    async def guarded(*args: object, **kwargs: object) -> object:
        end = until(seconds)
        left = end - RUNTIME.monotonic()
        if left <= 0.0:
            raise exceeded(name_of(function), end)
        token = DEADLINE.set(end)
        try:
            value = await within(left, function, args, kwargs)
        finally:
            DEADLINE.reset(token)
        if value is PASSED:
            raise exceeded(name_of(function), end)
        return value

    return guarded
