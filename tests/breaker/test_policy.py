"""`Breaker` around functions and blocks: what counts, what is told, what is raised."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import pickle
from collections.abc import Callable
from contextvars import Context
from typing import Any

import anyio
import pytest

from resilient_faces import (
    Breaker,
    CircuitOpenError,
    DecorationError,
    Event,
    Fault,
    Guard,
    Kind,
    OptionError,
    UnknownOptionError,
    bulkhead,
    circuit_breaker,
    circuits,
    fallback,
    first_match,
    guard,
    listen,
    retry,
)
from resilient_faces._core.context import PROBES
from resilient_faces._core.outcome import Verdict
from resilient_faces.breaker import MemoryStore, State, consecutive, failure_rate, slow_rate
from resilient_faces.faults import rule
from resilient_faces.testing import ManualRuntime, Mode, script

FAILURES = {Kind.transient, Kind.timeout, Kind.unavailable, Kind.integrity, Kind.unknown}


class Said(Exception):
    """An error whose kind is written on it."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind.value)
        self.kind = kind


def _read(error: BaseException) -> Fault | None:
    return Fault(error.kind, error.kind.value) if isinstance(error, Said) else None


by_kind = first_match(_read)


def fail(breaker: Breaker, mode: Mode, times: int = 1, error: type[Exception] = ConnectionResetError) -> None:
    """Let calls fail."""
    for _ in range(times):
        with pytest.raises(error):
            mode.run(breaker, script(error()))


# -- verdicts ------------------------------------------------------------------------------------------------------


def test_the_verdicts_of_the_design() -> None:
    """Five kinds are failures; everything else says nothing about the dependency's health."""
    assert {kind for kind in Kind if rule(kind).failure} == FAILURES


@pytest.mark.parametrize("kind", list(Kind))
def test_verdict_by_kind_while_closed(mode: Mode, clock: ManualRuntime, kind: Kind) -> None:
    """A failure counts, a neutral answer does not; there is no third thing."""
    breaker = Breaker("b", trips=consecutive(1), classify=by_kind)
    fail_with = script(Said(kind))
    with pytest.raises(Said):
        mode.run(breaker, fail_with)
    assert breaker.circuit.state is (State.open if kind in FAILURES else State.closed)
    assert breaker.circuit.snapshot().failures == (kind in FAILURES)


@pytest.mark.parametrize("kind", list(Kind))
def test_verdict_by_kind_half_open(mode: Mode, clock: ManualRuntime, kind: Kind) -> None:
    """Answers of the business are neutral for the probe as well: they do not close the circuit."""
    breaker = Breaker("b", trips=consecutive(1), recovery_timeout=5.0, classify=by_kind)
    fail(breaker, mode)
    clock.advance(5.0)
    with pytest.raises(Said):
        mode.run(breaker, script(Said(kind)))
    assert breaker.circuit.state is (State.open if kind in FAILURES else State.half_open)
    assert breaker.circuit.snapshot().probes == 0
    if kind not in FAILURES:
        assert mode.run(breaker, script("fine")) == "fine"
        assert breaker.circuit.state is State.closed


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("half_open", [False, True])
def test_interrupts_are_neutral(clock: ManualRuntime, error: type[BaseException], half_open: bool) -> None:
    """They pass straight through, and a probe gives its permit back."""
    breaker = Breaker("b", trips=consecutive(1), recovery_timeout=5.0)
    if half_open:
        with pytest.raises(ConnectionResetError):
            breaker.call(script(ConnectionResetError()).function())
        clock.advance(5.0)
    failures = breaker.circuit.snapshot().failures
    for _ in range(3):
        with pytest.raises(error):
            breaker.call(script(error()).function())
    snapshot = breaker.circuit.snapshot()
    assert (snapshot.failures, snapshot.probes) == (failures, 0)
    assert snapshot.state is (State.half_open if half_open else State.closed)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("half_open", [False, True])
