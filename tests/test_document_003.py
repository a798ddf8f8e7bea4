"""Document 003, the session service's error handling: its names, its numbers, and the tests that it lists.

The four classes hold the tests that the document announces, under its headings: 6, 7, 9 and 2. What follows them is the
rest of its facts, and how its contradictions were settled.
"""

from __future__ import annotations

import inspect
import json
import logging
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from resilient_faces import (
    CircuitOpenError,
    Event,
    GracefulDegradationManager,
    RetryableError,
    circuit_breaker,
    circuits,
    guard,
    handle_cognito_unavailable,
    handle_dynamodb_unavailable,
    listen,
    report,
    retry,
    retry_operation,
    retry_with_backoff,
    services,
    with_fallback,
)
from resilient_faces.breaker import State
from resilient_faces.testing import ManualRuntime, Mode, script


def fail(mode: Mode, policy: Any, times: int = 1, error: Exception | None = None) -> None:
    for _ in range(times):
        with pytest.raises(type(error or RetryableError())):
            mode.run(policy, script(error or RetryableError()))


class TestRetryLogic:
    """003-26: six tests."""

    def test_success_on_first_attempt(self, mode: Mode, clock: ManualRuntime) -> None:
        """One call, no wait."""
        scripted = script("fine")
        assert mode.run(retry_with_backoff(), scripted) == "fine"
        assert (scripted.count, clock.slept) == (1, [])

    def test_success_after_transient_errors(self, mode: Mode, clock: ManualRuntime) -> None:
        """Two failures, then the answer."""
        scripted = script(RetryableError(), RetryableError(), "fine")
        assert mode.run(retry_with_backoff(), scripted) == "fine"
        assert (scripted.count, len(clock.slept)) == (3, 2)

    def test_failure_after_max_retries(self, mode: Mode, clock: ManualRuntime) -> None:
        """Three retries are four calls (C12), and the original error comes out."""
        error = RetryableError("throttled")
        scripted = script(error)
        with pytest.raises(RetryableError) as caught:
            mode.run(retry_with_backoff(max_retries=3), scripted)
        assert caught.value is error
        assert scripted.count == 4

    @pytest.mark.parametrize(("chance", "delays"), [(0.0, [1.0, 2.0, 4.0]), (1.0, [1.1, 2.2, 4.4])])
    def test_exponential_backoff_timing(
        self, mode: Mode, clock: ManualRuntime, chance: float, delays: list[float]
    ) -> None:
        """1, 2, 4 s and up to a tenth more: 7.0 to 7.7 s in all (003-03, 003-05)."""
        clock.chance = chance
        fail(mode, retry_with_backoff(max_retries=3, base_delay=1.0))
        assert clock.slept == pytest.approx(delays)

    def test_functional_approach(self, mode: Mode, clock: ManualRuntime) -> None:
        """`retry_operation()` has the same parameters and does the same."""
        scripted = script(RetryableError(), "fine")
        clock.chance = 0.0
        answer = mode.call(retry_operation, mode.function(scripted), 1, max_retries=2, base_delay=3.0, key="value")
        assert answer == "fine"
        assert scripted.calls == [((1,), {"key": "value"})] * 2
        assert clock.slept == [3.0]
        ours = inspect.signature(retry_with_backoff).parameters
        theirs = inspect.signature(retry_operation).parameters
        assert {name: one.default for name, one in ours.items()} == {name: theirs[name].default for name in ours}

    def test_jitter_application(self, mode: Mode, clock: ManualRuntime) -> None:
        """0 to 10 % of the delay, in proportion to the draw, added above it."""
        for chance in (0.0, 0.25, 0.5, 0.999):
            clock.chance = chance
            clock.slept.clear()
            fail(mode, retry_with_backoff(max_retries=1, base_delay=8.0))
            assert clock.slept == pytest.approx([8.0 * (1.0 + 0.1 * chance)])


