"""When a shared circuit asks its store, and what it makes of the answers.

A circuit decides by itself first. The store is asked before a call at most every `refresh` seconds, and when a probe is
due: whoever wins the conditional write has the trial for all. It is told of transitions, and of each failure of a
closed circuit: the answer says how many all processes have counted, and whether somebody opened the circuit meanwhile,
so a process learns that at its own next failure at the latest.

A store that fails, or is later than it may be, is left alone: the circuit goes on by itself, and one event says so. No
call waits for it then. Now and again a thread of its own looks whether it answers in time; if so, it is asked again.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable
from typing import Final, TypeVar

from resilient_faces._core.effects import Flow, Tell, Unanswered
from resilient_faces._core.gates import transition_event
from resilient_faces._core.outcome import Permit, Refused, Verdict
from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces._core.stores import MOST_LATE, Contact, checked
from resilient_faces.breaker.circuit import Circuit
from resilient_faces.breaker.machine import State
from resilient_faces.breaker.registry import Family
from resilient_faces.breaker.store import MOST_SECONDS, BreakerStore, Shared
from resilient_faces.breaker.window import TripRule, consecutive, failures_within
from resilient_faces.faults import Fault

__all__ = ["Sharing", "of_family"]

T = TypeVar("T")

PAUSE: Final = 1.0  # seconds after which a store that failed is looked at again; longer while looks do not come back
ROW: Final = 60.0  # seconds within which failures of several processes are a row
TRIES: Final = 3  # of a write by hand against others who write


class _View:
    """What this process knows of one circuit's record.

    Attributes:
        key: The record's key.
        version: Its version when it was seen last; 0 if there was none.
        state: Its state then.
        learnt: Monotonic time at which that was learnt.
        due: Monotonic time from which on it is to be looked at again.
        ours_until: Monotonic time until which this process has the trial.
        counted: Failures of this process may be among those that the store has counted.
        busy: A call of this process is looking.
    """

    __slots__ = ("busy", "counted", "due", "key", "learnt", "ours_until", "state", "version")

    def __init__(self, key: str) -> None:
        self.key = key
        self.version = 0
        self.state = _CLOSED
        self.due = self.ours_until = self.learnt = -math.inf
        self.counted = self.busy = False

    def outdated_by(self, found: Shared | None, asked: float) -> bool:
        """Whether the answer to an ask that began at this time says something newer.

        Versions rise, so an answer that was overtaken on its way has a lower one. A record that was lost and made anew
        may have a lower one too, by the clock of who made it: it is newer if it was asked for when more was known.
        """
        version = 0 if found is None else found.version
        return version > self.version or (version != self.version and asked >= self.learnt)

    def learn(self, found: Shared | None) -> None:
        """The record is this now; None if there is none."""
        self.version = 0 if found is None else found.version
        self.state = _CLOSED if found is None else found.state
        self.learnt = RUNTIME.monotonic()
        self.ours_until = -math.inf
        self.counted = False


class Sharing:
    """Keeps the circuits of one breaker in step with a store.

    Args:
        store: The store.
        refresh: Seconds after which a record is looked at again.
        limit: Seconds that the store may take for an answer.
        trips: The breaker's rules, of which one may be counted together.
        most: Records kept in mind at most.
    """

    __slots__ = (
        "__weakref__",
        "_again",
        "_by",
        "_contact",
        "_lock",
        "_most",
        "_refresh",
        "_store",
        "_tally",
        "_views",
    )

    def __init__(
        self, store: BreakerStore, refresh: float, limit: float, trips: tuple[TripRule, ...], most: int
    ) -> None:
        self._store = store
        self._refresh = refresh
        self._contact = Contact("breaker", store.inline, limit)
        self._tally = _tally_of(trips)
        self._most = most
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        """A child is a process of its own: the parent's trials are not the child's."""
        self._lock = threading.Lock()
        self._by = os.urandom(8).hex()
        self._views: dict[str, _View] = {}  # by the circuits' keys: all have one name
        self._again = -math.inf  # monotonic time from which on a store that failed may be tried again

    def begin_anew(self) -> None:
        """For tests."""
        self.after_fork()

    # -- around a call ---------------------------------------------------------------------------------------------

    def before(self, circuit: Circuit) -> Flow[Refused | float]:
        """Learn what other processes found; claim the trial if it is time for one.

        Returns:
            A refusal if another process has the trial, else the monotonic time at which the circuit is to judge the
            call. By a later one its open time might be over, and the call would be a probe that nobody claimed.
        """
        view = self._view(circuit)
        now = RUNTIME.monotonic()
        trial = _wants_trial(circuit, view, now)
        if self._in_trouble:
            if self._leave_alone(view.key, now):
                return now
        elif not trial and now < view.due and not _unpublished(circuit, view):
            return now
        with self._lock:
            busy, view.busy = view.busy, True
        if busy:  # one look serves all; who wants to probe comes again when it is known who may
            return Refused(min(self._contact.limit, 1.0)) if trial else now
        try:
            return (yield from self._look(circuit, view))
        finally:
            view.busy = False

    def _look(self, circuit: Circuit, view: _View) -> Flow[Refused | float]:
        asked = RUNTIME.monotonic()
        view.due = asked + self._refresh
        found = yield from self._ask(circuit, self._store.load, view.key)
        if isinstance(found, Unanswered):
            return RUNTIME.monotonic()
        wait = self._heed(circuit, view, found, asked)
        yield from _tell(circuit)
        if wait is not None:
            return wait
        now = RUNTIME.monotonic()
        if _wants_trial(circuit, view, now):
            return (yield from self._claim(circuit, view, now))
        yield from self._publish(circuit, view)
        return now

    def _heed(self, circuit: Circuit, view: _View, found: Shared | None, asked: float) -> Refused | None:
        """Follow the record where it says something new. A refusal while another process has the trial."""
        news = view.outdated_by(found, asked)
        if news:
            view.learn(found)
        if found is None:  # it has expired, or the store has lost it, or there never was one
            return None
        theirs = found.version == view.version and found.state == _HALF_OPEN and found.by != self._by
        if found.state == _CLOSED:
            if news:
                circuit.adopt_closed()
        elif theirs and (news or circuit.state in (State.open, State.half_open)):
            # Open here until the next look: its end may be learnt long before its lease is over.
            left = min(max(0.0, found.seconds), self._refresh)
            circuit.adopt_open(left, found.last, found.reopenings)
            return Refused(max(left, _BLINK)) if found.seconds > 0.0 else None
        elif found.state == _OPEN and found.version == view.version and (news or circuit.state is State.open):
            circuit.adopt_open(max(0.0, found.seconds), found.last, found.reopenings)
        elif news and found.by == self._by:  # the answer to our claim was lost
            view.ours_until = RUNTIME.monotonic() + found.seconds
        return None

    def _claim(self, circuit: Circuit, view: _View, now: float) -> Flow[Refused | float]:
        """Ask for the trial. Refused if another process was first."""
        won = yield from self._write(circuit, view, _HALF_OPEN, circuit.probe_lease)
        if won:
            view.ours_until = now + circuit.probe_lease
        return Refused(max(self._refresh, _BLINK)) if won is False else now

    def after(self, circuit: Circuit, permit: Permit, verdict: Verdict, fault: Fault | None) -> Flow[None]:
        """Tell the other processes what came of a call, if it is news."""
        view = self._view(circuit)
        if self._tally is not None and not self._in_trouble:
            limit, within, row = self._tally
            if verdict is Verdict.failure and circuit.generation is permit and circuit.state is State.closed:
                view.counted = True  # perhaps, if the answer is lost
                asked = RUNTIME.monotonic()
                found = yield from self._ask(circuit, self._store.count, view.key, view.version, within)
                if not isinstance(found, Unanswered):
                    if found is None or found.version != view.version:
                        self._heed(circuit, view, found, asked)
                    elif found.failures >= limit:
                        circuit.enough(permit, fault)
            elif row and view.counted and verdict is Verdict.success:
                cleared = yield from self._ask(circuit, self._store.clear, view.key, view.version)
                view.counted = isinstance(cleared, Unanswered)
        yield from self._publish(circuit, view)
        yield from _tell(circuit)

    # -- by hand ---------------------------------------------------------------------------------------------------

    def reset(self, circuit: Circuit) -> Flow[None]:
        """Close the record, whoever wrote it; the other processes follow within their `refresh`."""
        view = self._view(circuit)
        for _ in range(TRIES):
            found = yield from self._ask(circuit, self._store.load, view.key)
            if isinstance(found, Unanswered):
                return
            view.learn(found)
            if found is None or found.state == _CLOSED:
                yield from self._ask(circuit, self._store.clear, view.key, view.version)
                return
            if (yield from self._write(circuit, view, _CLOSED, 0.0)) is not False:
                return

    # -- asking and writing ----------------------------------------------------------------------------------------

    def _view(self, circuit: Circuit) -> _View:
        key = circuit.key
        view = self._views.get(key)
        if view is None:
            with self._lock:
                view = self._views.get(key)
                if view is None:
                    if len(self._views) >= self._most:  # the oldest: it is looked at afresh if it is needed again
                        del self._views[next(iter(self._views))]
                    view = self._views[key] = _View(_stored_as(circuit.name, key))
        return view

    def _publish(self, circuit: Circuit, view: _View) -> Flow[None]:
        """Write how the circuit stands if the record says otherwise: a transition, or a change by hand."""
        if _unpublished(circuit, view) and not self._in_trouble:
            written = circuit.state
            won = yield from self._write(circuit, view, written.value, circuit.seconds_left)
            if won is False:
                view.due = -math.inf  # somebody else was first: look again before the next call

    def _write(self, circuit: Circuit, view: _View, state: str, seconds: float) -> Flow[bool | None]:
        expected = view.version
        # Higher than any that was written before, also if the record has expired meanwhile.
        version = max(expected + 1, int(RUNTIME.wall() * 1000.0))
        shared = Shared(version, state, min(seconds, MOST_SECONDS), circuit.reopenings, circuit.last, self._by)
        saved = yield from self._ask(circuit, self._store.save, view.key, shared, expected)
        if isinstance(saved, Unanswered):
            return None
        if saved and view.version <= version:
            view.learn(shared)
        return saved

    def _ask(self, circuit: Circuit, operation: Callable[..., T], *args: object) -> Flow[T | Unanswered]:
        answer = yield from self._contact.ask(_read, operation, *args, name=circuit.name, status=_local)
        if isinstance(answer, Unanswered):
            self._again = self._next_look()
        return answer

    @property
    def _in_trouble(self) -> bool:
        """The store did not answer, or not yet."""
        return self._contact.lost or self._contact.doubted

    def _leave_alone(self, key: str, now: float) -> bool:
        """Whether a store in trouble is left alone. One call in a while has it looked at, and does not wait for it."""
        with self._lock:
            if now < self._again:
                return True
            answered, self._again = self._again == -math.inf, self._next_look()
        if answered or self._store.inline:  # what answers from memory cannot hang
            return False
        if self._contact.late < MOST_LATE:
            self._contact.look(self._store.load, key, answered=self._answered)
        return True

    def _next_look(self) -> float:
        """Seldomer for each thread that has not come back: those must not pile up."""
        return RUNTIME.monotonic() + PAUSE * 2.0**self._contact.late

    def _answered(self) -> None:
        self._again = -math.inf


of_family: Final[weakref.WeakKeyDictionary[Family, Sharing]] = weakref.WeakKeyDictionary()
"""One for each name: breakers of the same name share its circuits, and what is known of their records."""


def _read(operation: Callable[..., T], *args: object) -> T:
    """What the store answers, as far as it can be read: a record, none, or whether one was saved."""
    answer = operation(*args)
    record = answer is None or (isinstance(answer, Shared) and answer.sound)
    return checked(record or isinstance(answer, bool), answer)


def _stored_as(name: str, key: str) -> str:
    """Key of a circuit's record. The first slash ends the name, so no two circuits have the same."""
    return f"{name.replace('%', '%25').replace('/', '%2F')}/{key}"


