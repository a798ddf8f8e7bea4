"""For the tests of breakers: circuits that are driven by hand, with the clock and the registries under control."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

import pytest

from resilient_faces import Breaker, Event, listen
from resilient_faces._core.outcome import Permit, Refused, Verdict
from resilient_faces.breaker import Circuit, State

_numbers: Final = itertools.count()


class Hand:
    """One breaker's circuit, moved by hand."""

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker
        self.circuit: Circuit = breaker.circuit

    @property
    def state(self) -> State:
        return self.circuit.state

    def permit(self) -> Permit:
        granted = self.circuit.acquire()
        assert isinstance(granted, Permit)
        return granted

    def refused(self) -> Refused:
        granted = self.circuit.acquire()
        assert isinstance(granted, Refused)
        return granted

    def settle(self, verdict: Verdict, times: int = 1, slow: bool = False) -> None:
        """Calls that come to this verdict, one after the other."""
        for _ in range(times):
            self.circuit.settle(self.permit(), verdict, None, slow)

    def fail(self, times: int = 1) -> None:
        self.settle(Verdict.failure, times)

    def succeed(self, times: int = 1) -> None:
        """As the direct path does it: a success that is no news is only noted."""
        for _ in range(times):
            permit = self.permit()
            if self.circuit.calm is not permit:
                self.circuit.settle(permit, Verdict.success)
            elif permit.note is not None:
                permit.note(True)


@pytest.fixture
def hand(clock: object) -> Callable[..., Hand]:
    """Makes a breaker with these options and gives its circuit to be moved by hand."""

    def make(**options: object) -> Hand:
        return Hand(Breaker(f"hand-{next(_numbers)}", **options))  # type: ignore[arg-type]

    return make


@pytest.fixture
def events(resilience: None) -> list[Event]:
    """Every event from now on."""
    heard: list[Event] = []
    listen(heard.append)
    return heard
