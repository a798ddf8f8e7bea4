"""What the default listener writes: levels, JSON lines, few repeats; and what must never be written."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from resilient_faces import (
    Breaker,
    Event,
    bulkhead,
    chain,
    fallback,
    guard,
    last_good,
    last_outcome,
    listen,
    rate_limit,
    report,
    request,
    retry,
    services,
    timeout,
)
from resilient_faces.breaker import MemoryStore, consecutive
from resilient_faces.retry import none
from resilient_faces.telemetry import JsonFormatter, log_event
from resilient_faces.testing import ManualRuntime, Mode, script

ALWAYS = {"requestId", "step", "status", "errorCode"}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, clock: ManualRuntime) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "resilient_faces")
    return caplog


def as_json(records: list[logging.LogRecord]) -> list[dict[str, Any]]:
    formatter = JsonFormatter()
    return [json.loads(formatter.format(record)) for record in records]


def failing(mode: Mode, policy: Any, *lines: object) -> None:
    with pytest.raises(ConnectionResetError):
        mode.run(policy, script(*(lines or (ConnectionResetError(),))))


# -- levels and loggers --------------------------------------------------------------------------------------------


def test_a_retry_is_information(mode: Mode, lines: pytest.LogCaptureFixture) -> None:
    """Attempt, delay and fault; on the retry's own logger."""
    mode.run(retry(attempts=3, backoff=1.5, jitter=none()), script(ConnectionResetError(), "fine"))
    record = lines.records[0]
    assert (record.name, record.levelno) == ("resilient_faces.retry", logging.INFO)
    assert "attempt=1" in record.getMessage()
    assert "delay=1.500s" in record.getMessage()
    assert "fault=transient/ConnectionResetError" in record.getMessage()


def test_giving_up_is_a_warning(mode: Mode, lines: pytest.LogCaptureFixture) -> None:
    """Somebody waited for nothing."""
    failing(mode, retry(attempts=2, backoff=1.0, jitter=none()))
    assert [(record.levelname, record.getMessage().split()[0]) for record in lines.records] == [
        ("INFO", "retry"),
        ("WARNING", "gave_up"),
    ]


def test_a_transition_is_a_warning(mode: Mode, lines: pytest.LogCaptureFixture, clock: ManualRuntime) -> None:
    """Every one of them, also several within a second: none is a repeat of another."""
    breaker = Breaker("db", trips=consecutive(1), recovery_timeout=0.1, growth=1.0)
    for _ in range(3):
        failing(mode, breaker)
        clock.advance(0.1)
    said = [record for record in lines.records if record.name == "resilient_faces.breaker"]
    assert [record.getMessage().split()[:3] for record in said] == [
        ["transition", "open", "name=db"],
        ["transition", "half_open", "name=db"],
        ["transition", "open", "name=db"],
        ["transition", "half_open", "name=db"],
        ["transition", "open", "name=db"],
    ]
    assert {record.levelname for record in said} == {"WARNING"}


def test_a_recovery_is_information(lines: pytest.LogCaptureFixture) -> None:
    """Good news is no warning."""
    services.degrade("db")
    lines.clear()
    services.recover("db")
    assert [(record.name, record.levelname) for record in lines.records] == [("resilient_faces.services", "INFO")]


def test_success_says_nothing(mode: Mode, lines: pytest.LogCaptureFixture) -> None:
    """The direct path builds no event and writes no line."""
    heard: list[Event] = []
    listen(heard.append)
    policy = guard(fallback(value=1), retry(), Breaker("db"))
    guarded = policy(mode.function(script("fine")))
    for _ in range(5):
        mode.call(guarded)
    assert lines.records == []
    assert heard == []


def test_a_level_that_is_off_writes_nothing(mode: Mode, lines: pytest.LogCaptureFixture) -> None:
    """Retries are not heard at WARNING."""
    lines.set_level(logging.WARNING, "resilient_faces")
    mode.run(retry(attempts=3, backoff=1.0), script(ConnectionResetError(), "fine"))
    assert lines.records == []


# -- repeats -------------------------------------------------------------------------------------------------------


def test_repeats_are_limited_and_counted(mode: Mode, lines: pytest.LogCaptureFixture, clock: ManualRuntime) -> None:
    """A thousand refusals in a second are one line; the next one says how many were left out."""
    breaker = Breaker("db")
    breaker.circuit.force_open()
    guarded = guard(fallback(value=1), breaker)(mode.function(script("unused")))
    lines.clear()
    for _ in range(100):
        mode.call(guarded)
    assert sum(record.getMessage().startswith("rejected") for record in lines.records) == 1
    clock.advance(1.0)
    lines.clear()
    mode.call(guarded)
    (line,) = [record.getMessage() for record in lines.records if record.getMessage().startswith("rejected")]
    assert line.endswith("(99 like it left out)")


