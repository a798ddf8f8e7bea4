"""What every store of shared state must do, as test classes: for the stores of this package and for your own.

Inherit from one and give it a pytest fixture called `store`, which makes an empty store for each test:

    class TestMyStore(BreakerStoreContract):
        @pytest.fixture
        def store(self):
            return MyStore(...)

Times are short and real, unless the process's runtime is a manual one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Final, TypeVar

from resilient_faces._core.runtime import RUNTIME
from resilient_faces._light import dataclass
from resilient_faces.breaker import BreakerStore, Shared
from resilient_faces.idempotency import IdempotencyStore, Record, Status
from resilient_faces.limits import Granted, LimiterStore, Pace

__all__ = ["BreakerStoreContract", "IdempotencyStoreContract", "LimiterStoreContract"]

T = TypeVar("T")

KEYS: Final = ("db/eu-central-1", "/", "camera/rtsp 1", "name/ключ", "a" * 500)
MANY: Final = 8


def together(work: Callable[[int], T]) -> list[T]:
    """What eight threads come to that begin at the same moment."""
    barrier = threading.Barrier(MANY)
    answers: list[T] = []

    def one(number: int) -> None:
        barrier.wait()
        answers.append(work(number))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(MANY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == MANY, "a thread ended with an error"
    return answers


class BreakerStoreContract:
    """Records of circuits: written if nobody else has written meanwhile, and failures counted exactly."""

    # Seconds within which the store's clock is known; what is left of a span may differ by so much.
    precision: float = 0.05

    def record(self, version: int, state: str = "open", seconds: float = 1000.0) -> Shared:
        return Shared(version, state, seconds, 2, "ConnectionResetError", "somebody")

    def same(self, found: Shared | None, written: Shared, within: float = 30.0) -> bool:
        """Whether a record is the one that was written; its seconds go by."""
        assert found is not None
        assert -self.precision <= written.seconds - found.seconds <= within + self.precision
        members = ("version", "state", "reopenings", "last", "by", "schema")
        return all(getattr(found, name) == getattr(written, name) for name in members)

    def test_it_has_the_protocol(self, store: BreakerStore) -> None:
        """What `Breaker(store=...)` checks."""
        assert isinstance(store, BreakerStore)
        assert isinstance(store.inline, bool)

    def test_an_unknown_circuit_has_no_record(self, store: BreakerStore) -> None:
        """None, not an error: every circuit is new once."""
        assert store.load(KEYS[0]) is None

    def test_what_is_saved_is_loaded(self, store: BreakerStore) -> None:
        """Every member, under any key."""
        for number, key in enumerate(KEYS):
            saved = Shared(1_700_000_000_000 + number, "half_open", 60.5, 7, "camera.stalled", "0a" * 8)
            assert store.save(key, saved, 0) is True
            assert self.same(store.load(key), saved)

    def test_absent_members_stay_absent(self, store: BreakerStore) -> None:
        """None is not the empty string."""
        store.save(KEYS[0], Shared(1, "closed", 0.0), 0)
        found = store.load(KEYS[0])
        assert found is not None
        assert (found.last, found.by, found.reopenings, found.failures) == (None, "", 0, 0)

    def test_the_first_save_expects_nothing(self, store: BreakerStore) -> None:
        """Version 0 means that there is no record; the second to come is told no."""
        assert store.save(KEYS[0], self.record(1, "open"), 0) is True
        assert store.save(KEYS[0], self.record(1, "closed"), 0) is False
        assert self.same(store.load(KEYS[0]), self.record(1, "open"))

    def test_a_save_goes_by_the_version(self, store: BreakerStore) -> None:
        """Who has not seen the last record changes nothing."""
        key = KEYS[0]
        store.save(key, self.record(1), 0)
        assert store.save(key, self.record(5, "half_open"), 1) is True
        assert store.save(key, self.record(2, "closed"), 1) is False
        assert store.save(key, self.record(9, "closed"), 8) is False
        assert self.same(store.load(key), self.record(5, "half_open"))
        assert store.save(key, self.record(6, "closed"), 5) is True

    def test_keys_are_apart(self, store: BreakerStore) -> None:
        """One circuit's record is no other's."""
        store.save("a/", self.record(1, "open"), 0)
        store.count("a/", 1, 60.0)
        assert store.load("a") is None
        assert store.load("b/") is None
        assert store.save("b/", self.record(1, "closed"), 0) is True
        found = store.load("b/")
        assert found is not None
        assert found.failures == 0

    def test_its_seconds_run_down(self, store: BreakerStore) -> None:
        """By the store's clock, below zero as well."""
        store.save(KEYS[0], self.record(1, "open", 0.2), 0)
        RUNTIME.sleep(0.3)
        found = store.load(KEYS[0])
        assert found is not None
        assert -30.0 < found.seconds < self.precision - 0.1 + 1e-6

    def test_failures_are_counted(self, store: BreakerStore) -> None:
        """One by one, also before there is a record; the answer says how many there are."""
        key = KEYS[0]
        counted = [store.count(key, 0, 60.0) for _ in range(3)]
        assert [(one.version, one.state, one.failures) for one in counted if one] == [
            (0, "closed", 1),
            (0, "closed", 2),
            (0, "closed", 3),
        ]
        assert store.load(key) is None
        store.save(key, self.record(4, "closed"), 0)
        found = store.load(key)
        assert found is not None
        assert found.failures == 0  # they went with what there was before
        again = store.count(key, 4, 60.0)
        assert again is not None
        assert (again.version, again.failures) == (4, 1)

    def test_many_count_at_once(self, store: BreakerStore) -> None:
        """No failure is lost, and each learns another number."""
        answers = together(lambda _: [store.count(KEYS[0], 0, 60.0) for _ in range(5)])
        counts = [one.failures for answer in answers for one in answer if one is not None]
        assert sorted(counts) == list(range(1, 5 * MANY + 1))

    def test_a_failure_of_an_old_generation_counts_nothing(self, store: BreakerStore) -> None:
        """Who counts under a version that is over learns the record instead: that the circuit is open."""
        store.save(KEYS[0], self.record(7, "open"), 0)
        found = store.count(KEYS[0], 6, 60.0)
        assert found is not None
        assert (found.version, found.state, found.failures) == (7, "open", 0)
        assert store.count("nothing/", 6, 60.0) is None

    def test_failures_are_forgotten(self, store: BreakerStore) -> None:
        """After `within` seconds from the first, and by `clear` under their version."""
        key = KEYS[0]
        store.count(key, 0, 0.2)
        RUNTIME.sleep(0.3 + 2.0 * self.precision)
        late = store.count(key, 0, 60.0)
        assert late is not None
        assert late.failures == 1
        store.clear(key, 3)
        assert self.failures(store.count(key, 0, 60.0)) == 2
        store.clear(key, 0)
        assert self.failures(store.count(key, 0, 60.0)) == 1

    @staticmethod
    def failures(found: Shared | None) -> int:
        return -1 if found is None else found.failures

    def test_one_of_many_wins(self, store: BreakerStore) -> None:
        """Eight that see the same version: one save goes through, as often as they try."""
        for version in range(1, 6):

            def save(number: int, version: int = version) -> int:
                shared = Shared(version, "half_open", 1000.0, number)
                return number if store.save(KEYS[0], shared, version - 1) else -1

            won = [number for number in together(save) if number >= 0]
            assert len(won) == 1
            found = store.load(KEYS[0])
            assert found is not None
            assert (found.version, found.reopenings) == (version, won[0])


