"""`guard`, the decorator that every policy is, and the orders worth a second look."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

import resilient_faces
from resilient_faces import (
    Answer,
    Breaker,
    Bulkhead,
    BulkheadFullError,
    CircuitOpenError,
    Deadline,
    DeadlineExceededError,
    DecorationError,
    Event,
    Fault,
    Guard,
    Kind,
    LastGood,
    OptionError,
    ResilienceWarning,
    RetryableError,
    UnknownOptionError,
    bulkhead,
    chain,
    circuit_breaker,
    circuits,
    deadline,
    fallback,
    first_match,
    guard,
    last_good,
    listen,
    rate_limit,
    remaining,
    retry,
    timeout,
)
from resilient_faces.breaker import consecutive
from resilient_faces.composing import RULES, broken_rules
from resilient_faces.flows import Call, Flow, Inner, Outcome, Policy, Raised, Returned
from resilient_faces.retry import none
from resilient_faces.testing import ManualRuntime, Mode, script


class Again(RetryableError):
    pass


def counter(function: Callable[..., object]) -> Callable[..., object]:
    """A foreign decorator, well-behaved as most are: it copies our marks and counts its calls."""

    @functools.wraps(function)
    def counting(*args: object, **kwargs: object) -> object:
        counting.calls += 1  # type: ignore[attr-defined]
        return function(*args, **kwargs)

    counting.calls = 0  # type: ignore[attr-defined]
    return counting


# -- stacks and guards ---------------------------------------------------------------------------------------------


def told_by(mode: Mode, make: Callable[[Callable[..., object]], Callable[..., object]]) -> list[object]:
    """What a guarded script gives and tells, call by call."""
    events: list[Event] = []
    stop = listen(events.append)
    function = make(mode.function(script(Again(), Again(), Again(), "ok", Again(), "ok", ValueError("x"), "ok")))
    results: list[object] = []
    for _ in range(8):
        try:
            results.append(mode.call(function))
        except Exception as error:
            results.append(repr(error))
    stop()
    return [*results, *[(one.type, one.status, one.attempt, one.delay, one.code) for one in events]]


def test_a_stack_of_decorators_is_a_guard(mode: Mode, clock: ManualRuntime) -> None:
    """The same policies in the same order: results, events and waits are equal."""
    first = fallback(value="fell"), retry(attempts=2), circuit_breaker("one", failure_threshold=3)
    stacked = told_by(mode, lambda function: first[0](first[1](first[2](function))))
    slept = list(clock.slept)
    clock.slept.clear()
    circuits.reset()
    second = guard(fallback(value="fell"), retry(attempts=2), circuit_breaker("two", failure_threshold=3))
    assert told_by(mode, second) == stacked
    assert clock.slept == slept
    assert len(slept) > 0


def test_a_stack_is_one_wrapper(resilience: None) -> None:
    """Three decorators put one closure around the function, as one guard does."""

    def work() -> None: ...

    stacked = fallback(value=0)(retry()(circuit_breaker("db")(work)))
    assert stacked.__wrapped__ is work
    assert type(stacked) is type(work)


def test_a_guard_of_guards_is_a_guard(mode: Mode, clock: ManualRuntime) -> None:
    """Inner guards give their policies, in their place."""
    inner = guard(retry(attempts=2), circuit_breaker("db"))
    whole = guard(fallback(value=0), inner)
    assert [type(one).__name__ for one in whole.policies] == ["Fallback", "Retry", "Breaker"]
    assert mode.run(whole, script(Again())) == 0
    assert circuits["db"].snapshot().failures == 2


def test_a_guard_goes_around_a_guarded_function(mode: Mode, clock: ManualRuntime) -> None:
    """Decorating again adds policies outside."""
    scripted = script(Again(), Again(), "ok")
    inner = retry(attempts=2)(mode.function(scripted))
    assert mode.call(fallback(value="fell")(inner)) == "fell"
    assert scripted.count == 2  # inside of the retry the fallback would have answered for the first attempt
    assert mode.call(inner) == "ok"


def test_the_first_named_is_outermost(mode: Mode, clock: ManualRuntime) -> None:
    """A retry outside of a circuit counts a failure for each attempt, one inside of it one for all of them."""
    one = guard(retry(attempts=3), circuit_breaker("inner"))
    other = guard(circuit_breaker("outer"), retry(attempts=3), accept=["RF001"])
    for policy in (one, other):
        with pytest.raises(Again):
            mode.run(policy, script(Again()))
    assert circuits["inner"].snapshot().failures == 3
    assert circuits["outer"].snapshot().failures == 1


def test_a_foreign_decorator_in_between_is_kept(resilience: None) -> None:
    """`functools.wraps` copies our marks; the wrapper is still called, and is not mistaken for ours."""
    scripted = script(Again(), Again(), "ok")
    foreign = counter(circuit_breaker("db")(scripted.function()))
    whole = retry(attempts=3, backoff=0.0)(foreign)
    assert whole() == "ok"
    assert foreign.calls == 3  # type: ignore[attr-defined]
    assert whole.__wrapped__ is foreign
    assert circuits["db"].snapshot().failures == 2


def test_a_foreign_decorator_around_a_joint_is_kept(resilience: None) -> None:
    """Also when the outermost layer of the inner guard is a joint."""
    foreign = counter(bulkhead(1)(script("ok").function()))
    assert retry()(foreign)() == "ok"
    assert foreign.calls == 1  # type: ignore[attr-defined]


def test_one_guard_serves_many_functions(mode: Mode, clock: ManualRuntime) -> None:
    """They share its circuit, and nothing else."""
    policy = guard(retry(attempts=1), circuit_breaker("shared", failure_threshold=2))
    one, two = policy(mode.function(script(Again("1")))), policy(mode.function(script(Again("2"))))
    for function, text in ((one, "1"), (two, "2")):
        with pytest.raises(Again, match=text):
            mode.call(function)
    for function in (one, two):
        with pytest.raises(CircuitOpenError):
            mode.call(function)


def test_sync_and_async_functions_share_a_guard(clock: ManualRuntime) -> None:
    """One circuit for both."""
    policy = circuit_breaker("both", failure_threshold=2)
    with pytest.raises(Again):
        policy(script(Again()).function())()
    with pytest.raises(Again):
        asyncio.run(policy(script(Again()).coroutine())())  # type: ignore[arg-type]
    with pytest.raises(CircuitOpenError):
        policy(script("ok").function())()


def test_two_circuits_make_two_segments(mode: Mode, clock: ManualRuntime) -> None:
    """Each counts for itself: the inner one opens first, and its rejection is no evidence for the outer."""
    policy = guard(
        circuit_breaker("outer", failure_threshold=2), circuit_breaker("inner", failure_threshold=1), retry(attempts=1),
        accept=["RF001"],
    )  # fmt: skip
    function = policy(mode.function(script(Again())))
    with pytest.raises(Again):
        mode.call(function)
    for _ in range(3):
        with pytest.raises(CircuitOpenError, match="inner"):
            mode.call(function)
    assert circuits["outer"].snapshot().failures == 1


# -- what can be guarded -------------------------------------------------------------------------------------------


class Service:
    """Methods of every sort, each failing once."""

    failures = 0
    seen: ClassVar[list[tuple[object, ...]]] = []

    @classmethod
    def start(cls) -> None:
        Service.failures = 1
        Service.seen = []

    @staticmethod
    def note(*what: object) -> str:
        Service.seen.append(what)
        if Service.failures:
            Service.failures -= 1
            raise Again
        return "ok"

    @retry(backoff=0.0)
    def method(self, one: int) -> str:
        """A method."""
        return self.note(type(self), one)

    @retry(backoff=0.0)
    async def amethod(self, one: int) -> str:
        return self.note(type(self), one)

    @retry(backoff=0.0)
    @classmethod
    def above_classmethod(cls, one: int) -> str:
        return cls.note(cls, one)

    @classmethod
    @retry(backoff=0.0)
    def below_classmethod(cls, one: int) -> str:
        return cls.note(cls, one)

    @retry(backoff=0.0)
    @staticmethod
    def above_staticmethod(one: int) -> str:
        return Service.note(None, one)

    @staticmethod
    @retry(backoff=0.0)
    def below_staticmethod(one: int) -> str:
        return Service.note(None, one)

    @property
    @retry(backoff=0.0)
    def attribute(self) -> str:
        return self.note(type(self), 0)


class Sub(Service):
    pass


@pytest.mark.parametrize("cls", [Service, Sub])
@pytest.mark.parametrize(
    "name",
    ["method", "above_classmethod", "below_classmethod", "above_staticmethod", "below_staticmethod"],
)
def test_methods_of_every_sort(resilience: None, name: str, cls: type[Service]) -> None:
    """They are bound as without the guard, called twice, and keep their arguments."""
    Service.start()
    assert getattr(cls(), name)(7) == "ok"
    owner = None if "static" in name else cls
    assert Service.seen == [(owner, 7)] * 2


def test_methods_on_the_class(resilience: None) -> None:
    """Classmethods and staticmethods need no instance; a method takes one by hand."""
    for call in (Service.above_classmethod, Service.below_staticmethod, lambda n: Service.method(Service(), n)):
        Service.start()
        assert call(7) == "ok"
        assert len(Service.seen) == 2


def test_async_methods(resilience: None) -> None:
    """Awaited like any other."""
    Service.start()
    assert inspect.iscoroutinefunction(Service().amethod)
    assert asyncio.run(Service().amethod(3)) == "ok"
    assert Service.seen == [(Service, 3)] * 2


def test_a_property_s_getter(resilience: None) -> None:
    """Guarded below `@property`."""
    Service.start()
    assert Service().attribute == "ok"
    assert len(Service.seen) == 2


def test_a_method_with_a_report(resilience: None) -> None:
    """Asked on the class, with the instance as the first argument."""
    Service.start()
    value, told = Service.method.call_with_report(Service(), 1)
    assert (value, told.attempts) == ("ok", 2)


class Callable_:
    """A callable object with state and an attribute."""

    def __init__(self) -> None:
        self.calls = 0
        self.label = "x"

    def __call__(self, one: int = 0) -> int:
        """Count."""
        self.calls += 1
        if self.calls == 1:
            raise Again
        return one

    def helper(self) -> str:
        return self.label


class AsyncCallable(Callable_):
    async def __call__(self, one: int = 0) -> int:  # type: ignore[override]
        return Callable_.__call__(self, one)


def test_a_callable_object(clock: ManualRuntime) -> None:
    """It stays itself: class, attributes and methods are there, and calling it is guarded."""
    target = Callable_()
    guarded: Any = retry()(target)
    assert guarded(5) == 5
    assert target.calls == 2
    assert isinstance(guarded, Callable_)
    assert guarded.helper() == "x"
    guarded.label = "y"
    assert target.label == "y"
    value, told = retry()(Callable_()).call_with_report(9)
    assert (value, told.attempts) == (9, 2)


def test_a_callable_object_guarded_twice(clock: ManualRuntime) -> None:
    """One layer, as for functions."""
    target = Callable_()
    guarded: Any = fallback(value="fell")(retry(attempts=1)(target))
    assert guarded.__wrapped__ is target
    assert guarded(5) == "fell"


def test_an_async_callable_object(clock: ManualRuntime) -> None:
    """Its `__call__` decides how it is guarded."""
    target = AsyncCallable()
    assert asyncio.run(retry()(target)(5)) == 5
    assert target.calls == 2


def test_a_callable_object_with_other_options(clock: ManualRuntime) -> None:
    """`with_options` works there too."""
    guarded: Any = retry(attempts=5)(Callable_())
    with pytest.raises(Again):
        guarded.with_options(attempts=1)(1)


def test_a_partial(mode: Mode, clock: ManualRuntime) -> None:
    """A partial keeps its arguments; of a coroutine function it is awaited."""
    scripted = script(Again(), "ok")
    guarded: Any = retry()(functools.partial(mode.function(scripted), 1, b=2))
    assert mode.call(guarded, 3) == "ok"
    assert scripted.calls == [((1, 3), {"b": 2})] * 2
    assert guarded.args == (1,)


def test_a_bound_method(clock: ManualRuntime) -> None:
    """Of somebody else's object."""
    target = Callable_()
    guarded = retry()(target.__call__)
    assert guarded(4) == 4
    assert target.calls == 2


