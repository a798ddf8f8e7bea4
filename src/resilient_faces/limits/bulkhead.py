"""`Bulkhead`: so many calls at once, and a bounded queue in front."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import ClassVar, NoReturn

from resilient_faces._core.context import DEADLINE
from resilient_faces._core.effects import Target
from resilient_faces._core.loops import waker
from resilient_faces._core.options import Checks, checked_call
from resilient_faces._core.runtime import RUNTIME, on_fork
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


class _Waiter:
    """One call in the queue; `wake` may come from any thread."""

    __slots__ = ("granted", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.granted = False


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
        BulkheadFullError: From the guarded function: no place was free in time.
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
        self._free: deque[None] = deque([None] * limit)
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

    def _join(self, wake: Callable[[], None]) -> _Waiter:
        """Stand in the queue; a place that is free by now is granted at once.

        Raises:
            BulkheadFullError: The queue is full.
        """
        waiter = _Waiter(wake)
        with self._lock:
            if len(self._queue) >= self.max_waiting and not (self._free and not self._queue):
                raise BulkheadFullError(self.name, None)
            self._queue.append(waiter)
            granted = self._grant()
        if granted is not None and granted is not waiter:
            self._wake(granted)
        return waiter

    def _grant(self) -> _Waiter | None:
        """Give a free place, if there is one, to who waits longest, if anybody does. Lock held."""
        if not self._queue:
            return None
        try:
            self._free.pop()
        except IndexError:
            return None
        waiter = self._queue.popleft()
        waiter.granted = True
        return waiter

    def _release(self) -> None:
        """Give the place back, or to who waits longest."""
        self._free.append(None)
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

    def _leave_queue(self, waiter: _Waiter) -> bool:
        """Stop waiting; True if a place was granted all the same."""
        with self._lock:
            if waiter.granted:
                return True
            self._queue.remove(waiter)
            return False

    def _longest(self) -> float | None:
        end = DEADLINE.get()
        if end is None:
            return self.max_wait
        left = max(0.0, end - RUNTIME.monotonic())
        return left if self.max_wait is None else min(self.max_wait, left)

    def _wait(self) -> None:
        """Wait for a place in this thread."""
        ready = threading.Event()
        waiter = self._join(ready.set)
        if waiter.granted:
            return
        try:
            ready.wait(self._longest())
        except BaseException:
            if self._leave_queue(waiter):
                self._release()
            raise
        if not self._leave_queue(waiter):
            raise BulkheadFullError(self.name, None)

    async def _await(self) -> None:
        """Wait for a place in this task."""
        import anyio

        ready = anyio.Event()
        waiter = self._join(waker(ready))
        if waiter.granted:
            return
        try:
            with anyio.move_on_after(self._longest()):
                await ready.wait()
        except BaseException:
            if self._leave_queue(waiter):
                self._release()
            raise
        if not self._leave_queue(waiter):
            raise BulkheadFullError(self.name, None)

    def after_fork(self) -> None:
        """In a forked child: the calls inside are the parent's."""
        self._lock = threading.Lock()
        self._queue = deque()
        self._free = deque([None] * self.limit)

    # -- around a call ---------------------------------------------------------------------------------------------

    def around(self, function: Target, asynchronous: bool) -> Target:
        """The function with a place of this bulkhead around it."""
        return self._async(function) if asynchronous else self._sync(function)

    def _sync(self, function: Callable[..., object]) -> Target:
        @functools.wraps(function)
        def guarded(*args: object, **kwargs: object) -> object:
            if self._queue:
                self._wait()
            else:
                try:
                    self._free.pop()
                except IndexError:
                    self._wait()
            try:
                return function(*args, **kwargs)
            finally:
                self._free.append(None)
                if self._queue:
                    self._hand_on()

        return guarded

    def _async(self, function: Callable[..., Awaitable[object]]) -> Target:
        @functools.wraps(function)
        async def guarded(*args: object, **kwargs: object) -> object:
            if self._queue:
                await self._await()
            else:
                try:
                    self._free.pop()
                except IndexError:
                    await self._await()
            try:
                return await function(*args, **kwargs)
            finally:
                self._free.append(None)
                if self._queue:
                    self._hand_on()

        return guarded

    # -- as a block ------------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Take a place, waiting in this thread."""
        self._wait()

    async def aenter(self) -> None:
        """Take a place, waiting in this task."""
        await self._await()

    def leave(self, entry: object, error: BaseException | None, fault: Fault | None) -> None:
        """Give the place on."""
        self._release()

    def __repr__(self) -> str:
        return f"bulkhead({self.limit}, max_waiting={self.max_waiting}, name={self.name!r})"


Bulkhead.__init__ = checked_call(Bulkhead.__init__)  # type: ignore[method-assign]