@dataclass(frozen=True, slots=True)
class Reserved:
    """What a store granted, when it was asked and had answered, and when the first slot may begin; monotonic times."""

    granted: Granted
    asked: float
    answered: float
    earliest: float
    latest: float


class LimiterStoreContract:
    """Slots: each is given once, evenly spaced, by one clock."""

    pace: Final = Pace(rate=50.0, decrease=0.5, recovery=10.0, floor=5.0)
    precision: float = 0.05

    def test_it_has_the_protocol(self, store: LimiterStore) -> None:
        """What `RateLimiter(store=...)` checks."""
        assert isinstance(store, LimiterStore)
        assert isinstance(store.inline, bool)

    def reserve(
        self, store: LimiterStore, key: str, count: int, pace: Pace, longest: float | None = None, lead: float = 0.0
    ) -> Reserved:
        """Reserve, and note what is known of when. A slow machine makes that less, and never wrong."""
        asked = RUNTIME.monotonic()
        granted = store.reserve(key, count, pace, longest, lead)
        answered = RUNTIME.monotonic()
        first, last = (asked, answered) if granted.since is None else (granted.since, granted.since)
        return Reserved(
            granted, asked, answered, first + granted.delay - self.precision, last + granted.delay + self.precision
        )

    def stands_behind(self, later: Reserved, earlier: Reserved, seconds: float) -> None:
        """One begins so many seconds after the other and a little more, or when it is asked for, if that is later."""
        assert later.latest >= earlier.earliest + seconds
        assert later.earliest <= max(earlier.latest + 1.05 * seconds, later.answered)

    def test_slots_stand_in_line(self, store: LimiterStore) -> None:
        """Whoever comes next stands behind the batch before."""
        for key in KEYS:
            first = self.reserve(store, key, 50, self.pace)
            second = self.reserve(store, key, 10, self.pace)
            assert first.granted.taken
            assert first.asked <= first.latest
            assert first.earliest <= first.answered
            assert 0.02 <= first.granted.interval <= 0.021
            assert 0.02 <= second.granted.interval <= 0.021
            self.stands_behind(second, first, 1.0)

    def test_slots_are_no_closer_than_the_rate(self, store: LimiterStore) -> None:
        """A rate that does not come out even is rounded to the slower side."""
        odd = Pace(3.0, 0.5, 1.0, 1.0)
        found = store.reserve("odd", 1, odd, None, 0.0)
        assert 1.0 / 3.0 <= found.interval <= 1.0 / 3.0 + 0.01

    def test_nothing_is_taken_that_is_too_far_away(self, store: LimiterStore) -> None:
        """The answer says how far, and the slot stays free."""
        slow = Pace(1.0, 0.5, 1.0, 0.1)
        first = self.reserve(store, "far", 50, slow)
        refused = self.reserve(store, "far", 50, slow, longest=0.1)
        assert not refused.granted.taken
        self.stands_behind(refused, first, 50.0)
        taken = self.reserve(store, "far", 1, slow, longest=60.0)
        assert taken.granted.taken
        self.stands_behind(taken, first, 50.0)

    def test_time_that_passed_is_no_credit(self, store: LimiterStore) -> None:
        """After a pause the next slot begins now, and the one after it an interval later."""
        self.reserve(store, "pause", 1, self.pace)
        RUNTIME.sleep(0.3)
        first = self.reserve(store, "pause", 10, self.pace)
        second = self.reserve(store, "pause", 1, self.pace)
        assert first.asked <= first.latest
        assert first.earliest <= first.answered
        self.stands_behind(second, first, 0.2)

    def test_a_lead_holds_everybody_back(self, store: LimiterStore) -> None:
        """No slot begins within it, and who comes later stands behind."""
        first = self.reserve(store, "lead", 1, self.pace, lead=60.0)
        second = self.reserve(store, "lead", 1, self.pace)
        assert first.asked + 60.0 <= first.latest
        assert first.earliest <= first.answered + 60.0
        self.stands_behind(second, first, 0.02)
        third = self.reserve(store, "lead", 1, self.pace, lead=0.5)  # shorter than the queue: nothing new
        self.stands_behind(third, second, 0.02)

    def test_many_reserve_at_once(self, store: LimiterStore) -> None:
        """No slot is given twice: forty reservations of ten do not overlap."""
        came = together(lambda _: [self.reserve(store, "many", 10, self.pace) for _ in range(5)])
        batches = sorted((one for answer in came for one in answer), key=lambda one: one.earliest + one.latest)
        assert len(batches) == 5 * MANY
        for earlier, later in pairwise(batches):
            assert later.latest >= earlier.earliest + 0.2
        assert batches[-1].latest >= batches[0].earliest + (5 * MANY - 1) * 0.2

    def test_throttling_slows_everybody_down(self, store: LimiterStore) -> None:
        """Once for a burst of answers, down to the floor at the most, and it comes back with time."""
        key = "slow"
        pace = Pace(0.5, 0.5, 0.001, 0.05)  # so slow that the burst lasts for 8 s, and that hardly anything comes back
        assert store.slow_down(key, pace) == 0.25
        assert 0.25 <= store.slow_down(key, pace) < 0.26  # of the same burst
        slower = store.reserve(key, 1, pace, None, 0.0)
        assert 1.0 / 0.26 < slower.interval <= 1.0 / 0.24
        RUNTIME.sleep(0.2)
        recovered = store.reserve(key, 1, Pace(0.5, 0.5, 1.0, 0.05), None, 0.0)
        assert recovered.interval < slower.interval
        steep = Pace(50.0, 0.01, 10.0, 5.0)
        assert store.slow_down("floor", steep) == 5.0

    def test_members_are_counted(self, store: LimiterStore) -> None:
        """Each once, and only for so long."""
        assert store.join("members", "a", 60.0) == 1
        assert store.join("members", "b", 60.0) == 2
        assert store.join("members", "a", 60.0) == 2
        assert store.join("others", "a", 60.0) == 1
        RUNTIME.sleep(0.4 + 2.0 * self.precision)
        assert store.join("members", "c", 0.2) == 1

    def test_many_join_at_once(self, store: LimiterStore) -> None:
        """None is lost."""
        assert max(together(lambda number: store.join("crowd", str(number), 60.0))) == MANY