def test_a_bound_method_that_is_guarded_already(clock: ManualRuntime) -> None:
    """Goes on being so: the new policy stands around it."""
    Service.start()
    Service.failures = 3
    service = Service()
    with pytest.raises(Again):
        service.method(1)
    Service.failures = 3
    assert fallback(value="fell")(service.method)(1) == "fell"


def test_builtins(clock: ManualRuntime) -> None:
    """What a closure cannot be wrapped around by name alone."""
    assert retry()(len)([1, 2]) == 2
    assert retry()(max)(1, 3) == 3
    assert retry()("a-b".split)("-") == ["a", "b"]
    with pytest.raises(ValueError, match="invalid"):
        retry()(functools.partial(int, base=10))("x")


def test_a_lambda(mode: Mode, clock: ManualRuntime) -> None:
    """Functions without a name of their own."""
    assert mode.call(retry()(mode.wrap(lambda: 5))) == 5


def generator() -> Iterator[int]:
    yield 1


class Generating:
    def __call__(self) -> Iterator[int]:
        yield 1


class GeneratingAsync:
    async def __call__(self) -> Any:
        yield 1


async def async_generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (generator, "generator is a generator: what fails in it fails between the items"),
        (async_generator, "async_generator is an async generator"),
        (functools.partial(generator), "is a generator"),
        (Generating(), "Generating is a generator"),
        (functools.partial(Generating()), "is a generator"),
        (GeneratingAsync(), "GeneratingAsync is an async generator"),
        (property(lambda self: 1), "a property cannot be guarded. Guard its getter"),
        (Service, "Service is a class: guard its methods, or a function that makes the object."),
        (5, "only what can be called can be guarded; got int."),
        (None, "only what can be called can be guarded; got NoneType."),
    ],
)
def test_what_cannot_be_guarded(thing: Any, said: str) -> None:
    """With what to do instead."""
    for policy in (retry(), guard(fallback(value=0), circuit_breaker())):
        with pytest.raises(DecorationError, match=said.replace("(", r"\(")):
            policy(thing)