def test_cancellation_is_neutral(clock: ManualRuntime, backend: str, half_open: bool) -> None:
    """A caller that gives up says nothing about the dependency, and its permit is not lost."""
    breaker = Breaker("b", trips=consecutive(1), recovery_timeout=5.0)
    if half_open:
        with pytest.raises(ConnectionResetError):
            breaker.call(script(ConnectionResetError()).function())
        clock.advance(5.0)

    @breaker
    async def hang() -> None:
        await anyio.sleep_forever()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(hang)
            await anyio.wait_all_tasks_blocked()
            assert breaker.circuit.snapshot().probes == half_open
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    snapshot = breaker.circuit.snapshot()
    assert (snapshot.state, snapshot.probes) == (State.half_open if half_open else State.closed, 0)


def test_an_open_circuit_inside_does_not_count_outside(mode: Mode, clock: ManualRuntime) -> None:
    """A rejection by our own policy is no failure of the dependency further out."""
    inner, outer = Breaker("inner", trips=consecutive(1)), Breaker("outer", trips=consecutive(1))
    inner.circuit.force_open()
    for _ in range(3):
        with pytest.raises(CircuitOpenError):
            mode.run(guard(outer, inner), script("unused"))
    assert outer.circuit.state is State.closed


class TestChoosingFailures:
    def test_failures_by_hand(self, mode: Mode, clock: ManualRuntime) -> None:
        """What is named counts, whatever its kind; anything else is neutral."""
        breaker = Breaker("b", trips=consecutive(1), failures=KeyError)
        fail(breaker, mode, 3)
        assert breaker.circuit.state is State.closed
        fail(breaker, mode, error=KeyError)
        assert breaker.circuit.state is State.open

    def test_ignore_goes_first(self, mode: Mode, clock: ManualRuntime) -> None:
        """Ignored is neutral even where `failures` would count it."""
        breaker = Breaker("b", trips=consecutive(1), failures=Exception, ignore=KeyError)
        fail(breaker, mode, 3, KeyError)
        assert breaker.circuit.snapshot().failures == 0

    @pytest.mark.parametrize("on", [Kind.throttled, Said, lambda error: isinstance(error, Said)])
    def test_one_answer_opens_at_once(self, mode: Mode, clock: ManualRuntime, on: object) -> None:
        """`trip_on` waits for no threshold, even for a kind that is neutral otherwise."""
        breaker = Breaker("b", trips=consecutive(100), trip_on=on, classify=by_kind)  # type: ignore[arg-type]
        fail(breaker, mode)
        assert breaker.circuit.state is State.closed
        with pytest.raises(Said):
            mode.run(breaker, script(Said(Kind.throttled)))
        assert breaker.circuit.state is State.open
        assert breaker.circuit.last == "throttled"

    def test_one_answer_fails_the_whole_trial(self, mode: Mode, clock: ManualRuntime) -> None:
        """Half-open too: no further probe is needed."""
        breaker = Breaker("b", trips=consecutive(1), trip_on=KeyError, recovery_timeout=5.0, probes=5, successes=1)
        fail(breaker, mode)
        clock.advance(5.0)
        fail(breaker, mode, error=KeyError)
        assert breaker.circuit.state is State.open
        assert breaker.circuit.seconds_left == 10.0

    @pytest.mark.parametrize("said", [True, Fault(Kind.integrity, "empty")])
    def test_results_as_failures(self, mode: Mode, clock: ManualRuntime, said: object) -> None:
        """The value comes out all the same; the circuit has heard."""
        breaker = Breaker("b", trips=consecutive(2), on_result=lambda value: said if value == "bad" else None)  # type: ignore[return-value, arg-type]
        for _ in range(2):
            assert mode.run(breaker, script("bad")) == "bad"
        assert breaker.circuit.state is State.open
        assert breaker.circuit.last == ("result" if said is True else "empty")

    def test_good_results_are_successes(self, mode: Mode, clock: ManualRuntime) -> None:
        """Between two bad ones they end the row."""
        breaker = Breaker("b", trips=consecutive(2), on_result=lambda value: value == "bad")
        for value in ("bad", "good", "bad", "good"):
            assert mode.run(breaker, script(value)) == value
        assert breaker.circuit.state is State.closed

    def test_a_result_of_the_business_is_a_success(self, mode: Mode, clock: ManualRuntime) -> None:
        """A 404 that came back as a value is an answer."""
        breaker = Breaker("b", trips=consecutive(1), on_result=lambda _: Fault(Kind.not_found, "http.404"))
        assert mode.run(breaker, script("nothing")) == "nothing"
        assert breaker.circuit.state is State.closed