class TestCircuitBreaker:
    """003-27: seven tests."""

    def test_closed_state_operation(self, mode: Mode, clock: ManualRuntime) -> None:
        """Requests pass through, and four failures change nothing."""
        breaker = circuit_breaker(name="dynamodb")
        fail(mode, breaker, 4)
        assert mode.run(breaker, script("fine")) == "fine"
        assert breaker.circuit.state is State.closed

    def test_opening_after_threshold(self, mode: Mode, clock: ManualRuntime) -> None:
        """The fifth failure opens it."""
        breaker = circuit_breaker(name="dynamodb", failure_threshold=5)
        fail(mode, breaker, 5)
        assert breaker.circuit.state is State.open

    def test_fail_fast_in_open_state(self, mode: Mode, clock: ManualRuntime) -> None:
        """The function is not called."""
        breaker = circuit_breaker(name="dynamodb")
        fail(mode, breaker, 5)
        scripted = script("unused")
        with pytest.raises(CircuitOpenError):
            mode.run(breaker, scripted)
        assert scripted.count == 0

    def test_half_open_transition(self, mode: Mode, clock: ManualRuntime) -> None:
        """After 30 s, not before, one call is let through."""
        breaker = circuit_breaker(name="dynamodb", timeout=30)
        fail(mode, breaker, 5)
        clock.advance(29.9)
        with pytest.raises(CircuitOpenError):
            mode.run(breaker, script("unused"))
        clock.advance(0.1)
        seen: list[State] = []
        mode.call(breaker(mode.wrap(lambda: seen.append(breaker.circuit.state))))
        assert seen == [State.half_open]

    def test_recovery_to_closed(self, mode: Mode, clock: ManualRuntime) -> None:
        """A success closes it; a failure opens it again, for the same time."""
        breaker = circuit_breaker(name="dynamodb")
        fail(mode, breaker, 5)
        clock.advance(30.0)
        fail(mode, breaker)
        assert breaker.circuit.state is State.open
        assert breaker.circuit.seconds_left == 30.0
        clock.advance(30.0)
        assert mode.run(breaker, script("fine")) == "fine"
        assert breaker.circuit.state is State.closed

    def test_decorator_usage(self, clock: ManualRuntime) -> None:
        """As the document writes it; name, state and counters can be looked at."""

        @circuit_breaker(name="dynamodb", failure_threshold=2, timeout=30)
        def query() -> None:
            """Ask."""
            raise RetryableError

        for _ in range(2):
            with pytest.raises(RetryableError):
                query()
        with pytest.raises(CircuitOpenError):
            query()
        assert (query.__name__, query.__doc__) == ("query", "Ask.")
        assert circuits["dynamodb"].snapshot().failures == 2

    def test_manual_reset(self, mode: Mode, clock: ManualRuntime) -> None:
        """By hand, by name or on the breaker."""
        breaker = circuit_breaker(name="dynamodb")
        for reset in (breaker.reset, circuits["dynamodb"].reset):
            fail(mode, breaker, 5)
            reset()
            assert breaker.circuit.state is State.closed
            assert mode.run(breaker, script("fine")) == "fine"


class TestGracefulDegradation:
    """003-28: nine tests; the document announces nine and lists seven headings (C33)."""

    def test_fallback_value_return(self, mode: Mode, clock: ManualRuntime) -> None:
        """The value, for any error."""
        assert mode.run(with_fallback(fallback_value=False), script(KeyError())) is False

    def test_fallback_function_call(self, mode: Mode, clock: ManualRuntime) -> None:
        """Called with the call's arguments."""
        policy = with_fallback(fallback_function=lambda user: f"cached {user}")
        assert mode.run(policy, script(RetryableError()), "ada") == "cached ada"

    def test_success_without_fallback(self, mode: Mode, clock: ManualRuntime) -> None:
        """The function's own answer, and the fallback is not asked."""
        assert mode.run(with_fallback(fallback_value="stale"), script("fresh")) == "fresh"

    def test_dynamodb_unavailability(self, clock: ManualRuntime) -> None:
        """503 Service Unavailable, no fallback."""
        assert handle_dynamodb_unavailable()["statusCode"] == 503

    def test_cognito_unavailability_speaker(self, clock: ManualRuntime) -> None:
        """Rejected."""
        answer = handle_cognito_unavailable("speaker")
        assert answer["statusCode"] == 503
        assert json.loads(str(answer["body"]))["allowed"] is False

    def test_cognito_unavailability_listener(self, clock: ManualRuntime) -> None:
        """Let in, anonymously (003-32)."""
        answer = handle_cognito_unavailable("listener")
        assert answer["statusCode"] == 200
        assert json.loads(str(answer["body"])) == {"allowed": True, "anonymous": True}

    def test_degradation_manager(self, clock: ManualRuntime) -> None:
        """Process-wide: what one instance marks, another knows (003-20)."""
        GracefulDegradationManager().mark_degraded("cognito", "timeout")
        manager = GracefulDegradationManager()
        assert manager.is_degraded("cognito")
        assert manager.get_degraded_services() == ["cognito"]
        assert manager.get_service_health("cognito")["reason"] == "timeout"

    def test_degradation_manager_recovery(self, clock: ManualRuntime) -> None:
        """A recovery is recorded and told."""
        heard: list[Event] = []
        listen(heard.append)
        manager = GracefulDegradationManager()
        manager.mark_degraded("cognito")
        manager.mark_recovered("cognito")
        assert not manager.is_degraded("cognito")
        assert manager.get_service_health("cognito")["recoveries"] == 1
        assert [one.type for one in heard] == ["degraded", "recovered"]

    def test_system_health_tracking(self, clock: ManualRuntime) -> None:
        """Critical, important, optional (003-19): unhealthy, degraded, degraded."""
        manager = GracefulDegradationManager()
        for service, priority in (("dynamodb", "critical"), ("cognito", "important"), ("limits", "optional")):
            manager.register_service(service, priority)
        assert manager.get_system_health()["status"] == "healthy"
        for service, status in (("limits", "degraded"), ("cognito", "degraded"), ("dynamodb", "unhealthy")):
            manager.mark_degraded(service)
            assert manager.get_system_health()["status"] == status


