"""The circuit's state machine: a table from state and trigger to state, and pure functions with time as an argument.

`diagram()` draws the table; the documentation shows what it draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from resilient_faces._core.outcome import Verdict
from resilient_faces._light import dataclass

__all__ = ["TABLE", "State", "Trial", "Trigger", "diagram", "open_seconds", "step", "verdict_of"]


class State(str, Enum):
    """Where a circuit stands."""

    closed = "closed"
    open = "open"
    half_open = "half_open"
    forced_open = "forced_open"  # by hand, until released
    disabled = "disabled"  # by hand: everything passes, nothing is counted
    metrics_only = "metrics_only"  # by hand: everything passes and is counted, nothing opens


class Trigger(str, Enum):
    """What moves a circuit from one state to another."""

    tripped = "enough failures"
    rested = "open time is over"
    passed = "enough probes succeeded"
    failed = "too many probes failed"
    reset = "reset()"
    force_open = "force_open()"
    released = "release()"
    disable = "disable()"
    observe = "metrics_only()"


TABLE: Final[Mapping[tuple[State, Trigger], State]] = MappingProxyType(
    {
        (State.closed, Trigger.tripped): State.open,
        (State.open, Trigger.rested): State.half_open,
        (State.half_open, Trigger.passed): State.closed,
        (State.half_open, Trigger.failed): State.open,
        (State.forced_open, Trigger.released): State.half_open,  # released does not mean healthy: probe first
        (State.disabled, Trigger.released): State.closed,
        (State.metrics_only, Trigger.released): State.closed,
        **{(state, Trigger.reset): State.closed for state in State if state is not State.closed},
        **{(state, Trigger.force_open): State.forced_open for state in State if state is not State.forced_open},
        **{(state, Trigger.disable): State.disabled for state in State if state is not State.disabled},
        **{(state, Trigger.observe): State.metrics_only for state in State if state is not State.metrics_only},
    }
)


def step(state: State, trigger: Trigger) -> State:
    """The state after this trigger; the same one if the trigger means nothing here."""
    return TABLE.get((state, trigger), state)


def open_seconds(first: float, growth: float, longest: float, reopenings: int) -> float:
    """How long a circuit stays open: `first * growth ** reopenings`, up to `longest`; an overflow yields `longest`.

    Args:
        first: Seconds after the circuit opened from closed.
        growth: Factor for each re-opening since it was closed last; 1 or more.
        longest: Cap, in seconds.
        reopenings: Failed trials since the circuit was closed last.
    """
    try:
        return min(first * growth**reopenings, longest)
    except OverflowError:
        return longest


@dataclass(frozen=True, slots=True)
class Trial:
    """How far the probes of a half-open circuit have come.

    Attributes:
        permitted: Probes of one trial.
        needed: Successes that close the circuit.
        in_flight: Probes let through and not decided.
        succeeded: Probes that succeeded.
        failed: Probes that failed, or outlived their lease.
    """

    permitted: int
    needed: int
    in_flight: int = 0
    succeeded: int = 0
    failed: int = 0

    def admits(self) -> bool:
        """Whether one more probe may pass."""
        return self.in_flight + self.succeeded + self.failed < self.permitted

    def admitted(self) -> Trial:
        return Trial(self.permitted, self.needed, self.in_flight + 1, self.succeeded, self.failed)

    def settled(self, verdict: Verdict) -> Trial:
        """One probe has its verdict; a neutral one gives its place back."""
        return Trial(
            self.permitted,
            self.needed,
            self.in_flight - 1,
            self.succeeded + (verdict is Verdict.success),
            self.failed + (verdict is Verdict.failure),
        )


def verdict_of(trial: Trial) -> Trigger | None:
    """What the trial has decided, as soon as that is certain; None while it is open."""
    if trial.succeeded >= trial.needed:
        return Trigger.passed
    if trial.failed > trial.permitted - trial.needed:
        return Trigger.failed
    return None


def diagram() -> str:
    """The table as a Mermaid state diagram. Triggers that work in every state are drawn as notes."""
    everywhere = {Trigger.reset, Trigger.force_open, Trigger.disable, Trigger.observe}
    lines = ["stateDiagram-v2", "    [*] --> closed"]
    for (state, trigger), target in TABLE.items():
        if trigger not in everywhere:
            lines.append(f"    {state.value} --> {target.value}: {trigger.value}")
    for trigger in Trigger:
        if trigger in everywhere:
            target = next(after for (_, by), after in TABLE.items() if by is trigger)
            lines.append(f"    note right of {target.value}: {trigger.value} leads here from every other state")
    return "\n".join(lines)