def test_a_coroutine_cannot_be_guarded() -> None:
    """It can be awaited only once; it is closed, so that no warning follows."""

    async def work() -> None: ...

    with pytest.raises(DecorationError, match="Guard the coroutine function itself"):
        retry()(work())


def test_a_generator_in_a_classmethod_is_refused() -> None:
    """The check looks inside."""
    with pytest.raises(DecorationError, match="is a generator"):
        retry()(classmethod(generator))  # type: ignore[arg-type, var-annotated]


def test_what_a_guarded_function_looks_like(resilience: None) -> None:
    """Name, documentation, signature, annotations, module and `__wrapped__` are the function's."""

    def work(one: int, *, two: str = "x") -> str:
        """Do it."""
        return two * one

    for policy in (retry(), guard(fallback(value=""), retry(), circuit_breaker("db"), timeout(5.0), bulkhead(2))):
        guarded: Any = policy(work)
        assert inspect.signature(guarded) == inspect.signature(work)
        for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
            assert getattr(guarded, name) == getattr(work, name)
        assert inspect.unwrap(guarded) is work
        assert guarded(2, two="ab") == "abab"


def test_coroutine_functions_stay_coroutine_functions(resilience: None) -> None:
    """For frameworks that ask: through every sort of policy."""

    async def work() -> int:
        return 1

    def sync() -> int:
        return 1

    policies = [
        retry(),
        circuit_breaker("db"),
        fallback(value=0),
        timeout(1.0),
        deadline(1.0),
        bulkhead(1),
        rate_limit(1000.0),
        retry(max_elapsed=5.0),
        Breaker("keyed", key=lambda: "k"),
        guard(fallback(value=0), retry(), circuit_breaker("db")),
        last_good(max_age=5.0),
    ]
    for policy in policies:
        assert inspect.iscoroutinefunction(policy(work)), policy
        assert not inspect.iscoroutinefunction(policy(sync)), policy


# -- calling without decorating ------------------------------------------------------------------------------------


def test_call_and_acall(clock: ManualRuntime) -> None:
    """A function under a policy for one call; every policy has it."""
    db = guard(fallback(value="fell"), retry(attempts=2), circuit_breaker("db"))
    scripted = script(Again(), "ok")
    assert db.call(scripted.function(), 1, b=2) == "ok"
    assert scripted.calls == [((1,), {"b": 2})] * 2
    assert asyncio.run(db.acall(script(Again()).coroutine())) == "fell"  # type: ignore[arg-type]
    assert retry().call(script(Again(), 5).function()) == 5
    assert circuits["db"].snapshot().failures == 3


# -- as a block ----------------------------------------------------------------------------------------------------


def test_a_circuit_as_a_block(clock: ManualRuntime) -> None:
    """What the block raises counts; an open circuit lets nobody in."""
    breaker = circuit_breaker("db", failure_threshold=2)
    for _ in range(2):
        with pytest.raises(Again), breaker:
            raise Again
    with pytest.raises(CircuitOpenError), breaker:
        pytest.fail("let in")
    clock.advance(30.0)
    with breaker:
        pass
    assert circuits["db"].state.value == "closed"


def test_a_circuit_as_an_async_block(clock: ManualRuntime) -> None:
    """The same under `async with`."""
    breaker = circuit_breaker("db", failure_threshold=1)

    async def main() -> None:
        with pytest.raises(Again):
            async with breaker:
                raise Again
        with pytest.raises(CircuitOpenError):
            async with breaker:
                pytest.fail("let in")

    asyncio.run(main())


def test_an_interrupt_in_a_block_is_no_evidence(clock: ManualRuntime) -> None:
    """The probe's permit goes back."""
    breaker = circuit_breaker("db", failure_threshold=1)
    with pytest.raises(Again), breaker:
        raise Again
    clock.advance(30.0)
    with pytest.raises(KeyboardInterrupt), breaker:
        raise KeyboardInterrupt
    assert circuits["db"].snapshot().probes == 0
    with breaker:
        pass
    assert circuits["db"].state.value == "closed"


def test_a_guard_of_admissions_as_a_block(clock: ManualRuntime) -> None:
    """All are entered from outside in; one that refuses lets those before it go, and is no evidence for them."""
    places = bulkhead(1)
    policy = guard(deadline(5.0), circuit_breaker("db", failure_threshold=1), places)
    with policy:
        assert remaining() == 5.0
        with pytest.raises(BulkheadFullError), policy:
            pytest.fail("let in")
        assert circuits["db"].state.value == "closed"
    assert remaining() is None
    with policy:
        pass


def test_blocks_of_one_object_nest(clock: ManualRuntime) -> None:
    """Each leaves what it entered."""
    outer, inner = deadline(5.0), deadline(3.0)
    with outer, inner, outer:
        assert remaining() == 3.0
    assert remaining() is None


def test_blocks_of_one_object_in_many_tasks(clock: ManualRuntime) -> None:
    """An object that tasks share keeps nothing of its own."""
    policy = guard(deadline(5.0), bulkhead(3))
    order: list[float | None] = []

    async def work(seconds: float) -> None:
        async with policy:
            clock.advance(seconds)
            await asyncio.sleep(0)
            order.append(remaining())

    async def main() -> None:
        await asyncio.gather(work(1.0), work(0.0), work(0.0))

    asyncio.run(main())
    assert order == [4.0, 5.0, 5.0]


