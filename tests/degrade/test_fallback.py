"""Another answer when the function has none: chosen by what went wrong, and always recognisable as degraded."""

from __future__ import annotations

import pytest

from resilient_faces import (
    CircuitOpenError,
    Event,
    Fallback,
    Fault,
    Kind,
    OptionError,
    circuit_breaker,
    fallback,
    first_match,
    guard,
    last_outcome,
    listen,
    report,
    retry,
    with_fallback,
)
from resilient_faces.faults import rule
from resilient_faces.retry import none
from resilient_faces.testing import ManualRuntime, Mode, script

ANSWERED = {
    Kind.throttled,
    Kind.transient,
    Kind.timeout,
    Kind.unavailable,
    Kind.integrity,
    Kind.unknown,
    Kind.rejected,
}


class Said(Exception):
    def __init__(self, kind: Kind) -> None:
        super().__init__(kind.value)
        self.kind = kind


by_kind = first_match(lambda error: Fault(error.kind, error.kind.value) if isinstance(error, Said) else None)


def twice(value: int) -> int:
    return 2 * value


# -- what answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, False, 0, "", "stale", ()])
def test_by_value(mode: Mode, clock: ManualRuntime, value: object) -> None:
    """Empty values are answers too."""
    assert mode.run(fallback(value=value), script(ConnectionResetError())) == value


def test_by_function_with_the_calls_arguments(mode: Mode, clock: ManualRuntime) -> None:
    """Positional and by keyword, and async where the guard is."""
    seen: list[object] = []

    def answer(*args: object, **kwargs: object) -> str:
        seen.append((args, kwargs))
        return "stale"

    guarded = fallback(function=mode.wrap(answer))(mode.function(script(ConnectionResetError())))
    assert mode.call(guarded, 1, 2, three=3) == "stale"
    assert seen == [((1, 2), {"three": 3})]


def test_a_plain_function_answers_in_an_async_guard(mode: Mode, clock: ManualRuntime) -> None:
    """An alternative need not be a coroutine function."""
    assert mode.run(fallback(function=twice), script(ConnectionResetError()), 21) == 42


def test_success_asks_nobody(mode: Mode, clock: ManualRuntime) -> None:
    """The function's own answer stands, and nothing is marked."""
    called: list[object] = []
    guarded = fallback(function=lambda *_: called.append(1))(mode.function(script("fresh")))
    assert mode.call(guarded) == "fresh"
    assert called == []
    assert last_outcome() is None


@pytest.mark.parametrize("kind", list(Kind))
def test_the_kinds_that_are_answered(mode: Mode, clock: ManualRuntime, kind: Kind) -> None:
    """Answers of the business, and what only a person can mend, come out as they are."""
    assert rule(kind).fallback is (kind in ANSWERED)
    guarded = fallback(value="stale", classify=by_kind)(mode.function(script(Said(kind))))
    if kind in ANSWERED:
        assert mode.call(guarded) == "stale"
    else:
        with pytest.raises(Said):
            mode.call(guarded)


@pytest.mark.parametrize("kind", [Kind.throttled, Kind.timeout, Kind.unavailable])
def test_by_kind(mode: Mode, clock: ManualRuntime, kind: Kind) -> None:
    """Each kind its answer, value or callable, and the rest the general one."""
    policy = Fallback(by_kind={Kind.throttled: "later", Kind.timeout: twice}, value="none", classify=by_kind)
    wanted = {Kind.throttled: "later", Kind.timeout: 42, Kind.unavailable: "none"}[kind]
    assert mode.run(policy, script(Said(kind)), 21) == wanted


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (ConnectionResetError(), "reset"),
        (ConnectionAbortedError(), "connection"),
        (OSError(), "os"),
        (KeyError(), "kind"),
    ],
)
def test_the_most_specific_class_speaks(mode: Mode, clock: ManualRuntime, error: Exception, answer: str) -> None:
    """Whatever the order they are named in; a class goes before a kind."""
    policy = Fallback(
        by_error={OSError: "os", ConnectionError: "connection", ConnectionResetError: "reset"},
        by_kind={Kind.unknown: "kind", Kind.transient: "wrong"},
    )
    assert mode.run(policy, script(error)) == answer


