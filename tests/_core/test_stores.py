"""Asking a shared store: no thread that asks is forgotten, and none is begun for nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from resilient_faces._core import workers
from resilient_faces._core.effects import Ask, Unanswered
from resilient_faces._core.stores import HURRIED, MOST_LATE, Contact
from resilient_faces.limits import Deadline
from resilient_faces.testing import ManualRuntime


def contact(limit: float = 1.0) -> Contact:
    return Contact("breaker", False, limit)


def asking(contact: Contact, operation: Callable[..., Any]) -> Any:
    return contact.ask(operation, name="db", status=lambda: "local")


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30.0
    while not true():
        assert time.monotonic() < ends, "it never happened"
        time.sleep(0.001)


def ended(flow: Any, answer: object) -> Any:
    """What a flow returns that is given this answer; what it tells on its way is let go."""
    try:
        while True:
            flow.send(answer)
            answer = None
    except StopIteration as stop:
        return stop.value


def test_an_ask_that_is_cancelled_is_late_until_it_ends(clock: ManualRuntime) -> None:
    """The task is gone, its thread is not."""
    one = contact()
    release, begun = threading.Event(), threading.Event()

    def hangs() -> None:
        begun.set()
        release.wait(30.0)

    flow = asking(one, hangs)
    wanted = flow.send(None)
    assert isinstance(wanted, Ask)
    thread = threading.Thread(target=wanted.operation)
    thread.start()
    begun.wait(30.0)
    flow.close()
    assert (one.late, one.doubted) == (1, True)
    release.set()
    thread.join()
    assert (one.late, one.doubted, one.lost) == (0, False, False)


def test_what_was_given_up_before_it_began_is_not_carried_out(clock: ManualRuntime) -> None:
    """Its thread got its turn too late: a write that nobody waits for any more must not be made."""
    one = contact()
    done: list[str] = []
    flow = asking(one, lambda: done.append("written"))
    wanted = flow.send(None)
    assert isinstance(ended(flow, Unanswered("LimitPassed")), Unanswered)
    with pytest.raises(workers.LimitPassed):
        wanted.operation()
    assert done == []
    assert one.late == 0


def test_a_call_without_time_asks_nobody(clock: ManualRuntime) -> None:
    """And blames nobody."""
    one = contact()
    with Deadline(1.0):
        clock.advance(2.0)
        assert ended(asking(one, lambda: None), None) is HURRIED
    assert not one.lost


def test_an_error_is_the_store_s_own_however_little_time_there_was(clock: ManualRuntime) -> None:
    """A refused connection is no sign of hurry."""
    one = contact()
    with Deadline(0.1):
        flow = asking(one, lambda: None)
        assert flow.send(None).limit == pytest.approx(0.05)
        assert ended(flow, Unanswered("ConnectionRefusedError")) is not HURRIED
    assert one.lost


def test_no_more_than_so_many_threads_hang(clock: ManualRuntime) -> None:
    """Beyond that nobody asks."""
    one = contact()
    release = threading.Event()
    for _ in range(MOST_LATE):
        one.look(lambda: release.wait(30.0), answered=lambda: None)
    flow = asking(one, lambda: None)
    with pytest.raises(StopIteration) as stop:
        flow.send(None)
    assert stop.value.value.code == "crowded"
    release.set()
    until(lambda: one.late == 0)
    assert isinstance(asking(one, lambda: None).send(None), Ask)


def test_a_look_that_cannot_be_made_is_not_waited_for(clock: ManualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that cannot start a thread goes on without its store."""

    def run(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(workers, "run", run)
    one = contact()
    one.look(lambda: None, answered=lambda: None)
    assert one.late == 0


def test_a_child_has_none_of_its_parents_threads(clock: ManualRuntime) -> None:
    """What was late there never comes back here."""
    one = contact()
    one.late, one.lost, one.doubted = 3, True, True
    one.after_fork()
    assert (one.late, one.lost, one.doubted) == (0, False, False)