@pytest.mark.parametrize("policy", [retry(), fallback(value=0), guard(circuit_breaker(), retry(), accept=["RF001"])])
def test_what_cannot_be_a_block(policy: Any) -> None:
    """What must run the block again, or answer in its place."""
    with pytest.raises(DecorationError, match=r"cannot guard a `with` block, which runs exactly once"), policy:
        pytest.fail("let in")

    async def main() -> None:
        async with policy:
            pytest.fail("let in")

    with pytest.raises(DecorationError, match="Put the block into a function"):
        asyncio.run(main())


def test_a_passed_deadline_lets_nobody_in(clock: ManualRuntime) -> None:
    """Neither function nor block."""
    with deadline(1.0):
        clock.advance(1.0)
        with pytest.raises(DeadlineExceededError), deadline(5.0):
            pytest.fail("let in")
        with pytest.raises(DeadlineExceededError):
            deadline(5.0)(script("ok").function())()


# -- policies of users ---------------------------------------------------------------------------------------------


class Watcher:
    """A user's policy that declares nothing: it has a flow, and that is all."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
        outcome = yield from inner(call)
        self.seen.append("ok" if isinstance(outcome, Returned) else outcome.fault.code)
        return outcome


class Declared(Watcher, Policy):
    """The same, declared as a `Policy`."""


@pytest.mark.parametrize("cls", [Watcher, Declared])
def test_a_user_s_policy_sees_every_call(mode: Mode, clock: ManualRuntime, cls: type[Watcher]) -> None:
    """Unless it declares `quiet = True` it is part of every call, of those that simply succeed too."""
    watcher = cls()
    policy = guard(watcher, fallback(value="fell"), retry(attempts=2))
    function = policy(mode.function(script("ok", "ok", Again(), "ok", Again(), Again())))
    assert [mode.call(function) for _ in range(4)] == ["ok", "ok", "ok", "fell"]
    assert watcher.seen == ["ok"] * 4
    with pytest.raises(ValueError, match="x"):
        mode.run(guard(watcher), script(ValueError("x")))
    assert watcher.seen[4:] == ["ValueError"]


def test_a_user_s_quiet_policy_is_passed_by_on_success(mode: Mode, clock: ManualRuntime) -> None:
    """Who declares `quiet = True` has nothing to do before a call or after a success."""

    class Quiet(Watcher):
        quiet = True
        answers = False

    watcher = Quiet()
    function = guard(watcher)(mode.function(script("ok", Again())))
    assert mode.call(function) == "ok"
    with pytest.raises(Again):
        mode.call(function)
    assert watcher.seen == ["Again"]


def test_a_user_s_policy_that_answers_an_open_circuit(mode: Mode, clock: ManualRuntime) -> None:
    """`answers = True` outside of a circuit: the rejection reaches it instead of the caller."""

    class Answering:
        quiet = True
        answers = True

        def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
            outcome = yield from inner(call)
            return Returned("mine") if isinstance(outcome, Raised) else outcome

    function = guard(Answering(), circuit_breaker("db", failure_threshold=1))(mode.function(script(Again())))
    assert [mode.call(function) for _ in range(3)] == ["mine"] * 3


class Tracing:
    """A user's joint."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def around(self, function: Callable[..., Any], asynchronous: bool) -> Callable[..., Any]:
        if asynchronous:

            @functools.wraps(function)
            async def atraced(*args: object) -> object:
                self.seen.append("in")
                try:
                    return await function(*args)
                finally:
                    self.seen.append("out")

            return atraced

        @functools.wraps(function)
        def traced(*args: object) -> object:
            self.seen.append("in")
            try:
                return function(*args)
            finally:
                self.seen.append("out")

        return traced


def test_a_user_s_joint_stands_where_it_is_named(mode: Mode, clock: ManualRuntime) -> None:
    """Inside of a retry around each attempt, outside of it around all."""
    inside, outside = Tracing(), Tracing()
    policy = guard(outside, retry(attempts=2), inside, circuit_breaker("db"))
    assert mode.run(policy, script(Again(), "ok")) == "ok"
    assert inside.seen == ["in", "out"] * 2
    assert outside.seen == ["in", "out"]
    assert circuits["db"].snapshot().failures == 1


# -- guards in guards -------------------------------------------------------------------------------------------


class Ours(Exception):
    pass


ours = first_match(lambda error: Fault(Kind.transient, "Ours") if isinstance(error, Ours) else None)
theirs = first_match(lambda error: Fault(Kind.auth, "Theirs") if isinstance(error, Ours) else None)


@pytest.mark.parametrize("put", [guard, lambda one: guard(deadline(60.0), one), lambda one: one])
def test_a_guard_in_a_guard_keeps_its_classification(
    mode: Mode, clock: ManualRuntime, put: Callable[[Guard[Any]], Guard[Any]]
) -> None:
    """Its policies are taken in its place, and read errors as they did."""
    scripted = script(Ours(), "fine")
    assert mode.run(put(guard(retry(backoff=0.0), classify=ours)), scripted) == "fine"


def test_guards_that_classify_differently_do_not_go_together(resilience: None) -> None:
    """Named in one, or one on top of the other."""
    inner = guard(retry(), classify=ours)
    for combine in (
        lambda: guard(inner, guard(circuit_breaker("db"), classify=theirs)),
        lambda: guard(inner, classify=theirs),
        lambda: guard(bulkhead(1), classify=theirs)(inner(later)),
    ):
        with pytest.raises(OptionError, match="one classification for all policies"):
            combine()
    assert guard(inner, classify=ours)


