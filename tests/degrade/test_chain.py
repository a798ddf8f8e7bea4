"""Ordered alternatives with a labelled answer, and the last good answer."""

from __future__ import annotations

import functools
import threading

import pytest

from resilient_faces import (
    Answer,
    Chain,
    Event,
    Kind,
    LastGood,
    OptionError,
    bulkhead,
    chain,
    guard,
    last_good,
    listen,
    retry,
)
from resilient_faces.retry import none
from resilient_faces.testing import ManualRuntime, Mode, script


def local(*_: object) -> str:
    return "local"


def broken(*_: object) -> str:
    raise ConnectionResetError


def missing(*_: object) -> str:
    raise FileNotFoundError


class TestChain:
    def test_the_functions_own_answer(self, mode: Mode, clock: ManualRuntime) -> None:
        """Labelled with its name, and not degraded."""
        assert mode.run(chain(local), script("own")) == Answer("own", "scripted", False)

    def test_the_first_alternative_that_answers(self, mode: Mode, clock: ManualRuntime) -> None:
        """In order, with the call's arguments, labelled by who gave it."""
        seen: list[object] = []

        def cache(*args: object) -> str:
            seen.append(args)
            return "cached"

        policy = chain(mode.wrap(broken), ("cache", mode.wrap(cache)), mode.wrap(local))
        assert mode.run(policy, script(ConnectionResetError()), 7) == Answer("cached", "cache", True)
        assert seen == [(7,)]

    def test_names_come_from_the_functions(self, mode: Mode, clock: ManualRuntime) -> None:
        """A function's name is its label."""
        assert mode.run(chain(local), script(ConnectionResetError())) == Answer("local", "local", True)

    def test_the_last_error_comes_out(self, mode: Mode, clock: ManualRuntime) -> None:
        """When nobody has an answer."""

        def last() -> None:
            raise TimeoutError

        with pytest.raises(TimeoutError):
            mode.run(chain(broken, last), script(ConnectionResetError()))

    def test_an_answer_of_the_business_ends_it(self, mode: Mode, clock: ManualRuntime) -> None:
        """Not found is an answer, from the function as from an alternative."""
        with pytest.raises(FileNotFoundError):
            mode.run(chain(local), script(FileNotFoundError()))
        with pytest.raises(FileNotFoundError):
            mode.run(chain(missing, local), script(ConnectionResetError()))

    def test_on_by_hand(self, mode: Mode, clock: ManualRuntime) -> None:
        """Which errors to go on after."""
        policy = chain(missing, local, on=(Kind.not_found, ConnectionError))
        assert mode.run(policy, script(ConnectionResetError())) == Answer("local", "local", True)
        with pytest.raises(KeyError):
            mode.run(policy, script(KeyError()))

    def test_interrupts_end_it(self, clock: ManualRuntime) -> None:
        """The way out of the program is not a fault."""
        with pytest.raises(KeyboardInterrupt):
            chain(local, on=BaseException).call(script(KeyboardInterrupt()).function())

    def test_it_is_told(self, mode: Mode, clock: ManualRuntime) -> None:
        """Event and report name the source."""
        heard: list[Event] = []
        listen(heard.append)
        guarded = chain(("cache", local))(mode.function(script(ConnectionResetError())))
        _, told = mode.call(guarded.call_with_report)  # type: ignore[misc]
        assert (told.source, told.outcome) == ("cache", "degraded")
        assert [(one.type, one.policy, one.name, one.code) for one in heard] == [
            ("degraded", "chain", "cache", "ConnectionResetError")
        ]

    def test_an_inner_fallback_keeps_its_label(self, mode: Mode, clock: ManualRuntime) -> None:
        """The chain passes on who really answered."""
        policy = guard(chain(local), LastGood(60.0))
        guarded = policy(mode.function(script("fresh", ConnectionResetError())))
        assert mode.call(guarded) == Answer("fresh", "scripted", False)
        assert mode.call(guarded) == Answer("fresh", "last_good", True)

    def test_after_retries(self, mode: Mode, clock: ManualRuntime) -> None:
        """The function gets its attempts first."""
        scripted = script(ConnectionResetError())
        mode.run(guard(chain(local), retry(attempts=2, backoff=1.0, jitter=none())), scripted)
        assert scripted.count == 2

    def test_options_are_checked(self, resilience: None) -> None:
        """Nothing, or something that cannot be called."""
        with pytest.raises(OptionError, match="at least one callable"):
            Chain(())
        with pytest.raises(OptionError, match=r"Chain.alternatives\[1\]"):
            chain(local, "cache")  # type: ignore[arg-type]
        with pytest.raises(OptionError, match=r"Chain.on"):
            chain(local, on=3)  # type: ignore[arg-type]


