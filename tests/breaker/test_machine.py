"""The table of states and triggers, and the pure functions beside it."""

from __future__ import annotations

import itertools

import pytest

from resilient_faces._core.outcome import Verdict
from resilient_faces.breaker.machine import TABLE, State, Trial, Trigger, diagram, open_seconds, step, verdict_of

CL, OP, HO = State.closed, State.open, State.half_open
FO, DI, MO = State.forced_open, State.disabled, State.metrics_only

# Written out once more, so that no line of the table can change unnoticed. A row is a trigger: what each state becomes.
EXPECTED = {
    #                   CL  OP  HO  FO  DI  MO
    Trigger.tripped:      (OP, OP, HO, FO, DI, MO),
    Trigger.rested:       (CL, HO, HO, FO, DI, MO),
    Trigger.passed:       (CL, OP, CL, FO, DI, MO),
    Trigger.failed:       (CL, OP, OP, FO, DI, MO),
    Trigger.reset:        (CL, CL, CL, CL, CL, CL),
    Trigger.force_open:   (FO, FO, FO, FO, FO, FO),
    Trigger.released:     (CL, OP, HO, HO, CL, CL),
    Trigger.disable:      (DI, DI, DI, DI, DI, DI),
    Trigger.observe:      (MO, MO, MO, MO, MO, MO),
}  # fmt: skip


@pytest.mark.parametrize(("state", "trigger"), list(itertools.product(State, Trigger)), ids=lambda one: one.name)
def test_every_state_and_trigger(state: State, trigger: Trigger) -> None:
    """Each trigger leads from each state where this table says."""
    assert step(state, trigger) is EXPECTED[trigger][(CL, OP, HO, FO, DI, MO).index(state)]


def test_the_table_holds_changes_only() -> None:
    """A trigger that changes nothing has no line."""
    assert all(target is not state for (state, _), target in TABLE.items())


def test_the_table_cannot_be_written_to() -> None:
    """The table is data for the docs as well; nobody changes it at run time."""
    with pytest.raises(TypeError):
        TABLE[State.open, Trigger.tripped] = State.closed  # type: ignore[index]


@pytest.mark.parametrize(
    ("first", "growth", "longest", "reopenings", "seconds"),
    [
        (5.0, 2.0, 300.0, 0, 5.0),
        (5.0, 2.0, 300.0, 1, 10.0),
        (5.0, 2.0, 300.0, 5, 160.0),
        (5.0, 2.0, 300.0, 6, 300.0),
        (30.0, 1.0, 30.0, 50, 30.0),
        (5.0, 1.5, 300.0, 2, 11.25),
        (5.0, 2.0, 300.0, 100_000, 300.0),  # 2.0 ** 100_000 overflows
        (60.0, 1.0, 5.0, 0, 5.0),
    ],
)
def test_open_time(first: float, growth: float, longest: float, reopenings: int, seconds: float) -> None:
    """It grows by the factor with each re-opening, up to the cap; an overflow yields the cap."""
    assert open_seconds(first, growth, longest, reopenings) == seconds


def test_a_trial_admits_so_many_and_no_more() -> None:
    """A place is taken by a probe under way, and stays taken by its verdict."""
    trial = Trial(2, 2)
    assert trial.admits()
    trial = trial.admitted()
    assert trial.admits()
    trial = trial.admitted()
    assert not trial.admits()
    assert not trial.settled(Verdict.success).admits()


def test_a_neutral_probe_gives_its_place_back() -> None:
    """Without evidence another probe may pass."""
    trial = Trial(1, 1).admitted().settled(Verdict.neutral)
    assert trial == Trial(1, 1)
    assert trial.admits()
    assert verdict_of(trial) is None


@pytest.mark.parametrize(
    ("permitted", "needed", "verdicts", "decision"),
    [
        (1, 1, "s", Trigger.passed),
        (1, 1, "f", Trigger.failed),
        (1, 1, "n", None),
        (3, 2, "s", None),
        (3, 2, "ss", Trigger.passed),
        (3, 2, "f", None),
        (3, 2, "fs", None),
        (3, 2, "ff", Trigger.failed),  # two of three can no longer succeed
        (3, 2, "fss", Trigger.passed),
        (3, 3, "f", Trigger.failed),
        (3, 3, "ss", None),
        (5, 1, "ffff", None),
        (5, 1, "fffff", Trigger.failed),
    ],
)
def test_the_verdict_falls_as_soon_as_it_is_certain(
    permitted: int, needed: int, verdicts: str, decision: Trigger | None
) -> None:
    """Not before, and not after: the rest of the probes could not change it."""
    trial = Trial(permitted, needed)
    word = {"s": Verdict.success, "f": Verdict.failure, "n": Verdict.neutral}
    for number, letter in enumerate(verdicts, 1):
        trial = trial.admitted().settled(word[letter])
        assert verdict_of(trial) is (decision if number == len(verdicts) else None)


def test_the_diagram_shows_every_line_of_the_table() -> None:
    """The documentation's picture is drawn from the table."""
    drawn = diagram()
    assert drawn.startswith("stateDiagram-v2")
    for (state, trigger), target in TABLE.items():
        if trigger in {Trigger.reset, Trigger.force_open, Trigger.disable, Trigger.observe}:
            assert f"note right of {target.value}: {trigger.value} leads here" in drawn
        else:
            assert f"{state.value} --> {target.value}: {trigger.value}" in drawn
