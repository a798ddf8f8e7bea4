"""`Bulkhead`: so many calls at once, and a bounded queue in front."""

from __future__ import annotations

import functools
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final, NoReturn, TypeAlias

from resilient_faces._core.context import DEADLINE
from resilient_faces._core.deadline import exceeded
from resilient_faces._core.effects import Target
from resilient_faces._core.loops import tell_if_blocking, waker
from resilient_faces._core.options import Checks, checked_call
from resilient_faces._core.outcome import name_of
from resilient_faces._core.runtime import RUNTIME, SLICE, on_fork
from resilient_faces._light import dataclass
from resilient_faces.composing import Decorator
from resilient_faces.errors import BulkheadFullError
from resilient_faces.faults import Fault

__all__ = ["Bulkhead", "BulkheadSnapshot"]


@dataclass(frozen=True, slots=True)
class BulkheadSnapshot:
    """How a bulkhead stands at one moment.

    Attributes:
        name: Its name.
        limit: Calls at once.
        running: Calls inside.
        waiting: Calls in the queue.
    """

    name: str
    limit: int
    running: int
    waiting: int


Places: TypeAlias = "deque[None]"
"""The free places. A forked child has others of its own, and a call gives its place back to where it is from."""

AFTER_CALLS: Final = sys.version_info >= (3, 11)
"""Whether an interrupt is raised when a function begins and after a call, and between no other steps."""


