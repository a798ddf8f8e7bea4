"""Events: frozen values with a schema, and listeners that cannot break a call."""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging

import pytest

from resilient_faces import Event, Fault, Kind, circuit_breaker, fallback, guard, listen, request, retry
from resilient_faces._core.context import event
from resilient_faces.events import SCHEMA, fault_members
from resilient_faces.retry import none
from resilient_faces.testing import ManualRuntime, Mode, script

ALWAYS = {"schema", "type", "at", "t", "requestId", "step", "status", "errorCode"}


def heard() -> list[Event]:
    """A list that fills with every event from now on."""
    events: list[Event] = []
    listen(events.append)
    return events


def test_an_event_cannot_be_changed() -> None:
    """A listener gets the same value as the next one."""
    one = Event(type="retry", at=1.0, t=2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.status = "x"  # type: ignore[misc]


def test_the_shortest_event_still_has_the_four_members() -> None:
    """`requestId`, `step`, `status` and `errorCode` are always there, and nothing that is empty is."""
    members = Event(type="retry", at=1.0, t=2.0).to_dict()
    assert members == {
        "schema": SCHEMA,
        "type": "retry",
        "at": 1.0,
        "t": 2.0,
        "requestId": "",
        "step": "",
        "status": "",
        "errorCode": "",
    }


def test_a_whole_event_as_json() -> None:
    """Every member has a JSON name; zero is a value and stays."""
    one = Event(
        type="retry", at=1.0, t=2.0, request_id="r", step="s", status="retrying", error_code="E", policy="retry",
        name="n", key="k", operation="o", attempt=1, parent=2, delay=0.0, elapsed=0.0, kind="transient", code="E",
        executed="no", outcome="failed",
    )  # fmt: skip
    members = one.to_dict()
    assert json.loads(json.dumps(members)) == members
    names = {field.name for field in dataclasses.fields(Event)} - {"request_id", "error_code"}
    assert set(members) == names | {"requestId", "errorCode"}
    assert members["delay"] == 0.0


def test_the_schema_number_is_one() -> None:
    """It rises only when a member changes its meaning or goes."""
    assert SCHEMA == 1


def test_what_an_event_says_of_a_fault() -> None:
    """Kind, code and whether it was carried out; the code is the error code."""
    assert fault_members(Fault(Kind.throttled, "SlowDown")) == {
        "kind": "throttled",
        "code": "SlowDown",
        "executed": "unknown",
        "error_code": "SlowDown",
    }


def test_an_event_carries_request_and_step(clock: ManualRuntime) -> None:
    """`with request(...)` names whose work it is; outside of it the operation stands for the step."""
    with request("id-1", step="index"):
        inside = event("step", policy="x", status="s", operation="load")
    outside = event("step", policy="x", status="s", operation="load")
    assert (inside.request_id, inside.step, inside.operation) == ("id-1", "index", "load")
    assert (outside.request_id, outside.step) == ("", "load")


def test_requests_nest(resilience: None) -> None:
    """The inner block's names end with it."""
    with request("a", "one") as outer:
        with request("b"):
            assert event("step", policy="x", status="s").request_id == "b"
        assert event("step", policy="x", status="s").request_id == outer.id == "a"


def test_events_are_dated_by_both_clocks(clock: ManualRuntime) -> None:
    """`at` for people, `t` for differences."""
    one = event("step", policy="x", status="s")
    assert (one.at, one.t) == (clock.wall(), clock.now)


def test_the_story_of_a_call_that_recovers(mode: Mode, clock: ManualRuntime) -> None:
    """Two retries with their delays, then the recovery; all of them name the operation."""
    events = heard()
    policy = retry(attempts=3, backoff=2.0, jitter=none())
    mode.run(policy, script(ConnectionResetError(), ConnectionRefusedError(), "ok"))
    assert [(one.type, one.status, one.attempt, one.delay, one.code, one.outcome) for one in events] == [
        ("retry", "retrying", 1, 2.0, "ConnectionResetError", ""),
        ("retry", "retrying", 2, 2.0, "ConnectionRefusedError", ""),
        ("recovered", "succeeded", 3, None, "", "after_retry"),
    ]
    assert {one.operation.rpartition(".")[2] for one in events} == {"scripted"}
    assert events[-1].elapsed == 4.0


def test_the_story_of_a_call_that_fails(mode: Mode, clock: ManualRuntime) -> None:
    """The last event says that nothing more is tried."""
    events = heard()
    with pytest.raises(ConnectionResetError):
        mode.run(retry(attempts=2, backoff=1.0, jitter=none()), script(ConnectionResetError()))
    assert [(one.type, one.attempt, one.outcome) for one in events] == [("retry", 1, ""), ("gave_up", 2, "failed")]


def test_the_story_of_a_circuit_and_a_fallback(mode: Mode, clock: ManualRuntime) -> None:
    """The opening is told once, then rejections, each answered by the fallback."""
    events = heard()
    policy = guard(fallback(value=0, name="zero"), circuit_breaker("db", failure_threshold=1))
    function = policy(mode.function(script(ConnectionResetError())))
    assert mode.call(function) == 0
    assert mode.call(function) == 0
    assert [(one.type, one.status, one.name, one.kind) for one in events] == [
        ("transition", "open", "db", "transient"),
        ("degraded", "degraded", "zero", "transient"),
        ("rejected", "open", "db", "rejected"),
        ("degraded", "degraded", "zero", "rejected"),
    ]


def test_a_call_that_succeeds_is_no_event(mode: Mode, clock: ManualRuntime) -> None:
    """Nothing is built on the direct path."""
    events = heard()
    mode.run(guard(fallback(value=0), retry(), circuit_breaker("db")), script("ok"))
    assert events == []


def test_a_listener_that_raises_breaks_nothing(mode: Mode, clock: ManualRuntime) -> None:
    """What a listener raises stays with it, and the next one still hears."""

    def broken(one: Event) -> None:
        raise RuntimeError(one.type)

    listen(broken)
    events = heard()
    assert mode.run(retry(backoff=0.0), script(ConnectionResetError(), "ok")) == "ok"
    assert [one.type for one in events] == ["retry", "recovered"]


def test_a_listener_that_makes_a_guarded_call_is_not_told_of_it(mode: Mode, clock: ManualRuntime) -> None:
    """It would never end, when what it calls fails as well. Others are told."""
    called: list[Event] = []
    everything = heard()
    alert = retry(attempts=2, backoff=0.0)(script(ConnectionResetError()).function())

    def alerting(what: Event) -> None:
        called.append(what)
        with pytest.raises(ConnectionResetError):
            alert()

    listen(alerting)
    with pytest.raises(ConnectionResetError):
        mode.run(retry(attempts=2, backoff=0.0), script(ConnectionResetError()))
    assert [one.type for one in called] == ["retry", "gave_up"]
    assert [one.type for one in everything] == ["retry", "retry", "gave_up", "gave_up", "retry", "gave_up"]


def test_a_listener_may_stop_listening(clock: ManualRuntime) -> None:
    """Calling what `listen` gave ends it, for this listener alone, twice without harm."""
    first: list[Event] = []
    stop = listen(first.append)
    second = heard()
    stop()
    stop()
    retry(backoff=0.0)(script(ConnectionResetError(), 1).function())()
    assert first == []
    assert len(second) == 2


def test_arguments_and_messages_stay_out_of_events(mode: Mode, clock: ManualRuntime) -> None:
    """An event has names, counts, durations and kinds; what was sent and what the error said is private."""
    events = heard()
    policy = guard(fallback(value="secret-4"), retry(backoff=0.0), circuit_breaker("db", failure_threshold=2))
    mode.run(policy, script(ConnectionResetError("secret-1 http://user:pw@host")), "secret-2", b"secret-3")
    told = json.dumps([one.to_dict() for one in events])
    assert len(events) >= 4
    assert "secret" not in told
    assert "pw" not in told


def test_the_parent_is_the_attempt_further_out(mode: Mode, clock: ManualRuntime) -> None:
    """Nested retries are visible: every event of the inner one names the outer one's attempt, from the second on."""
    events = heard()
    lines = script(ConnectionResetError(), ConnectionResetError(), ConnectionResetError(), "ok")
    policy = retry(attempts=2, backoff=0.0)
    inner = policy(mode.function(lines))

    if mode.is_async:

        async def outer() -> object:
            return await inner()  # type: ignore[misc]
    else:

        def outer() -> object:  # type: ignore[misc]
            return inner()

    assert mode.call(policy(outer)) == "ok"
    inside = [(one.type, one.attempt, one.parent) for one in events if "scripted" in one.operation]
    assert inside == [("retry", 1, None), ("gave_up", 2, None), ("retry", 1, 2), ("recovered", 2, 2)]


def test_nothing_is_built_when_nobody_listens(clock: ManualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a listener and with the loggers at their defaults an INFO event is not even made."""
    made: list[object] = []
    module = importlib.import_module("resilient_faces.retry.policy")
    monkeypatch.setattr(module, "event", lambda *a, **k: made.append(a))
    assert not logging.getLogger("resilient_faces.retry").isEnabledFor(logging.INFO)
    retry(backoff=0.0)(script(ConnectionResetError(), "ok").function())()
    assert made == []
