"""Pure decisions of a session: whom frames agree on, and what waits to be told."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from resilient_faces.pipeline.cameras import Agreement
from resilient_faces.pipeline.cameras.agreeing import Agreeing
from resilient_faces.pipeline.cameras.outbox import ROUNDS, Message, Outbox

# -- whom frames agree on ------------------------------------------------------------------------------------------


def test_three_of_five_frames() -> None:
    """A person counts with the third frame of the last five, with the best cosine of them."""
    agreeing = Agreeing(Agreement(3, 5))
    shown = [{"anna": 0.7}, {}, {"anna": 0.9}, {}, {"anna": 0.8}]
    assert [agreeing.note(1, one) for one in shown] == [{}, {}, {}, {}, {"anna": 0.9}]
    assert agreeing.note(1, {"anna": 0.6}) == {"anna": 0.9}  # the first has left, three are still there


def test_a_person_of_a_damaged_frame_does_not_count() -> None:
    """Who shows up once in a while, as broken pictures make them do, never does."""
    agreeing = Agreeing(Agreement(3, 5))
    for number in range(100):
        assert agreeing.note(1, {"ghost": 0.9} if number % 3 == 0 else {}) == {}


def test_another_connection_begins_anew() -> None:
    """Between the two anything may have been before the camera."""
    agreeing = Agreeing(Agreement(2, 3))
    assert agreeing.note(1, {"anna": 0.9}) == {}
    assert agreeing.note(2, {"anna": 0.9}) == {}
    assert agreeing.note(2, {"anna": 0.9}) == {"anna": 0.9}


@given(
    frames=st.lists(st.tuples(st.integers(1, 2), st.sets(st.sampled_from("abc"))), max_size=30),
    need=st.integers(1, 4),
    more=st.integers(0, 4),
)
def test_whoever_counts_is_there_and_was_there(frames: list[tuple[int, set[str]]], need: int, more: int) -> None:
    """In the newest frame, and in enough of the last ones of its connection; nobody else, and all of them."""
    agreeing = Agreeing(Agreement(need, need + more))
    for number, (connection, people) in enumerate(frames):
        found = agreeing.note(connection, dict.fromkeys(people, 0.5))
        same = []
        for earlier, shown in reversed(frames[: number + 1]):
            if earlier != connection or len(same) == need + more:
                break
            same.append(shown)
        seen = Counter(one for shown in same for one in shown)
        assert set(found) == {one for one in people if seen[one] >= need}


# -- what waits ----------------------------------------------------------------------------------------------------


def status(number: int, camera: str = "c1") -> Message:
    return Message(f"m{number}", ("camera", camera), {"n": number})


def somebody(number: int) -> Message:
    return Message(f"m{number}", ("person", f"p{number}"), {"n": number}, f"p{number}")


def taken(outbox: Outbox, *, accepted: bool = True, asked: bool = True) -> list[str]:
    """The ids of all that can be taken now, each of which is accepted or fails."""
    found = []
    while (message := outbox.take()) is not None:
        found.append(message.id)
        outbox.settle(accepted=accepted, asked=asked)
    return found


def test_in_order() -> None:
    """First come, first told."""
    outbox = Outbox(10)
    for message in (somebody(1), status(2), somebody(3), status(4, "c2")):
        assert outbox.put(message) is None
    assert taken(outbox) == ["m1", "m2", "m3", "m4"]
    assert (outbox.lost, len(outbox), outbox.idle) == (0, 0, True)


def test_only_the_newest_status_of_a_camera_waits() -> None:
    """That it was lost matters no more once it is back; what other cameras have to say stays."""
    outbox = Outbox(10)
    for message in (status(1), status(2, "c2"), status(3)):
        outbox.put(message)
    assert taken(outbox) == ["m2", "m3"]
    assert outbox.lost == 0


def test_the_oldest_recognition_goes() -> None:
    """Statuses do not count against the bound, and are never dropped."""
    outbox = Outbox(2)
    assert [outbox.put(one) for one in (somebody(1), status(2), somebody(3))] == [None] * 3
    gone = outbox.put(somebody(4))
    assert gone is not None
    assert gone.person == "p1"
    assert outbox.lost == 1
    assert taken(outbox) == ["m2", "m3", "m4"]


def test_what_failed_waits_until_the_receiver_accepts_something() -> None:
    """It is not knocked with again and again while the receiver is away, and then goes first."""
    outbox = Outbox(10)
    outbox.put(somebody(1))
    outbox.put(somebody(2))
    assert taken(outbox, accepted=False) == ["m1", "m2"]
    assert (len(outbox), outbox.idle) == (2, True)
    outbox.put(status(3))
    assert taken(outbox) == ["m3", "m1", "m2"]


def test_what_failed_three_times_is_given_up() -> None:
    """It may be what the receiver cannot take; what was refused by a policy of ours was never tried."""
    outbox = Outbox(10)
    outbox.put(somebody(1))
    for _ in range(5):
        assert taken(outbox, accepted=False, asked=False) == ["m1"]
        outbox.hasten()
    for _ in range(ROUNDS):
        assert len(outbox) == 1
        assert taken(outbox, accepted=False) == ["m1"]
        outbox.hasten()
    assert (len(outbox), outbox.lost) == (0, 1)


def test_what_failed_and_is_out_of_date_is_dropped() -> None:
    """A newer status of the same camera came while it was under way, or lies aside."""
    outbox = Outbox(10)
    outbox.put(status(1))
    outbox.take()
    outbox.put(status(2))
    outbox.settle(accepted=False)
    assert taken(outbox, accepted=False) == ["m2"]
    outbox.put(status(3))
    assert taken(outbox) == ["m3"]
    assert outbox.lost == 0


def test_at_the_end_nothing_is_kept() -> None:
    """What fails then is lost, and what is left is counted."""
    outbox = Outbox(10)
    for number in range(4):
        outbox.put(somebody(number))
    outbox.take()
    outbox.settle(accepted=False, ending=True)
    assert outbox.lost == 1
    outbox.take()
    outbox.abandon()
    assert (outbox.lost, len(outbox)) == (4, 0)


@given(
    script=st.lists(
        st.one_of(
            st.tuples(st.just("status"), st.integers(0, 2)),
            st.tuples(st.just("person"), st.integers(0, 9)),
            st.tuples(st.just("take"), st.booleans()),
        ),
        max_size=60,
    ),
    most=st.integers(1, 4),
)
def test_nothing_is_told_twice_or_lost_unseen(script: list[tuple[str, int]], most: int) -> None:
    """Every message is accepted, counted as lost, replaced by a newer one, or still there; people are bounded."""
    outbox, put, replaced, accepted = Outbox(most), 0, 0, []
    for what, detail in script:
        if what == "take":
            message = outbox.take()
            if message is not None:
                outbox.settle(accepted=bool(detail))
                accepted += [message.id] if detail else []
            continue
        before = len(outbox), outbox.lost
        put += 1
        outbox.put(status(put, str(detail)) if what == "status" else Message(str(put), ("person", detail), {}, "p"))
        replaced += before[0] + before[1] + 1 - len(outbox) - outbox.lost
        assert sum(one.person is not None for one in (*outbox._waiting.values(), *outbox._aside.values())) <= most
    assert len(accepted) == len(set(accepted))
    assert len(accepted) + outbox.lost + replaced + len(outbox) == put