class TestIntegration:
    """003-29: two tests."""

    def test_retry_with_circuit_breaker(self, mode: Mode, clock: ManualRuntime) -> None:
        """Every attempt is counted; once the circuit opens nothing is repeated, since it would be refused (D1)."""
        scripted = script(RetryableError())
        policy = guard(retry_with_backoff(max_retries=9), circuit_breaker("dynamodb", failure_threshold=5))
        with pytest.raises((RetryableError, CircuitOpenError)):
            mode.run(policy, scripted)
        assert scripted.count == 5
        assert circuits["dynamodb"].state is State.open

    def test_graceful_degradation_with_service_unavailability(self, mode: Mode, clock: ManualRuntime) -> None:
        """Retries, then the fallback's answer; the service is marked and comes back."""

        def unavailable(user: str) -> dict[str, object]:
            return handle_dynamodb_unavailable()

        scripted = script(*[RetryableError()] * 4, {"statusCode": 200})
        policy = guard(with_fallback(fallback_function=unavailable), retry_with_backoff())
        guarded = policy(mode.function(scripted))
        answer: Any = mode.call(guarded, "ada")
        assert answer["statusCode"] == 503
        assert services.health().status == "unhealthy"
        answer = mode.call(guarded, "ada")
        assert answer["statusCode"] == 200


@pytest.mark.parametrize(
    ("cls", "announced"),
    [(TestRetryLogic, 6), (TestCircuitBreaker, 7), (TestGracefulDegradation, 9), (TestIntegration, 2)],
)
def test_as_many_tests_as_announced(cls: type, announced: int) -> None:
    """6 + 7 + 9 + 2 = 24; the "26" of the document is a miscount (C12)."""
    assert sum(name.startswith("test_") for name in vars(cls)) == announced


@pytest.mark.parametrize("cls", [TestRetryLogic, TestCircuitBreaker, TestGracefulDegradation, TestIntegration])
def test_the_suite_waits_for_nothing(cls: type) -> None:
    """Every one of the 24 runs on the manual clock, so that the 3.3 s of the document are not even waited for."""
    for name, test in vars(cls).items():
        if name.startswith("test_"):
            assert "clock" in inspect.signature(test).parameters, name


# -- the examples as they stand ------------------------------------------------------------------------------------

EXAMPLES = {
    "retry": """
        @retry_with_backoff(max_retries=3, base_delay=1.0)
        def query_dynamodb():
            # Operation that may raise RetryableError
            pass
    """,
    "breaker": """
        @circuit_breaker(name='dynamodb', failure_threshold=5, timeout=30)
        def query_database():
            # Database operation
            pass
    """,
    "fallback": """
        @with_fallback(fallback_value=False)
        def check_rate_limit(user_id):
            # May fail if RateLimits table unavailable
            return rate_limiter.check(user_id)
    """,
}
IMPORT = "from resilient_faces import circuit_breaker, retry_with_backoff, with_fallback\n"


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_run_as_they_stand(clock: ManualRuntime, example: str) -> None:
    """With the import line added, and nothing else."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(IMPORT + textwrap.dedent(EXAMPLES[example]), names)
    if example == "retry":
        assert names["query_dynamodb"]() is None
    elif example == "breaker":
        assert names["query_database"]() is None
        assert "dynamodb" in circuits
    else:
        # C21: False must allow the request, so the value means "is limited". The table is not even there.
        assert names["check_rate_limit"]("ada") is False


# -- the rest of its facts -----------------------------------------------------------------------------------------


def test_defaults(clock: ManualRuntime) -> None:
    """003-02, 003-07: 3 retries, 1 s, 30 s; 5 failures, 30 s."""
    defaults = {name: one.default for name, one in inspect.signature(retry_with_backoff).parameters.items()}
    assert defaults == {"max_retries": 3, "base_delay": 1.0, "max_delay": 30.0}
    given = inspect.signature(circuit_breaker).parameters
    assert (given["failure_threshold"].default, given["timeout"].default) == (5, 30.0)


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), KeyError(), Exception()])
def test_only_retryable_errors_are_retried(mode: Mode, clock: ManualRuntime, error: Exception) -> None:
    """003-04: anything else passes straight through, even what `retry` would repeat."""
    scripted = script(error)
    with pytest.raises(type(error)):
        mode.run(retry_with_backoff(), scripted)
    assert scripted.count == 1


def test_subclasses_are_retryable(mode: Mode, clock: ManualRuntime) -> None:
    """A service's own error says by its class that it may pass."""

    class Throttled(RetryableError):
        pass

    assert mode.run(retry_with_backoff(), script(Throttled(), "fine")) == "fine"


