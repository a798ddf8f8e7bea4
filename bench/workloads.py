"""The functions that are guarded in a row, and the plain code that they are compared with."""

from __future__ import annotations

import asyncio
import functools
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final

from bench.quiet import REAL_SLEEP

Function = Callable[..., Any]
Decorator = Callable[[Any], Any]

FALLBACK: Final = "fallback"
ATTEMPTS: Final = 3
THRESHOLD: Final = 5


class Down(ConnectionError):
    """What every retry here retries and every breaker here counts."""


class Refused(FileNotFoundError):
    """An answer of the business: nobody retries it, no breaker counts it."""


def work() -> Function:
    """A function that succeeds at once."""

    def load(x: int) -> int:
        return x

    return load


def work_async() -> Function:
    """A coroutine function that succeeds at once."""

    async def load(x: int) -> int:
        return x

    return load


def flaky() -> Function:
    """A function that fails twice, then succeeds, over and over."""
    count = 0

    def load(x: int) -> int:
        nonlocal count
        count += 1
        if count % ATTEMPTS:
            raise Down("down")
        return x

    return load


def flaky_async() -> Function:
    """A coroutine function that fails twice, then succeeds, over and over."""
    count = 0

    async def load(x: int) -> int:
        nonlocal count
        count += 1
        if count % ATTEMPTS:
            raise Down("down")
        return x

    return load


def failing(error: type[Exception] = Down) -> Function:
    """A function that always raises a fresh error."""

    def load(x: int) -> int:
        raise error("no")

    return load


def failing_async(error: type[Exception] = Down) -> Function:
    """A coroutine function that always raises a fresh error."""

    async def load(x: int) -> int:
        raise error("no")

    return load


def blocking() -> Function:
    """A function that blocks for a real millisecond."""

    def load(x: int) -> int:
        REAL_SLEEP(0.001)
        return x

    return load


@types.coroutine
def checkpoint() -> Generator[None, None, None]:
    """Give the event loop one turn, with no timer and no future."""
    yield


def yielding_async() -> Function:
    """A coroutine function that lets the loop turn once."""

    async def load(x: int) -> int:
        await checkpoint()
        return x

    return load


def wrapper(function: Function) -> Function:
    """The do-nothing wrapper that ratios on the success path refer to."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def wrapper_async(function: Callable[..., Awaitable[Any]]) -> Function:
    """The do-nothing wrapper of a coroutine function."""

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return call


def wrapt_wrapper(function: Any) -> Any:
    """The do-nothing decorator that wrapt makes, for what a closure cannot wrap."""
    import wrapt

    @wrapt.decorator
    def nothing(wrapped: Function, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return wrapped(*args, **kwargs)

    return nothing(function)


def minimal_loop(function: Function) -> Function:
    """The least that a retry of three attempts can be."""

    def call(x: int) -> Any:
        for _ in range(ATTEMPTS - 1):
            try:
                return function(x)
            except Down:
                pass
        return function(x)

    return call


def minimal_loop_async(function: Function) -> Function:
    """The least that an async retry of three attempts can be."""

    async def call(x: int) -> Any:
        for _ in range(ATTEMPTS - 1):
            try:
                return await function(x)
            except Down:
                pass
        return await function(x)

    return call


def hand_fallback(function: Function) -> Function:
    """The fallback that a user writes where a peer has none."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception:
            return FALLBACK

    return call


def hand_fallback_async(function: Function) -> Function:
    """The async fallback that a user writes where a peer has none."""

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except Exception:
            return FALLBACK

    return call


def hand_timeout(seconds: float) -> Decorator:
    """`asyncio.timeout` in a closure, for peers that have no timeout; needs Python 3.11."""
    limit: Any = getattr(asyncio, "timeout")  # noqa: B009  the oldest Python here has none

    def decorate(function: Function) -> Function:
        async def call(*args: Any, **kwargs: Any) -> Any:
            async with limit(seconds):
                return await function(*args, **kwargs)

        return call

    return decorate
