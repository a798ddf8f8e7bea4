"""One circuit: the slot that the direct path reads, and the locked bookkeeping behind it.

The slot `calm` holds the permit that all calls of a closed circuit share; it is gate, permit and generation in one.
A transition puts another object there, so a late answer, which carries the old one, changes nothing.

The lock is a plain one around O(1) steps. User code, listeners, sleeps and stores run outside of it.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Hashable
from typing import ClassVar, Final

from resilient_faces._core.gates import left_probe, tell_news
from resilient_faces._core.outcome import Permit, Refused, Transition, Verdict
from resilient_faces._core.runtime import RUNTIME
from resilient_faces._light import dataclass, field
from resilient_faces.breaker.machine import State, Trial, Trigger, open_seconds, step, verdict_of
from resilient_faces.breaker.window import Statistic, TripRule
from resilient_faces.faults import Fault, Kind

__all__ = ["Circuit", "Opening", "Settings", "Snapshot"]


@dataclass(frozen=True, slots=True)
class Opening:
    """What a function that computes the open time is told.

    Attributes:
        fault: What opened the circuit; None if it was opened by hand.
        reopenings: Failed trials since the circuit was closed last.
        default: Seconds that the circuit would stay open otherwise.
    """

    fault: Fault | None
    reopenings: int
    default: float


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of a breaker that its circuits follow; see `Breaker`."""

    trips: tuple[TripRule, ...]
    recovery_timeout: float
    growth: float
    max_recovery_timeout: float
    open_for: Callable[[Opening], float] | None
    probes: int
    needed: int
    probe_lease: float
    initial: State
    timed: bool = field(init=False, repr=False, compare=False)  # a rule needs to know how long calls take
    slow_after: float = field(init=False, repr=False, compare=False)  # seconds from which on a call is slow
    deaf: bool = field(init=False, repr=False, compare=False)  # no rule takes notes of successes

    def __post_init__(self) -> None:
        slow_after = min([rule.slow_after for rule in self.trips], default=math.inf)
        object.__setattr__(self, "slow_after", slow_after)
        object.__setattr__(self, "timed", slow_after != math.inf)
        object.__setattr__(self, "deaf", all(getattr(rule, "deaf", False) for rule in self.trips))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How a circuit stands at one moment.

    Attributes:
        name: The circuit's name.
        key: Its key; empty if it has none.
        state: Where it stands.
        retry_after: Seconds until it admits a probe; None if it is not open, or open without an end.
        reopenings: Failed trials since it was closed last.
        probes: Probes under way.
        rejected: Calls refused so far.
        failures: Failures counted so far.
        opened: How often it opened so far.
        last_failure: Code of the fault that opened it last.
        figures: What its trip rules have counted.
    """

    name: str
    key: str
    state: State
    retry_after: float | None
    reopenings: int
    probes: int
    rejected: int
    failures: int
    opened: int
    last_failure: str | None
    figures: dict[str, float]


_OPENS: Final = frozenset({State.open, State.forced_open})


class Circuit:
    """A gate with three states, three more by hand, and a lease on each probe."""

    __slots__ = (
        "_failures",
        "_holders",
        "_lock",
        "_observed",
        "_only",
        "_opened",
        "_probes",
        "_refusing",
        "_rejections",
        "_reopenings",
        "_settings",
        "_statistics",
        "_trial",
        "_undetermined",
        "_until",
        "calm",
        "generation",
        "key",
        "last",
        "name",
        "news",
        "state",
    )

    _making: ClassVar = threading.Lock()  # around the making of another

    def __init__(self, name: str, settings: Settings, key: Hashable = "") -> None:
        self.name = name
        self.key = key if isinstance(key, str) else str(key)
        self._settings = settings
        self._lock: threading.Lock | None = None  # made when first needed: most circuits never count anything
        self._begin(begun=False)

    def _begin(self, begun: bool) -> None:
        """As it is at first; with a generation of its own if it has had one before."""
        settings = self._settings
        self.last: str | None = None
        self.news: list[Transition] = _NONE
        self._rejections = _NO_REJECTIONS
        self._failures = 0
        self._opened = 0
        self._reopenings = 0
        self._until = 0.0
        self._refusing = _LONG_AGO  # `_until` while open, which spares `refusal` a look at the state
        self._trial: Trial | None = None
        self._probes: list[Permit] = _NO_PROBES
        self._holders = _NOBODY  # who holds it open by hand, each until a monotonic time
        self._observed = False
        self._undetermined: Opening | None = None
        self.state = State.closed
        self.generation: Permit | None = None
        self.calm: Permit | None = None
        self._statistics: tuple[Statistic, ...] = ()
        self._only: Statistic | None = None
        self._close(begun)
        if settings.initial is not State.closed:
            trigger = {
                State.open: Trigger.tripped,
                State.forced_open: Trigger.force_open,
                State.disabled: Trigger.disable,
                State.metrics_only: Trigger.observe,
            }[settings.initial]
            self._until = math.inf
            if settings.initial is State.forced_open:
                self._holders = {None: math.inf}
            self._move(trigger, RUNTIME.monotonic(), None)
            self.news = _NONE

    def begin_anew(self) -> None:
        """For tests: as if nothing had happened, for those too who hold it; nobody is told, nobody is waited for."""
        self._lock = None
        self._begin(begun=True)

    def _new_lock(self) -> threading.Lock:
        with Circuit._making:
            if self._lock is None:
                self._lock = threading.Lock()
            return self._lock

    # -- what the direct path and the flow ask ---------------------------------------------------------------------

    def refusal(self) -> float:
        """Seconds until a probe may be asked for; 0 if one may be asked for now. Takes no lock."""
        left = self._refusing - RUNTIME.monotonic()
        if left > 0.0:
            next(self._rejections)
            return left
        return 0.0

    def acquire(self, now: float | None = None) -> Permit | Refused:
        """Leave to call: the shared permit of a closed circuit, a probe of a half-open one, or a refusal.

        Args:
            now: Monotonic time to judge by, if whoever asks has decided something by it; None reads the clock.
        """
        permit = self.generation
        if permit is not None:
            return permit
        with self._lock or self._new_lock():
            granted = self._admit(RUNTIME.monotonic() if now is None else now)
        if self._undetermined is not None:
            self._determine()
        return granted

    def _admit(self, now: float) -> Permit | Refused:
        """Leave to call while the circuit does not let everybody through. Lock held."""
        if self.generation is not None:  # it closed while we waited for the lock
            return self.generation
        if self.state is not State.half_open:
            if now < self._until:
                next(self._rejections)
                return Refused(self._until - now)
            self._move(Trigger.rested if self.state is _OPEN else Trigger.released, now, None)
        return self._probe(now)

    def _probe(self, now: float) -> Permit | Refused:
        """One more probe, if the trial has a place. Half-open, lock held."""
        for permit in [one for one in self._probes if one.expires is not None and one.expires <= now]:
            # It hangs: its place must not be lost for ever, and hanging is no sign of health.
            self._probes.remove(permit)
            self._decide(Verdict.failure, now, _HUNG)
            if self.state is not State.half_open:
                next(self._rejections)
                return Refused(max(0.0, self._until - now))
        trial = self._trial
        assert trial is not None
        if not trial.admits():
            next(self._rejections)
            ends = [one.expires - now for one in self._probes if one.expires is not None]
            return Refused(min([*ends, self._settings.recovery_timeout]))
        self._trial = trial.admitted()
        permit = Permit(None, self._settings.slow_after, now + self._settings.probe_lease)
        self._probes.append(permit)
        return permit

    def probing(self, permits: tuple[Permit, ...]) -> bool:
        """Whether one of these is a probe that is under way."""
        return any(permit in self._probes for permit in permits)

    def settle(self, permit: Permit, verdict: Verdict, fault: Fault | None = None, slow: bool = False) -> None:
        """Count what came of a permitted call. A permit of an older generation changes nothing."""
        with self._lock or self._new_lock():
            if permit is self.generation:
                if verdict is _SUCCESS:
                    self._succeeded(slow)
                elif verdict is _FAILURE:
                    self._failed(slow, fault)
            elif permit.expires is not None and permit in self._probes:
                self._probes.remove(permit)
                left_probe(permit)
                now = RUNTIME.monotonic()
                if verdict is _SUCCESS and (slow or permit.expires <= now):
                    verdict = _FAILURE  # too slow to count as health
                self._decide(verdict, now, fault)
        if self._undetermined is not None:
            self._determine()

    def _succeeded(self, slow: bool) -> None:
        """Lock held."""
        only = self._only
        if only is not None:
            tripped = only.success(RUNTIME.monotonic() if only.dated else 0.0, slow)
        else:
            now = RUNTIME.monotonic()
            tripped = False
            for statistic in self._statistics:
                tripped = statistic.success(now, slow) or tripped
        if tripped:
            self._enough(RUNTIME.monotonic(), None)
        elif self.state is _CLOSED:
            self.calm = self.generation

    def _failed(self, slow: bool, fault: Fault | None) -> None:
        """Lock held."""
        if self.state is _DISABLED:
            return
        self._failures += 1
        if not self._statistics:
            self._count()
        only = self._only
        if only is not None:
            tripped = only.failure(RUNTIME.monotonic() if only.dated else 0.0, slow)
            pending = only.pending
        else:
            now = RUNTIME.monotonic()
            tripped = pending = False
            for statistic in self._statistics:
                tripped = statistic.failure(now, slow) or tripped
                pending = statistic.pending or pending
        if tripped:
            self._enough(RUNTIME.monotonic(), fault)
        elif pending:
            self.calm = None

    def _enough(self, now: float, fault: Fault | None) -> None:
        """A rule says that it is time to open. Lock held."""
        if self.state is _CLOSED:
            self._move(Trigger.tripped, now, fault)
        elif self.state is State.metrics_only and not self._observed:
            self._observed = True
            self._announce(State.metrics_only.value, "would_open", None, fault)

    def trip(self, permit: Permit, fault: Fault | None) -> None:
        """Open at once because of one answer; a permit of an older generation changes nothing."""
        with self._lock or self._new_lock():
            now = RUNTIME.monotonic()
            if permit is self.generation:
                self._failures += self.state is not State.disabled
                self._enough(now, fault)
            elif permit in self._probes:
                left_probe(permit)
                self._failures += 1
                self._move(Trigger.failed, now, fault)
        if self._undetermined is not None:
            self._determine()

    def _decide(self, verdict: Verdict, now: float, fault: Fault | None) -> None:
        """A probe has its verdict. Half-open, lock held."""
        trial = self._trial
        assert trial is not None
        self._failures += verdict is Verdict.failure
        self._trial = trial.settled(verdict)
        trigger = verdict_of(self._trial)
        if trigger is not None:
            self._move(trigger, now, fault)

    # -- by hand ---------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Close, and forget all failures, probes and holds."""
        with self._lock or self._new_lock():
            self._holders = _NOBODY
            if self.state is State.closed:
                self._close()
            else:
                self._move(Trigger.reset, RUNTIME.monotonic(), None)
        tell_news(self)

    def force_open(self, seconds: float | None = None, *, by: object = None) -> None:
        """Refuse every call until `release`, or for so many seconds.

        Args:
            seconds: None holds it open without an end.
            by: Who holds it: it stays open until every holder has released it, or their time is over.
        """
        with self._lock or self._new_lock():
            now = RUNTIME.monotonic()
            until = math.inf if seconds is None else now + seconds
            self._holders = {**self._holders, by: max(until, self._holders.get(by, now))}
            self._until = max(self._holders.values())
            if self.state is State.forced_open:
                self._refusing = self._until
            else:
                self._move(Trigger.force_open, now, None)
        tell_news(self)

    def release(self, *, by: object = None) -> None:
        """End `force_open`, `disable` or `metrics_only`. A circuit that was forced open probes first."""
        with self._lock or self._new_lock():
            now = RUNTIME.monotonic()
            self._holders = {one: until for one, until in self._holders.items() if one != by and until > now}
            if self.state is State.forced_open and self._holders:
                self._until = self._refusing = max(self._holders.values())
                return
            self._move(Trigger.released, now, None)
        tell_news(self)

    def disable(self) -> None:
        """Let everything pass and count nothing, until `release`."""
        with self._lock or self._new_lock():
            self._move(Trigger.disable, RUNTIME.monotonic(), None)
        tell_news(self)

    def metrics_only(self) -> None:
        """Let everything pass, count it, and only tell when the circuit would have opened; until `release`."""
        with self._lock or self._new_lock():
            self._move(Trigger.observe, RUNTIME.monotonic(), None)
        tell_news(self)

    def snapshot(self) -> Snapshot:
        """How the circuit stands now."""
        with self._lock or self._new_lock():
            now = RUNTIME.monotonic()
            left = self._until - now if self.state in _OPENS else None
            figures: dict[str, float] = {}
            if not self._statistics and self.state is not _DISABLED:
                self._count()
            for statistic in self._statistics:
                figures.update(statistic.figures(now))
            return Snapshot(
                name=self.name,
                key=self.key,
                state=self.state,
                retry_after=None if left is None or math.isinf(left) else max(0.0, left),
                reopenings=self._reopenings,
                probes=len(self._probes),
                rejected=int(repr(self._rejections)[6:-1]),  # `count(7)`: the number without taking one
                failures=self._failures,
                opened=self._opened,
                last_failure=self.last,
                figures=figures,
            )

    # -- shared stores ---------------------------------------------------------------------------------------------

    def adopt_open(self, seconds: float, last: str | None, reopenings: int) -> None:
        """Be open for so many seconds because another process is, or tries whether it may close."""
        with self._lock or self._new_lock():
            now = RUNTIME.monotonic()
            if self.state in (State.closed, State.open, State.half_open):
                self.last = last
                self._reopenings = reopenings
                self._until = now + seconds
            if self.state is State.open:
                self._refusing = self._until
            elif self.state in (State.closed, State.half_open):
                trigger = Trigger.tripped if self.state is State.closed else Trigger.failed
                self._move(trigger, now, None, until=self._until)

    def adopt_closed(self) -> None:
        """Close because another process found the dependency healthy."""
        with self._lock or self._new_lock():
            if self.state in (State.open, State.half_open):
                self._move(Trigger.reset, RUNTIME.monotonic(), None)

    def enough(self, permit: Permit, fault: Fault | None) -> None:
        """Open because all processes together have seen enough failures; an older generation's permit is too late."""
        with self._lock or self._new_lock():
            if permit is self.generation:
                self._enough(RUNTIME.monotonic(), fault)
        if self._undetermined is not None:
            self._determine()

    @property
    def reopenings(self) -> int:
        """Failed trials since the circuit was closed last."""
        return self._reopenings

    @property
    def probe_lease(self) -> float:
        """Seconds that a probe may take."""
        return self._settings.probe_lease

    def rested(self, now: float) -> bool:
        """Whether the time that the circuit stays open is over at this monotonic time."""
        return now >= self._until

    @property
    def seconds_left(self) -> float:
        """Seconds that the circuit stays open; 0 if it is not."""
        return max(0.0, self._until - RUNTIME.monotonic()) if self.state in _OPENS else 0.0

    # -- transitions, lock held ------------------------------------------------------------------------------------

    def _move(self, trigger: Trigger, now: float, fault: Fault | None, until: float | None = None) -> None:
        was = self.state
        state = step(was, trigger)
        if state is was:
            return
        delay: float | None = None
        self.generation = self.calm = None
        if self._rejections is _NO_REJECTIONS:
            self._rejections = itertools.count()
        self._probes = _NO_PROBES
        self._trial = None
        if was is State.forced_open:
            self._holders = _NOBODY
        if state is State.open:
            if fault is not None:
                self.last = fault.code
            if until is None:
                self._reopenings = self._reopenings + 1 if trigger is Trigger.failed else 0
                until = now + self._open_time()
                if self._settings.open_for is not None:
                    self._undetermined = Opening(fault, self._reopenings, until - now)
            self._until = until
            self._opened += 1
            delay = until - now
        elif state is State.forced_open:
            self._opened += 1
            delay = None if math.isinf(self._until) else self._until - now
            self.last = None
        elif state is State.half_open:
            self._probes = []
            self._trial = Trial(self._settings.probes, self._settings.needed)
        self.state = state
        self._refusing = self._until if state in _OPENS else -math.inf
        if state is State.closed:
            self._close()
        elif state in (State.disabled, State.metrics_only):
            self._pass(state)
        self._announce(was.value, state.value, delay, fault)

    def _close(self, begun: bool = True) -> None:
        """A new generation with fresh statistics. Late notes go to the old ones, which nobody reads."""
        self._reopenings = 0
        self.state = State.closed
        if self._settings.deaf:
            self._statistics, self._only = (), None  # made at the first failure: successes are nothing to them
            # What tells generations apart is that the next one is another, so circuits may share their first.
            self.calm = self.generation = Permit() if begun else _FIRST
            return
        self._count()
        self.calm = self.generation = Permit(_note_of(self._statistics), self._settings.slow_after)

    def _count(self) -> None:
        """Fresh statistics. Most circuits have one, which is asked without a loop, and without a clock if it may be."""
        self._statistics = tuple([rule.statistic() for rule in self._settings.trips])
        self._only = self._statistics[0] if len(self._statistics) == 1 else None

    def _pass(self, state: State) -> None:
        """A generation that lets everything through."""
        self._observed = False
        if state is State.disabled:
            self._statistics, self._only = (), None
            self.calm = self.generation = Permit()
        else:
            self._count()
            self.generation = Permit(None, self._settings.slow_after)

    def _open_time(self) -> float:
        settings = self._settings
        return open_seconds(settings.recovery_timeout, settings.growth, settings.max_recovery_timeout, self._reopenings)

    def _determine(self) -> None:
        """Let the user's function change the open time of the opening that just happened; no lock while it runs."""
        with self._lock or self._new_lock():
            opening, self._undetermined = self._undetermined, None
            opened = self._opened
        compute = self._settings.open_for
        if opening is None or compute is None:
            return  # another thread does it
        default = opening.default
        try:
            seconds = max(0.0, float(compute(opening)))
        except Exception:  # the circuit stays open whatever the user's function does
            return
        with self._lock or self._new_lock():
            if self._opened == opened and self.state is State.open:
                self._until = self._refusing = self._until + seconds - default
                if self.news:
                    self.news[-1].delay = seconds

    def _announce(self, was: str, now: str, delay: float | None, fault: Fault | None) -> None:
        self.news = [*self.news, Transition(self.name, self.key, was, now, delay, fault)]

    def take_news(self) -> list[Transition]:
        """The changes that nobody has told yet; whoever takes them tells them."""
        with self._lock or self._new_lock():
            news = self.news
            self.news = _NONE
            return news

    def after_fork(self) -> None:
        """In a forked child: a fresh lock, and the probes stay the parent's."""
        Circuit._making = threading.Lock()
        self._lock = None
        if self.state is State.half_open:
            self._probes = []
            self._trial = Trial(self._settings.probes, self._settings.needed)

    @property
    def forgettable(self) -> bool:
        """Whether nothing is lost if the circuit goes: closed, and no failure counts towards opening it."""
        if self.state is not _CLOSED or self.calm is None:
            return False
        return not self._statistics or not any(one.bad(RUNTIME.monotonic()) for one in self._statistics)

    def __repr__(self) -> str:
        return f"<circuit {self.name!r}{f' of {self.key!r}' if self.key else ''}: {self.state.value}>"


def _note_of(statistics: tuple[Statistic, ...]) -> Callable[[bool], object] | None:
    """What a success on the direct path must note: the C-level function of the one that listens, if it is one."""
    notes = [statistic.note for statistic in statistics if statistic.note is not None]
    if len(notes) <= 1:
        return notes[0] if notes else None

    def note(good: bool) -> None:
        for one in notes:
            one(good)

    return note


_SUCCESS: Final = Verdict.success
_FAILURE: Final = Verdict.failure
_CLOSED: Final = State.closed
_DISABLED: Final = State.disabled
_OPEN: Final = State.open
_NONE: Final[list[Transition]] = []  # shared and never written to: `_announce` makes a new list
_LONG_AGO: Final = -math.inf
_NOBODY: Final[dict[object, float]] = {}  # shared and never written to
_FIRST: Final = Permit()
_NO_REJECTIONS: Final = itertools.count()  # likewise: a circuit that was never open has refused nobody
_NO_PROBES: Final[list[Permit]] = []  # likewise: only a half-open circuit has a list of its own
_HUNG: Final = Fault(Kind.timeout, "probe.lease")