def test_what_a_guard_accepted_is_accepted(resilience: None) -> None:
    """Named in another it does not warn again; a guard that is made from it does not either."""
    inner = guard(circuit_breaker("db"), retry(), accept=["RF001"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guard(deadline(60.0), inner)
        guard(deadline(60.0), inner.with_options(attempts=5))
        guard(deadline(60.0), copy.copy(inner))


# -- blocks that do not end as they began ---------------------------------------------------------------------------


def test_blocks_of_generators_end_in_any_order(clock: ManualRuntime) -> None:
    """Each gives back what it took."""
    outer, inner = bulkhead(1, name="outer"), bulkhead(1, name="inner")

    def items() -> Iterator[int]:
        with inner:
            yield 1

    with outer:
        left = items()
        next(left)
    assert (outer.snapshot().running, inner.snapshot().running) == (0, 1)
    left.close()
    assert inner.snapshot().running == 0


def test_a_generator_s_error_is_its_own_policy_s(clock: ManualRuntime) -> None:
    """The circuit of the block that failed opens, not the one entered last."""
    breakers = [Breaker("first", trips=consecutive(1)), Breaker("second", trips=consecutive(1))]

    def items(breaker: Breaker) -> Iterator[int]:
        with breaker:
            yield 1
            raise ConnectionResetError

    first, second = [items(breaker) for breaker in breakers]
    next(first)
    next(second)
    with pytest.raises(ConnectionResetError):
        next(first)
    second.close()
    assert [breaker.circuit.state.value for breaker in breakers] == ["open", "closed"]


@pytest.mark.parametrize("policy", [bulkhead(1), Deadline(60.0)])
def test_a_block_begun_in_one_task_ends_in_another(clock: ManualRuntime, policy: Any) -> None:
    """As frameworks do with generators that provide things."""

    async def provided() -> Any:
        async with policy:
            yield "thing"

    async def main() -> None:
        for _ in range(2):
            things = provided()
            assert await asyncio.create_task(things.__anext__()) == "thing"
            with pytest.raises(StopAsyncIteration):
                await asyncio.create_task(things.__anext__())

    asyncio.run(main())
    if isinstance(policy, Bulkhead):
        assert policy.snapshot().running == 0
    with policy:
        assert remaining() in (None, 60.0)
    assert remaining() is None


def test_a_block_that_was_never_entered(resilience: None) -> None:
    """Says so, instead of taking another's place away."""
    limit = bulkhead(1)
    with bulkhead(1), pytest.raises(DecorationError, match="never entered"):
        limit.__exit__(None, None, None)


# -- what binds by itself -------------------------------------------------------------------------------------------


class Binding:
    """A decorator that is a class."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    def __call__(self, *args: object) -> object:
        return self.function(*args)

    def __get__(self, instance: object, owner: type | None = None) -> object:
        return self if instance is None else functools.partial(self, instance)


@pytest.mark.parametrize("wrap", [Binding, functools.lru_cache(maxsize=8)])
def test_what_binds_by_itself_is_a_method_still(clock: ManualRuntime, wrap: Callable[..., Any]) -> None:
    """Under a guard as without one."""
    failing = [ConnectionResetError(), ConnectionResetError()]

    class Store:
        @retry(backoff=0.0)
        @wrap
        def load(self, name: str) -> tuple[object, str]:
            if failing:
                raise failing.pop()
            return self, name

    store = Store()
    assert store.load("x") == (store, "x")
    assert Store.load(store, "y") == (store, "y")


# -- calls by the wrong name ----------------------------------------------------------------------------------------


def test_call_refuses_what_must_be_awaited(resilience: None) -> None:
    """Unguarded, it would seem to work until something fails."""
    with pytest.raises(DecorationError, match=r"later is a coroutine function. Use `await policy.acall"):
        retry().call(later)
    with pytest.raises(DecorationError, match="is a generator"):
        retry().call(generator)
    with pytest.raises(DecorationError, match="is a generator"):
        asyncio.run(retry().acall(generator))  # type: ignore[arg-type]


def test_describe_takes_values_that_cannot_be_compared() -> None:
    """Such as arrays."""

    class Array:
        def __eq__(self, other: object) -> Any:
            raise ValueError("ambiguous")

        __hash__ = object.__hash__

        def __repr__(self) -> str:
            return "array"

    assert "value=array" in fallback(value=Array()).describe()


# -- answers of policies further in ---------------------------------------------------------------------------------

JOINTS = {
    "nothing": (),
    "a joint": (Tracing(),),
    "a deadline": (Deadline(60.0),),
    "a bulkhead": (bulkhead(5),),
    "two joints": (Tracing(), Tracing()),
    "a retry between joints": (Tracing(), retry(attempts=1), Tracing()),
    "another circuit": (Breaker(), Breaker()),
}
ALL_RULES = [rule.id for rule in RULES]


@pytest.mark.parametrize("between", JOINTS)
def test_an_answer_from_further_in_is_no_result_to_look_at(mode: Mode, clock: ManualRuntime, between: str) -> None:
    """Whatever stands between them: the outer policies know that the inner one answered."""
    scripted = script(ConnectionResetError())
    looking = retry(on_result=lambda value: value is None, backoff=0.0)
    policy = guard(looking, *JOINTS[between], fallback(value=None), accept=ALL_RULES)
    assert mode.run(policy, scripted) is None
    assert scripted.count == 1


@pytest.mark.parametrize("between", JOINTS)
def test_a_chain_says_who_answered_further_in(mode: Mode, clock: ManualRuntime, between: str) -> None:
    """And remembering the last good answer remembers no other."""
    remembering = LastGood(60.0)
    policy = guard(remembering, chain(lambda: "never"), *JOINTS[between], fallback(value="fell"), accept=ALL_RULES)
    assert mode.run(policy, script(ConnectionResetError())) == Answer("fell", "fallback", True)


@pytest.mark.parametrize("between", JOINTS)
def test_the_first_answer_stands(mode: Mode, clock: ManualRuntime, between: str) -> None:
    """A fallback that looks at values does not answer for another's."""
    outer = fallback(value="outer", on_result=lambda value: value == "inner")
    policy = guard(outer, *JOINTS[between], fallback(value="inner"), accept=ALL_RULES)
    assert mode.run(policy, script(ConnectionResetError(), "inner")) == "inner"


def test_describe_says_that_answers_are_marked() -> None:
    """Both segments are flows then."""
    said = guard(retry(), bulkhead(1), fallback(value=1), accept=ALL_RULES).describe()
    assert said.count("so that answers of policies further in are known") == 2


# -- what a synchronous call cannot await ---------------------------------------------------------------------------


async def later(*_: object) -> str:
    return "later"


WAITING = {
    "Fallback.function": fallback(function=later),
    "Fallback.by_error": fallback(by_error={ValueError: later}),
    "Fallback.by_kind": fallback(by_kind={Kind.unknown: later}),
    "Chain.alternatives": chain(("later", later)),
    "Retry.before_attempt": retry(before_attempt=later),
    "Retry.after_attempt": retry(after_attempt=later),
    "Retry.before_sleep": retry(before_sleep=later),
}


@pytest.mark.parametrize("option", WAITING)
def test_a_coroutine_function_needs_an_async_call(resilience: None, option: str) -> None:
    """Told when it is decorated or called, with policy and option."""
    for policy in (WAITING[option], guard(Tracing(), WAITING[option])):
        for use in (policy, policy.call):
            with pytest.raises(DecorationError, match=rf"{option} is a coroutine function, and generator_free is none"):
                use(generator_free)
        assert policy(later)


def generator_free() -> None: ...


@pytest.mark.filterwarnings("ignore:coroutine 'later' was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_coroutine_that_nobody_awaits_is_no_answer(clock: ManualRuntime) -> None:
    """Of a function that looks like a plain one; what went wrong first is its context."""
    with pytest.raises(TypeError, match="returned a coroutine to a synchronous call") as caught:
        fallback(function=lambda: later(1)).call(script(ConnectionResetError()).function())
    assert isinstance(caught.value.__context__, ConnectionResetError)


def test_a_joint_that_forgets_to_return_is_named(resilience: None) -> None:
    """`around` must give back a function."""

    class Forgetful:
        def around(self, function: object, asynchronous: bool) -> None: ...

    with pytest.raises(DecorationError, match=r"Forgetful\.around must return a function; got None"):
        guard(Forgetful())(lambda: 1)  # type: ignore[arg-type]


def test_a_flow_that_yields_nonsense_is_told(mode: Mode, clock: ManualRuntime) -> None:
    """`yield inner(call)` without `from` is the usual slip."""

    class Slip(Watcher):
        quiet = False
        answers = False

        def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
            outcome = yield inner(call)  # type: ignore[misc]
            return outcome

    with pytest.raises(TypeError, match="Did a policy write `yield inner"):
        mode.run(guard(Slip()), script("ok"))


# -- guard's own options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ((), "guard.policies must be at least one policy; got (). For example guard(retry(), circuit_breaker('db'))."),
        ((retry,), "guard.policies[0] must be a policy; got <class"),
        ((retry,), "Mind the brackets."),
        ((retry(), 5), "guard.policies[1] must be a policy; got 5."),
        ((retry(), len), "guard.policies[1] must be a policy; got <built-in function len>. Mind the brackets."),
    ],
)
def test_what_is_no_policy_is_refused(policies: tuple[Any, ...], said: str) -> None:
    """With its place."""
    with pytest.raises(OptionError) as caught:
        guard(*policies)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classify": "x"}, "guard.classify must be callable; got 'x'."),
        ({"accept": 5}, "guard.accept must be a list of ids of rules (RF001"),
        ({"accept": "RF001"}, "guard.accept must be a list of ids of rules (RF001"),
    ],
)
def test_wrong_options_of_a_guard(options: dict[str, Any], said: str) -> None:
    """Told at once, all of them, not when something fails."""
    with pytest.raises(OptionError) as caught:
        guard(retry(), **options)
    assert said in str(caught.value)


