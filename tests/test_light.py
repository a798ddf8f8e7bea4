"""Frozen values: what the same options make, what a record holds, and that nothing of the user's is held on to."""

from __future__ import annotations

import copy
import dataclasses
import gc
import pickle
import threading
import weakref
from typing import Any

import pytest

from resilient_faces import (
    Breaker,
    Fallback,
    OptionError,
    Retrier,
    Retry,
    UnknownOptionError,
    _light,
    current_attempt,
    guard,
)
from resilient_faces.breaker import consecutive, failure_rate
from resilient_faces.retry import exponential, fixed, full
from resilient_faces.testing import ManualRuntime, Mode, script

# -- the same options are the same object --------------------------------------------------------------------------


def test_the_same_options_make_the_same_object() -> None:
    """However they are given, and also where one of them is such an object itself."""
    assert Retry(attempts=4) is Retry(attempts=4)
    assert exponential(0.2) is exponential(base=0.2)
    assert Retry(backoff=exponential(0.2), jitter=full()) is Retry(backoff=exponential(0.2), jitter=full())
    assert Retry(attempts=4) is not Retry(attempts=5)
    assert Retry(attempts=4) == Retry(jitter=full(), attempts=4)


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (1, 1.0), (0, 0.0), (0.0, -0.0), (0, False), ("1", 1), ((1,), (True,)), ([1], [1]), (None, 0)],
)
def test_what_is_only_equal_is_not_the_same(one: object, other: object) -> None:
    """A fallback answers with the value that it was given, and not with one that compares equal."""
    first, second = Fallback(value=one), Fallback(value=other)
    assert first.value is one
    assert second.value is other
    assert first is not second


def test_what_is_kept_in_another_form_is_not_taken_for_the_same() -> None:
    """A list of retriers becomes a tuple; it may be changed, or be gone and another come to lie where it lay."""
    retriers: list[Retrier] = []
    first = Retry(retriers=retriers)  # type: ignore[arg-type]
    retriers.append(Retrier(on=KeyError))
    assert (first.retriers, Retry(retriers=retriers).retriers) == ((), tuple(retriers))  # type: ignore[arg-type]


def test_a_subclass_is_as_it_is_written() -> None:
    """Its own `__init__` is called for each object."""

    class Mine(Retry):
        def __init__(self, times: int) -> None:
            super().__init__(attempts=times + 1)

    assert Mine(2).attempts == 3
    assert Mine(2) is not Mine(2)


@pytest.mark.parametrize("value", [Retry(attempts=4), exponential(0.3), consecutive(7), Fallback(value="x")], ids=repr)
def test_copies_are_the_same(value: object) -> None:
    """Pickled, copied, replaced by nothing: equal options again."""
    assert pickle.loads(pickle.dumps(value)) is value
    assert copy.copy(value) is value
    assert copy.deepcopy(value) is value
    assert dataclasses.replace(value) == value  # type: ignore[type-var]


def test_a_value_of_the_user_s_is_let_go() -> None:
    """A fallback holds its answer as long as somebody holds the fallback."""

    class Answer: ...

    answer = Answer()
    policy = Fallback(value=answer)
    assert Fallback(value=answer) is policy
    gone = weakref.ref(answer)
    del policy, answer
    gc.collect()
    assert gone() is None


def test_what_is_kept_for_the_next_is_bounded() -> None:
    """A program that makes ever new options keeps a few of them."""
    for number in range(1_000):
        fixed(1.0 + number)
    assert len(_light._lasting) <= _light._MOST_LASTING


def test_wrong_options_are_told_each_time() -> None:
    """What was refused is not remembered as good, nor hidden behind what was good."""
    for _ in range(2):
        with pytest.raises(OptionError, match=r"Retry\.attempts must be 1 or more"):
            Retry(attempts=0)
        with pytest.raises(UnknownOptionError, match="Did you mean attempts"):
            Retry(atempts=3)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="multiple values for argument 'base'"):
            exponential(0.1, base=0.2)  # type: ignore[misc]
        with pytest.raises(TypeError, match="positional"):
            Retry(3)  # type: ignore[misc]


def test_many_threads_make_one() -> None:
    """Whoever comes second gets what the first one made, or one that is equal; both work."""
    made: list[Retry] = []
    barrier = threading.Barrier(8)

    def make() -> None:
        barrier.wait()
        made.append(Retry(attempts=31))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(made) == {Retry(attempts=31)}


def test_the_same_retry_twice_in_a_guard(mode: Mode, clock: ManualRuntime) -> None:
    """Two places in a guard are two policies, though they are one object: attempts multiply."""
    scripted = script(ConnectionResetError())
    twice = guard(Retry(attempts=2), Retry(attempts=2), accept=["RF005"])
    with pytest.raises(ConnectionResetError):
        mode.run(twice, scripted)
    assert scripted.count == 4
    assert current_attempt() == 1


# -- a record of options -------------------------------------------------------------------------------------------


def test_breakers_share_their_options_and_nothing_else(resilience: None) -> None:
    """Names, circuits and states are their own."""
    one, other = Breaker("one", recovery_timeout=7.0), Breaker("other", recovery_timeout=7.0)
    assert one._record is other._record
    assert (one.name, other.name) == ("one", "other")
    assert (one.recovery_timeout, one.growth, one.trips) == (7.0, 2.0, (consecutive(5),))
    one.circuit.force_open()
    assert other.circuit.state.value == "closed"
    assert Breaker("third", recovery_timeout=8.0).recovery_timeout == 8.0


def test_a_record_holds_what_it_tells_apart(resilience: None) -> None:
    """Rules that are made for one breaker and dropped must not be taken for others that come to lie in their place."""
    rates = []
    for number in range(1, 60):
        breaker = Breaker(f"b{number}", trips=(failure_rate(0.5, calls=number),))
        rates.append([getattr(rule, "calls", 0) for rule in breaker.trips])
    assert rates == [[number] for number in range(1, 60)]


@pytest.mark.parametrize("name", ["", 3, len])
def test_a_wrong_name_beside_good_options(resilience: None, name: Any) -> None:
    """Options that were found good before do not let a wrong name through."""
    Breaker("good", recovery_timeout=9.0)
    with pytest.raises(OptionError, match=r"Breaker\.name must be a name"):
        Breaker(name, recovery_timeout=9.0)


def test_all_wrong_options_in_one_message(resilience: None) -> None:
    """The name among them."""
    with pytest.raises(OptionError) as caught:
        Breaker("", growth=0.5, probes=0)
    assert [line.partition(" ")[0] for line in str(caught.value).splitlines()] == [
        "Breaker.name",
        "Breaker.growth",
        "Breaker.probes",
    ]


def test_a_breaker_is_a_dataclass_still(resilience: None) -> None:
    """`replace`, `fields`, equality and `repr` read the record."""
    breaker = Breaker("db", recovery_timeout=7.0)
    longer = dataclasses.replace(breaker, name="db-2", recovery_timeout=9.0)
    assert (longer.recovery_timeout, longer.name) == (9.0, "db-2")
    assert breaker == Breaker("db", recovery_timeout=7.0)
    assert "recovery_timeout=7.0" in repr(breaker)
    assert [one.name for one in dataclasses.fields(breaker)][:2] == ["name", "trips"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        breaker.recovery_timeout = 1.0  # type: ignore[misc]