class IdempotencyStoreContract:
    """Operations: one owner at a time, and a result that only the owner can write."""

    precision: float = 0.05

    def claim(self, store: IdempotencyStore, owner: str, key: str = KEYS[0], lease: float = 60.0) -> Record | None:
        return store.claim(key, owner, "f1", lease, 3600.0)

    def test_it_has_the_protocol(self, store: IdempotencyStore) -> None:
        """What the policy checks."""
        assert isinstance(store, IdempotencyStore)
        assert isinstance(store.inline, bool)

    def test_the_first_claims(self, store: IdempotencyStore) -> None:
        """The second is shown the record that is in the way, in one step."""
        for key in KEYS:
            assert store.find(key) is None
            assert self.claim(store, "a", key) is None
            found = self.claim(store, "b", key)
            assert found is not None
            assert (found.status, found.owner, found.fingerprint, found.data) == (Status.in_progress, "a", "f1", b"")
            assert 55.0 < found.lease <= 60.0 + self.precision
            assert 3500.0 < found.kept <= 3600.0 + self.precision

    def test_one_of_many_claims(self, store: IdempotencyStore) -> None:
        """Eight at the same moment: one works, the others see it."""
        answers = together(lambda number: self.claim(store, f"owner-{number}"))
        assert answers.count(None) == 1
        found = store.find(KEYS[0])
        assert found is not None
        assert {one.owner for one in answers if one is not None} == {found.owner}

    def test_a_claim_may_be_repeated(self, store: IdempotencyStore) -> None:
        """By its owner: the answer to the first request may have been lost."""
        assert self.claim(store, "a") is None
        assert self.claim(store, "a") is None

    def test_a_result_is_given_to_whoever_asks_again(self, store: IdempotencyStore) -> None:
        """Bit by bit, whatever it is, the empty one included."""
        for number, data in enumerate((b"", b"0", b"null", b"\x00\xff\xfe", bytes(range(256)) * 100)):
            key = f"result-{number}"
            assert self.claim(store, "a", key) is None
            assert store.finish(key, "a", Status.completed, data, 3600.0) is True
            found = self.claim(store, "b", key)
            assert found is not None
            assert (found.status, found.owner, found.data, found.fingerprint) == (Status.completed, "a", data, "f1")
            assert found.lease <= 0.0
            assert self.claim(store, "a", key) is not None  # its owner does not begin anew either

    def test_a_failure_for_good_is_kept_as_well(self, store: IdempotencyStore) -> None:
        """A declined card stays declined."""
        self.claim(store, "a")
        assert store.finish(KEYS[0], "a", Status.failed, b"declined", 3600.0)
        found = store.find(KEYS[0])
        assert found is not None
        assert (found.status, found.data) == (Status.failed, b"declined")

    def test_finishing_may_be_repeated(self, store: IdempotencyStore) -> None:
        """With the same result, by the same owner; another result is refused."""
        self.claim(store, "a")
        assert store.finish(KEYS[0], "a", Status.completed, b"1", 3600.0)
        assert store.finish(KEYS[0], "a", Status.completed, b"1", 3600.0)
        assert not store.finish(KEYS[0], "a", Status.completed, b"2", 3600.0)
        assert not store.finish(KEYS[0], "a", Status.failed, b"1", 3600.0)

    def test_who_lost_the_claim_changes_nothing(self, store: IdempotencyStore) -> None:
        """A late owner neither finishes, nor extends, nor gives up what another works on or has finished."""
        key = KEYS[0]
        assert self.claim(store, "late", lease=0.1) is None
        RUNTIME.sleep(0.2 + 2.0 * self.precision)
        assert self.claim(store, "next") is None
        for _ in range(2):
            assert not store.finish(key, "late", Status.failed, b"late", 3600.0)
            assert not store.extend(key, "late", 60.0)
            assert not store.release(key, "late")
            found = store.find(key)
            assert found is not None
            assert found.owner == "next"
            store.finish(key, "next", Status.completed, b"result", 3600.0)  # the second time round: finished
        assert found is not None
        assert (found.status, found.data) == (Status.completed, b"result")

    def test_an_owner_is_in_time_until_another_claims(self, store: IdempotencyStore) -> None:
        """A lease that is over lets others in; it does not undo the work."""
        self.claim(store, "a", lease=0.05)
        RUNTIME.sleep(0.1 + 2.0 * self.precision)
        assert store.finish(KEYS[0], "a", Status.completed, b"1", 3600.0)

    def test_a_lease_is_extended(self, store: IdempotencyStore) -> None:
        """While the work goes on nobody else gets in."""
        self.claim(store, "a", lease=0.2 + 4.0 * self.precision)
        assert store.extend(KEYS[0], "a", 60.0)
        RUNTIME.sleep(0.3 + 6.0 * self.precision)
        assert self.claim(store, "b") is not None

    def test_a_record_is_kept_for_as_long_as_its_lease(self, store: IdempotencyStore) -> None:
        """However shortly it was to be kept: it is neither claimed by another nor lost while its owner goes on."""
        blink = 0.1 + 2.0 * self.precision
        assert store.claim(KEYS[0], "a", "print", 4.0 * blink, blink) is None
        RUNTIME.sleep(1.5 * blink)
        assert store.claim(KEYS[0], "b", "print", 60.0, 60.0) is not None
        assert store.extend(KEYS[0], "a", 60.0)
        RUNTIME.sleep(4.0 * blink)
        found = store.find(KEYS[0])
        assert found is not None
        assert found.kept >= found.lease > 50.0
        assert store.claim(KEYS[0], "b", "print", 60.0, 60.0) is not None
        assert store.finish(KEYS[0], "a", Status.completed, b"1", 3600.0)

    def test_an_extension_shortens_nothing(self, store: IdempotencyStore) -> None:
        """A record that is to be kept for longer than its new lease is."""
        store.claim(KEYS[0], "a", "print", 60.0, 3600.0)
        assert store.extend(KEYS[0], "a", 60.0)
        found = store.find(KEYS[0])
        assert found is not None
        assert found.kept > 3000.0

    def test_what_is_given_up_is_free(self, store: IdempotencyStore) -> None:
        """At once, for anybody; what is finished cannot be given up."""
        self.claim(store, "a")
        assert store.release(KEYS[0], "a")
        assert store.find(KEYS[0]) is None
        assert self.claim(store, "b") is None
        store.finish(KEYS[0], "b", Status.completed, b"", 3600.0)
        assert not store.release(KEYS[0], "b")
        assert not store.extend(KEYS[0], "b", 60.0)

    def test_nobody_owns_what_is_not_there(self, store: IdempotencyStore) -> None:
        """No record appears by finishing, extending or giving up."""
        assert not store.finish("absent", "a", Status.completed, b"", 3600.0)
        assert not store.extend("absent", "a", 60.0)
        assert not store.release("absent", "a")
        assert store.find("absent") is None

    def test_records_are_forgotten(self, store: IdempotencyStore) -> None:
        """Finished ones after `keep` seconds; then the operation may be done again."""
        self.claim(store, "a")
        store.finish(KEYS[0], "a", Status.completed, b"1", 0.2)
        RUNTIME.sleep(0.3 + 2.0 * self.precision)
        assert store.find(KEYS[0]) is None
        assert self.claim(store, "b") is None
