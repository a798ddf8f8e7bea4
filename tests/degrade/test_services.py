"""Degraded services: how much each matters, recovery, health as JSON, and the session service's answers."""

from __future__ import annotations

import json
import threading

import pytest

from resilient_faces import (
    Breaker,
    Criticality,
    Event,
    GracefulDegradationManager,
    OptionError,
    handle_cognito_unavailable,
    handle_dynamodb_unavailable,
    listen,
    services,
)
from resilient_faces.breaker import consecutive
from resilient_faces.testing import ManualRuntime, Mode, script


@pytest.mark.parametrize(
    ("degraded", "status", "http"),
    [
        ((), "healthy", 200),
        (("limits",), "degraded", 200),
        (("cognito",), "degraded", 200),
        (("dynamodb",), "unhealthy", 503),
        (("limits", "cognito", "dynamodb"), "unhealthy", 503),
    ],
)
def test_the_worst_service_decides(clock: ManualRuntime, degraded: tuple[str, ...], status: str, http: int) -> None:
    """Critical: 503. Important and optional: served, but degraded."""
    services.register("dynamodb", "critical")
    services.register("cognito", Criticality.important)
    services.register("limits", "optional")
    for name in degraded:
        services.degrade(name)
    health = services.health()
    assert (health.status, health.http_status) == (status, http)
    assert services.degraded() == tuple(sorted(degraded))


def test_health_as_json(clock: ManualRuntime) -> None:
    """Each service by name, with reason, since when and how often it came back."""
    services.register("dynamodb", "critical")
    services.degrade("cognito", "maintenance")
    services.degrade("limits")
    services.recover("limits")
    assert json.loads(services.health().to_json()) == {
        "schema": 1,
        "status": "degraded",
        "services": {
            "cognito": {
                "name": "cognito",
                "status": "degraded",
                "criticality": "important",
                "reason": "maintenance",
                "since": clock.wall(),
                "recoveries": 0,
            },
            "dynamodb": {
                "name": "dynamodb",
                "status": "healthy",
                "criticality": "critical",
                "reason": "",
                "since": None,
                "recoveries": 0,
            },
            "limits": {
                "name": "limits",
                "status": "healthy",
                "criticality": "important",
                "reason": "",
                "since": None,
                "recoveries": 1,
            },
        },
    }


def test_one_service(clock: ManualRuntime) -> None:
    """One that nobody registered is healthy, and asking does not register it."""
    assert services.health_of("nobody").status == "healthy"
    assert services.health().services == ()
    services.degrade("db", "x")
    assert services.is_degraded("db")
    assert services.health_of("db").reason == "x"


def test_since_when(clock: ManualRuntime) -> None:
    """A second reason replaces the words and not the time."""
    services.degrade("db", "first")
    began = clock.wall()
    clock.advance(60.0)
    services.degrade("db", "second")
    health = services.health_of("db")
    assert (health.since, health.reason) == (began, "second")


def test_both_ways_are_told_once(clock: ManualRuntime) -> None:
    """Degraded with the fault, recovered with the time that it took; nothing for what is no change."""
    heard: list[Event] = []
    listen(heard.append)
    services.degrade("db", ConnectionResetError("SECRET"))
    services.degrade("db", "again")
    clock.advance(90.0)
    assert services.recover("db") is True
    assert services.recover("db") is False
    assert services.recover("nobody") is False
    assert [(one.type, one.policy, one.name, one.status, one.code, one.elapsed) for one in heard] == [
        ("degraded", "services", "db", "degraded", "ConnectionResetError", None),
        ("recovered", "services", "db", "healthy", "", 90.0),
    ]
    assert "SECRET" not in repr(heard)


def test_an_exception_leaves_its_code_only(clock: ManualRuntime) -> None:
    """Messages of exceptions carry what must not travel."""
    services.degrade("db", ValueError("SECRET"))
    assert services.health_of("db").reason == "ValueError"
    assert "SECRET" not in services.health().to_json()


