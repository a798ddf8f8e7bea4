"""The pytest plugin: fixtures that do nothing until a test asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from resilient_faces._core.runtime import ManualRuntime
    from resilient_faces.testing.modes import Mode

__all__ = ["clock", "mode", "resilience"]


@pytest.fixture
def resilience() -> Iterator[None]:
    """Circuits, degraded services, listeners and switches start afresh and leave nothing behind."""
    from resilient_faces.testing.runtime import fresh

    with fresh():
        yield


@pytest.fixture
def clock(resilience: None) -> Iterator[ManualRuntime]:
    """A manual runtime in place of the process's own: sleeps only move its clock, chances are what the test sets."""
    from resilient_faces._core.runtime import ManualRuntime

    with ManualRuntime().installed() as runtime:
        yield runtime


@pytest.fixture(params=["sync", "asyncio", "trio"])
def mode(request: pytest.FixtureRequest, resilience: None) -> Mode:
    """The test runs three times: as plain code, under asyncio and under trio."""
    if request.param == "trio":
        pytest.importorskip("trio", reason="trio is not installed: pip install trio")
    from resilient_faces.testing.modes import Mode

    return Mode(request.param)
