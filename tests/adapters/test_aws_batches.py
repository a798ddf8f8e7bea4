"""Sending the rest of a batch again, step by step, without a service."""

from __future__ import annotations

import pytest

from resilient_faces._core.runtime import RUNTIME, ManualRuntime
from resilient_faces.adapters._aws_batches import PAUSE, ROUNDS, send_all
from resilient_faces.faults import Kind
from resilient_faces.limits import Deadline


def test_everything_goes_in_batches_without_a_pause(clock: ManualRuntime) -> None:
    """As long as nothing is left undone nobody waits."""
    sent: list[list[int]] = []
    assert send_all(range(7), lambda batch: sent.append(batch) or [], most=3) == []
    assert sent == [[0, 1, 2], [3, 4, 5], [6]]
    assert clock.slept == []


def test_batches_keep_to_their_weight(clock: ManualRuntime) -> None:
    """An entry that is too heavy for company goes alone."""
    sent: list[list[int]] = []
    send_all([4, 4, 4, 9, 1], lambda batch: sent.append(batch) or [], most=10, weigh=lambda one: one, heaviest=8)
    assert sent == [[4, 4], [4], [9], [1]]


def test_the_rest_goes_first_with_what_was_not_sent(clock: ManualRuntime) -> None:
    """In its order, so nothing overtakes for ever."""
    sent: list[list[int]] = []

    def send(batch: list[int]) -> list[int]:
        sent.append(batch)
        return batch[1:] if len(sent) == 1 else []

    assert send_all(range(5), send, most=3) == []
    assert sent == [[0, 1, 2], [1, 2, 3], [4]]
    assert len(clock.slept) == 1


def test_pauses_grow_only_while_nothing_is_done(clock: ManualRuntime) -> None:
    """Progress of one entry takes the growth back; full jitter spreads below the delay."""
    answers = iter([[0, 1], [0, 1], [1], [1], []])
    assert send_all([0, 1], lambda _: next(answers), most=2) == []
    assert clock.slept == [PAUSE.delay(n) * 0.5 for n in (2, 3, 1, 2)]


def test_what_gets_nowhere_is_handed_back(clock: ManualRuntime) -> None:
    """After so many requests in vain, and without a pause behind the last."""
    calls: list[int] = []
    assert send_all([0, 1], lambda batch: calls.append(1) or batch, most=5) == [0, 1]
    assert (len(calls), len(clock.slept)) == (ROUNDS, ROUNDS - 1)


def test_no_pause_ends_after_the_deadline(clock: ManualRuntime) -> None:
    """What is left then is handed back at once."""
    began = clock.now
    with Deadline(PAUSE.delay(2)):
        assert send_all([0], lambda batch: batch, most=5) == [0]
    assert clock.now - began < PAUSE.delay(2)


def test_a_process_that_shuts_down_does_not_wait(clock: ManualRuntime) -> None:
    """The rest is handed back after the request in hand."""
    RUNTIME.stop()
    try:
        assert send_all([0], lambda batch: batch, most=5) == [0]
    finally:
        RUNTIME.stop(False)
    assert clock.slept == []


def test_an_error_in_between_tells_what_was_done() -> None:
    """Ten were sent when the connection broke: they are done, the other fifteen are left, the error is the cause."""
    broken = ConnectionResetError()

    def send(batch: list[int]) -> list[int]:
        if batch[0] >= 10:
            raise broken
        return []

    left = send_all(range(25), send, most=10)
    assert list(left) == list(range(10, 25))
    assert left.error is broken
    assert left.fault is not None
    assert left.fault.kind is Kind.transient


def test_an_error_before_anything_was_done_comes_out() -> None:
    """There is nothing to tell of but the error itself."""

    def send(batch: list[int]) -> list[int]:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        send_all(range(5), send, most=10)