def test_circuits_tell(mode: Mode, clock: ManualRuntime) -> None:
    """When a named circuit opens its service is degraded, when it closes it has recovered."""
    services.register("dynamodb", "critical", circuits=("db", "db-streams"))
    breaker = Breaker("db", trips=consecutive(1), recovery_timeout=5.0)
    with pytest.raises(ConnectionResetError):
        mode.run(breaker, script(ConnectionResetError()))
    assert services.health_of("dynamodb").reason == "ConnectionResetError"
    clock.advance(5.0)
    mode.run(breaker, script("fine"))
    assert not services.is_degraded("dynamodb")
    assert services.health_of("dynamodb").recoveries == 1


def test_other_circuits_do_not(mode: Mode, clock: ManualRuntime) -> None:
    """Only those that were named."""
    services.register("dynamodb", circuits=("db",))
    with pytest.raises(ConnectionResetError):
        mode.run(Breaker("other", trips=consecutive(1)), script(ConnectionResetError()))
    assert services.degraded() == ()


class TestFollowingCircuits:
    """What circuits do is looked at; an event is a hint to do so."""

    def test_every_key_counts(self, mode: Mode, clock: ManualRuntime) -> None:
        """One host that comes back does not speak for the others."""
        breaker = Breaker("host", trips=consecutive(1), recovery_timeout=5.0, key=lambda host: host)
        services.register("hosts", circuits=("host",))
        for host in ("a", "b"):
            with pytest.raises(ConnectionResetError):
                mode.run(breaker, script(ConnectionResetError()), host)
        clock.advance(5.0)
        mode.run(breaker, script("fine"), "a")
        assert services.health_of("hosts").status == "degraded"
        mode.run(breaker, script("fine"), "b")
        assert (services.health_of("hosts").status, services.health_of("hosts").recoveries) == ("healthy", 1)

    def test_events_in_the_wrong_order(self, clock: ManualRuntime) -> None:
        """A listener that closes the circuit again makes later ones hear of that first."""
        breaker = Breaker("db", trips=consecutive(1))
        listen(lambda told: breaker.circuit.reset() if told.status == "open" else None)
        services.register("database", "critical", circuits=("db",))
        heard: list[str] = []
        listen(lambda told: heard.append(told.status))
        with pytest.raises(ConnectionResetError):
            breaker.call(script(ConnectionResetError()).function())
        assert heard[:2] == ["closed", "open"]
        assert services.health().http_status == 200

    def test_a_circuit_that_is_open_already(self, clock: ManualRuntime) -> None:
        """Registering looks, and so does asking: nothing need happen in between."""
        breaker = Breaker("db", trips=consecutive(1))
        breaker.circuit.force_open()
        services.register("database", circuits=("db",))
        assert services.degraded() == ("database",)
        assert services.health_of("database").reason == "forced_open"
        breaker.circuit.disable()
        assert not services.is_degraded("database")

    def test_by_hand_is_not_undone_by_a_look(self, clock: ManualRuntime) -> None:
        """Who marked it says when it is over; or a circuit that closes does."""
        breaker = Breaker("db", trips=consecutive(1), recovery_timeout=5.0)
        services.register("database", circuits=("db",))
        services.degrade("database", "maintenance")
        assert services.health_of("database").reason == "maintenance"
        with pytest.raises(ConnectionResetError):
            breaker.call(script(ConnectionResetError()).function())
        clock.advance(5.0)
        breaker.call(script("fine").function())
        assert not services.is_degraded("database")

    def test_a_circuit_without_a_name(self, clock: ManualRuntime) -> None:
        """It is found by nobody: what its events say is all there is."""
        breaker = Breaker(trips=consecutive(1), recovery_timeout=5.0)
        failing = script(ConnectionResetError(), "fine").function()
        guarded = breaker(failing)
        services.register("nameless", circuits=("scripted", "Scripted.function.scripted"))
        heard: list[str] = []
        listen(lambda told: heard.append(told.name) if told.type == "transition" else None)
        with pytest.raises(ConnectionResetError):
            guarded()
        assert heard[0] in ("scripted", "Scripted.function.scripted")
        assert services.is_degraded("nameless")
        clock.advance(5.0)
        guarded()
        assert not services.is_degraded("nameless")


