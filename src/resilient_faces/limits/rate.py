"""`RateLimiter`: paced admission. It reserves slots ahead of time and says when each begins."""

from __future__ import annotations

import functools
import logging
import math
import threading
from bisect import insort
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn, TypeAlias, TypeVar

from resilient_faces._core import workers
from resilient_faces._core.context import DEADLINE, event
from resilient_faces._core.deadline import exceeded
from resilient_faces._core.drivers import run_async, run_sync
from resilient_faces._core.effects import Flow, Target
from resilient_faces._core.loops import in_event_loop
from resilient_faces._core.options import Checks, checked_call
from resilient_faces._core.outcome import Call, name_of
from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces._light import dataclass, field
from resilient_faces.composing import Decorator
from resilient_faces.errors import RateLimitedError
from resilient_faces.faults import Classification, Fault, Kind, classify
from resilient_faces.limits.store import LimiterStore, Pace

if TYPE_CHECKING:
    from resilient_faces.limits.sharing import Sharing, Slots

__all__ = ["RateLimiter", "Reservation"]

T = TypeVar("T")
_THROTTLED: Final = Kind.throttled

FARTHEST: Final = 366 * 86_400.0  # seconds ahead within which slots begin
HURRY: Final = 0.01  # seconds that a start may always be late, or no call could keep up with a high rate
ROUNDS: Final = 10  # slots that one call may let pass because it woke up too late for them
MOST_FREED: Final = 256  # spans of slots given back that are remembered

Slot: TypeAlias = "tuple[float, float]"
"""One start's part of the time: when it begins, and when the next one may begin."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Slots of a limiter: item i of the batch may start after `delay + i * interval` seconds.

    Attributes:
        delay: Seconds until the first slot.
        interval: Seconds between slots.
        count: Number of slots.
        begins: Monotonic time at which the first slot begins, which `delay` was reckoned from.
        late: Seconds that a start may be late without meeting the starts of others.
    """

    delay: float
    interval: float
    count: int
    begins: float = field(default=0.0, compare=False)
    late: float = field(default=math.inf, compare=False)

    def start_of(self, index: int) -> float:
        """Seconds from the reservation until slot `index` (from 0) begins."""
        return self.delay + index * self.interval

    def missed(self, index: int) -> bool:
        """Whether it is too late for slot `index`: let it pass, and reserve another."""
        return RUNTIME.monotonic() - (self.begins + index * self.interval) > self.late


