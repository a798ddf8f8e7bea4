"""The deadline joint: one point in time for everything inside, carried by context.

It lives in the engine because a retry with `max_elapsed` brings one; `limits.deadline` is its public face.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final

from resilient_faces._core.context import DEADLINE
from resilient_faces._core.outcome import name_of
from resilient_faces._core.runtime import RUNTIME, running_asyncio
from resilient_faces.errors import DeadlineExceededError

__all__ = ["Scope", "scope", "under_deadline"]

Sync = Callable[..., object]
Async = Callable[..., Awaitable[object]]


class Scope:
    """An async cancel scope that knows whether it was its own time that ran out.

    asyncio's own timeout where there is one (3.11 and newer), which costs a third of anyio's; else anyio's.
    """

    __slots__ = ("_anyio", "_asyncio")

    def __init__(self, seconds: float) -> None:
        self._asyncio: AbstractAsyncContextManager[object] | None = None
        self._anyio: object = None
        if running_asyncio() and sys.version_info >= (3, 11):
            import asyncio

            self._asyncio = asyncio.timeout(seconds)
        else:
            import anyio

            self._anyio = anyio.move_on_after(seconds)

    async def __aenter__(self) -> Scope:
        if self._asyncio is not None:
            await self._asyncio.__aenter__()
        else:
            self._anyio.__enter__()  # type: ignore[attr-defined]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self._asyncio is None:
            swallowed: bool | None = self._anyio.__exit__(kind, error, trace)  # type: ignore[attr-defined]
            return swallowed
        try:
            return await self._asyncio.__aexit__(kind, error, trace)
        except TimeoutError as own:
            if own is not error and self.expired:
                return True  # our own time ran out: `expired` says so, and the caller names it
            raise

    @property
    def expired(self) -> bool:
        """Whether the scope's own time ran out and cut the block short."""
        if self._asyncio is not None:
            expired: bool = self._asyncio.expired()  # type: ignore[attr-defined]
            return expired
        caught: bool = self._anyio.cancelled_caught  # type: ignore[attr-defined]
        return caught


def scope(seconds: float) -> Scope:
    """A cancel scope of so many seconds for `async with`."""
    return Scope(seconds)


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
            async with Scope(left) as limit:
                return await function(*args, **kwargs)
        finally:
            DEADLINE.reset(token)
        raise _exceeded(limit, function)

    return guarded


def _exceeded(limit: Scope, function: object) -> DeadlineExceededError:
    assert limit.expired
    return DeadlineExceededError(name_of(function), None)


