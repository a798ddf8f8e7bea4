"""Metrics: counted from events, read when a collector asks."""

from __future__ import annotations

import pytest

from resilient_faces import RetryableError, circuit_breaker, retry_with_backoff, services
from resilient_faces._core.runtime import ManualRuntime
from resilient_faces.telemetry.metrics import MOST_OPERATIONS, Metric, Metrics
from resilient_faces.testing import script


@pytest.fixture
def metrics(clock: ManualRuntime) -> Metrics:
    """Counting from here on."""
    counting = Metrics()
    counting.start()
    return counting


def read(metrics: Metrics, name: str) -> dict[str, float]:
    """Values of one metric by label."""
    return {(one.labels[0][1] if one.labels else ""): one.value for one in metrics.read() if one.name == name}


def test_retries_are_counted_by_operation(metrics: Metrics) -> None:
    """`RetryAttempts`: each repeat counts, first attempts do not."""
    scripted = retry_with_backoff()(script(RetryableError(), RetryableError(), "ok").function())
    assert scripted() == "ok"
    assert list(read(metrics, "RetryAttempts").values()) == [2.0]


def test_the_state_of_circuits_is_a_gauge(metrics: Metrics) -> None:
    """`CircuitBreakerState`: 0 closed, 2 open, 1 half-open, -1 switched off."""
    breaker = circuit_breaker("db", failure_threshold=1)
    assert breaker.circuit.name == "db"
    assert read(metrics, "CircuitBreakerState") == {"db": 0.0}
    with pytest.raises(ValueError, match="down"):
        breaker.call(script(ValueError("down")).function())
    assert read(metrics, "CircuitBreakerState") == {"db": 2.0}
    breaker.circuit.disable()
    assert read(metrics, "CircuitBreakerState") == {"db": -1.0}


def test_services_that_are_degraded_and_that_came_back(metrics: Metrics) -> None:
    """`DegradedServices` is a gauge, `ServiceRecovery` counts."""
    services.degrade("cognito", "down")
    services.degrade("dynamodb", "down")
    assert read(metrics, "DegradedServices") == {"": 2.0}
    services.recover("cognito")
    assert read(metrics, "DegradedServices") == {"": 1.0}
    assert read(metrics, "ServiceRecovery") == {"cognito": 1.0}


def test_labels_are_bounded(metrics: Metrics) -> None:
    """Beyond the bound operations are counted together."""
    for number in range(MOST_OPERATIONS + 3):
        services.degrade(f"s{number}")
        services.recover(f"s{number}")
    counted = read(metrics, "ServiceRecovery")
    assert len(counted) == MOST_OPERATIONS + 1
    assert counted["other"] == 3.0


def test_stopping(clock: ManualRuntime) -> None:
    """What happens after the end is not counted."""
    metrics = Metrics()
    metrics.start()()
    services.degrade("a")
    services.recover("a")
    assert [one for one in metrics.read() if one.name == "ServiceRecovery"] == []
    assert Metric("DegradedServices", (), 0.0, "None") in metrics.read()