# -- the error -----------------------------------------------------------------------------------------------------


def test_the_first_failure_that_opens_it_is_seen(mode: Mode, clock: ManualRuntime) -> None:
    """The caller whose call opens the circuit gets the real error; only the next is refused, and not called."""
    breaker = Breaker("b", trips=consecutive(1))
    scripted = script(ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        mode.run(breaker, scripted)
    with pytest.raises(CircuitOpenError):
        mode.run(breaker, scripted)
    assert scripted.count == 1


@pytest.mark.parametrize("answered", [False, True])
def test_the_facts_on_the_error(mode: Mode, clock: ManualRuntime, answered: bool) -> None:
    """Name, seconds until a probe and the last failure, whether refused on the direct path or in the flow."""
    seen: list[BaseException] = []

    def answer() -> None:
        return None

    breaker = Breaker("db", trips=consecutive(1), recovery_timeout=5.0)
    fail(breaker, mode)
    clock.advance(2.0)
    policy = (
        guard(fallback(function=mode.wrap(answer), on=lambda error: seen.append(error) or True), breaker)
        if (answered)
        else breaker
    )
    try:
        mode.run(policy, script("unused"))
    except CircuitOpenError as error:
        seen.append(error)
    error = seen[0]
    assert isinstance(error, CircuitOpenError)
    assert (error.name, error.retry_after, error.last_failure) == ("db", 3.0, "ConnectionResetError")
    assert str(error) == "circuit 'db' is open (last failure: ConnectionResetError); try again in 3 s"


def test_the_error_is_fresh_each_time(mode: Mode, clock: ManualRuntime) -> None:
    """A shared exception object would gather tracebacks of strangers."""
    breaker = Breaker("db", trips=consecutive(1))
    fail(breaker, mode)
    caught = []
    for _ in range(3):
        with pytest.raises(CircuitOpenError) as one:
            mode.run(breaker, script("unused"))
        caught.append(one.value)
    assert len({id(one) for one in caught}) == 3
    assert all(one.__cause__ is None and one.__context__ is None for one in caught)


@pytest.mark.parametrize("error", [CircuitOpenError("db", 3.0, "Reset"), CircuitOpenError("db", float("inf"), None)])
def test_the_error_travels_between_processes(error: CircuitOpenError) -> None:
    """Pickled and back it has the same facts."""
    again = pickle.loads(pickle.dumps(error))
    assert (again.name, again.retry_after, again.last_failure) == (error.name, error.retry_after, error.last_failure)
    assert str(again) == str(error)


def test_a_guarded_function_travels_too(clock: ManualRuntime) -> None:
    """A breaker that is pickled finds its circuit by name."""
    breaker = Breaker("db", trips=consecutive(3))
    again = pickle.loads(pickle.dumps(breaker))
    assert again == breaker
    assert again.circuit is breaker.circuit


def test_forced_open_promises_nothing(mode: Mode, clock: ManualRuntime) -> None:
    """By hand there is neither a time nor a failure to tell."""
    breaker = Breaker("db")
    breaker.circuit.force_open()
    with pytest.raises(CircuitOpenError, match=r"^circuit 'db' is open$") as caught:
        mode.run(breaker, script("unused"))
    assert caught.value.retry_after is None
    assert caught.value.last_failure is None


# -- events and snapshot -------------------------------------------------------------------------------------------


def test_every_transition_is_told(mode: Mode, clock: ManualRuntime, events: list[Event]) -> None:
    """Open, half-open, open again, closed: once each, with fault and delay."""
    breaker = Breaker("db", trips=consecutive(1), recovery_timeout=5.0)
    fail(breaker, mode)
    clock.advance(5.0)
    fail(breaker, mode)
    clock.advance(10.0)
    mode.run(breaker, script("fine"))
    told = [(one.status, one.delay, one.code) for one in events if one.type == "transition"]
    assert told == [
        ("open", 5.0, "ConnectionResetError"),
        ("half_open", None, ""),
        ("open", 10.0, "ConnectionResetError"),
        ("half_open", None, ""),
        ("closed", None, ""),
    ]
    assert {(one.policy, one.name) for one in events} == {("breaker", "db")}


def test_transitions_by_hand_are_told(clock: ManualRuntime, events: list[Event]) -> None:
    """Also those that no call brought about: a listener must not wait for the next call to hear of maintenance."""
    circuit = Breaker("db").circuit
    circuit.force_open(30.0)
    circuit.release()
    circuit.reset()
    circuit.disable()
    circuit.metrics_only()
    circuit.release()
    told = [(one.status, one.delay) for one in events]
    assert told == [
        ("forced_open", 30.0),
        ("half_open", None),
        ("closed", None),
        ("disabled", None),
        ("metrics_only", None),
        ("closed", None),
    ]


def test_a_rejection_in_the_flow_is_told(mode: Mode, clock: ManualRuntime, events: list[Event]) -> None:
    """With the time until a probe and the operation's name."""
    breaker = Breaker("db", trips=consecutive(1), recovery_timeout=5.0)
    fail(breaker, mode)
    events.clear()
    mode.run(guard(fallback(value=None), breaker), script("unused"))
    rejected = next(one for one in events if one.type == "rejected")
    assert (rejected.status, rejected.name, rejected.delay) == ("open", "db", 5.0)
    assert (rejected.kind, rejected.code, rejected.executed) == ("rejected", "CircuitOpenError", "no")


def test_the_key_is_told(mode: Mode, clock: ManualRuntime, events: list[Event]) -> None:
    """Which of the circuits of this name it was."""
    breaker = Breaker("camera", trips=consecutive(1), key=lambda camera: camera)
    with pytest.raises(ConnectionResetError):
        mode.run(breaker, script(ConnectionResetError()), "cam-7")
    assert [(one.name, one.key, one.status) for one in events] == [("camera", "cam-7", "open")]


def test_a_listener_that_raises_breaks_nothing(mode: Mode, clock: ManualRuntime, events: list[Event]) -> None:
    """And a listener may ask the circuit: no lock is held while it runs."""
    from resilient_faces import listen

    breaker = Breaker("db", trips=consecutive(1))
    seen: list[State] = []

    def bad(event: Event) -> None:
        seen.append(breaker.circuit.snapshot().state)
        raise RuntimeError

    listen(bad)
    fail(breaker, mode)
    assert seen == [State.open]


def test_the_snapshot(mode: Mode, clock: ManualRuntime) -> None:
    """All facts of one moment, as a value that later calls do not change."""
    breaker = Breaker("db", trips=consecutive(2), recovery_timeout=5.0)
    fail(breaker, mode, 2)
    clock.advance(1.0)
    with pytest.raises(CircuitOpenError):
        mode.run(breaker, script("unused"))
    snapshot = breaker.circuit.snapshot()
    assert dataclasses.asdict(snapshot) == {
        "name": "db",
        "key": "",
        "state": State.open,
        "retry_after": 4.0,
        "reopenings": 0,
        "probes": 0,
        "rejected": 1,
        "failures": 2,
        "opened": 1,
        "last_failure": "ConnectionResetError",
        "figures": {"consecutive_failures": 2},
    }
    breaker.circuit.reset()
    assert snapshot.state is State.open


# -- with blocks ---------------------------------------------------------------------------------------------------


def _block(breaker: Breaker | Guard[object], asynchronous: bool, error: BaseException | None = None) -> None:
    if not asynchronous:
        with breaker:
            if error is not None:
                raise error
        return

    async def main() -> None:
        async with breaker:
            if error is not None:
                raise error

    asyncio.run(main())


@pytest.mark.parametrize("asynchronous", [False, True], ids=["with", "async with"])
class TestBlocks:
    def test_a_block_is_let_in_and_settled(self, clock: ManualRuntime, asynchronous: bool) -> None:
        """Failures open the circuit, the next block is refused, a good one closes it again."""
        breaker = Breaker("db", trips=consecutive(2), recovery_timeout=5.0)
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                _block(breaker, asynchronous, ConnectionResetError())
        with pytest.raises(CircuitOpenError) as caught:
            _block(breaker, asynchronous)
        assert caught.value.retry_after == 5.0
        clock.advance(5.0)
        _block(breaker, asynchronous)
        assert breaker.circuit.state is State.closed

    def test_a_good_block_ends_the_row(self, clock: ManualRuntime, asynchronous: bool) -> None:
        """Success counts here too."""
        breaker = Breaker("db", trips=consecutive(2))
        for error in (ConnectionResetError(), None, ConnectionResetError()):
            try:
                _block(breaker, asynchronous, error)
            except ConnectionResetError:
                pass
        assert breaker.circuit.state is State.closed

    @pytest.mark.parametrize("error", [Said(Kind.not_found), KeyboardInterrupt(), asyncio.CancelledError()])
    def test_what_is_no_evidence(self, clock: ManualRuntime, asynchronous: bool, error: BaseException) -> None:
        """Neutral: the probe's place comes back, the circuit stays half-open."""
        breaker = Breaker("db", trips=consecutive(1), recovery_timeout=5.0, classify=by_kind)
        with pytest.raises(ConnectionResetError):
            _block(breaker, asynchronous, ConnectionResetError())
        clock.advance(5.0)
        with pytest.raises(type(error)):
            _block(breaker, asynchronous, error)
        snapshot = breaker.circuit.snapshot()
        assert (snapshot.state, snapshot.probes) == (State.half_open, 0)

    def test_trip_on(self, clock: ManualRuntime, asynchronous: bool) -> None:
        """One answer opens at once here as well."""
        breaker = Breaker("db", trips=consecutive(100), trip_on=KeyError)
        with pytest.raises(KeyError):
            _block(breaker, asynchronous, KeyError("x"))
        assert breaker.circuit.state is State.open

    def test_windows_hear_of_blocks(self, clock: ManualRuntime, asynchronous: bool) -> None:
        """A rate counts good blocks as well."""
        breaker = Breaker("db", trips=failure_rate(0.5, calls=10, minimum=10))
        _block(breaker, asynchronous)
        assert breaker.circuit.snapshot().figures["failure_rate_calls"] == 1

    def test_transitions_are_told(self, clock: ManualRuntime, asynchronous: bool, events: list[Event]) -> None:
        """As they happen."""
        breaker = Breaker("db", trips=consecutive(1))
        with pytest.raises(ConnectionResetError):
            _block(breaker, asynchronous, ConnectionResetError())
        assert [one.status for one in events if one.type == "transition"] == ["open"]


def test_blocks_nest(clock: ManualRuntime) -> None:
    """Each leaves its own."""
    outer, inner = Breaker("outer", trips=consecutive(1)), Breaker("inner", trips=consecutive(1))
    with outer, pytest.raises(ConnectionResetError), inner:
        raise ConnectionResetError
    assert (outer.circuit.state, inner.circuit.state) == (State.closed, State.open)


def test_a_block_with_a_retry_is_refused(resilience: None) -> None:
    """A block cannot be run twice; the message says what to do instead."""
    with pytest.raises(DecorationError, match="runs exactly once"), guard(retry(), Breaker("db")):
        raise AssertionError


AROUND = {"alone": (), "a retry": (retry(attempts=1),), "a retry with hooks": (retry(before_attempt=lambda _: None),)}


# -- calls within calls --------------------------------------------------------------------------------------------

OPTIONS: dict[str, dict[str, Any]] = {
    "own": {},
    "shared": {"store": MemoryStore()},
    "timed": {"trips": slow_rate(0.5, slower_than=1.0, calls=2, minimum=2)},
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("options", OPTIONS)
def test_a_circuit_that_a_call_comes_to_twice_closes_again(
    mode: Mode, clock: ManualRuntime, options: str, around: str
) -> None:
    """The inner call is part of the outer one's probe: a place of its own it would never get."""
    policy = Breaker("db", recovery_timeout=5.0, **OPTIONS[options])
    guarded = guard(*AROUND[around], policy)
    policy.circuit.force_open(5.0)
    clock.advance(5.0)
    made: list[int] = []

    def walk(depth: int) -> str:
        made.append(policy.circuit.snapshot().probes)
        return "fine" if depth == 0 else guarded.call(walk, depth - 1)

    assert mode.call(guarded(mode.wrap(walk)), 2) == "fine"
    assert made == [1, 1, 1]
    assert policy.circuit.state is State.closed


def test_blocks_of_one_circuit_nest_in_its_probe(clock: ManualRuntime) -> None:
    """A block within a call, a call within a block."""
    breaker = Breaker("db", recovery_timeout=5.0)
    breaker.circuit.force_open(5.0)
    clock.advance(5.0)
    with breaker:
        assert breaker.call(script("fine").function()) == "fine"
        with breaker:
            pass
        assert breaker.circuit.snapshot().probes == 1
    assert breaker.circuit.state is State.closed


def test_who_comes_after_the_probe_is_a_call_of_its_own(clock: ManualRuntime) -> None:
    """Nothing of the last probe is left, so the next one takes a place, and others are refused meanwhile."""
    breaker = Breaker("db", recovery_timeout=5.0, growth=1.0, trips=consecutive(1))
    for _ in range(3):
        breaker.circuit.force_open(5.0)
        clock.advance(5.0)
        with pytest.raises(KeyError):
            breaker.call(script(KeyError()).function())
        assert PROBES.get() == ()
        clock.advance(5.0)
        with breaker, pytest.raises(CircuitOpenError):
            Context().run(breaker.call, script("unused").function())
        assert PROBES.get() == ()


# -- judgements that raise -----------------------------------------------------------------------------------------


class Confused(Exception):
    """What a judgement of the user's raises."""


def confused(*_: object) -> bool:
    raise Confused


def confused_by_keys(error: BaseException) -> Fault | None:
    if isinstance(error, KeyError):
        raise Confused
    return None


JUDGEMENTS = {
    "failures": {"failures": confused},
    "ignore": {"ignore": confused},
    "trip_on": {"trip_on": confused},
    "on_result": {"on_result": confused},
    "classify": {"classify": first_match(confused_by_keys)},
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("judgement", JUDGEMENTS)
def test_a_judgement_that_raises_gives_the_place_of_the_probe_back(
    mode: Mode, clock: ManualRuntime, judgement: str, shared: bool, around: str
) -> None:
    """Its error comes out, the probe was no evidence, and the next call may try."""
    if shared:
        breaker = Breaker("db", recovery_timeout=5.0, store=MemoryStore(), **JUDGEMENTS[judgement])
    else:
        breaker = Breaker("db", recovery_timeout=5.0, **JUDGEMENTS[judgement])
    policies = guard(*AROUND[around], breaker)
    breaker.circuit.force_open(5.0)
    clock.advance(5.0)
    with pytest.raises(Confused):
        mode.run(policies, script("value" if judgement == "on_result" else KeyError()))
    snapshot = breaker.circuit.snapshot()
    assert (snapshot.state, snapshot.probes) == (State.half_open, 0)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["with", "async with"])
@pytest.mark.parametrize("judgement", [name for name in JUDGEMENTS if name != "on_result"])
def test_a_judgement_that_raises_leaves_every_block(clock: ManualRuntime, judgement: str, asynchronous: bool) -> None:
    """The policies further out are left as well."""
    breaker, limit = Breaker("db", recovery_timeout=5.0, **JUDGEMENTS[judgement]), bulkhead(1)
    breaker.circuit.force_open(5.0)
    clock.advance(5.0)
    for _ in range(2):  # the second finds a place in both
        with pytest.raises(Confused):
            _block(guard(limit, breaker), asynchronous, KeyError())
    assert (breaker.circuit.snapshot().probes, limit.snapshot().running) == (0, 0)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["with", "async with"])
def test_a_block_reads_the_classification_of_its_guard(clock: ManualRuntime, asynchronous: bool) -> None:
    """Not the default one."""
    breaker = Breaker("db", trips=consecutive(1))
    with pytest.raises(Said):
        _block(guard(breaker, classify=by_kind), asynchronous, Said(Kind.not_found))
    assert breaker.circuit.state is State.closed


def test_another_policy_s_answer_is_not_judged(mode: Mode, clock: ManualRuntime) -> None:
    """A fallback's value says nothing of the dependency."""
    breaker = Breaker("db", trips=consecutive(1), on_result=lambda value: value is None)
    assert mode.run(guard(breaker, fallback(value=None)), script(ConnectionResetError())) is None
    assert breaker.circuit.state is State.closed


def test_a_look_from_further_out_that_raises_comes_after_the_count(mode: Mode, clock: ManualRuntime) -> None:
    """The call succeeded as far as the circuit can see; what the retry chokes on is its own affair."""
    breaker = Breaker("db", trips=failure_rate(0.5, calls=10))
    with pytest.raises(Confused):
        mode.run(guard(retry(on_result=confused), breaker), script("fine"))
    assert breaker.circuit.snapshot().figures["failure_rate_calls"] == 1


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_replaces_nothing(clock: ManualRuntime, copied: Callable[[object], Breaker]) -> None:
    """What `replace=True` made is there, and its copies work with the same circuit."""
    made = Breaker("db", replace=True)
    assert copied(made).circuit is made.circuit


# -- options and preset --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recovery_timeout": 0.0}, "Breaker.recovery_timeout must be more than 0 seconds; got 0.0."),
        ({"growth": 0.5}, "1 keeps the open time fixed."),
        ({"recovery_timeout": 60.0, "max_recovery_timeout": 30.0}, "must be recovery_timeout (60.0) or more; got 30.0"),
        ({"probes": 0}, "Breaker.probes must be 1 or more; got 0."),
        ({"probes": 2, "successes": 3}, "Breaker.successes must be at most probes (2); got 3."),
        ({"probe_lease": -1.0}, "Breaker.probe_lease"),
        ({"initial": "ajar"}, "Breaker.initial must be one of closed, open, forced_open, disabled, metrics_only"),
        ({"trips": consecutive}, "Breaker.trips must be one or more rules"),
        ({"trips": ()}, "Breaker.trips must be one or more rules"),
        ({"failures": 5}, "Breaker.failures must be exception classes, kinds of fault or predicates; got 5."),
        ({"ignore": iter([KeyError])}, "An iterator can be read once only: give a tuple."),
        (
            {"initial": ["open"]},
            "Breaker.initial must be one of closed, open, forced_open, disabled, metrics_only; got",
        ),
        ({"replace": "no"}, "Breaker.replace must be True or False; got 'no'."),
        ({"key": "host"}, "Breaker.key must be callable; got 'host'."),
        ({"store": object()}, "Breaker.store must be a BreakerStore"),
        ({"max_keys": 0}, "Breaker.max_keys must be 1 or more"),
    ],
)
def test_wrong_options_are_named(resilience: None, options: dict[str, object], words: str) -> None:
    """Option, rule, value, cure."""
    with pytest.raises(OptionError) as caught:
        Breaker("b", **options)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "b" not in circuits


