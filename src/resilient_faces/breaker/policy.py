"""`Breaker`: stop calling a dependency that keeps failing, and probe it after a pause."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from types import FunctionType
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn, TypeAlias

from resilient_faces._core.drivers import run_sync
from resilient_faces._core.effects import Flow, Inner, Tell
from resilient_faces._core.gates import INFO, LOG, OPEN, admission, rejection, tell_news, transition_event
from resilient_faces._core.layers import Traits, found_traits
from resilient_faces._core.options import Checks, checked_call, checked_names
from resilient_faces._core.outcome import (
    Call,
    Degraded,
    Gate,
    Outcome,
    Permit,
    Raised,
    Refused,
    Returned,
    Verdict,
    name_of,
)
from resilient_faces._core.runtime import RUNTIME
from resilient_faces._light import dataclass, field
from resilient_faces.breaker.circuit import Circuit, Opening, Settings
from resilient_faces.breaker.machine import State
from resilient_faces.breaker.registry import Family, Terms, circuits
from resilient_faces.breaker.store import BreakerStore
from resilient_faces.breaker.window import TripRule, consecutive
from resilient_faces.composing import Decorator
from resilient_faces.errors import CircuitOpenError, DecorationError
from resilient_faces.faults import Classification, Executed, Fault, Kind, Match, classify, matcher

if TYPE_CHECKING:
    from typing import TypeGuard

    from resilient_faces._light import Record
    from resilient_faces.breaker.sharing import Sharing

__all__ = ["Breaker", "circuit_breaker"]

KeyOf: TypeAlias = Callable[..., Hashable]
_STATES: Final = {name: State(name) for name in ("closed", "open", "forced_open", "disabled", "metrics_only")}


@checked_names
@dataclass(frozen=True, slots=True)
class Breaker(Decorator[NoReturn]):
    """Stop calling a dependency that keeps failing, and probe it after a pause.

    Closed, it counts; open, it refuses at once with `CircuitOpenError`; half-open, it lets a few probes through and
    decides as soon as the verdict is certain. Cancelled calls and answers of the business (not found, condition failed,
    throttled, ...) are neutral. The same name is the same circuit everywhere in the process.

    Args:
        name: Name of the circuit. None: a circuit of this breaker's own, shared by all functions under it (or under a
            guard that holds it), and for a method one an instance.
        trips: When a closed circuit opens: `consecutive(5)`, `failures_within(...)`, `failure_rate(...)`,
            `slow_rate(...)`, or several of them.
        recovery_timeout: Seconds open at first.
        growth: Factor on the open time for each failed trial; 1 keeps it fixed.
        max_recovery_timeout: Longest open time, in seconds.
        open_for: Computes the open time instead, from an `Opening`.
        probes: Calls that a half-open circuit lets through at once, and in one trial.
        successes: Probes that must succeed to close it; all of them if None.
        probe_lease: Seconds after which a probe that has not answered counts as failed.
        failures: Which errors count as failures: classes, kinds or predicates; others are neutral. None leaves it to
            the classification.
        ignore: Errors that are neutral whatever else is said.
        trip_on: Errors that open the circuit at once.
        on_result: Says that a returned value is a failure: True, or a `Fault`.
        key: Chooses among circuits of this name by the call's arguments: a host, a camera, a table.
        max_keys: Keys remembered at most.
        initial: State to begin in: closed, open, forced_open, disabled or metrics_only.
        store: Where processes share the circuit.
        refresh: Seconds after which the store is asked again.
        store_timeout: Seconds that the store may take for an answer.
        classify: How errors are classified; see `resilient_faces.faults`.
        replace: Start afresh if the name exists with other options.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
        DuplicateNameError: The name exists with other options.
    """

    name: str | None = None
    trips: TripRule | tuple[TripRule, ...] = field(default=consecutive(5), kw_only=True)
    recovery_timeout: float = field(default=5.0, kw_only=True)
    growth: float = field(default=2.0, kw_only=True)
    max_recovery_timeout: float = field(default=300.0, kw_only=True)
    open_for: Callable[[Opening], float] | None = field(default=None, kw_only=True)
    probes: int = field(default=1, kw_only=True)
    successes: int | None = field(default=None, kw_only=True)
    probe_lease: float = field(default=60.0, kw_only=True)
    failures: Match | None = field(default=None, kw_only=True)
    ignore: Match | None = field(default=None, kw_only=True)
    trip_on: Match | None = field(default=None, kw_only=True)
    on_result: Callable[[object], Fault | bool | None] | None = field(default=None, kw_only=True)
    key: KeyOf | None = field(default=None, kw_only=True)
    max_keys: int = field(default=1000, kw_only=True)
    initial: str = field(default="closed", kw_only=True)
    store: BreakerStore | None = field(default=None, kw_only=True)
    refresh: float = field(default=1.0, kw_only=True)
    store_timeout: float = field(default=0.2, kw_only=True)
    classify: Classification | None = field(default=None, kw_only=True)
    replace: bool = field(default=False, kw_only=True, compare=False)

    _family: Family = field(init=False, repr=False, compare=False)
    _sharing: Sharing | None = field(init=False, repr=False, compare=False)

    if TYPE_CHECKING:
        _record: ClassVar[Record]  # all options but the name, see `_light`
    __own__: ClassVar[tuple[str, ...]] = ("name",)
    answers: ClassVar[bool] = False
    role: ClassVar[str] = "breaker"

    def __post_init__(self) -> None:
        name, facts = self.name, self._record.memo
        if not isinstance(facts, _Facts) or not isinstance(name, str) or not name:
            self._check()
        if not isinstance(facts, _Facts):
            facts = self._record.memo = self._found_good()
        terms = facts.terms
        set_ = object.__setattr__
        set_(self, "_family", Family("", terms) if name is None else circuits.bind(name, terms, self.replace))
        set_(self, "_sharing", None if facts.quiet else self._share(terms.settings.trips))

    @property
    def traits(self) -> Traits | None:
        """What planning must know of it; the same for all breakers with these options."""
        facts = self._record.memo
        if not isinstance(facts, _Facts):
            return None
        if facts.traits is None:
            facts.traits = found_traits(self)
        return facts.traits

    def _found_good(self) -> _Facts:
        """What all breakers with these options go by."""
        trips = self.trips if isinstance(self.trips, tuple) else (self.trips,)
        self._record.values["trips"] = trips
        settings = Settings(
            trips,
            self.recovery_timeout,
            self.growth,
            self.max_recovery_timeout,
            self.open_for,
            self.probes,
            self.probes if self.successes is None else self.successes,
            self.probe_lease,
            _STATES[self.initial],
        )
        plain = self.failures is None and self.ignore is None and self.trip_on is None and self.on_result is None
        judge = _PLAIN if plain else _Judge(self.failures, self.ignore, self.trip_on, self.on_result)
        others = tuple([(name, value) for name, usual in _OTHERS if (value := getattr(self, name)) is not usual])
        return _Facts(Terms(settings, others, self.max_keys), judge, quiet=self.store is None)

    def _share(self, trips: tuple[TripRule, ...]) -> Sharing:
        """How the circuits of this name are kept in step: the same for all breakers of it, which are one process."""
        from resilient_faces.breaker.sharing import Sharing, of_family  # few breakers have a store

        assert self.store is not None
        # Not seldomer than the circuit may have been open, or a process would miss that it was.
        refresh = min(self.refresh, self.recovery_timeout)
        most = 1 if self.key is None else self.max_keys
        made = Sharing(self.store, refresh, self.store_timeout, trips, most)
        return of_family.setdefault(self._family, made)

    def _check(self) -> None:
        checks = Checks("Breaker")
        if self.name is not None and not (isinstance(self.name, str) and self.name):
            cure = 'Mind the brackets: @circuit_breaker("db").' if callable(self.name) else ""
            checks.that(False, "name", "a name, or None for a circuit of its own", self.name, cure)
        trips = self.trips if isinstance(self.trips, tuple) else (self.trips,)
        good = len(trips) > 0
        for one in trips:
            good = good and hasattr(one, "statistic") and not isinstance(one, type)
        checks.that(
            good,
            "trips",
            "one or more rules such as consecutive(5) or failure_rate(0.5, calls=100)",
            self.trips,
        )
        checks.seconds("recovery_timeout", self.recovery_timeout)
        checks.number("growth", self.growth, 1.0, cure="1 keeps the open time fixed.")
        longest = self.max_recovery_timeout
        if checks.seconds("max_recovery_timeout", longest) and longest < self.recovery_timeout and self.growth > 1.0:
            checks.that(False, "max_recovery_timeout", f"recovery_timeout ({self.recovery_timeout!r}) or more", longest)
        for option, usual in _RARE:
            if getattr(self, option) is not usual:
                self._check_rare(checks)
                break
        checks.done()

    def _check_rare(self, checks: Checks) -> None:
        """The options that few breakers set: looking at each of them would be most of what making a breaker takes."""
        good = checks.whole("probes", self.probes, 1)
        if self.successes is not None and checks.whole("successes", self.successes, 1) and good:
            checks.that(self.successes <= self.probes, "successes", f"at most probes ({self.probes})", self.successes)
        checks.seconds("probe_lease", self.probe_lease)
        checks.whole("max_keys", self.max_keys, 1)
        checks.seconds("refresh", self.refresh, above=False)
        checks.seconds("store_timeout", self.store_timeout)
        known = isinstance(self.initial, str) and self.initial in _STATES
        checks.that(known, "initial", f"one of {', '.join(_STATES)}", self.initial)
        for option, given in (
            ("open_for", self.open_for),
            ("on_result", self.on_result),
            ("key", self.key),
            ("classify", self.classify),
        ):
            if given is not None:
                checks.function(option, given)
        for option, match in (("failures", self.failures), ("ignore", self.ignore), ("trip_on", self.trip_on)):
            checks.match(option, match)
        checks.that(isinstance(self.replace, bool), "replace", "True or False", self.replace)
        checks.that(self.store is None or isinstance(self.store, BreakerStore), "store", "a BreakerStore", self.store)
        checks.that(self.store is None or self.name is not None, "name", "given if the circuit is shared", self.name)

    # -- for the direct path ---------------------------------------------------------------------------------------

    @property
    def _judge(self) -> _Judge:
        facts = self._record.memo
        assert isinstance(facts, _Facts)
        return facts.judge

    @property
    def quiet(self) -> bool:
        """A shared circuit asks its store before calls."""
        return self._sharing is None

    @property
    def steady(self) -> bool:
        """Whether the direct path can count for this breaker by itself: no clock, no store, no look at results."""
        return self._sharing is None and not self._judge.examines and not self.timed

    @property
    def timed(self) -> bool:
        """Whether a rule needs to know how long calls take."""
        return self._family.terms.settings.timed

    def gate(self, function: Callable[..., object]) -> Gate:
        """The one circuit, which takes this function's name if it has none yet."""
        circuit = self.circuit
        if not circuit.name:
            circuit.name = self._family.name = name_of(function)
        return circuit

    def keyed(self, function: Callable[..., object]) -> _ByKey | _ByInstance | None:
        """How circuits are chosen for this function; None if there is one for all calls."""
        if self.key is not None:
            return _ByKey(self._family, self.key)
        if self.name is None and _is_method(function):
            self._family.name = self._family.name or name_of(function)
            return _ByInstance(self._family, function)
        return None

    @property
    def looks_at_results(self) -> bool:
        return self._judge.examines

    def examine(self, value: object) -> bool:
        """Whether this returned value is a failure."""
        return self.on_result is not None and bool(self.on_result(value))

    # -- by hand ---------------------------------------------------------------------------------------------------

    @property
    def circuit(self) -> Circuit:
        """The circuit: its state, its snapshot, and the controls by hand."""
        return self._family.one()

    def circuit_of(self, key: Hashable) -> Circuit:
        """The circuit of one key."""
        return self._family.of(key)

    def reset(self) -> None:
        """Close all circuits of this breaker and forget what they counted; those that processes share, everywhere.

        A shared circuit's store is asked in this thread, for `store_timeout` seconds at most each time.
        """
        if self._sharing is not None and self.key is None:
            self._family.one()  # so that a process that only resets has it
        for circuit in self._family.all():
            circuit.reset()
            if self._sharing is not None:
                run_sync(self._sharing.reset(circuit), Call(self.reset, (), {}, None, None, None), classify)

    # -- the flow --------------------------------------------------------------------------------------------------

    def account(self, circuit: Gate, permit: Permit, error: Exception | None, fault: Fault, slow: bool) -> None:
        """Count a failed call that was made under this permit."""
        judge: _Judge = self._record.memo.judge  # type: ignore[attr-defined]  # of `_Facts`, once it is made
        if judge.plain:
            if fault.rule.failure:
                circuit.settle(permit, _FAILURE, fault, slow)
            elif permit.expires is not None:  # only a probe is missed if it does not come back
                circuit.settle(permit, _NEUTRAL, fault, slow)
        elif judge.trips(error, fault):
            circuit.trip(permit, fault)
        else:
            circuit.settle(permit, judge.verdict(error, fault), fault, slow)

    def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
        if self._sharing is not None:
            return (yield from self._shared(self._sharing, inner, call))
        circuit = call.gate or self.circuit
        permit = call.take_granted()  # the direct path's, with its attempt
        took = 0.0
        if permit is not None:
            took = call.took
        else:
            permit = circuit.generation
            if permit is None:
                left = circuit.refusal()  # without a lock
                granted = Refused(left) if left else admission(circuit)
                if circuit.news:
                    yield from _tell(circuit)
                if isinstance(granted, Refused):
                    return (yield from _refuse(circuit, granted.retry_after, call))
                permit = granted
        timed = permit.slow_after != _NEVER
        began = RUNTIME.monotonic() if timed else 0.0
        try:
            outcome = yield from inner(call)
            slow = timed and took + RUNTIME.monotonic() - began >= permit.slow_after
            fault = outcome.fault
            if fault is not None:
                self.account(circuit, permit, None if isinstance(outcome, Returned) else outcome.error, fault, slow)
            elif self._judge.examines and (fault := self._judge.result(outcome)) is not None:
                circuit.settle(permit, _FAILURE, fault, slow)
            elif slow or circuit.calm is not permit:
                circuit.settle(permit, _SUCCESS, None, slow)
            elif permit.note is not None:
                permit.note(True)
        except BaseException:  # cancelled, or the user's judgement raised: neutral, the permit goes back
            circuit.settle(permit, _NEUTRAL)
            raise
        if circuit.news:
            yield from _tell(circuit)
        return outcome

    def _shared(self, sharing: Sharing, inner: Inner, call: Call) -> Flow[Outcome]:
        """As `flow`, for a circuit that processes share. It has no direct path, so no permit of one either."""
        circuit: Circuit = call.gate or self.circuit  # type: ignore[assignment]
        judged = yield from sharing.before(circuit)
        granted = judged if isinstance(judged, Refused) else admission(circuit, judged)
        yield from _tell(circuit)
        if isinstance(granted, Refused):
            return (yield from _refuse(circuit, granted.retry_after, call))
        timed = granted.slow_after != _NEVER
        began = RUNTIME.monotonic() if timed else 0.0
        try:
            outcome = yield from inner(call)
            slow = timed and RUNTIME.monotonic() - began >= granted.slow_after
            fault = outcome.fault or self._judge.result(outcome)
            if fault is None:
                verdict = _SUCCESS
            elif isinstance(outcome, Returned):
                verdict = _FAILURE
            else:
                verdict = self._judge.verdict(outcome.error, fault)
            if isinstance(outcome, Raised) and self._judge.trips(outcome.error, outcome.fault):
                circuit.trip(granted, fault)
            elif fault is not None or slow or circuit.calm is not granted:
                circuit.settle(granted, verdict, fault, slow)
            elif granted.note is not None:
                granted.note(True)
        except BaseException:  # cancelled, or the user's judgement raised: neutral, the permit goes back
            circuit.settle(granted, _NEUTRAL)
            raise
        yield from sharing.after(circuit, granted, verdict, fault)
        return outcome

    # -- as a block ------------------------------------------------------------------------------------------------

    def enter(self) -> tuple[Permit, float]:
        """Let a block in, or raise `CircuitOpenError`."""
        if self.store is not None or self.key is not None:
            raise DecorationError(
                f"circuit {self.name!r} cannot guard a `with` block: a shared circuit asks its store around the call, "
                "and a keyed one needs the call's arguments. Put the block into a function and decorate that, or use "
                "call(function)."
            )
        circuit = self.circuit
        permit = admission(circuit)
        tell_news(circuit)
        if isinstance(permit, Refused):
            raise CircuitOpenError(circuit.name, permit.retry_after, circuit.last)
        return permit, RUNTIME.monotonic()

    async def aenter(self) -> tuple[Permit, float]:
        return self.enter()

    def leave(self, entry: tuple[Permit, float], error: BaseException | None, fault: Fault | None) -> None:
        """Settle what the block came to; anything but an `Exception` is no evidence."""
        permit, began = entry
        circuit = self.circuit
        slow = RUNTIME.monotonic() - began >= permit.slow_after
        try:
            if error is None:
                circuit.settle(permit, _SUCCESS, None, slow)
            elif fault is not None and isinstance(error, Exception):
                self.account(circuit, permit, error, fault, slow)
            else:
                circuit.settle(permit, _NEUTRAL)
        except BaseException:  # the user's judgement raised: neutral, the permit goes back
            circuit.settle(permit, _NEUTRAL)
            raise
        tell_news(circuit)

    def __del__(self) -> None:
        # What the circuit knows must outlive a breaker that was made for one call.
        family = getattr(self, "_family", None)
        if family is not None and self.name is not None and circuits is not None:
            circuits.leave(family)