def test_listeners_hear_every_one(mode: Mode, lines: pytest.LogCaptureFixture) -> None:
    """Only the log is spared; whoever counts counts right."""
    heard: list[Event] = []
    listen(heard.append)
    breaker = Breaker("db")
    breaker.circuit.force_open()
    guarded = guard(fallback(value=1), breaker)(mode.function(script("unused")))
    for _ in range(100):
        mode.call(guarded)
    assert sum(one.type == "rejected" for one in heard) == 100


def test_different_places_are_no_repeats(mode: Mode, lines: pytest.LogCaptureFixture) -> None:
    """Another circuit's refusal is another line."""
    for name in ("a", "b", "c"):
        breaker = Breaker(name)
        breaker.circuit.force_open()
        mode.run(guard(fallback(value=1), breaker), script("unused"))
    assert sum(record.getMessage().startswith("rejected") for record in lines.records) == 3


def test_memory_of_places_is_bounded(clock: ManualRuntime, caplog: pytest.LogCaptureFixture) -> None:
    """Keys from outside do not fill it."""
    from resilient_faces.telemetry import logs

    caplog.set_level(logging.INFO, "resilient_faces")
    for number in range(3000):
        log_event(Event(type="rejected", at=0.0, t=clock.now, policy="breaker", key=str(number)))
    assert len(logs.repeats._seen) <= 1000


# -- JSON ----------------------------------------------------------------------------------------------------------


def test_json_lines_always_carry_the_four(mode: Mode, lines: pytest.LogCaptureFixture) -> None:
    """Request, step, status and error code, in each line of each policy, in a request or outside of one."""
    breaker = Breaker("db", trips=consecutive(2))
    failing(mode, guard(retry(attempts=2, backoff=1.0), breaker))
    with request("r-1", step="index"):
        mode.run(guard(fallback(value=1), breaker), script("unused"))
        services.degrade("db", "x")
        services.recover("db")
    written = as_json(lines.records)
    assert len(written) >= 5
    for line in written:
        assert set(line) >= ALWAYS | {"level", "logger", "message", "schema", "type", "at"}
        assert all(isinstance(line[name], str) for name in ALWAYS)
    inside = [line for line in written if line["requestId"] == "r-1"]
    assert {line["type"] for line in inside} >= {"rejected", "degraded", "recovered"}
    assert {line["step"] for line in inside} == {"index"}
    rejected = next(line for line in written if line["type"] == "rejected")
    assert (rejected["status"], rejected["errorCode"]) == ("open", "CircuitOpenError")


def test_the_step_is_the_functions_name_unless_said(mode: Mode, lines: pytest.LogCaptureFixture) -> None:
    """A line without a step would belong nowhere."""
    mode.run(retry(attempts=2, backoff=1.0), script(ConnectionResetError(), "fine"))
    assert as_json(lines.records)[0]["step"] == "scripted"


def test_other_loggers_lines_carry_them_too(lines: pytest.LogCaptureFixture) -> None:
    """One formatter for the whole program: request and step from the context, the rest from the record."""
    lines.handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("an.app")
    lines.set_level(logging.INFO, "an.app")
    with request("r-2", step="upload"):
        logger.info("stored %d photos", 3)
        logger.warning("odd", extra={"status": "late", "errorCode": "E7", "step": "mine"})
        try:
            raise KeyError("SECRET")
        except KeyError:
            logger.exception("failed")
    first, second, third = (json.loads(line) for line in lines.text.splitlines())
    assert (first["requestId"], first["step"], first["status"], first["errorCode"]) == ("r-2", "upload", "info", "")
    assert first["message"] == "stored 3 photos"
    assert (second["step"], second["status"], second["errorCode"]) == ("mine", "late", "E7")
    assert third["errorCode"] == "KeyError"
    assert "SECRET" not in json.dumps(third)


def test_lines_are_single_lines(lines: pytest.LogCaptureFixture) -> None:
    """Whatever a message holds, a line ends at its end."""
    logging.getLogger("an.app").warning("two\nlines")
    assert "\n" not in JsonFormatter().format(lines.records[0])


# -- never ---------------------------------------------------------------------------------------------------------