def test_each_retry_is_logged(mode: Mode, clock: ManualRuntime, caplog: pytest.LogCaptureFixture) -> None:
    """003-06: with attempt number and delay."""
    caplog.set_level(logging.INFO, "resilient_faces")
    clock.chance = 0.0
    fail(mode, retry_with_backoff())
    said = [record.getMessage() for record in caplog.records if record.name == "resilient_faces.retry"]
    for attempt, delay in ((1, 1.0), (2, 2.0), (3, 4.0)):
        assert f"attempt={attempt} delay={delay:.3f}s" in said[attempt - 1]


def test_each_transition_is_logged(mode: Mode, clock: ManualRuntime, caplog: pytest.LogCaptureFixture) -> None:
    """003-13."""
    caplog.set_level(logging.INFO, "resilient_faces")
    breaker = circuit_breaker("dynamodb")
    fail(mode, breaker, 5)
    clock.advance(30.0)
    mode.run(breaker, script("fine"))
    said = [record.getMessage().split()[:3] for record in caplog.records if "transition" in record.getMessage()]
    assert said == [["transition", state, "name=dynamodb"] for state in ("open", "half_open", "closed")]


def test_degraded_operation_and_recovery_are_logged(clock: ManualRuntime, caplog: pytest.LogCaptureFixture) -> None:
    """003-13 and the document's monitoring section: both are structured lines."""
    caplog.set_level(logging.INFO, "resilient_faces")
    manager = GracefulDegradationManager()
    manager.mark_degraded("limits", "table unavailable")
    manager.mark_recovered("limits")
    assert [record.__dict__["event"]["type"] for record in caplog.records] == ["degraded", "recovered"]


@pytest.mark.parametrize(("chance", "longest"), [(0.0, 30.0), (0.999_999, 33.0)])
def test_the_cap_is_before_the_jitter(mode: Mode, clock: ManualRuntime, chance: float, longest: float) -> None:
    """C22: 30 s and up to a tenth more, so up to 33 s."""
    clock.chance = chance
    fail(mode, retry_with_backoff(max_retries=8))
    assert clock.slept[5:] == pytest.approx([longest] * 3, rel=1e-5)
    assert max(clock.slept) <= 33.0


def test_retries_and_attempts_are_named_apart(mode: Mode, clock: ManualRuntime) -> None:
    """C12: `max_retries=3` makes four calls, `attempts=3` makes three."""
    first, second = script(RetryableError()), script(RetryableError())
    fail_with = pytest.raises(RetryableError)
    with fail_with:
        mode.run(retry_with_backoff(max_retries=3), first)
    with fail_with:
        mode.run(retry(attempts=3), second)
    assert (first.count, second.count) == (4, 3)


def test_no_retries(mode: Mode, clock: ManualRuntime) -> None:
    """Zero is a value: one call."""
    scripted = script(RetryableError())
    with pytest.raises(RetryableError):
        mode.run(retry_with_backoff(max_retries=0), scripted)
    assert scripted.count == 1