def test_an_unknown_rule_is_not_accepted() -> None:
    """A mistyped id would keep quiet about nothing."""
    with pytest.raises(OptionError, match=r"guard\.accept must be ids of rules \(RF001, .*\); got 'RF999'"):
        guard(retry(), accept=["RF999"])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: retry(attemps=3), r"Retry has no option 'attemps'\. Did you mean attempts\?"),
        (lambda: fallback(valeu=3), r"Fallback has no option 'valeu'\. Did you mean value\?"),
        (lambda: circuit_breaker("x", treshold=3), r"circuit_breaker has no option 'treshold'"),
        (lambda: Breaker("x", prob=3), r"Breaker has no option 'prob'\. Did you mean probes\?"),
        (lambda: timeout(1.0, max_abandond=3), r"Timeout has no option 'max_abandond'\. Did you mean max_abandoned\?"),
        (lambda: deadline(secnds=3), r"Deadline has no option 'secnds'\. Did you mean seconds\?"),
        (lambda: bulkhead(3, max_waitng=3), r"Bulkhead has no option 'max_waitng'\. Did you mean max_waiting\?"),
        (lambda: rate_limit(3, nam="x"), r"RateLimiter has no option 'nam'\. Did you mean name\?"),
    ],
)
def test_mistyped_options_are_named(make: Callable[[], object], said: str) -> None:
    """Every policy says which option it does not have, and which one was meant."""
    with pytest.raises(UnknownOptionError, match=said):
        make()


def test_one_classification_for_all(mode: Mode, clock: ManualRuntime) -> None:
    """Given to the guard or to one policy, every policy reads it."""
    told = first_match(lambda error: Fault(Kind.transient, "mine") if isinstance(error, ValueError) else None)
    for number, policy in enumerate(
        (
            guard(retry(attempts=3), Breaker("a"), classify=told),
            guard(retry(attempts=3, classify=told), Breaker("b")),
            guard(retry(attempts=3), Breaker("c", classify=told)),
            guard(retry(attempts=3, classify=told), Breaker("d", classify=told)),
        )
    ):
        scripted = script(ValueError())
        with pytest.raises(ValueError):  # noqa: PT011
            mode.run(policy, scripted)
        assert scripted.count == 3, number


def test_a_plain_classifier_serves_as_classification(mode: Mode, clock: ManualRuntime) -> None:
    """A function that knows some errors leaves the rest to what is known anyway."""
    policy: Any = retry(classify=lambda error: Fault(Kind.transient, "x") if isinstance(error, KeyError) else None)  # type: ignore[arg-type]
    for error, count in ((KeyError(), 3), (Again(), 3), (ValueError(), 1)):
        scripted = script(error)
        with pytest.raises(type(error)):
            mode.run(policy, scripted)
        assert scripted.count == count


def test_two_classifications_conflict(resilience: None) -> None:
    """Retry and breaker must not disagree about an error; stacked decorators are looked at too."""
    one, two = first_match(lambda error: None), first_match(lambda error: None)
    with pytest.raises(OptionError, match=r"guard\.classify must be one classification for all policies"):
        guard(retry(classify=one), circuit_breaker("a", classify=two))
    with pytest.raises(OptionError, match="got 2 different ones"):
        guard(retry(classify=one), circuit_breaker("b"), classify=two)
    with pytest.raises(OptionError, match=r"Join them with first_match\(a, b\)"):
        retry(classify=one)(circuit_breaker("c", classify=two)(lambda: 1))


# -- describe ------------------------------------------------------------------------------------------------------


