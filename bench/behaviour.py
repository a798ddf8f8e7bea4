"""Before anything is timed: does the decorator do what its row says?"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

from bench.quiet import REAL_SLEEP
from bench.workloads import ATTEMPTS, FALLBACK, Decorator, Down, Function

MANY = 20


class MisbehavedError(Exception):
    """A decorator did not do what its feature promises; the message says what it did instead."""


class Script:
    """A function that fails or succeeds as told, and counts its calls."""

    def __init__(self, *, asynchronous: bool) -> None:
        self.calls = 0
        self.failures = 0
        self.function: Function = self._async() if asynchronous else self._sync()

    def _answer(self, x: int) -> int:
        self.calls += 1
        if self.failures:
            self.failures -= 1
            raise Down("down")
        return x

    def _sync(self) -> Function:
        def load(x: int) -> int:
            return self._answer(x)

        return load

    def _async(self) -> Function:
        async def load(x: int) -> int:
            return self._answer(x)

        return load


Run = Callable[[Callable[[], Any]], Any]


def runner(loop: asyncio.AbstractEventLoop) -> Run:
    """Call something, and wait for it if it is awaitable."""

    def run(call: Callable[[], Any]) -> Any:
        async def inside() -> Any:
            value = call()
            return await value if inspect.isawaitable(value) else value

        return loop.run_until_complete(inside())

    return run


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise MisbehavedError(otherwise)


def _tries(run: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return run(), None
    except Exception as error:
        return None, error


def until_open(call: Callable[[], Any], count: Callable[[], int], patience: float) -> bool:
    """Fail until the function is no longer called, for so many seconds at least; whether that came to pass."""
    until = time.monotonic() + patience
    tries = 0
    while tries < MANY or time.monotonic() < until:
        before = count()
        _tries(call)
        if count() == before:
            return True
        tries += 1
        if tries >= MANY:
            REAL_SLEEP(0.05)
    return False


def check(
    feature: str,
    decorate: Decorator,
    *,
    asynchronous: bool,
    loop: asyncio.AbstractEventLoop,
    patience: float = 0.0,
) -> None:
    """Assert what the feature promises: success, retries, opening, answering.

    Raises:
        MisbehavedError: It does something else.
    """
    script = Script(asynchronous=asynchronous)
    run = runner(loop)
    if asynchronous:
        guarded = run(lambda: decorate(script.function))

        def call() -> Any:
            return run(lambda: guarded(7))
    else:
        guarded = decorate(script.function)

        def call() -> Any:
            return guarded(7)

    value, error = _tries(call)
    _demand(error is None, f"a success raised {type(error).__name__}")
    _demand(value == 7, f"a success returned {value!r}")
    _demand(script.calls == 1, f"a success was called {script.calls} times")
    if feature.startswith("wrapper"):
        return
    if feature.startswith(("retry", "stack")):
        script.calls, script.failures = 0, ATTEMPTS - 1
        value, error = _tries(call)
        _demand(error is None, f"two failures, then success, raised {type(error).__name__}")
        _demand(value == 7 and script.calls == ATTEMPTS, f"two failures: {value!r} after {script.calls} calls")
    if feature.startswith("retry") and "breaker" not in feature:
        script.calls, script.failures = 0, ATTEMPTS
        value, error = _tries(call)
        _demand(error is not None, "exhausted retries raised nothing")
        _demand(script.calls == ATTEMPTS, f"exhausted after {script.calls} calls")
    if feature.startswith(("breaker", "retry+breaker", "stack")):
        script.failures = 10**6
        _demand(until_open(call, lambda: script.calls, patience), f"{MANY} failing calls did not open the circuit")
        value, error = _tries(call)
        if feature.startswith("stack"):
            _demand(error is None and value == FALLBACK, f"open: {value!r}, {type(error).__name__}")
        else:
            _demand(error is not None and not isinstance(error, Down), f"open: raised {type(error).__name__}")