def test_all_wrong_options_in_one_message(resilience: None) -> None:
    """Nobody likes to mend one at a time."""
    with pytest.raises(OptionError) as caught:
        Breaker("", probes=0, growth=0.0)
    assert [line.split()[0] for line in str(caught.value).splitlines()] == [
        "Breaker.name",
        "Breaker.growth",
        "Breaker.probes",
    ]


def test_a_mistyped_option_is_recognised(resilience: None) -> None:
    """And the one that was meant is named."""
    with pytest.raises(UnknownOptionError, match="Did you mean recovery_timeout"):
        Breaker("b", recovery_timout=5.0)  # type: ignore[call-arg]
    with pytest.raises(UnknownOptionError, match="Did you mean failure_threshold"):
        circuit_breaker("b", failure_treshold=5)  # type: ignore[call-arg]


def test_missing_brackets(resilience: None) -> None:
    """`@circuit_breaker` without brackets is told what to write."""
    with pytest.raises(OptionError, match="with brackets"):
        circuit_breaker(lambda: 1)  # type: ignore[arg-type]


def test_the_preset(mode: Mode, clock: ManualRuntime) -> None:
    """Five of any Exception in a row open it for thirty seconds, the same each time; one probe decides."""
    breaker = circuit_breaker("db")
    fail(breaker, mode, 5, KeyError)
    for _ in range(3):
        assert breaker.circuit.seconds_left == 30.0
        clock.advance(30.0)
        fail(breaker, mode, error=ValueError)
    clock.advance(30.0)
    mode.run(breaker, script("fine"))
    assert breaker.circuit.state is State.closed