def test_describe(resilience: None) -> None:
    """Policies in order with the options that differ, and how a call runs."""
    said = guard(fallback(value=None), retry(attempts=5), timeout(2.0), circuit_breaker("db")).describe()
    lines = said.splitlines()
    assert lines[0] == "guard of 4 policies, outermost first:"
    assert lines[1] == "  1. Fallback(value=None)"
    assert lines[2] == "  2. Retry(attempts=5)"
    assert lines[3] == "  3. Timeout(seconds=2.0)"
    assert lines[4].startswith("  4. Breaker(name='db'")
    assert lines[5] == "how a call runs, from outside in:"
    assert lines[6] == "  - Fallback, Retry: on the direct path"
    assert lines[7] == "  - around the call: Timeout"
    assert lines[8] == "  - Breaker: on the direct path"


def test_describe_says_what_makes_it_slower_or_questionable(resilience: None) -> None:
    """A policy that must know of every call, the deadline of `max_elapsed`, and rules that the order breaks."""
    said = guard(
        circuit_breaker("db"), retry(max_elapsed=9.0, before_attempt=lambda _: None), accept=["RF001"]
    ).describe()
    assert "Breaker: on the direct path" in said
    assert "around the call: a deadline of 9 s" in said
    assert "Retry: as a flow, because Retry must know of every call" in said
    assert "questionable: RF001" in said


def test_every_policy_describes_itself(resilience: None) -> None:
    """Alone it is a guard of one."""
    for policy in (retry(), fallback(value=0), circuit_breaker("db"), timeout(1.0), bulkhead(1), rate_limit(5.0)):
        assert policy.describe().startswith("guard of 1 policies")


def test_describe_names_functions_without_their_address(resilience: None) -> None:
    """A description can be kept and compared."""

    def is_bad(value: object) -> bool:
        return False

    assert "on_result=is_bad" in retry(on_result=is_bad).describe().replace(
        "test_describe_names_functions_without_their_address.<locals>.", ""
    )
    assert " at 0x" not in guard(fallback(function=is_bad), retry(on_result=is_bad)).describe()


# -- orders worth a second look ------------------------------------------------------------------------------------

BAD_AND_GOOD: dict[str, tuple[Callable[[], list[Any]], Callable[[], list[Any]]]] = {
    "RF001": (lambda: [circuit_breaker("db"), retry()], lambda: [retry(), circuit_breaker("db")]),
    "RF002": (lambda: [retry(), fallback(value=0)], lambda: [fallback(value=0), retry()]),
    "RF003": (
        lambda: [deadline(5.0), retry(attempts=3), timeout(2.0)],
        lambda: [deadline(5.0), retry(attempts=2), timeout(2.0)],
    ),
    "RF004": (lambda: [retry(on=Exception)], lambda: [retry(on=ConnectionError)]),
    "RF005": (lambda: [retry(), retry()], lambda: [retry(), circuit_breaker("db")]),
    "RF006": (lambda: [bulkhead(3), retry()], lambda: [retry(), bulkhead(3)]),
    "RF007": (lambda: [rate_limit(5.0), retry()], lambda: [retry(), rate_limit(5.0)]),
}


def test_every_rule_has_a_bad_and_a_good_order_here() -> None:
    """A new rule must be tried below; ids are unique and stable."""
    assert [one.id for one in RULES] == sorted(BAD_AND_GOOD)


@pytest.mark.parametrize("id", sorted(BAD_AND_GOOD))
def test_a_bad_order_is_warned_of(resilience: None, id: str) -> None:
    """Once, with id and cure, where `guard` was called."""
    bad = BAD_AND_GOOD[id][0]()
    with pytest.warns(ResilienceWarning, match=f"^{id} ") as caught:
        guard(*bad)
    assert [str(one.message)[:5] for one in caught] == [id]
    assert caught[0].filename == __file__


@pytest.mark.parametrize("id", sorted(BAD_AND_GOOD))
def test_a_good_order_is_not_warned_of(resilience: None, id: str) -> None:
    """Warnings are errors here, so silence is the test."""
    good = BAD_AND_GOOD[id][1]()
    guard(*good)
    assert broken_rules(good) == []


@pytest.mark.parametrize("id", sorted(BAD_AND_GOOD))
def test_a_rule_can_be_accepted(resilience: None, id: str) -> None:
    """`accept=` keeps it quiet; `describe` goes on saying it."""
    assert f"questionable: {id}" in guard(*BAD_AND_GOOD[id][0](), accept=[id]).describe()


@pytest.mark.parametrize(
    ("id", "policies"),
    [
        ("RF001", lambda: [fallback(value=0), circuit_breaker("db"), timeout(1.0), retry()]),
        ("RF002", lambda: [retry(), circuit_breaker("db"), chain(lambda: 1)]),
        ("RF003", lambda: [retry(attempts=3, max_elapsed=5.0), timeout(2.0)]),
        ("RF003", lambda: [timeout(5.0), retry(attempts=3), timeout(2.0)]),
        ("RF004", lambda: [retry(on=BaseException)]),
        ("RF005", lambda: [retry(), timeout(1.0), retry()]),
    ],
)
def test_variants_of_bad_orders(resilience: None, id: str, policies: Callable[[], list[Any]]) -> None:
    """With others in between, and with what amounts to the same."""
    assert id in [one.id for one in broken_rules(policies())]


def test_infinite_attempts_under_a_deadline_are_meant(resilience: None) -> None:
    """The deadline is the end of them."""
    assert broken_rules([deadline(5.0), retry(attempts=float("inf")), timeout(2.0)]) == []


def test_inner_guards_are_looked_through(resilience: None) -> None:
    """A bad order is no better for being put together in two steps."""
    inner = guard(retry())
    with pytest.warns(ResilienceWarning, match="RF001"):
        guard(circuit_breaker("db"), inner)


# -- depth, loops, threads -----------------------------------------------------------------------------------------