def test_a_cause_speaks_after_the_error_itself(mode: Mode, clock: ManualRuntime) -> None:
    """An error that was raised from another is known by that one too."""
    wrapped = RuntimeError()
    wrapped.__cause__ = ConnectionResetError()
    assert mode.run(Fallback(by_error={ConnectionError: "by cause"}), script(wrapped)) == "by cause"
    policy = Fallback(by_error={ConnectionError: "by cause", RuntimeError: "itself"})
    assert mode.run(policy, script(wrapped)) == "itself"


def test_nothing_fits(mode: Mode, clock: ManualRuntime) -> None:
    """Then the error comes out."""
    with pytest.raises(ConnectionResetError):
        mode.run(Fallback(by_error={KeyError: 1}, by_kind={Kind.timeout: 2}), script(ConnectionResetError()))


@pytest.mark.parametrize(
    "on", [KeyError, Kind.not_found, lambda error: isinstance(error, KeyError), (ValueError, KeyError)]
)
def test_on_by_hand(mode: Mode, clock: ManualRuntime, on: object) -> None:
    """Then the classification is not asked."""
    policy = fallback(value="stale", on=on)  # type: ignore[arg-type]
    error = FileNotFoundError() if on is Kind.not_found else KeyError("x")
    assert mode.run(policy, script(error)) == "stale"
    with pytest.raises(ConnectionResetError):
        mode.run(policy, script(ConnectionResetError()))


@pytest.mark.parametrize("said", [True, Fault(Kind.integrity, "empty")])
def test_on_result(mode: Mode, clock: ManualRuntime, said: object) -> None:
    """A value that is no answer is replaced, with its fault in the report; any other stands."""
    policy = Fallback(value="stale", on_result=lambda value: said if value == "" else None)  # type: ignore[arg-type, return-value]
    value, told = mode.call(policy(mode.function(script(""))).call_with_report)  # type: ignore[attr-defined, misc]
    assert (value, told.outcome) == ("stale", "degraded")
    assert [fault.code for fault in told.faults] == ["result" if said is True else "empty"]
    assert mode.run(policy, script("fresh")) == "fresh"


