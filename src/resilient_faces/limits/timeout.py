"""`Timeout`: a time limit for one call, which knows its own expiry from a `TimeoutError` of the call."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Awaitable, Callable
from typing import ClassVar, NoReturn, SupportsFloat, TypeAlias

from resilient_faces._core import workers
from resilient_faces._core.context import DEADLINE, event
from resilient_faces._core.deadline import PASSED, about, exceeded, limit_here, within
from resilient_faces._core.effects import Target
from resilient_faces._core.options import Checks, checked_names
from resilient_faces._core.outcome import name_of
from resilient_faces._core.runtime import RUNTIME
from resilient_faces._light import dataclass, field
from resilient_faces.composing import Decorator
from resilient_faces.errors import AbandonedThreadsError, CallTimeoutError, DeadlineExceededError, OptionError

__all__ = ["Timeout"]

Limit: TypeAlias = "float | Callable[..., float]"


@checked_names
@dataclass(frozen=True, slots=True)
class Timeout(Decorator[NoReturn]):
    """A time limit for one call. Inside a retry it limits each attempt, outside of one all attempts together.

    Async code is cancelled in its own scope. Blocking code runs in a worker thread with the caller's context; when the
    limit passes the caller gets its error at once, and the thread is abandoned, since Python cannot stop it: it is
    counted until it ends, and when too many are stuck no further one is started. For what is inside the limit is a
    deadline: no attempt and no wait begins that would be nobody's, and `remaining()` tells what is left. If a deadline
    covers the call, what is left of it is the limit when that is less.

    Args:
        seconds: The limit, or a function of the call's arguments that computes it; then 0 or less has passed at once,
            and `math.inf` is no limit.
        max_abandoned: Stuck worker threads of blocking functions under this policy with which no further call is
            begun. Those under way by then may get stuck as well.

    Raises:
        CallTimeoutError: From the guarded function: the limit has passed. A `TimeoutError` that the function raises
            itself comes out unchanged.
        AbandonedThreadsError: From the guarded function: too many threads are stuck.
        OptionError: From the guarded function: what was computed is no number of seconds.
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

    def _limit(
        self, args: tuple[object, ...], kwargs: dict[str, object], function: object
    ) -> tuple[float, float, bool]:
        """Seconds for this call, when they end, and whether that is the deadline around it."""
        own = _seconds(self.seconds(*args, **kwargs), function) if callable(self.seconds) else self.seconds
        end = DEADLINE.get()
        now = RUNTIME.monotonic()
        if end is not None:
            if end <= now:
                raise exceeded(name_of(function), end)
            if end - now < own:
                return end - now, end, True
        if own <= 0.0:
            raise CallTimeoutError(name_of(function), own)
        return own, now + own, False

    def _passed(self, function: object, seconds: float, end: float, deadline: bool) -> Exception:
        name = name_of(function)
        return exceeded(name, end) if deadline else CallTimeoutError(name, seconds)

    def _async(self, function: Callable[..., Awaitable[object]]) -> Target:
        otherwise = self._async_computed(function)
        if callable(self.seconds):
            return otherwise
        own = self.seconds

        @functools.wraps(function)
        async def guarded(*args: object, **kwargs: object) -> object:
            limit = None if DEADLINE.get() is not None else limit_here(own)
            if limit is None:
                return await otherwise(*args, **kwargs)
            end = RUNTIME.monotonic() + own
            token = DEADLINE.set(end)
            try:  # as in `within`, without a coroutine of its own: most time limits come here
                value = await function(*args, **kwargs)
            except BaseException as error:
                if not limit.end(error) and not about(error, end):
                    raise
            else:
                limit.end(None)
                return value
            finally:
                DEADLINE.reset(token)
            raise self._passed(function, own, end, deadline=False)

        return guarded

    def _async_computed(self, function: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        @functools.wraps(function)
        async def guarded(*args: object, **kwargs: object) -> object:
            seconds, end, deadline = self._limit(args, kwargs, function)
            if seconds == math.inf:
                return await function(*args, **kwargs)
            token = DEADLINE.set(end)
            try:
                value = await within(seconds, function, args, kwargs)
                if value is not PASSED:
                    return value
            except DeadlineExceededError as error:
                if deadline or not about(error, end):
                    raise
            finally:
                DEADLINE.reset(token)
            raise self._passed(function, seconds, end, deadline)

        return guarded

    def _sync(self, function: Callable[..., object]) -> Target:
        @functools.wraps(function)
        def guarded(*args: object, **kwargs: object) -> object:
            seconds, end, deadline = self._limit(args, kwargs, function)
            if self._abandoned.count >= self.max_abandoned:
                raise AbandonedThreadsError(name_of(function), None)

            def work() -> object:
                if end < math.inf:
                    DEADLINE.set(end)  # in the worker's own context, which ends with the call
                return function(*args, **kwargs)

            late = False
            try:
                return workers.run(work, seconds, self._abandoned)
            except workers.LimitPassed:
                late = True
            except DeadlineExceededError as error:
                if deadline or not about(error, end):
                    raise
            if late and RUNTIME.heard(logging.WARNING, "timeout"):
                RUNTIME.tell(
                    event("abandoned", policy="timeout", status=str(self.abandoned), operation=name_of(function))
                )
            raise self._passed(function, seconds, end, deadline)

        return guarded


def _seconds(value: object, function: object) -> float:
    """A limit that was computed for one call; None is no limit."""
    if value is None:
        return math.inf
    if isinstance(value, SupportsFloat) and not isinstance(value, bool) and not math.isnan(value):
        return float(value)
    raise OptionError(
        f"Timeout.seconds must compute a number of seconds, or math.inf for no limit; "
        f"got {value!r} for {name_of(function)!r}."
    )
