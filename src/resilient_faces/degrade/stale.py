"""`LastGood`: the last good answer, for as long as it is young enough."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import ClassVar, NoReturn

from resilient_faces._core.effects import Flow, Inner
from resilient_faces._core.options import Checks, checked_names
from resilient_faces._core.outcome import Call, Degraded, Outcome, Returned, target_of
from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces._light import dataclass, field
from resilient_faces.composing import Decorator
from resilient_faces.degrade.fallback import degraded, unanswered
from resilient_faces.faults import Classification, Fault, Kind, Match

__all__ = ["LastGood"]


@checked_names
@dataclass(frozen=True, slots=True)
class LastGood(Decorator[NoReturn]):
    """The last good answer to the same call when there is no new one, for as long as it is young enough.

    Answers are kept in memory, by the call's arguments unless `key` says otherwise; the stale answer is marked as
    degraded, with the source `last_good`. Every success must be remembered, so calls run as a flow.

    Args:
        max_age: Seconds that an answer stays good enough.
        key: Chooses the memory's place by the call's arguments; they must be hashable if it is None.
        max_entries: Answers kept at most; the least recently used go first.
        on: Which errors to answer for: classes, kinds or predicates. None leaves it to the classification.
        classify: How errors are classified.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
    """

    max_age: float
    key: Callable[..., Hashable] | None = field(default=None, kw_only=True)
    max_entries: int = field(default=128, kw_only=True)
    on: Match | None = field(default=None, kw_only=True)
    classify: Classification | None = field(default=None, kw_only=True)

    _memory: _Memory = field(init=False, repr=False, compare=False)
    _on: Callable[[BaseException, Fault], bool] | None = field(init=False, repr=False, compare=False)

    answers: ClassVar[bool] = True
    quiet: ClassVar[bool] = False  # it remembers every success
    role: ClassVar[str] = "stale"

    def __post_init__(self) -> None:
        checks = Checks("LastGood")
        checks.seconds("max_age", self.max_age, infinite=True)
        checks.whole("max_entries", self.max_entries, 1)
        if self.key is not None:
            checks.function("key", self.key)
        matches = checks.match("on", self.on)
        checks.done()
        object.__setattr__(self, "_memory", _Memory(self.max_entries))
        object.__setattr__(self, "_on", matches)

    def _key(self, call: Call) -> Hashable:
        target = target_of(call.function)
        if self.key is not None:
            return (target, self.key(*call.args, **call.kwargs))
        key = (target, call.args, tuple(sorted(call.kwargs.items())))
        try:
            hash(key)
        except TypeError:
            raise TypeError(
                f"LastGood.key must be given for {call.operation}, because its arguments are not hashable. "
                "For example key=lambda image: image.id."
            ) from None
        return key

    def forget(self) -> None:
        """Drop all remembered answers."""
        self._memory.clear()

    def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
        key = self._key(call)
        outcome = yield from inner(call)
        if isinstance(outcome, Returned):
            if not isinstance(outcome, Degraded):
                self._memory.put(key, outcome.value)
            return outcome
        fault = outcome.fault
        concerned = fault.rule.fallback if self._on is None else self._on(outcome.error, fault)
        found = None if not concerned or fault.kind is Kind.cancelled else self._memory.get(key, self.max_age)
        if found is None:
            unanswered(outcome)
            return outcome
        return (yield from degraded(call, found[0], "last_good", "stale", fault))


class _Memory:
    """Answers with the time they were given, least recently used first."""

    __slots__ = ("__weakref__", "_entries", "_limit", "_lock")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, tuple[object, float]] = OrderedDict()
        on_fork(self)

    # What is dropped goes when the lock is free: it may be the last to hold a value, whose end runs code of the user's.

    def put(self, key: Hashable, value: object) -> None:
        gone: object = None
        with self._lock:
            before = self._entries.pop(key, None)
            self._entries[key] = (value, RUNTIME.monotonic())
            if len(self._entries) > self._limit:
                gone = self._entries.popitem(last=False)
        del before, gone

    def get(self, key: Hashable, max_age: float) -> tuple[object, float] | None:
        """The answer and its age in seconds, if there is one young enough."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            age = RUNTIME.monotonic() - found[1]
            if age > max_age:
                del self._entries[key]  # `found` has it until the lock is free
                return None
            self._entries.move_to_end(key)
            return found[0], age

    def clear(self) -> None:
        with self._lock:
            before, self._entries = self._entries, OrderedDict()
        before.clear()

    def begin_anew(self) -> None:
        self.after_fork()
        self.clear()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
