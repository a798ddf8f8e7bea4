"""When a shared limiter asks its store, and what it goes by while the store is away.

Every slot comes from the store, so all processes stand in one queue. When the store does not answer, each process goes
by its share of the rate instead. What the others still hold from the store is let pass first, and when the store is
back, the others get the time to notice: going away and coming back must not add up to more than the rate.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from resilient_faces._core.context import event
from resilient_faces._core.effects import Flow, Tell, Unanswered
from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces._core.stores import HURRIED, Contact, checked
from resilient_faces.errors import RateLimitedError
from resilient_faces.limits.store import Granted, LimiterStore, MemoryLimiterStore, Pace

__all__ = ["Sharing", "Slots", "share_of"]

T = TypeVar("T")

SURE: Final = 1.0  # seconds without an answer after which the store is taken to be away
PAUSE: Final = 0.1  # seconds until it is asked again, before that
AWAY: Final = 1.0  # seconds until it is asked again, after that
JOIN: Final = 1.0  # seconds after which a process says again that it is there
MEMBER: Final = 60.0  # seconds for which it counts after that
LATE: Final = 0.05  # seconds that a start under the share may be late without breaking the rate
HURRY: Final = 0.01  # seconds that a start may always be late, or no call could keep up with a high rate
ROUNDS: Final = 10  # slots that one call may let pass because it woke up too late for them


def share_of(rate: float, processes: int) -> float:
    """The rate of one of so many processes that know nothing of each other's slots.

    Wherever their seconds begin, all their starts in any one second are at most `rate + 1`, also if each start is up
    to `LATE` seconds late. With more processes than starts a second no share can promise that; theirs is the equal one.
    """
    if processes == 1:
        return rate
    starts = math.floor((rate + 1.0) / processes)
    return min(rate / processes, starts / (1.0 + LATE)) if starts else rate / processes


class Slots:
    """Reserved slots.

    Attributes:
        granted: What the store said.
        begins: Monotonic time at which the first slot begins.
        late: Seconds that a start may be late without meeting the starts of others.
    """

    __slots__ = ("begins", "granted", "late")

    def __init__(self, granted: Granted, since: float, late: float) -> None:
        self.granted = granted
        self.begins = since + granted.delay
        self.late = late

    @property
    def delay(self) -> float:
        """Seconds from now until the first slot; less than 0 once it has begun."""
        return self.begins - RUNTIME.monotonic()

    @property
    def interval(self) -> float:
        """Seconds between slots."""
        return self.granted.interval


class Sharing:
    """One limiter's slots, from the store or from this process's share.

    Args:
        store: The store.
        name: Name of the limiter, which is its key in the store.
        pace: How fast all processes together may go.
        processes: How many they are; None to learn it from the store.
        limit: Seconds that the store may take for an answer.
    """

    def __init__(self, store: LimiterStore, name: str, pace: Pace, processes: int | None, limit: float) -> None:
        self._store = store
        self._name = name
        self._pace = pace
        self._contact = Contact("limiter", store.inline, limit)
        self._learnt = processes is None
        self.processes = processes
        self.rate = pace.rate  # as last heard
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        """A child is a process of its own."""
        self._member = os.urandom(8).hex()
        self._own = MemoryLimiterStore()  # paces this process alone
        self._asked_again = self._joined = self._taken_until = self._others_until = -math.inf
        self._queue = 0.0  # seconds that the queue was long when it was seen last
        self._held = 0.0  # seconds ahead for which this process has reserved alone, at most
        self._away = self._asking = False
        self._lock = threading.Lock()
        self._failing_since = math.inf

    def begin_anew(self) -> None:
        """For tests."""
        self.after_fork()

    @property
    def share(self) -> float:
        """Starts per second of this process while the store is away."""
        # Who has never heard of the others, because the store was away from the start, goes as slowly as may be.
        return self._pace.floor if self.processes is None else share_of(self._pace.rate, self.processes)

    @property
    def options(self) -> tuple[object, ...]:
        """What it was made with."""
        return (id(self._store), None if self._learnt else self.processes, self._contact.limit)

    @property
    def resting(self) -> bool:
        """Whether nothing is lost if it goes; it counts as a process for as long as the store remembers it."""
        now = RUNTIME.monotonic()
        return not self._away and now >= max(self._taken_until, self._joined + MEMBER)

    # -- what a limiter asks ---------------------------------------------------------------------------------------

    def reserve(self, count: int, longest: float | None) -> Flow[Slots]:
        """The next slots.

        Raises:
            RateLimitedError: The first is more than `longest` seconds away; nothing was taken.
        """
        slots = yield from self._reserve(count, longest)
        if not slots.granted.taken:
            raise RateLimitedError(self._name, slots.granted.delay)
        self.rate = 1.0 / slots.interval
        return slots

    def wait(self, longest: float | None) -> Flow[None]:
        """Wait for a slot. A call that wakes up too late for its slot takes another, or it would meet the next ones."""
        for _ in range(ROUNDS):
            slots = yield from self.reserve(1, longest)
            if slots.delay > 0.0:
                yield slots.delay
                if RUNTIME.stopped and slots.delay > 0.0:  # a shutdown ends waits; it lets nobody in before their time
                    raise RateLimitedError(self._name, slots.delay)
            if -slots.delay <= slots.late:
                return

    def slow_down(self) -> Flow[None]:
        """The other side said that all processes together are too fast."""
        rate: float | Unanswered = HURRIED
        if not self._away:
            rate = yield from self._ask(_counted, self._store.slow_down, self._name, self._pace, proves=False)
        if isinstance(rate, Unanswered):
            rate = self._own.slow_down("", self._paced_alone())
        self.rate = rate
        yield Tell(event("throttled", policy="limiter", status=f"{rate:.3g}/s", name=self._name))

    # -- from the store, or alone ----------------------------------------------------------------------------------

    def _reserve(self, count: int, longest: float | None) -> Flow[Slots]:
        """The next slots, from the store or alone.

        One answer that does not come is no reason to go alone: the others would go on at the full rate. So the call
        waits until it is sure that the store is away, and until what the others hold from it has passed. By then they
        know as well; and a store that is back before that finds nobody gone.
        """
        began = RUNTIME.monotonic()
        while True:
            if RUNTIME.monotonic() >= self._asked_again and self._may_ask():
                slots = yield from self._ask_in_turn(count, longest)
                if slots is not None:
                    return slots
            now = RUNTIME.monotonic()
            if self._away and now >= self._others_until and not self._asking:
                return self._alone(count, longest)
            until = self._others_until if self._away else self._failing_since + SURE
            # Else another call is asking just now, or this one had too little time for an answer.
            left = until - now if now < until < math.inf else PAUSE
            # A process that shuts down does not wait: its sleeps end at once.
            if RUNTIME.stopped or (longest is not None and now + left - began > longest):
                raise RateLimitedError(self._name, left)
            yield min(PAUSE, left)

    def _may_ask(self) -> bool:
        """Whether this call asks. Once an answer did not come, one at a time does: what it hears holds for all."""
        if self._failing_since == math.inf:
            return True
        with self._lock:
            free = not self._asking
            self._asking = True
        return free

    def _ask_in_turn(self, count: int, longest: float | None) -> Flow[Slots | None]:
        try:
            if self._learnt and RUNTIME.monotonic() >= self._joined + JOIN:
                self._joined = RUNTIME.monotonic()
                members = yield from self._ask(
                    _counted, self._store.join, self._name, self._member, MEMBER, proves=False
                )
                if not isinstance(members, Unanswered):
                    self.processes = members
            slots = yield from self._from_store(count, longest)
            now = RUNTIME.monotonic()
            if slots is None and (self._away or now >= self._failing_since + SURE):
                self._leave(now)
            return slots
        finally:
            self._asking = False

    def _from_store(self, count: int, longest: float | None) -> Flow[Slots | None]:
        began = RUNTIME.monotonic()
        if self._away:
            # The others go by their shares until they ask again, and hold as much as this process does, or would with
            # these slots; a second more, since no second may have some of both.
            held = max(self._held, (count - 1) / self.share)
            self._taken_until = max(self._taken_until, began + AWAY + held + 1.0)
        # What was taken stays taken, even if the store has forgotten it.
        lead = max(0.0, self._taken_until - began)
        answer = yield from self._ask(_dated, self._store.reserve, self._name, count, self._pace, longest, lead)
        if isinstance(answer, Unanswered):
            if answer is not HURRIED:  # else it was the call that had no time
                self._failing_since = min(self._failing_since, began)
            return None
        granted, since = answer
        self._away = False
        self._failing_since = math.inf
        self._asked_again = -math.inf
        self._queue = granted.delay + (count * granted.interval if granted.taken else 0.0)
        if granted.taken:
            self._taken_until = max(self._taken_until, since + self._queue)
        return Slots(granted, since, max(granted.interval / 2.0, HURRY))

    def _leave(self, now: float) -> None:
        """The store is away."""
        if not self._away:
            self._away = True
            self._held = 0.0
            # The others hold slots for as long as the queue was when this process saw it last, and then need as long
            # to be sure.
            self._others_until = self._failing_since + self._queue + SURE
        self._asked_again = now + AWAY
        if now < self._others_until:  # and once more before it goes alone
            self._asked_again = min(self._asked_again, self._others_until)

    def _alone(self, count: int, longest: float | None) -> Slots:
        now = RUNTIME.monotonic()
        granted = self._own.reserve("", count, self._paced_alone(), longest, 0.0)
        if granted.taken:
            self._held = max(self._held, granted.delay + (count - 1) * granted.interval)
        return Slots(granted, now, LATE)

    def _paced_alone(self) -> Pace:
        share = self.share
        part = share / self._pace.rate
        return Pace(share, self._pace.decrease, self._pace.recovery * part, self._pace.floor * part)

    def _ask(self, operation: Callable[..., T], *args: object, proves: bool = True) -> Flow[T | Unanswered]:
        return self._contact.ask(operation, *args, name=self._name, status=self._status, proves=proves)

    def _status(self) -> str:
        return f"{self.share:.3g}/s"


def _dated(operation: Callable[..., Granted], *args: object) -> tuple[Granted, float]:
    """The answer and what its delay counts from: the thread that waits for it may get its turn later."""
    answer = operation(*args)
    granted = checked(isinstance(answer, Granted) and answer.sound, answer)
    return granted, RUNTIME.monotonic() if granted.since is None else granted.since


def _counted(operation: Callable[..., T], *args: object) -> T:
    """A number of processes, or a rate."""
    answer = operation(*args)
    return checked(isinstance(answer, (int, float)) and 0.0 < answer < math.inf, answer)