def test_exactly_one_probe_at_a_time(clock: ManualRuntime) -> None:
    """C13: while half-open, eight threads come and one is let through."""
    breaker = circuit_breaker("dynamodb", failure_threshold=1)
    with pytest.raises(RetryableError):
        breaker.call(script(RetryableError()).function())
    clock.advance(30.0)
    together, leave = threading.Barrier(8), threading.Event()
    inside: list[int] = []
    refused: list[int] = []

    def call(number: int) -> None:
        def probe() -> None:
            inside.append(number)
            leave.wait(10.0)

        together.wait()
        try:
            breaker.call(probe)
        except CircuitOpenError:
            refused.append(number)
            if len(refused) == 7:
                leave.set()

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(inside), len(refused)) == (1, 7)
    assert breaker.circuit.state is State.closed


def test_the_error_after_all_retries_can_be_answered_with(mode: Mode, clock: ManualRuntime) -> None:
    """003-25: it carries what an appropriate response needs."""
    with pytest.raises(RetryableError) as caught:
        mode.run(retry_with_backoff(), script(RetryableError()))
    told = report(caught.value)
    assert (told.attempts, told.outcome, len(told.faults)) == (4, "failed", 4)
    assert 7.0 <= sum(told.delays) <= 7.7


def test_what_the_metrics_are_made_from(mode: Mode, clock: ManualRuntime) -> None:
    """003-22: retries by operation, the state as a gauge, degraded services, recoveries: all can be counted."""
    heard: list[Event] = []
    listen(heard.append)
    fail(mode, guard(retry_with_backoff(), circuit_breaker("dynamodb", failure_threshold=4)))
    services.degrade("cognito")
    services.recover("cognito")
    assert sum(one.type == "retry" and one.operation == "scripted" for one in heard) == 3
    assert circuits["dynamodb"].snapshot().state is State.open
    assert sum(one.type == "recovered" and one.policy == "services" for one in heard) == 1
    services.degrade("cognito")
    assert len(services.degraded()) == 1


def test_language_validation_degrades(mode: Mode, clock: ManualRuntime) -> None:
    """003-33: without it every language passes, and health shows it as optional."""
    services.register("language-validation", "optional")

    def unchecked(language: str) -> bool:
        services.degrade("language-validation", "unavailable")
        return True

    assert mode.run(with_fallback(fallback_function=unchecked), script(RetryableError()), "de") is True
    health = services.health()
    assert (health.status, health.http_status) == ("degraded", 200)


PROGRAM = """
import sys
for name in ("tenacity", "wrapt", "anyio", "opentelemetry", "trio"):
    sys.modules[name] = None  # importing it raises ImportError

from resilient_faces import (
    CircuitOpenError, GracefulDegradationManager, RetryableError, circuit_breaker, handle_cognito_unavailable,
    handle_dynamodb_unavailable, retry_operation, retry_with_backoff, with_fallback,
)
import asyncio

calls = []

@with_fallback(fallback_value="stale")
@retry_with_backoff(max_retries=2, base_delay=0.001)
@circuit_breaker(name="dynamodb", failure_threshold=5, timeout=30)
def query(bad):
    calls.append(bad)
    if bad:
        raise RetryableError
    return "fresh"

assert query(False) == "fresh"
assert query(True) == "stale" and len(calls) == 4
assert query(True) == "stale"
assert query(False) == "stale"  # the circuit is open by now
assert len(calls) == 6

class Table:
    @retry_with_backoff(max_retries=1, base_delay=0.001)
    def get(self):
        calls.append("get")
        raise RetryableError

try:
    Table().get()
except RetryableError:
    pass
assert calls.count("get") == 2

tried = []
def flaky():
    tried.append(1)
    if len(tried) < 3:
        raise RetryableError
    return len(tried)
assert retry_operation(flaky, base_delay=0.001) == 3

@with_fallback(fallback_function=lambda user: user * 2)
@retry_with_backoff(max_retries=1, base_delay=0.001)
async def aquery(user):
    raise RetryableError
assert asyncio.run(aquery(21)) == 42

@circuit_breaker("cognito", 1)
async def login():
    raise KeyError
async def twice():
    for error in (KeyError, CircuitOpenError):
        try:
            await login()
        except error:
            continue
        raise AssertionError(error)
asyncio.run(twice())

assert handle_dynamodb_unavailable()["statusCode"] == 503
assert handle_cognito_unavailable("speaker")["statusCode"] == 503
assert handle_cognito_unavailable("listener")["statusCode"] == 200
assert GracefulDegradationManager().get_degraded_services() == ["cognito", "dynamodb"]
assert GracefulDegradationManager().get_system_health()["status"] == "unhealthy"
print("all of them")
"""


def test_without_third_party_packages() -> None:
    """003-24, C20: every name of the document works where none of the chosen packages can be imported."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "all of them\n"), done.stderr