class _Waiter:
    """One call in the queue; `wake` may come from any thread. Once `free` is there, it has a place from there."""

    __slots__ = ("free", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake = wake
        self.free: Places | None = None


class Bulkhead(Decorator[NoReturn]):
    """So many calls at once; the rest wait in a bounded queue, first come first served, or are refused.

    One bulkhead serves threads, tasks and several event loops together. A free place costs no lock.

    Args:
        limit: Calls at once.
        max_waiting: Calls in the queue at most; 0 refuses at once.
        max_wait: Seconds in the queue at most; None waits as long as the deadline allows.
        name: For messages.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
        BulkheadFullError: From the guarded function: no place was free in time, or before the process shut down.
        DeadlineExceededError: From the guarded function: it had to wait, and the deadline had passed before.
    """

    __slots__ = ("__weakref__", "_free", "_lock", "_queue", "limit", "max_wait", "max_waiting", "name")

    answers: ClassVar[bool] = False
    quiet: ClassVar[bool] = True
    role: ClassVar[str] = "bulkhead"

    def __init__(
        self, limit: int, *, max_waiting: int = 0, max_wait: float | None = None, name: str = "bulkhead"
    ) -> None:
        checks = Checks("Bulkhead")
        checks.whole("limit", limit, 1)
        checks.whole("max_waiting", max_waiting, 0)
        if max_wait is not None:
            checks.seconds("max_wait", max_wait, above=False)
        checks.name("name", name)
        checks.done()
        self.limit = limit
        self.max_waiting = max_waiting
        self.max_wait = max_wait
        self.name = name
        self._free: Places = deque([None] * limit)
        self._queue: deque[_Waiter] = deque()
        self._lock = threading.Lock()
        on_fork(self)

    def snapshot(self) -> BulkheadSnapshot:
        """How it stands now."""
        return BulkheadSnapshot(self.name, self.limit, self.limit - len(self._free), len(self._queue))

    # -- places ----------------------------------------------------------------------------------------------------
    # A free place is a token in `_free`, taken and put back by the deque's atomic `pop` and `append`. Who finds none
    # stands in the queue *before* looking again, and who puts one back looks at the queue *after* it: one of the two
    # sees the other, so no place is left lying while somebody waits.
    #
    # An interrupt (Ctrl-C) is raised when a function begins and after a call, not between other steps. So one that
    # comes out of `pop()` finds the place taken, and one that comes out of `append()` finds it back, but perhaps not
    # handed on; what a grant consists of has no call in it. Who was let in and not woken notices within `SLICE`
    # seconds. What remains: the steps into and out of a `with` block, as for every context manager; a second interrupt
    # while the first is being dealt with; and Python 3.10, which looks for interrupts at other moments as well, right
    # after `pop()`.

    def _join(self, waiter: _Waiter) -> None:
        """Stand in the queue; a place that is free by now is granted at once.

        Raises:
            BulkheadFullError: The queue is full.
        """
        with self._lock:
            if len(self._queue) >= self.max_waiting and not (self._free and not self._queue):
                raise BulkheadFullError(self.name, None)
            self._queue.append(waiter)
            granted = self._grant()
        if granted is not None and granted is not waiter:
            self._wake(granted)

    def _grant(self) -> _Waiter | None:
        """Give a free place, if there is one, to who waits longest, if anybody does. Lock held."""
        if not self._queue:
            return None
        free = self._free
        try:
            del free[-1]
        except IndexError:
            return None
        waiter = self._queue[0]
        del self._queue[0]
        waiter.free = free
        return waiter

    def _release(self, free: Places) -> None:
        """Give the place back, or to who waits longest."""
        free.append(None)
        if self._queue:
            self._hand_on()

    def _hand_on(self) -> None:
        """Give free places to those who wait, longest first."""
        while True:
            with self._lock:
                waiter = self._grant()
            if waiter is None:
                return
            self._wake(waiter)

    def _wake(self, waiter: _Waiter) -> None:
        try:
            waiter.wake()
        except RuntimeError:  # its event loop is closed: nobody will ever use the place
            self._free.append(None)

    def _leave_queue(self, waiter: _Waiter) -> Places | None:
        """Stop waiting; where the place is from if one was granted all the same."""
        with self._lock:
            if waiter.free is None and waiter in self._queue:
                self._queue.remove(waiter)
            return waiter.free

    def _until(self, function: Callable[..., object]) -> float:
        """When waiting ends at the latest, in real time."""
        longest = math.inf if self.max_wait is None else self.max_wait
        end = DEADLINE.get()
        if end is not None:
            left = end - RUNTIME.monotonic()
            if left <= 0.0:
                raise exceeded(name_of(function), end)
            longest = min(longest, left)
        return time.monotonic() + longest

    def _wait(self, function: Callable[..., object]) -> Places:
        """Wait for a place in this thread."""
        asleep = threading.Lock()  # an `Event` that is interrupted while it is set may hold its own lock for ever
        asleep.acquire()
        waiter = _Waiter(asleep.release)
        try:
            self._join(waiter)
            if waiter.free is None:
                tell_if_blocking(function)
                until = self._until(function)
                while waiter.free is None and not RUNTIME.stopped and (left := until - time.monotonic()) > 0.0:
                    asleep.acquire(timeout=min(left, SLICE))
            free = self._leave_queue(waiter)
            if free is None:
                raise BulkheadFullError(self.name, None)
            return free
        except BaseException:
            self._withdraw(waiter)
            raise

    async def _await(self, function: Callable[..., object]) -> Places:
        """Wait for a place in this task."""
        import anyio

        ready = anyio.Event()
        waiter = _Waiter(waker(ready))
        try:
            self._join(waiter)
            if waiter.free is None:
                until = self._until(function)
                while waiter.free is None and not RUNTIME.stopped and (left := until - time.monotonic()) > 0.0:
                    with anyio.move_on_after(min(left, SLICE)):
                        await ready.wait()
            free = self._leave_queue(waiter)
            if free is None:
                raise BulkheadFullError(self.name, None)
            return free
        except BaseException:
            self._withdraw(waiter)
            raise

    def _withdraw(self, waiter: _Waiter) -> None:
        """Neither wait nor have a place."""
        free = self._leave_queue(waiter)
        if free is not None:
            self._release(free)

    def after_fork(self) -> None:
        """In a forked child: the calls inside are the parent's."""
        self._lock = threading.Lock()
        self._queue = deque()
        self._free = deque([None] * self.limit)

    def begin_anew(self) -> None:
        """For tests: all places are free, whoever is still inside."""
        self.after_fork()

    # -- around a call ---------------------------------------------------------------------------------------------

    def around(self, function: Target, asynchronous: bool) -> Target:
        """The function with a place of this bulkhead around it."""
        return self._async(function) if asynchronous else self._sync(function)

    def _sync(self, function: Callable[..., object]) -> Target:
        @functools.wraps(function)
        def guarded(*args: object, **kwargs: object) -> object:
            free = self._free
            if self._queue:
                free = self._wait(function)
            else:
                try:
                    free.pop()
                except IndexError:
                    free = self._wait(function)
                except BaseException:
                    if AFTER_CALLS:  # else it may not be taken yet, and one too many is worse than one too few
                        free.append(None)
                        self._hand_on()
                    raise
            try:
                return function(*args, **kwargs)
            finally:
                try:
                    free.append(None)
                    if self._queue:
                        self._hand_on()
                except BaseException:  # interrupted when the place was back, and perhaps not handed on
                    self._hand_on()
                    raise

        return guarded

    def _async(self, function: Callable[..., Awaitable[object]]) -> Target:
        @functools.wraps(function)
        async def guarded(*args: object, **kwargs: object) -> object:
            free = self._free
            if self._queue:
                free = await self._await(function)
            else:
                try:
                    free.pop()
                except IndexError:
                    free = await self._await(function)
                except BaseException:
                    if AFTER_CALLS:  # else it may not be taken yet, and one too many is worse than one too few
                        free.append(None)
                        self._hand_on()
                    raise
            try:
                return await function(*args, **kwargs)
            finally:
                try:
                    free.append(None)
                    if self._queue:
                        self._hand_on()
                except BaseException:  # interrupted when the place was back, and perhaps not handed on
                    self._hand_on()
                    raise

        return guarded

    # -- as a block ------------------------------------------------------------------------------------------------

    def enter(self) -> Places:
        """Take a place, waiting in this thread."""
        return self._wait(self.enter)

    async def aenter(self) -> Places:
        """Take a place, waiting in this task."""
        return await self._await(self.aenter)

    def leave(self, entry: Places | None, error: BaseException | None, fault: Fault | None) -> None:
        """Give the place on."""
        self._release(self._free if entry is None else entry)

    def __repr__(self) -> str:
        return f"bulkhead({self.limit}, max_waiting={self.max_waiting}, name={self.name!r})"


Bulkhead.__init__ = checked_call(Bulkhead.__init__)  # type: ignore[method-assign]