_NEVER: Final = math.inf
_SUCCESS: Final = Verdict.success
_FAILURE: Final = Verdict.failure
_NEUTRAL: Final = Verdict.neutral


def _refuse(circuit: Gate, retry_after: float, call: Call) -> Flow[Outcome]:
    if RUNTIME.listeners or LOG.isEnabledFor(INFO):
        yield Tell(rejection(circuit, retry_after, call.function))
    return Raised(CircuitOpenError(circuit.name, retry_after, circuit.last), OPEN)


def _tell(circuit: Gate) -> Flow[None]:
    for transition in circuit.take_news():
        yield Tell(transition_event(transition))


class _Judge:
    """What an outcome means to the breaker."""

    __slots__ = ("_failures", "_ignore", "_on_result", "_trip_on", "examines", "plain")

    def __init__(
        self,
        failures: Match | None,
        ignore: Match | None,
        trip_on: Match | None,
        on_result: Callable[[object], Fault | bool | None] | None,
    ) -> None:
        self._failures = None if failures is None else matcher(failures)
        self._ignore = None if ignore is None else matcher(ignore)
        self._trip_on = None if trip_on is None else matcher(trip_on)
        self._on_result = on_result
        self.examines = on_result is not None
        self.plain = failures is None and ignore is None and trip_on is None  # the kind of fault decides alone

    def verdict(self, error: Exception | None, fault: Fault) -> Verdict:
        """The verdict on a raised error; our own rejections and cancellations are never evidence."""
        kind = fault.kind
        if kind is Kind.rejected or kind is Kind.cancelled or error is None:
            return Verdict.neutral
        if self._ignore is not None and self._ignore(error, fault):
            return Verdict.neutral
        if self._failures is not None:
            return Verdict.failure if self._failures(error, fault) else Verdict.neutral
        return Verdict.failure if fault.rule.failure else Verdict.neutral

    def trips(self, error: Exception | None, fault: Fault) -> bool:
        """Whether this error opens the circuit at once."""
        return (
            self._trip_on is not None
            and error is not None
            and fault.kind is not Kind.rejected
            and self._trip_on(error, fault)
        )

    def result(self, outcome: Outcome) -> Fault | None:
        """The fault that a returned value stands for, if it does."""
        if self._on_result is None or not isinstance(outcome, Returned) or isinstance(outcome, Degraded):
            return None  # another policy's answer says nothing of the function
        found = self._on_result(outcome.value)
        if isinstance(found, Fault):
            return found if found.rule.failure else None
        return Fault(Kind.transient, "result", Executed.yes) if found else None