def test_the_preset_leaves_rejections_alone(mode: Mode, clock: ManualRuntime) -> None:
    """Every Exception of the guarded function, that is: our own policies' are not."""
    inner, outer = circuit_breaker("inner", 1), circuit_breaker("outer", 1)
    inner.circuit.force_open()
    with pytest.raises(CircuitOpenError):
        mode.run(guard(outer, inner), script("unused"))
    assert outer.circuit.state is State.closed


def _with_circuits(change: Callable[[], None]) -> Callable[..., object]:
    def function(*_: object) -> str:
        change()
        return "fine"

    return function


@pytest.mark.parametrize("when", ["opened", "reset"])
def test_a_circuit_that_changes_during_a_call(mode: Mode, clock: ManualRuntime, when: str) -> None:
    """The call's result is late then: its success is not counted for the new generation."""
    breaker = Breaker("b", trips=consecutive(2), recovery_timeout=5.0)

    def change() -> None:
        circuit = breaker.circuit
        if when == "opened":
            circuit.force_open(5.0)
        else:
            circuit.reset()
            permit = circuit.generation
            assert permit is not None
            circuit.settle(permit, Verdict.failure)

    assert mode.call(breaker(mode.wrap(_with_circuits(change)))) == "fine"
    if when == "opened":
        assert breaker.circuit.state is State.forced_open
    else:
        fail(breaker, mode)  # the second in a row: the late success has not forgotten the first
        assert breaker.circuit.state is State.open


class _NoLock:
    """A lock that nobody may take."""

    def __enter__(self) -> None:
        raise AssertionError("a closed circuit was locked")

    def __exit__(self, *error: object) -> None: ...


def test_a_closed_circuit_is_not_locked(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that succeeds costs a look at the circuit's slot: no lock is taken, no event is told."""
    breaker = Breaker("calm")
    guarded = breaker(mode.wrap(lambda: "ok"))
    monkeypatch.setattr(breaker.circuit, "_lock", _NoLock())
    told: list[Event] = []
    stop = listen(told.append)
    assert mode.call(guarded) == "ok"
    stop()
    assert told == []