def in_a_thread(function: Callable[[], object]) -> object:
    """What a function gives with an empty stack below it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(60)


@pytest.mark.parametrize("loud", [False, True], ids=["direct", "flow"])
def test_a_guarded_function_may_call_itself_300_levels_deep(resilience: None, loud: bool) -> None:
    """At the default recursion limit of 1000, on the direct path and through the flow."""
    policies: list[Any] = [fallback(value=-1), retry(), circuit_breaker("db")]
    if loud:
        policies.append(retry(before_attempt=lambda _: None))
    policy = guard(*policies, accept=["RF001", "RF005"])

    @policy
    def deep(level: int) -> int:
        return 0 if level == 0 else 1 + deep(level - 1)

    limit = sys.getrecursionlimit()
    assert limit == 1000
    assert in_a_thread(lambda: deep(300)) == 300


def test_an_error_comes_up_through_300_levels(resilience: None) -> None:
    """With a flow at every level on its way."""

    @retry(attempts=1)
    def deep(level: int) -> int:
        if level == 0:
            raise Again
        return deep(level - 1)

    with pytest.raises(Again):
        in_a_thread(lambda: deep(300))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_sync_guard_that_sleeps_in_a_loop_warns_once(clock: ManualRuntime, backend: str) -> None:
    """RF100 names the function, once a function and not once a call, whether a loop repeats it or flows do."""
    anyio = pytest.importorskip("anyio")

    @retry(attempts=3, backoff=1.0, jitter=none())
    def blocking() -> None:
        raise Again

    @retry(attempts=2, backoff=1.0, jitter=none(), on_result=bool)  # who looks at results is asked in flows
    def another() -> None:
        raise Again

    async def main() -> None:
        for function in (blocking, blocking, another):
            try:
                function()
            except Again:
                pass

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        anyio.run(main, backend=backend)
    said = [str(one.message) for one in caught if issubclass(one.category, ResilienceWarning)]
    assert len(said) == 2
    assert all(one.startswith("RF100 the sync guard of") for one in said)
    assert ["blocking" in said[0], "another" in said[1]] == [True, True]
    assert {one.filename for one in caught if issubclass(one.category, ResilienceWarning)} == {__file__}


def test_a_sync_guard_that_does_not_sleep_may_run_in_a_loop(clock: ManualRuntime) -> None:
    """A call that succeeds, or waits for zero seconds, holds nobody up; outside of a loop nobody is held up either."""

    async def main() -> None:
        assert retry()(script("ok").function())() == "ok"
        assert retry(backoff=0.0)(script(Again(), "ok").function())() == "ok"

    asyncio.run(main())
    assert retry(backoff=5.0)(script(Again(), "ok").function())() == "ok"


def test_asyncio_run_inside_a_guarded_function(clock: ManualRuntime) -> None:
    """A sync function may have a loop of its own inside, with guards in it."""
    inner = script(Again(), "ok")

    @guard(fallback(value="fell"), retry(attempts=2), circuit_breaker("outer"))
    def outer() -> object:
        return asyncio.run(retry()(inner.coroutine())())  # type: ignore[arg-type]

    assert outer() == "ok"
    assert inner.count == 2


def test_a_guard_in_several_loops_at_once(resilience: None) -> None:
    """Threads with a loop each share a guard; nothing in it belongs to a loop."""
    policy = guard(fallback(value="fell"), retry(attempts=2, backoff=0.0), circuit_breaker("db", 10**6))
    results: list[object] = []

    def run() -> None:
        async def main() -> None:
            results.extend([await policy(script(Again(), "ok").coroutine())() for _ in range(50)])  # type: ignore[misc]

        asyncio.run(main())

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == ["ok"] * 150
    assert circuits["db"].snapshot().failures == 150


# -- travelling ----------------------------------------------------------------------------------------------------


def has_code(error: BaseException) -> bool:
    """A predicate that can be pickled."""
    return hasattr(error, "code")


@retry(attempts=2)
def module_level(one: int) -> int:
    """Pickled by its name."""
    return one + 1


def imported_by_name() -> bool:
    """Whether pickle can find this module again."""
    return sys.modules.get(__name__) is not None and hasattr(sys.modules[__name__], "module_level")


def test_a_guarded_function_can_be_pickled(resilience: None) -> None:
    """By its name, as any function of a module."""
    if not imported_by_name():
        pytest.fail("this module must be importable by name")
    assert pickle.loads(pickle.dumps(module_level)) is module_level


@pytest.mark.parametrize(
    "make",
    [
        lambda: retry(attempts=7),
        lambda: retry(on=ValueError, never=[KeyError, Kind.auth]),
        lambda: retry(retriers=[resilient_faces.Retrier(on=has_code)]),
        lambda: circuit_breaker("pickled"),
        lambda: Breaker("pickled-2", trips=consecutive(3), failures=has_code),
        lambda: fallback(value=5),
        lambda: fallback(function=has_code, on=ValueError),
        lambda: timeout(3.0),
        lambda: deadline(3.0),
    ],
)
def test_policies_can_be_pickled_and_copied(resilience: None, make: Callable[[], Any]) -> None:
    """Equal options on the other side, alone and in a guard; the same name is the same circuit."""
    policy = make()
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        assert pickle.loads(pickle.dumps(policy, protocol)) == policy
        again = pickle.loads(pickle.dumps(guard(policy), protocol))
        assert isinstance(again, Guard)
        assert again.policies == (policy,)
    assert copy.deepcopy(policy) == policy
    assert copy.copy(policy) == policy


def test_a_pickled_policy_works(clock: ManualRuntime) -> None:
    """What it made of its options is made again."""
    policy = pickle.loads(pickle.dumps(guard(fallback(by_kind={Kind.throttled: 0}), retry(on=ValueError))))
    scripted = script(ValueError())
    with pytest.raises(ValueError):  # noqa: PT011
        policy(scripted.function())()
    assert scripted.count == 3


def test_a_guarded_object_can_be_pickled(clock: ManualRuntime) -> None:
    """With its guard and its state."""
    guarded: Any = retry(attempts=4)(Callable_())
    guarded.label = "y"
    again = pickle.loads(pickle.dumps(guarded))
    assert again.label == "y"
    assert again(3) == 3
    assert again.calls == 2


def test_a_guard_shows_its_policies() -> None:
    """In a debugger."""
    assert repr(guard(fallback(value=0), retry())).startswith("guard(Fallback(value=0")


# -- what the direct path repeats by itself ------------------------------------------------------------------------


def test_an_open_breaker_outside_of_a_retry_is_asked_first(mode: Mode, clock: ManualRuntime) -> None:
    """The loop that repeats calls belongs to the retry; a breaker around it still lets the call in, or not."""
    breaker = circuit_breaker("db", failure_threshold=1)
    policy = guard(fallback(value="fell"), breaker, retry(attempts=2), accept=["RF001"])
    breaker.circuit.force_open()
    lines = script("answer")
    assert mode.run(policy, lines) == "fell"
    assert lines.calls == []


def test_of_two_retries_the_outer_one_repeats_the_inner(mode: Mode, clock: ManualRuntime) -> None:
    """Two attempts of two attempts each are four calls."""
    policy = guard(retry(attempts=2), retry(attempts=2), accept=["RF005"])
    lines = script(Again, Again, Again, "at last")
    assert mode.run(policy, lines) == "at last"
    assert len(lines.calls) == 4