_PLAIN: Final = _Judge(None, None, None, None)
_OTHERS: Final = (
    ("failures", None),
    ("ignore", None),
    ("trip_on", None),
    ("on_result", None),
    ("key", None),
    ("max_keys", 1000),
    ("store", None),
    ("refresh", 1.0),
    ("store_timeout", 0.2),
    ("classify", None),
)
_RARE: Final = (
    *_OTHERS,
    ("open_for", None),
    ("probes", 1),
    ("successes", None),
    ("probe_lease", 60.0),
    ("initial", "closed"),
    ("replace", False),
)


class _Facts:
    """What breakers with the same options go by, whatever their names."""

    __slots__ = ("judge", "quiet", "terms", "traits")

    def __init__(self, terms: Terms, judge: _Judge, *, quiet: bool) -> None:
        self.traits: Traits | None = None
        self.terms = terms
        self.judge = judge
        self.quiet = quiet


# -- keys ----------------------------------------------------------------------------------------------------------


class _ByKey:
    """Circuits by a function of the call's arguments."""

    __slots__ = ("_family", "_key")

    def __init__(self, family: Family, key: KeyOf) -> None:
        self._family = family
        self._key = key

    def key_of(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Hashable:
        return self._key(*args, **kwargs)

    def live(self, key: object) -> Gate | None:
        live = self._family.live
        return None if live is None else live.get(key)

    def gate_of(self, key: Hashable, args: tuple[object, ...], kwargs: dict[str, object]) -> Gate:
        return self._family.of(key)


class _ByInstance:
    """One circuit for each instance that a method is called on. Instances need not be hashable, and are not kept."""

    __slots__ = ("_family", "_method")

    def __init__(self, family: Family, method: FunctionType) -> None:
        self._family = family
        self._method = method

    def _instance(self, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if args:
            return args[0]
        name = _first_name(self._method)
        if name not in kwargs:
            raise TypeError(f"{self._method.__qualname__}() missing the instance that it is called on: {name!r}")
        return kwargs[name]

    def key_of(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Hashable:
        return id(args[0]) if args else id(self._instance(args, kwargs))

    def live(self, key: object) -> Gate | None:
        live = self._family.live
        return None if live is None else live.get(key)

    def gate_of(self, key: Hashable, args: tuple[object, ...], kwargs: dict[str, object]) -> Gate:
        instance = self._instance(args, kwargs)
        try:
            self._family.watch(key, instance)
        except TypeError:
            raise TypeError(
                f"{type(instance).__name__} objects take no weak references, so they cannot have a circuit each. "
                "Give circuit_breaker a name or a key, or add '__weakref__' to the class's __slots__."
            ) from None
        return self._family.of(key)


def _first_name(function: FunctionType) -> str:
    """The name of the function's first parameter; empty if it has none."""
    while isinstance(inner := getattr(function, "__wrapped__", None), FunctionType):
        function = inner  # a foreign wrapper: what it wraps knows the arguments
    code = function.__code__
    return code.co_varnames[0] if code.co_argcount else ""


def _is_method(function: object) -> TypeGuard[FunctionType]:
    """Whether this function was written in a class body and takes the instance first."""
    if not isinstance(function, FunctionType):
        return False
    owner = function.__qualname__.rpartition(".")[0]
    if not owner or owner.endswith("<locals>"):
        return False
    return _first_name(function) in ("self", "cls")


# -- the preset ----------------------------------------------------------------------------------------------------


@checked_call
def circuit_breaker(
    name: str | None = None,
    failure_threshold: int = 5,
    timeout: float = 30.0,
    *,
    failures: Match | None = Exception,
    key: KeyOf | None = None,
    ignore: Match | None = None,
    classify: Classification | None = None,
    replace: bool = False,
) -> Breaker:
    """A breaker with the numbers most people begin with: 5 failures in a row open it for 30 s, then one probe decides.

    Every `Exception` of the guarded function is a failure unless told otherwise, and the open time stays the same;
    `Breaker` has all options, goes by the classification and lets the open time grow.

    Args:
        name: Name of the circuit; the same name is the same circuit. None: one of its own.
        failure_threshold: Failures in a row that open it.
        timeout: Seconds that it stays open.
        failures: Which errors count; None leaves it to the classification.
        key: Chooses among circuits of this name by the call's arguments.
        ignore: Errors that are neutral.
        classify: How errors are classified.
        replace: Start afresh if the name exists with other options.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
        DuplicateNameError: The name exists with other options.
    """
    checks = Checks("circuit_breaker")
    checks.whole("failure_threshold", failure_threshold, 1)
    checks.seconds("timeout", timeout)
    for option, function in (("key", key), ("classify", classify)):
        if function is not None:
            checks.function(option, function)
    checks.match("failures", failures)
    checks.match("ignore", ignore)
    checks.that(
        not callable(name), "name", "a name", name, 'Write @circuit_breaker("db"), with brackets, above the function.'
    )
    checks.done()
    return Breaker(
        name,
        trips=consecutive(failure_threshold),
        recovery_timeout=timeout,
        growth=1.0,
        max_recovery_timeout=timeout,
        failures=failures,
        ignore=ignore,
        key=key,
        classify=classify,
        replace=replace,
    )