def test_what_the_alternative_raises_comes_out(mode: Mode, clock: ManualRuntime) -> None:
    """With the first error as its context, so that the story can be read."""

    def answer() -> None:
        raise KeyError("no cache")

    with pytest.raises(KeyError) as caught:
        mode.run(fallback(function=mode.wrap(answer)), script(ConnectionResetError()))
    assert isinstance(caught.value.__context__, ConnectionResetError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_are_not_answered(clock: ManualRuntime, error: type[BaseException]) -> None:
    """The way out of the program is not a fault."""
    with pytest.raises(error):
        fallback(value="stale", on=BaseException).call(script(error()).function())


def test_rejections_are_answered(mode: Mode, clock: ManualRuntime) -> None:
    """An open circuit is the very reason to have a fallback, and the circuit is not called."""
    breaker = circuit_breaker("db")
    breaker.circuit.force_open()
    scripted = script("unused")
    assert mode.run(guard(fallback(value="stale"), breaker), scripted) == "stale"
    assert scripted.count == 0


def test_after_the_retries(mode: Mode, clock: ManualRuntime) -> None:
    """Only when all attempts are used."""
    scripted = script(ConnectionResetError())
    policy = guard(fallback(value="stale"), retry(attempts=3, backoff=1.0, jitter=none()))
    assert mode.run(policy, scripted) == "stale"
    assert scripted.count == 3
    assert clock.slept == [1.0, 1.0]


# -- recognisable --------------------------------------------------------------------------------------------------


def test_last_outcome_tells(clock: ManualRuntime) -> None:
    """Right after the call: who answered, and why."""
    assert fallback(value=1, name="cache").call(script(ConnectionResetError()).function()) == 1
    outcome = last_outcome()
    assert outcome is not None
    assert (outcome.source, outcome.degraded, outcome.operation) == ("cache", True, "scripted")
    assert outcome.fault is not None
    assert outcome.fault.code == "ConnectionResetError"


@pytest.mark.parametrize("degraded", [False, True])
def test_the_report_tells(mode: Mode, clock: ManualRuntime, degraded: bool) -> None:
    """For exactly one call."""
    guarded = fallback(value="stale", name="cache")(
        mode.function(script(ConnectionResetError() if degraded else "fresh"))
    )
    value, told = mode.call(guarded.call_with_report)  # type: ignore[misc]
    if degraded:
        assert (value, told.outcome, told.source, told.degraded) == ("stale", "degraded", "cache", True)
        assert [fault.code for fault in told.faults] == ["ConnectionResetError"]
    else:
        assert (value, told.outcome, told.source, told.degraded) == ("fresh", "first_try", None, False)


def test_the_event_tells(mode: Mode, clock: ManualRuntime) -> None:
    """Source, operation and fault, and nothing of the answer."""
    heard: list[Event] = []
    listen(heard.append)
    mode.run(fallback(value="SECRET", name="cache"), script(ConnectionResetError("SECRET")))
    (event,) = heard
    assert (event.type, event.policy, event.status, event.name) == ("degraded", "fallback", "degraded", "cache")
    assert (event.operation, event.code, event.outcome) == ("scripted", "ConnectionResetError", "degraded")
    assert "SECRET" not in repr(event)


def test_an_outer_fallback_leaves_a_degraded_answer_alone(mode: Mode, clock: ManualRuntime) -> None:
    """An answer that stands in is not judged again as a result."""
    policy = guard(fallback(value="outer", on_result=lambda value: value == ""), fallback(value=""))
    assert mode.run(policy, script(ConnectionResetError())) == ""


def test_the_error_carries_its_report(mode: Mode, clock: ManualRuntime) -> None:
    """Also when no fallback answered."""
    with pytest.raises(FileNotFoundError) as caught:
        mode.run(guard(fallback(value=1), retry()), script(FileNotFoundError()))
    assert report(caught.value).attempts == 1


# -- with_fallback and options -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyError(), FileNotFoundError(), PermissionError(), CircuitOpenError("x", 1.0)])
def test_with_fallback_answers_every_exception(mode: Mode, clock: ManualRuntime, error: Exception) -> None:
    """Whatever its kind; None if nothing else is said."""
    assert mode.run(with_fallback(fallback_value=False), script(error)) is False
    assert mode.run(with_fallback(), script(error)) is None
    assert mode.run(with_fallback(fallback_function=twice), script(error), 4) == 8


def test_options_are_checked(resilience: None) -> None:
    """All wrong ones in one message."""
    with pytest.raises(OptionError, match="value=None is an answer too"):
        Fallback()
    with pytest.raises(OptionError, match=r"Fallback\.function must be left out when value is given"):
        Fallback(value=1, function=twice)
    with pytest.raises(OptionError) as caught:
        Fallback(by_error={"x": 1}, by_kind={"timeout": 1}, on=5, on_result=3)  # type: ignore[dict-item, arg-type]
    for option in ("by_error", "by_kind", "on must", "on_result"):
        assert f"Fallback.{option}" in str(caught.value)
    with pytest.raises(OptionError) as caught:
        Fallback(by_error=[ValueError], by_kind={Kind.timeout}, name=5)  # type: ignore[arg-type]
    for words in (
        "by_error must be a mapping of",
        "by_kind must be a mapping of",
        "Fallback.name must be a name; got 5.",
    ):
        assert words in str(caught.value)
    with pytest.raises(OptionError, match="Did you mean value"):
        fallback(valu=1)  # type: ignore[call-arg]