def test_nothing_is_configured_and_nothing_is_printed() -> None:
    """No basicConfig, no handler but the NullHandler: a program that set up no logging sees no line of ours."""
    program = """
import logging
import resilient_faces as rf
from resilient_faces.breaker import consecutive
before = logging.getLogger().handlers[:]
@rf.retry(attempts=2, backoff=0.0)
@rf.Breaker("db", trips=consecutive(1))
def fail():
    raise ConnectionResetError
for _ in range(3):
    try:
        fail()
    except Exception:
        pass
rf.services.degrade("db", "x")
assert logging.getLogger().handlers == before == []
assert logging.getLogger().level == logging.WARNING
own = logging.getLogger("resilient_faces")
assert [type(one).__name__ for one in own.handlers] == ["NullHandler"]
assert own.level == logging.NOTSET and own.propagate
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


MARK = "s3cr3t-mark"
URL = f"rtsp://user:{MARK}@camera/stream"


class Leaky(ConnectionError):
    """An error whose message, arguments, notes and attributes hold what must not travel."""

    def __init__(self) -> None:
        super().__init__(f"cannot open {URL}")
        self.url = URL
        self.frame = MARK.encode()


def test_marked_bytes_never_leave(mode: Mode, lines: pytest.LogCaptureFixture, clock: ManualRuntime) -> None:
    """Planted in arguments, results, messages of errors and URLs, they reach no log, event, report or error of ours."""
    heard: list[Event] = []
    listen(heard.append)
    found: list[object] = []
    arguments = (MARK, {"embedding": MARK}, URL)

    class Broken(MemoryStore):
        def load(self, key: str) -> None:
            raise OSError(URL)

    def leak(*_: object) -> str:
        raise Leaky

    breaker = Breaker("db", trips=consecutive(2), recovery_timeout=5.0)
    policies = (
        retry(attempts=3, backoff=1.0),
        guard(fallback(value=MARK), retry(attempts=2, backoff=1.0), breaker),
        guard(fallback(function=lambda *_: MARK), breaker),
        guard(fallback(value=MARK, on_result=lambda value: value == MARK)),
        chain(leak, ("cache", lambda *_: MARK)),
        last_good(60.0, key=lambda *_: 1),
        guard(retry(attempts=2, backoff=1.0, on_result=lambda value: value == MARK)),
        Breaker("results", trips=consecutive(1), on_result=lambda value: value == MARK),
        Breaker("shared", trips=consecutive(1), store=Broken()),
        bulkhead(1, name="places"),
        rate_limit(100.0, name="pace"),
        timeout(5.0),
        breaker,
    )
    for policy in policies:
        for answers in ((Leaky(),), (MARK,), (Leaky(), MARK)):
            guarded: Any = policy(mode.function(script(*answers)))  # type: ignore[operator]
            for _ in range(3):
                try:
                    _, told = mode.call(guarded.call_with_report, *arguments)  # type: ignore[misc]
                    found.append(told)
                except Leaky as error:  # the user's own error comes out as it is
                    found.append(report(error))
                except Exception as error:
                    found.extend([error, str(error), error.args, report(error)])
                found.append(last_outcome())
    services.degrade("camera", Leaky())
    found.extend([services.health().to_json(), breaker.circuit.snapshot(), repr(breaker.circuit)])
    found.extend([repr(heard), [event.to_dict() for event in heard]])
    found.extend(as_json(lines.records))
    found.extend([record.getMessage() for record in lines.records])
    found.extend([vars(record) for record in lines.records])
    assert len(heard) > 30
    assert len(lines.records) > 10
    assert [one for one in found if MARK in repr(one)] == []


def test_a_listeners_error_is_not_spelt_out(lines: pytest.LogCaptureFixture, mode: Mode) -> None:
    """Only the names of listener and error are noted, at DEBUG."""

    def bad(event: Event) -> None:
        raise ValueError(MARK)

    listen(bad)
    failing(mode, retry(attempts=2, backoff=1.0))
    assert any(record.levelname == "DEBUG" and "ValueError" in record.getMessage() for record in lines.records)
    assert not any(MARK in record.getMessage() for record in lines.records)


# -- events --------------------------------------------------------------------------------------------------------


def test_events_are_frozen_values() -> None:
    """A listener cannot change what the next one hears."""
    event = Event(type="retry", at=1.0, t=2.0)
    with pytest.raises(AttributeError):
        event.status = "changed"  # type: ignore[misc]
    assert event == Event(type="retry", at=1.0, t=2.0)


def test_an_event_as_json_members() -> None:
    """The four are always there, what is absent is left out, and the schema has a number."""
    assert Event(type="retry", at=1.0, t=2.0).to_dict() == {
        "schema": 1,
        "type": "retry",
        "at": 1.0,
        "t": 2.0,
        "requestId": "",
        "step": "",
        "status": "",
        "errorCode": "",
    }
    full = Event(type="retry", at=1.0, t=2.0, request_id="r", attempt=1, delay=0.0, kind="timeout", code="X").to_dict()
    assert (full["requestId"], full["attempt"], full["delay"], full["kind"]) == ("r", 1, 0.0, "timeout")


def test_a_listener_can_be_taken_away(mode: Mode, clock: ManualRuntime) -> None:
    """`listen` gives the way to end it."""
    heard: list[Event] = []
    stop = listen(heard.append)
    stop()
    failing(mode, retry(attempts=2, backoff=1.0))
    assert heard == []