def test_registering_again_changes_the_criticality(clock: ManualRuntime) -> None:
    """And not how things stand."""
    services.degrade("db", "x")
    services.register("db", "critical")
    assert services.health().status == "unhealthy"
    services.register("db", "optional")
    assert services.health().status == "degraded"


def test_an_unknown_criticality(clock: ManualRuntime) -> None:
    """Three levels, no fourth."""
    with pytest.raises(ValueError, match="vital"):
        services.register("db", "vital")


def test_threads(clock: ManualRuntime) -> None:
    """Recoveries are counted exactly, whoever reports them."""

    def toggle() -> None:
        for _ in range(200):
            services.degrade("db")
            services.recover("db")

    heard: list[Event] = []
    listen(heard.append)
    threads = [threading.Thread(target=toggle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert services.health_of("db").recoveries == sum(one.type == "recovered" for one in heard)
    assert sum(one.type == "degraded" for one in heard) == sum(one.type == "recovered" for one in heard)


class TestManager:
    """`GracefulDegradationManager`, under the names of the session service."""

    def test_all_instances_share(self, clock: ManualRuntime) -> None:
        """Process-wide, and the same register as `services`."""
        GracefulDegradationManager().mark_degraded("dynamodb", "down")
        other = GracefulDegradationManager()
        assert other.is_degraded("dynamodb")
        assert other.get_degraded_services() == ["dynamodb"]
        assert services.is_degraded("dynamodb")

    def test_recovery_is_recorded(self, clock: ManualRuntime) -> None:
        """In the service's health."""
        manager = GracefulDegradationManager()
        manager.mark_degraded("cognito")
        manager.mark_recovered("cognito")
        assert manager.get_service_health("cognito")["recoveries"] == 1
        assert not manager.is_degraded("cognito")

    def test_health(self, clock: ManualRuntime) -> None:
        """By the services' priorities."""
        manager = GracefulDegradationManager()
        manager.register_service("dynamodb", "critical")
        assert manager.get_system_health()["status"] == "healthy"
        manager.mark_degraded("dynamodb")
        assert manager.get_system_health()["status"] == "unhealthy"
        manager.reset()
        assert manager.get_system_health() == {"schema": 1, "status": "healthy", "services": {}}


class TestHandlers:
    def test_dynamodb(self, clock: ManualRuntime) -> None:
        """503 with Retry-After; critical, so the whole is unhealthy; nothing of the error reaches the caller."""
        answer = handle_dynamodb_unavailable(ConnectionResetError("SECRET"))
        assert answer["statusCode"] == 503
        assert answer["headers"] == {"Content-Type": "application/json", "Retry-After": "30"}
        assert json.loads(str(answer["body"]))["error"] == "SERVICE_UNAVAILABLE"
        assert "SECRET" not in repr(answer)
        assert services.health().http_status == 503
        assert services.health_of("dynamodb").reason == "ConnectionResetError"

    def test_a_speaker_is_refused(self, clock: ManualRuntime) -> None:
        """Nobody can tell who it is."""
        answer = handle_cognito_unavailable("speaker")
        assert answer["statusCode"] == 503
        assert json.loads(str(answer["body"]))["allowed"] is False

    def test_a_listener_is_let_in_anonymously(self, clock: ManualRuntime) -> None:
        """Important, not critical: a part works."""
        answer = handle_cognito_unavailable("listener")
        assert answer["statusCode"] == 200
        assert json.loads(str(answer["body"])) == {"allowed": True, "anonymous": True}
        assert services.health().status == "degraded"
        assert services.health_of("cognito").criticality is Criticality.important

    def test_nobody_else(self, clock: ManualRuntime) -> None:
        """A role that does not exist is a mistake, not a guest; the service is not marked for it."""
        with pytest.raises(OptionError, match="'speaker' or 'listener'; got 'admin'"):
            handle_cognito_unavailable("admin")
        assert services.degraded() == ()

    def test_without_an_error(self, clock: ManualRuntime) -> None:
        """As the document calls it."""
        handle_dynamodb_unavailable()
        assert services.health_of("dynamodb").reason == "unavailable"