def _local() -> str:
    return "local"


def _wants_trial(circuit: Circuit, view: _View, now: float) -> bool:
    """Whether the circuit would probe now and this process has not got the trial."""
    state = circuit.state
    if state is State.open:
        return circuit.rested(now) and now >= view.ours_until
    return state is State.half_open and now >= view.ours_until


def _unpublished(circuit: Circuit, view: _View) -> bool:
    """Whether the circuit changed and the record says otherwise; to be open during another's trial is no change."""
    state = circuit.state
    if state is State.closed:
        return view.state != _CLOSED
    if state is not State.open or circuit.seconds_left == 0.0:
        return False
    return view.state == _CLOSED or (view.state == _HALF_OPEN and view.ours_until > -math.inf)


def _tally_of(trips: tuple[TripRule, ...]) -> tuple[int, float, bool] | None:
    """What processes count together: failures at most, within how many seconds, and whether a success ends the row.

    Rates are not counted together: every success would have to be written.
    """
    for rule in trips:
        if isinstance(rule, consecutive):
            return rule.failures, ROW, True
    for rule in trips:
        if isinstance(rule, failures_within):
            return rule.failures, rule.seconds, False
    return None


def _tell(circuit: Circuit) -> Flow[None]:
    if circuit.news:
        for transition in circuit.take_news():
            yield Tell(transition_event(transition))


_CLOSED: Final = State.closed.value
_OPEN: Final = State.open.value
_HALF_OPEN: Final = State.half_open.value
_BLINK: Final = 0.01  # seconds after which to come again at the earliest