class TestLastGood:
    @pytest.mark.parametrize(("age", "known"), [(59.9, True), (60.0, True), (60.1, False)])
    def test_young_enough(self, mode: Mode, clock: ManualRuntime, age: float, known: bool) -> None:
        """Up to the maximum age; an older one is forgotten, and the error comes out."""
        guarded = last_good(60.0)(mode.function(script("fresh", ConnectionResetError())))
        mode.call(guarded)
        clock.advance(age)
        if known:
            assert mode.call(guarded) == "fresh"
        else:
            with pytest.raises(ConnectionResetError):
                mode.call(guarded)

    def test_a_stale_answer_does_not_grow_younger(self, mode: Mode, clock: ManualRuntime) -> None:
        """Its age counts from when it was good, however often it is given."""
        guarded = last_good(60.0)(mode.function(script("fresh", ConnectionResetError())))
        mode.call(guarded)
        for _ in range(3):
            clock.advance(20.0)
            assert mode.call(guarded) == "fresh"
        clock.advance(1.0)
        with pytest.raises(ConnectionResetError):
            mode.call(guarded)

    def test_each_call_has_its_own(self, mode: Mode, clock: ManualRuntime) -> None:
        """By arguments, keywords in any order."""
        guarded = last_good(60.0)(mode.function(script("one", "two", ConnectionResetError())))
        mode.call(guarded, 1, a=1, b=2)
        mode.call(guarded, 2)
        assert mode.call(guarded, 1, b=2, a=1) == "one"
        assert mode.call(guarded, 2) == "two"
        with pytest.raises(ConnectionResetError):
            mode.call(guarded, 3)

    def test_each_function_has_its_own(self, mode: Mode, clock: ManualRuntime) -> None:
        """One policy around two functions does not mix their answers."""
        policy = last_good(60.0)
        mode.call(policy(mode.function(script("of the first"))), 1)
        with pytest.raises(ConnectionResetError):
            mode.run(policy, script(ConnectionResetError()), 1)

    def test_the_newest_good_answer(self, mode: Mode, clock: ManualRuntime) -> None:
        """Each success replaces the one before."""
        guarded = last_good(60.0)(mode.function(script("old", "new", ConnectionResetError())))
        mode.call(guarded)
        mode.call(guarded)
        assert mode.call(guarded) == "new"

    def test_bounded(self, mode: Mode, clock: ManualRuntime) -> None:
        """The least recently used go first."""
        guarded = last_good(60.0, max_entries=2)(mode.function(script(1, 2, ConnectionResetError())))
        mode.call(guarded, "a")
        mode.call(guarded, "b")
        assert mode.call(guarded, "a") == 1  # used again
        policy_full = last_good(60.0, max_entries=1)(mode.function(script(1, 2, ConnectionResetError())))
        mode.call(policy_full, "a")
        mode.call(policy_full, "b")
        with pytest.raises(ConnectionResetError):
            mode.call(policy_full, "a")
        assert mode.call(policy_full, "b") == 2

    def test_answers_of_the_business_stand(self, mode: Mode, clock: ManualRuntime) -> None:
        """What is not found any more must not be found in the memory."""
        guarded = last_good(60.0)(mode.function(script("fresh", FileNotFoundError())))
        mode.call(guarded)
        with pytest.raises(FileNotFoundError):
            mode.call(guarded)

    def test_it_is_marked(self, mode: Mode, clock: ManualRuntime) -> None:
        """Source and outcome."""
        guarded = last_good(60.0)(mode.function(script("fresh", ConnectionResetError())))
        mode.call(guarded)
        _, told = mode.call(guarded.call_with_report)  # type: ignore[misc]
        assert (told.source, told.outcome, told.degraded) == ("last_good", "degraded", True)

    def test_a_key_by_hand(self, mode: Mode, clock: ManualRuntime) -> None:
        """Where arguments are not hashable; without one the message says so."""
        guarded = last_good(60.0, key=lambda image: image["id"])(mode.function(script("fresh", ConnectionResetError())))
        mode.call(guarded, {"id": 1, "pixels": [1]})
        assert mode.call(guarded, {"id": 1, "pixels": [2]}) == "fresh"
        with pytest.raises(TypeError, match=r"LastGood.key must be given for scripted"):
            mode.run(last_good(60.0), script("fresh"), {"id": 1})

    def test_a_joint_inside_changes_no_key(self, mode: Mode, clock: ManualRuntime) -> None:
        """Each decorating makes another function of the same one: its answers are the same place in memory."""
        policy = guard(last_good(60.0), bulkhead(1))
        target = mode.function(script("fresh", ConnectionResetError()))
        guarded = policy(target)
        assert mode.call(guarded) == "fresh"
        assert mode.call(policy(target)) == "fresh"
        assert mode.call(guarded.call_with_report)[0] == "fresh"

    def test_a_foreign_wrapper_has_answers_of_its_own(self, clock: ManualRuntime) -> None:
        """It copies our notes, but it is another function."""
        policy = last_good(60.0)
        inner = guard(policy, bulkhead(1))(script("fresh", ConnectionResetError()).function())

        @functools.wraps(inner)
        def doubled() -> str:
            return f"{inner()}{inner()}"

        inner()
        assert inner() == "fresh"
        assert policy(doubled)() == "freshfresh"
        assert inner() == "fresh"

    def test_what_is_dropped_may_call_the_same_function(self, clock: ManualRuntime) -> None:
        """The end of a value runs code of the user's; no lock is held then."""

        class Value:
            def __del__(self) -> None:
                ended.append(guarded(0))

        ended: list[object] = []
        guarded = last_good(60.0, max_entries=1)(lambda number: Value() if number else "none")
        asking = threading.Thread(target=lambda: (guarded(1), guarded(2), guarded(0)), daemon=True)
        asking.start()
        asking.join(10.0)
        assert not asking.is_alive()
        assert ended[:2] == ["none", "none"]

    def test_forget(self, mode: Mode, clock: ManualRuntime) -> None:
        """By hand."""
        policy = last_good(60.0)
        guarded = policy(mode.function(script("fresh", ConnectionResetError())))
        mode.call(guarded)
        policy.forget()
        with pytest.raises(ConnectionResetError):
            mode.call(guarded)

    def test_options_are_checked(self, resilience: None) -> None:
        """All wrong ones in one message."""
        with pytest.raises(OptionError) as caught:
            last_good(0.0, max_entries=0, key=1, on=2)  # type: ignore[arg-type]
        assert [line.split()[0] for line in str(caught.value).splitlines()] == [
            "LastGood.max_age",
            "LastGood.max_entries",
            "LastGood.key",
            "LastGood.on",
        ]
