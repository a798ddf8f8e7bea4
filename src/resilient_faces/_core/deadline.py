"""The deadline joint: one point in time for everything inside, carried by context.

It lives in the engine because a retry with `max_elapsed` brings one; `limits.deadline` is its public face.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from resilient_faces._core.context import DEADLINE
from resilient_faces._core.outcome import name_of
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.errors import DeadlineExceededError

__all__ = ["PASSED", "native_timeout", "under_deadline", "until", "within"]

Sync = Callable[..., object]
Async = Callable[..., Awaitable[object]]


PASSED: Final = object()
"""What `within` answers if the time ran out first."""


class _Asyncio:
    """asyncio's own ways, bound once asyncio is there: most programs without coroutines never load it."""

    running_loop: Callable[[], object] | None = None
    timeout: Callable[[float], AbstractAsyncContextManager[object]]


def _under_asyncio() -> object:
    """The running loop of an asyncio that has a timeout; None under anything else."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or sys.version_info < (3, 11):
        return None
    _Asyncio.timeout = asyncio.timeout
    _Asyncio.running_loop = asyncio._get_running_loop  # noqa: SLF001  the quick way to ask without an exception
    return _Asyncio.running_loop()


def native_timeout() -> Callable[[float], AbstractAsyncContextManager[object]] | None:
    """Asyncio's own timeout if this task runs under an asyncio that has one; it costs a third of anyio's."""
    return None if (_Asyncio.running_loop or _under_asyncio)() is None else _Asyncio.timeout


async def within(seconds: float, function: Async, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    """What the function returns, or `PASSED` if it was cut short because its seconds ran out.

    A `TimeoutError` of the function, or of a timeout inside of it, comes out unchanged, even if it came too late.
    """
    timeout = native_timeout()
    if timeout is None:
        import anyio

        with anyio.move_on_after(seconds):
            return await function(*args, **kwargs)
        return PASSED
    inner: BaseException | None = None
    try:
        async with timeout(seconds):
            try:
                return await function(*args, **kwargs)
            except BaseException as error:
                inner = error
                raise
    except TimeoutError as error:
        if error is inner:
            raise
    finally:
        inner = None  # its traceback holds this frame
    return PASSED


def until(seconds: float) -> float:
    """The nearer of the deadline in force and one in so many seconds, as monotonic time."""
    own = RUNTIME.monotonic() + seconds
    outer = DEADLINE.get()
    return own if outer is None or own < outer else outer


def under_deadline(function: Sync, seconds: float, asynchronous: bool) -> Sync:
    """The function with `seconds` for it and everything inside it.

    Async code is cut off when they have passed; blocking code cannot be, but it can read `remaining()`, no retry waits
    beyond the deadline, and nothing starts after it.
    """
    if asynchronous:
        return _async(function, seconds)  # type: ignore[arg-type]
    return _sync(function, seconds)


def _sync(function: Sync, seconds: float) -> Sync:
    @functools.wraps(function)
    def guarded(*args: object, **kwargs: object) -> object:
        end = until(seconds)
        if end <= RUNTIME.monotonic():
            raise DeadlineExceededError(name_of(function), None)
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
            raise DeadlineExceededError(name_of(function), None)
        token = DEADLINE.set(end)
        try:
            value = await within(left, function, args, kwargs)
        finally:
            DEADLINE.reset(token)
        if value is PASSED:
            raise DeadlineExceededError(name_of(function), None)
        return value

    return guarded
