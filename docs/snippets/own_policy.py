"""The page "Write a policy of your own"; the tests run this file."""

from __future__ import annotations

from contextlib import ExitStack

from resilient_faces.testing import ManualRuntime

rest = ExitStack()
rest.enter_context(ManualRuntime().installed())

# --8<-- [start:policy]
import asyncio
from dataclasses import dataclass
from typing import ClassVar, NoReturn

from resilient_faces.flows import Call, Decorator, Flow, Inner, Outcome, Returned, sleep
from resilient_faces.testing import ManualRuntime, script


@dataclass(frozen=True, slots=True)
class OnceMore(Decorator[NoReturn]):
    """Call once more after a fixed pause, whatever went wrong."""

    pause: float = 1.0

    quiet: ClassVar[bool] = True  # calls that simply succeed may pass it by
    answers: ClassVar[bool] = False  # it never turns a rejection into an answer

    def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
        outcome = yield from inner(call)
        if isinstance(outcome, Returned):
            return outcome
        yield from sleep(self.pause)
        return (yield from inner(call))


once_more = OnceMore(2.0)
with ManualRuntime().installed() as clock:  # its sleeps only move a clock
    assert once_more.call(script(ConnectionResetError, "a row").function()) == "a row"
    assert asyncio.run(once_more.acall(script(ConnectionResetError, "a row").coroutine())) == "a row"
    assert clock.slept == [2.0, 2.0]
# --8<-- [end:policy]

# --8<-- [start:composed]
from resilient_faces import circuit_breaker, fallback, guard

stack = guard(fallback(value=None), OnceMore(), circuit_breaker("db"))
assert stack.call(script(ConnectionResetError).function()) is None
# --8<-- [end:composed]

# --8<-- [start:step]
from resilient_faces import Fault, Kind
from resilient_faces.flows import Attempt, Raised, Sleep, attempt


def attempts_only(call: Call) -> Flow[Outcome]:
    return (yield from attempt())


flow = OnceMore(2.0).flow(attempts_only, Call(print, (), {}, None, None, None))
assert isinstance(next(flow), Attempt)
assert isinstance(flow.send(Raised(ConnectionResetError(), Fault(Kind.transient, "reset"))), Sleep)
assert isinstance(flow.send(None), Attempt)
# --8<-- [end:step]
flow.close()

# --8<-- [start:answering]
from resilient_faces.flows import Degraded, event, tell


@dataclass(frozen=True, slots=True)
class Apologise(Decorator[str]):
    """Answer with a sentence when nothing else did."""

    sentence: str

    quiet: ClassVar[bool] = True
    answers: ClassVar[bool] = True  # so an open circuit inside is asked of, too

    def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
        outcome = yield from inner(call)
        if isinstance(outcome, Returned) or not outcome.fault.rule.fallback:
            return outcome
        yield from tell(
            event("degraded", policy="apologise", status="degraded", operation=call.operation, fault=outcome.fault)
        )
        return Degraded(self.sentence, "apologise")


assert Apologise("sorry").call(script(ConnectionResetError).function()) == "sorry"
# --8<-- [end:answering]

# --8<-- [start:loud]


@dataclass(frozen=True, slots=True)
class Audit(Decorator[NoReturn]):
    """Count every call; not `quiet`, so it is part of each one."""

    seen: list[str]

    def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
        outcome = yield from inner(call)
        self.seen.append(f"{call.operation}: {'fine' if outcome.fault is None else outcome.fault.code}")
        return outcome


audit = Audit([])
audit.call(len, "abc")
assert audit.seen == ["len: fine"]
# --8<-- [end:loud]

# --8<-- [start:joint]
import functools
from collections.abc import Callable

from resilient_faces import remaining, deadline


@dataclass(frozen=True, slots=True)
class Slice(Decorator[NoReturn]):
    """Give the call half of the time that is left."""

    def around(self, function: Callable[..., object], asynchronous: bool) -> Callable[..., object]:
        @functools.wraps(function)
        def guarded(*args: object, **kwargs: object) -> object:
            left = remaining()
            if left is None:
                return function(*args, **kwargs)
            with deadline(left / 2):
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def guarded_async(*args: object, **kwargs: object) -> object:
            left = remaining()
            if left is None:
                return await function(*args, **kwargs)
            async with deadline(left / 2):
                return await function(*args, **kwargs)

        return guarded_async if asynchronous else guarded


with ManualRuntime().installed(), deadline(8.0):
    assert Slice().call(remaining) == 4.0
# --8<-- [end:joint]
rest.close()