class RateLimiter(Decorator[NoReturn]):
    """At most so many starts in any second, evenly spaced, first come first served.

    Each call reserves the next free slot and waits for it. Slots are spaced by `1 / rate` (the generic cell rate
    algorithm with a burst of one), so any half-open second holds at most `rate + 1` starts whoever reserves, singly or
    in batches. A call that is cancelled while it waits gives its slot back, to whoever asks next. One that wakes up so
    late that it would start beside others takes another slot. A throttling answer slows the limiter down by `decrease`,
    and it recovers by `recovery` starts per second in each second without another.

    Args:
        rate: Starts per second.
        name: For messages and events.
        max_wait: Seconds that a call may wait for its slot; None waits as long as the deadline allows.
        decrease: Factor on the rate after a throttling answer, more than 0 and less than 1.
        recovery: Starts per second that come back each second; a tenth of `rate` if None.
        floor: Lowest rate; a hundredth of `rate` if None.
        classify: How errors are classified, to recognise throttling; of a guard, all policies read the same.
        store: Where processes share the limiter, by its name: all of them together keep to the rate.
        processes: How many share it, for when the store is away and each goes by its share; None learns it from the
            store.
        store_timeout: Seconds that the store may take for an answer.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
        RateLimitedError: From the guarded function: the next slot is too far away, or the process is shutting down.
        DeadlineExceededError: From the guarded function: the deadline had passed before.
    """

    __slots__ = (
        "__weakref__",
        "_by_hand",
        "_decrease",
        "_due",
        "_floor",
        "_freed",
        "_full",
        "_lock",
        "_next",
        "_rate",
        "_recovery",
        "_sharing",
        "_throttled",
        "_updated",
        "classify",
        "max_wait",
        "name",
    )

    answers: ClassVar[bool] = False
    quiet: ClassVar[bool] = True
    role: ClassVar[str] = "limiter"
    heeds: ClassVar[bool] = True  # its `around` takes the guard's classification

    def __init__(
        self,
        rate: float,
        *,
        name: str = "limiter",
        max_wait: float | None = None,
        decrease: float = 0.7,
        recovery: float | None = None,
        floor: float | None = None,
        classify: Classification | None = None,
        store: LimiterStore | None = None,
        processes: int | None = None,
        store_timeout: float = 0.2,
    ) -> None:
        checks = Checks("RateLimiter")
        good = checks.number("rate", rate, above=True, unit="per second")
        if max_wait is not None:
            checks.seconds("max_wait", max_wait, above=False)
        checks.number("decrease", decrease, 0.0, 0.999, above=True, cure="0.7 keeps 70 % of the rate.")
        if recovery is not None:
            checks.number("recovery", recovery, above=True, unit="per second each second")
        if floor is not None and good:
            checks.number("floor", floor, 0.0, rate, above=True, unit="per second")
        if store is not None:
            checks.that(isinstance(store, LimiterStore), "store", "a LimiterStore", store)
            checks.that(name != "limiter", "name", "given if the limiter is shared", name, "It is the store's key.")
        if processes is not None:
            checks.whole("processes", processes, 1)
            checks.that(store is not None, "processes", "left out without a store", processes)
        checks.seconds("store_timeout", store_timeout)
        if classify is not None:
            checks.function("classify", classify)
        checks.name("name", name)
        checks.done()
        self.name = name
        self.max_wait = max_wait
        self._full = float(rate)
        self._decrease = decrease
        self._recovery = rate / 10.0 if recovery is None else recovery
        self._floor = rate / 100.0 if floor is None else floor
        self.classify = classify
        self._lock = threading.RLock()  # it knows who holds it: see `_slot`
        self._begin()
        self._sharing: Sharing | None = None
        if store is not None:
            from resilient_faces.limits.sharing import Sharing  # few limiters have a store

            pace = Pace(self._full, self._decrease, self._recovery, self._floor)
            self._sharing = Sharing(store, name, pace, processes, store_timeout)
        on_fork(self)

    def _begin(self) -> None:
        """Nothing is reserved, and the rate is the full one."""
        self._rate = self._full
        self._next = -math.inf  # when the next free slot begins, behind all that were taken
        self._due = -math.inf  # when the next call may start, going by when calls have started; never after `_next`
        self._by_hand = -math.inf  # until when somebody may use slots that were reserved without a call
        self._freed: list[Slot] = []  # spans of slots that were given back, the nearest first, all before `_next`
        self._updated = -math.inf  # when the rate was brought up to date
        self._throttled = -math.inf

    def begin_anew(self) -> None:
        """For tests: as it was made, whatever threads of a test before are still at."""
        self.after_fork()
        self._begin()

    @property
    def rate(self) -> float:
        """Starts per second at this moment; of a shared limiter, when the store was heard last."""
        if self._sharing is not None:
            return self._sharing.rate
        with self._lock:
            self._recover(RUNTIME.monotonic())
            return self._rate

    def _recover(self, now: float) -> None:
        if self._rate < self._full:
            self._rate = min(self._full, self._rate + (now - self._updated) * self._recovery)
        self._updated = now

    @property
    def options(self) -> tuple[object, ...]:
        """What it was made with; equal for limiters that do the same."""
        shared = () if self._sharing is None else self._sharing.options
        paced = (self._full, self.max_wait, self._decrease, self._recovery, self._floor, self.classify)
        return (type(self), self.name, *paced, *shared)

    @property
    def resting(self) -> bool:
        """Whether nothing is lost if it goes: no slot is reserved, and it is at its full rate."""
        if self._sharing is not None:
            return self._sharing.resting
        with self._lock:
            now = RUNTIME.monotonic()
            self._recover(now)
            return now >= self._next and self._rate >= self._full

    @property
    def share(self) -> float | None:
        """Starts per second that this process goes by while the store is away; None if the limiter has no store."""
        return None if self._sharing is None else self._sharing.share

    def reserve_batch(self, count: int) -> Reservation:
        """Take the next `count` slots. Item i may start `delay + i * interval` seconds from now.

        A shared limiter asks its store in this thread; in a coroutine use `areserve_batch`.

        Raises:
            OptionError: The count is less than 1, or so many starts take more than a year.
        """
        self._check_count(count)
        if self._sharing is not None:
            return _reservation(self._drive(self._sharing.reserve(count, None)), count)
        begins, now, interval = self._reserve(count, None)
        return Reservation(begins - now, interval, count, begins, max(interval / 2.0, HURRY))

    async def areserve_batch(self, count: int) -> Reservation:
        """As `reserve_batch`, without blocking the event loop."""
        if self._sharing is None:
            return self.reserve_batch(count)
        self._check_count(count)
        return _reservation(await self._adrive(self._sharing.reserve(count, None)), count)

    def _check_count(self, count: int) -> None:
        checks = Checks("reserve_batch")
        if checks.whole("count", count, 1):
            most = max(1, int(FARTHEST * self._full))
            rule = f"{most} or less at {self._full:g} a second: no slot is given further ahead than a year"
            checks.that(count <= most, "count", rule, count)
        checks.done()

    def reserve(self, max_wait: float | None = None) -> float:
        """Take the next slot and tell how many seconds away it is.

        Raises:
            RateLimitedError: It is further away than `max_wait` seconds; nothing was taken.
        """
        if self._sharing is not None:
            return max(0.0, self._drive(self._sharing.reserve(1, max_wait)).delay)
        begins, now, _ = self._reserve(1, max_wait)
        return begins - now

    def _reserve(self, count: int, longest: float | None) -> tuple[float, float, float]:
        """When the first slot begins, when it was taken, seconds between slots; for a start that nobody here sees."""
        with self._lock:
            now = RUNTIME.monotonic()
            begins, end = self._take(count, longest, now)
            self._by_hand = max(self._by_hand, end)
            return begins, now, 1.0 / self._rate

    def slow_down(self) -> None:
        """The other side said that we are too fast. Several answers to one burst count once."""
        if self._sharing is not None:
            self._drive(self._sharing.slow_down())
            return
        with self._lock:
            now = RUNTIME.monotonic()
            self._recover(now)
            if now - self._throttled < 1.0 / self._rate * 2.0:
                return
            self._throttled = now
            self._rate = max(self._floor, self._rate * self._decrease)
            # What is reserved stays reserved; a pause of one new interval lets the other side breathe.
            self._next = max(self._next, now) + 1.0 / self._rate
        if RUNTIME.heard(logging.INFO, "limiter"):
            RUNTIME.tell(event("throttled", policy="limiter", status=f"{self._rate:.3g}/s", name=self.name))

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    # -- slots -----------------------------------------------------------------------------------------------------

    def _take(self, count: int, longest: float | None, now: float) -> Slot:
        """Take the next slots, and of one that was given back one; lock held.

        Raises:
            RateLimitedError: The first is more than `longest` seconds away; nothing was taken.
        """
        if self._rate < self._full:
            self._recover(now)
        if longest is None:
            longest = FARTHEST
        interval = 1.0 / self._rate
        if self._freed and count == 1:
            slot = self._take_freed(interval, longest, now)
            if slot is not None:
                return slot
        begins = max(self._next, now)
        if begins - now > longest:
            raise RateLimitedError(self.name, begins - now)
        self._next = begins + count * interval
        return begins, self._next

    def _take_freed(self, interval: float, longest: float, now: float) -> Slot | None:
        """The nearest slot that was given back, if there is one; lock held."""
        freed = self._freed
        while freed and freed[0][1] <= now:
            del freed[0]
        for at, (since, until) in enumerate(freed):
            begins = max(since, now)
            end = begins + interval
            if end > until:  # too short: it has passed in part, or the rate was higher when the slot was taken
                continue
            if begins - now > longest:
                raise RateLimitedError(self.name, begins - now)
            if end + 1.0 / self._full <= until:
                freed[at] = (end, until)
            else:
                del freed[at]
            return begins, end
        return None

    def _give_back(self, slot: Slot) -> None:
        """The call that waited for this slot has gone: the next one may have it."""
        with self._lock:
            freed = self._freed
            insort(freed, slot)
            at = freed.index(slot)
            if at + 1 < len(freed) and freed[at + 1][0] == slot[1]:
                slot = freed[at] = (slot[0], freed.pop(at + 1)[1])
            if at and freed[at - 1][1] == slot[0]:
                freed[at - 1 : at + 1] = [(freed[at - 1][0], slot[1])]
            if freed[-1][1] == self._next:
                self._next = max(freed.pop()[0], self._due)
            elif len(freed) > MOST_FREED:
                del freed[0]  # it passes first

    def _starts(self, slot: Slot) -> bool:
        """Whether the call that has waited for this slot starts now; if not, it would start beside others.

        Being late is no harm if nobody else has started meanwhile. So it goes by when calls have started, but for the
        slots reserved by hand, of which nobody tells here when they are used.
        """
        begins, end = slot
        interval = end - begins
        room = max(interval / 2.0, HURRY)
        with self._lock:
            now = RUNTIME.monotonic()
            late = now - begins > room
            if self._due - now > room or (late and now < self._by_hand):
                return False
            self._due = max(self._due, now if late else begins) + interval
            self._next = max(self._next, self._due)
            return True

    # -- around a call ---------------------------------------------------------------------------------------------

    def _slot(self, function: Callable[..., object]) -> Slot | None:
        """Take the next slot, within what the call may wait; None if it may start at once."""
        if self.max_wait is not None or DEADLINE.get() is not None:
            return self._slot_within(function, self.max_wait)
        lock = self._lock
        try:  # without `with`, which costs more than all the rest of this
            lock.acquire()
            now = RUNTIME.monotonic()
            if self._next <= now:  # as `_take(1, None, now)`, for the calls that need nothing else
                if self._rate < self._full:
                    self._recover(now)
                self._next = self._due = now + 1.0 / self._rate
                slot = None
            else:
                slot = self._take(1, None, now)
        except BaseException:  # interrupted before it was taken, or after: only the lock knows
            try:
                lock.release()
            except RuntimeError:
                pass
            raise
        lock.release()
        return slot

    def _slot_within(self, function: Callable[..., object], longest: float | None) -> Slot | None:
        end = DEADLINE.get()
        with self._lock:
            now = RUNTIME.monotonic()
            if end is not None:
                if end <= now:
                    raise exceeded(name_of(function), end)
                longest = end - now if longest is None else min(longest, end - now)
            slot = self._take(1, longest, now)
            if slot[0] > now or self._due > now:
                return slot
            self._due = slot[1]
            return None

    def _paced(self, slot: Slot, function: Callable[..., object]) -> Flow[None]:
        """Wait for the slot, or for another if it is too late for that one when the call wakes up.

        Raises:
            RateLimitedError: The process is shutting down, or the other slot is too far away.
        """
        until = None if self.max_wait is None else RUNTIME.monotonic() + self.max_wait
        for _ in range(ROUNDS):
            left = slot[0] - RUNTIME.monotonic()
            if left > 0.0:
                try:
                    yield left
                except GeneratorExit:  # cancelled, or interrupted
                    self._give_back(slot)
                    raise
                left = slot[0] - RUNTIME.monotonic()
                if left > 0.0 and RUNTIME.stopped:  # a shutdown ends waits; it lets nobody in before their time
                    self._give_back(slot)
                    raise RateLimitedError(self.name, left)
            if self._starts(slot):
                return
            another = self._slot_within(function, None if until is None else max(0.0, until - RUNTIME.monotonic()))
            if another is None:
                return
            slot = another

    def around(self, function: Target, asynchronous: bool, classify: Classification = classify) -> Target:
        """The function with a wait for its slot before it, and an ear for throttling after it."""
        if self._sharing is not None:
            shared = self._shared_async if asynchronous else self._shared_sync
            return shared(function, self._sharing, classify)
        return self._async(function, classify) if asynchronous else self._sync(function, classify)

    def _sync(self, function: Callable[..., object], classify: Classification) -> Target:
        @functools.wraps(function)
        def guarded(*args: object, **kwargs: object) -> object:
            slot = self._slot(function)
            if slot is not None:
                self._drive(self._paced(slot, function), function)
            try:
                return function(*args, **kwargs)
            except Exception as error:
                if classify(error).kind is _THROTTLED:
                    self.slow_down()
                raise

        return guarded

    def _async(self, function: Callable[..., Awaitable[object]], classify: Classification) -> Target:
        @functools.wraps(function)
        async def guarded(*args: object, **kwargs: object) -> object:
            slot = self._slot(function)
            if slot is not None:
                await self._adrive(self._paced(slot, function), function)
            try:
                return await function(*args, **kwargs)
            except Exception as error:
                if classify(error).kind is _THROTTLED:
                    self.slow_down()
                raise

        return guarded

    # -- shared ----------------------------------------------------------------------------------------------------

    def _longest(self, function: Callable[..., object]) -> float | None:
        """Seconds that a call may wait for its slot."""
        end = DEADLINE.get()
        if end is None:
            return self.max_wait
        left = end - RUNTIME.monotonic()
        if left <= 0.0:
            raise exceeded(name_of(function), end)
        return left if self.max_wait is None else min(left, self.max_wait)

    def _drive(self, flow: Flow[T], function: Target | None = None) -> T:
        return run_sync(flow, Call(function or self.reserve, (), {}, None, None, None), classify)

    async def _adrive(self, flow: Flow[T], function: Target | None = None) -> T:
        return await run_async(flow, Call(function or self.reserve, (), {}, None, None, None), classify)

    def _shared_sync(self, function: Callable[..., object], sharing: Sharing, classify: Classification) -> Target:
        @functools.wraps(function)
        def guarded(*args: object, **kwargs: object) -> object:
            self._drive(sharing.wait(self._longest(function)), function)
            try:
                return function(*args, **kwargs)
            except Exception as error:
                if classify(error).kind is _THROTTLED:
                    self._drive(sharing.slow_down())
                raise

        return guarded

    def _shared_async(
        self, function: Callable[..., Awaitable[object]], sharing: Sharing, classify: Classification
    ) -> Target:
        @functools.wraps(function)
        async def guarded(*args: object, **kwargs: object) -> object:
            await self._adrive(sharing.wait(self._longest(function)), function)
            try:
                return await function(*args, **kwargs)
            except Exception as error:
                if classify(error).kind is _THROTTLED:
                    await self._adrive(sharing.slow_down())
                raise

        return guarded

    # -- as a block ------------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Wait for a slot in this thread."""
        if self._sharing is not None:
            self._drive(self._sharing.wait(self._longest(self.enter)), self.enter)
            return
        slot = self._slot(self.enter)
        if slot is not None:
            self._drive(self._paced(slot, self.enter), self.enter)

    async def aenter(self) -> None:
        """Wait for a slot in this task."""
        if self._sharing is not None:
            await self._adrive(self._sharing.wait(self._longest(self.aenter)), self.aenter)
            return
        slot = self._slot(self.aenter)
        if slot is not None:
            await self._adrive(self._paced(slot, self.aenter), self.aenter)
        else:
            await RUNTIME.asleep(0.0)

    def leave(self, entry: object, error: BaseException | None, fault: Fault | None) -> None:
        """A throttling error slows the limiter down."""
        if fault is None or fault.kind is not _THROTTLED:
            return
        if self._sharing is None or not in_event_loop():
            self.slow_down()
            return
        try:  # the end of a block cannot be awaited, and the loop must not wait for a store: not for its answer, then
            workers.run(self.slow_down, 0.0)
        except workers.LimitPassed:
            pass

    def __repr__(self) -> str:
        return f"rate_limit({self._full:g}, name={self.name!r})"


def _reservation(slots: Slots, count: int) -> Reservation:
    return Reservation(max(0.0, slots.delay), slots.interval, count, slots.begins, slots.late)


RateLimiter.__init__ = checked_call(RateLimiter.__init__)  # type: ignore[method-assign]
