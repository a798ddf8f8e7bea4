"""`Timeout`: a time limit for one call, which knows its own expiry from a `TimeoutError` of the call."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import ClassVar, NoReturn, TypeAlias

from resilient_faces._core import workers
from resilient_faces._core.context import DEADLINE, event
from resilient_faces._core.deadline import PASSED, native_timeout, within
from resilient_faces._core.effects import Target
from resilient_faces._core.options import Checks, checked_names
from resilient_faces._core.outcome import name_of
from resilient_faces._core.runtime import RUNTIME
from resilient_faces._light import dataclass, field
from resilient_faces.composing import Decorator
from resilient_faces.errors import AbandonedThreadsError, CallTimeoutError, DeadlineExceededError

__all__ = ["Timeout"]

Limit: TypeAlias = "float | Callable[..., float]"


@checked_names
@dataclass(frozen=True, slots=True)
class Timeout(Decorator[NoReturn]):
    """A time limit for one call. Inside a retry it limits each attempt, outside of one all attempts together.

    Async code is cancelled in its own scope. Blocking code runs in a worker thread with the caller's context; when the
    limit passes the caller gets its error at once, and the thread is abandoned, since Python cannot stop it: it is
    counted until it ends, and when too many are stuck no further one is started. If a deadline covers the call, what is
    left of it is the limit when that is less.

    Args:
        seconds: The limit, or a function of the call's arguments that computes it.
        max_abandoned: Stuck worker threads at most, of blocking functions under this policy.

    Raises:
        CallTimeoutError: From the guarded function: the limit has passed. A `TimeoutError` that the function raises
            itself comes out unchanged.
        AbandonedThreadsError: From the guarded function: too many threads are stuck.
    """

    seconds: Limit
    max_abandoned: int = field(default=16, kw_only=True)

    _abandoned: workers.Abandoned = field(init=False, repr=False, compare=False)

    answers: ClassVar[bool] = False
    quiet: ClassVar[bool] = True
    role: ClassVar[str] = "timeout"

    def __post_init__(self) -> None:
        checks = Checks("Timeout")
        if not callable(self.seconds):
            checks.seconds("seconds", self.seconds)
        checks.whole("max_abandoned", self.max_abandoned, 1)
        checks.done()
        object.__setattr__(self, "_abandoned", workers.Abandoned())

    @property
    def abandoned(self) -> int:
        """Worker threads that outlived their limit and still run."""
        return self._abandoned.count

    def around(self, function: Target, asynchronous: bool) -> Target:
        """The function with this limit around it."""
        return self._async(function) if asynchronous else self._sync(function)

    def _limit(self, args: tuple[object, ...], kwargs: dict[str, object], function: object) -> tuple[float, bool]:
        """Seconds for this call, and whether they are what is left of the deadline."""
        own = self.seconds(*args, **kwargs) if callable(self.seconds) else self.seconds
        end = DEADLINE.get()
        if end is None:
            return own, False
        left = end - RUNTIME.monotonic()
        if left <= 0.0:
            raise DeadlineExceededError(name_of(function), None)
        return (own, False) if own <= left else (left, True)

    def _passed(self, function: object, seconds: float, deadline: bool) -> Exception:
        name = name_of(function)
        return DeadlineExceededError(name, None) if deadline else CallTimeoutError(name, seconds)

    def _async(self, function: Callable[..., Awaitable[object]]) -> Target:
        if callable(self.seconds):
            return self._async_computed(function)
        own = self.seconds

        otherwise = self._async_computed(function)

        @functools.wraps(function)
        async def guarded(*args: object, **kwargs: object) -> object:
            timeout = None if DEADLINE.get() is not None else native_timeout()
            if timeout is None:
                return await otherwise(*args, **kwargs)
            inner: BaseException | None = None
            try:  # as in `within`, without a coroutine of its own: most time limits come here
                async with timeout(own):
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
            raise self._passed(function, own, deadline=False)

        return guarded

    def _async_computed(self, function: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        @functools.wraps(function)
        async def guarded(*args: object, **kwargs: object) -> object:
            seconds, deadline = self._limit(args, kwargs, function)
            value = await within(seconds, function, args, kwargs)
            if value is PASSED:
                raise self._passed(function, seconds, deadline)
            return value

        return guarded

    def _sync(self, function: Callable[..., object]) -> Target:
        @functools.wraps(function)
        def guarded(*args: object, **kwargs: object) -> object:
            seconds, deadline = self._limit(args, kwargs, function)
            if self._abandoned.count >= self.max_abandoned:
                raise AbandonedThreadsError(name_of(function), None)
            try:
                return workers.run(lambda: function(*args, **kwargs), seconds, self._abandoned)
            except workers.LimitPassed:
                pass
            if RUNTIME.heard(logging.WARNING, "timeout"):
                RUNTIME.tell(
                    event("abandoned", policy="timeout", status=str(self.abandoned), operation=name_of(function))
                )
            raise self._passed(function, seconds, deadline)

        return guarded
