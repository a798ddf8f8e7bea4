"""So many calls at once, for threads, asyncio and trio together; nobody waits for ever, nobody jumps the queue."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import anyio.lowlevel
import pytest

from resilient_faces import (
    Bulkhead,
    BulkheadFullError,
    DeadlineExceededError,
    OptionError,
    ResilienceWarning,
    bulkhead,
    deadline,
    guard,
    shutdown,
)
from resilient_faces.testing import ManualRuntime, Mode, script

PATIENCE = 10.0  # seconds after which a test says that something hangs


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "this did not happen"
        time.sleep(0.001)


class Crowd:
    """Counts who is inside."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = self.most = self.served = 0

    def enter(self) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            self.served += 1


# -- one caller ----------------------------------------------------------------------------------------------------


def test_a_free_place_is_taken_and_given_back(mode: Mode, resilience: None) -> None:
    """After success and after failure."""
    limit = bulkhead(2)
    assert mode.run(limit, script("fine")) == "fine"
    with pytest.raises(KeyError):
        mode.run(limit, script(KeyError()))
    assert limit.snapshot().running == 0


def test_refused_at_once_without_a_queue(mode: Mode, resilience: None) -> None:
    """The default: no waiting; the function is not called."""
    limit = bulkhead(1, name="camera")
    scripted = script("unused")
    with limit, pytest.raises(BulkheadFullError, match=r"^bulkhead 'camera' is full$"):
        mode.run(limit, scripted)
    assert scripted.count == 0
    assert mode.run(limit, scripted) == "unused"


def test_waiting_ends(mode: Mode, resilience: None) -> None:
    """After `max_wait` seconds, and the queue is empty again."""
    limit = bulkhead(1, max_waiting=5, max_wait=0.01)
    with limit, pytest.raises(BulkheadFullError):
        mode.run(limit, script("unused"))
    assert limit.snapshot().waiting == limit.snapshot().running == 0


def test_zero_patience(mode: Mode, resilience: None) -> None:
    """`max_wait=0` takes a free place and waits for none."""
    limit = bulkhead(1, max_waiting=5, max_wait=0.0)
    assert mode.run(limit, script("fine")) == "fine"
    with limit, pytest.raises(BulkheadFullError):
        mode.run(limit, script("unused"))


def test_the_queue_is_bounded(resilience: None) -> None:
    """Who finds it full is refused at once, and does not stand in it first."""
    limit = bulkhead(1, max_waiting=1)
    limit.enter()
    refused = threading.Event()

    def come() -> None:
        try:
            limit.call(lambda: None)
        except BulkheadFullError:
            refused.set()

    waiting, late = threading.Thread(target=come, daemon=True), threading.Thread(target=come, daemon=True)
    waiting.start()
    until(lambda: limit.snapshot().waiting == 1)
    late.start()
    until(lambda: refused.is_set() or limit.snapshot().waiting == 2)
    assert refused.is_set()
    limit.leave(None, None, None)
    for thread in (waiting, late):
        thread.join(PATIENCE)
    assert limit.snapshot().running == limit.snapshot().waiting == 0


def test_snapshot(resilience: None) -> None:
    """Name, limit, who is inside and who waits."""
    limit = bulkhead(3, name="db")
    with limit, limit:
        snapshot = limit.snapshot()
    assert (snapshot.name, snapshot.limit, snapshot.running, snapshot.waiting) == ("db", 3, 2, 0)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["with", "async with"])
def test_as_a_block(resilience: None, asynchronous: bool) -> None:
    """A block has a place as a call has, and gives it back whatever happens."""
    limit = bulkhead(1)

    async def asynchronously() -> None:
        async with limit:
            assert limit.snapshot().running == 1
            raise KeyError

    def plainly() -> None:
        with limit:
            assert limit.snapshot().running == 1
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(asynchronously()) if asynchronous else plainly()
    assert limit.snapshot().running == 0


def test_no_refusal_while_places_are_free(resilience: None) -> None:
    """Callers that arrive at the same moment each get one of the free places, queue or no queue."""
    limit = bulkhead(8)
    refused: list[BaseException] = []
    together = threading.Barrier(8)

    def work() -> None:
        for _ in range(100):
            together.wait()
            try:
                limit.enter()
                limit.leave(None, None, None)
            except BulkheadFullError as error:
                refused.append(error)

    _run([work] * 8)
    assert refused == []


# -- many ----------------------------------------------------------------------------------------------------------


def _run(work: list[Callable[[], object]]) -> None:
    errors: list[BaseException] = []

    def guarded(one: Callable[[], object]) -> None:
        try:
            one()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(one,), daemon=True) for one in work]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 30.0
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    assert not errors, errors
    assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"


@pytest.mark.parametrize("places", [1, 3])
def test_threads_and_both_kinds_of_loops_share_it(resilience: None, places: int) -> None:
    """Never more inside than there are places, and everybody is served: no wake-up is lost between the three worlds."""
    limit = bulkhead(places, max_waiting=1000)
    crowd = Crowd()

    @limit
    def blocking() -> None:
        crowd.enter()
        time.sleep(0.0001)
        crowd.leave()

    @limit
    async def cooperating() -> None:
        crowd.enter()
        await anyio.sleep(0.0001)
        crowd.leave()

    def in_thread() -> None:
        for _ in range(40):
            blocking()

    def in_loop(backend: str) -> Callable[[], None]:
        async def task() -> None:
            for _ in range(10):
                await cooperating()

        async def main() -> None:
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(task)

        return lambda: anyio.run(main, backend=backend)

    _run([in_thread] * 4 + [in_loop("asyncio")] * 2 + [in_loop("trio")] * 2)
    assert crowd.served == 4 * 40 + 4 * 40
    assert crowd.most <= places
    assert (limit.snapshot().running, limit.snapshot().waiting) == (0, 0)


@pytest.mark.parametrize("backends", [("trio", "trio"), ("asyncio", "trio"), ("asyncio", "asyncio")])
def test_loops_that_hand_on_to_each_other(resilience: None, backends: tuple[str, str]) -> None:
    """Waking a waiter of another loop never blocks one's own: two that do it at the same moment both go on."""
    first, second = bulkhead(1, max_waiting=5), bulkhead(1, max_waiting=5)
    together = threading.Barrier(2)

    def loop(backend: str, mine: Bulkhead, other: Bulkhead) -> Callable[[], None]:
        async def main() -> None:
            done = anyio.Event()

            async def wait_for_other() -> None:
                await other.aenter()
                other.leave(None, None, None)
                done.set()

            async with anyio.create_task_group() as group:
                await mine.aenter()
                together.wait(PATIENCE)
                group.start_soon(wait_for_other)
                await anyio.sleep(0.02)
                together.wait(PATIENCE)
                mine.leave(None, None, None)
                await done.wait()

        return lambda: anyio.run(main, backend=backend)

    _run([loop(backends[0], first, second), loop(backends[1], second, first)])


@pytest.mark.parametrize("backend", ["thread", "asyncio", "trio"])
def test_first_come_first_served(resilience: None, backend: str) -> None:
    """In the order of arrival."""
    limit = bulkhead(1, max_waiting=100)
    served: list[int] = []
    if backend == "thread":
        limit.enter()
        threads = []
        for number in range(8):
            thread = threading.Thread(target=lambda number=number: limit.call(served.append, number))
            thread.start()
            threads.append(thread)
            until(lambda number=number: limit.snapshot().waiting == number + 1)
        limit.leave(None, None, None)
        for thread in threads:
            thread.join(PATIENCE)
    else:

        @limit
        async def serve(number: int) -> None:
            served.append(number)
            await anyio.lowlevel.checkpoint()

        async def main() -> None:
            async with anyio.create_task_group() as group:
                await limit.aenter()
                for number in range(8):
                    group.start_soon(serve, number)
                    while limit.snapshot().waiting < number + 1:
                        await anyio.lowlevel.checkpoint()
                limit.leave(None, None, None)

        anyio.run(main, backend=backend)
    assert served == list(range(8))


class _Paused(Bulkhead):
    """Something happens between putting a place back and handing it on."""

    __slots__ = ("meanwhile",)

    def _hand_on(self) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        super()._hand_on()


@pytest.mark.parametrize("backend", ["thread", "asyncio", "trio"])
def test_nobody_jumps_the_queue(resilience: None, backend: str) -> None:
    """Who arrives while others wait stands behind them, also if a place is free at that moment."""
    limit = _Paused(1, max_waiting=10)
    limit.meanwhile = None
    order: list[str] = []
    limit.enter()
    first = threading.Thread(target=lambda: limit.call(order.append, "first"), daemon=True)
    first.start()
    until(lambda: limit.snapshot().waiting == 1)

    @limit
    async def arrive() -> None:
        order.append("newcomer")

    def come() -> None:
        if backend == "thread":
            limit.call(order.append, "newcomer")
        else:
            anyio.run(arrive, backend=backend)

    newcomer = threading.Thread(target=come, daemon=True)

    def meanwhile() -> None:  # the place lies there, and the first one still waits
        newcomer.start()
        until(lambda: bool(order) or limit.snapshot().running == 1)

    limit.meanwhile = meanwhile
    limit.leave(None, None, None)
    for thread in (first, newcomer):
        thread.join(PATIENCE)
    assert order == ["first", "newcomer"]


def test_a_newcomer_wakes_who_it_lets_in(resilience: None) -> None:
    """A place is put back, and before it is handed on a newcomer arrives: who waits longest gets it, and is woken."""
    limit = _Paused(1, max_waiting=10)
    limit.meanwhile = None
    limit.enter()
    order: list[str] = []
    threads = [
        threading.Thread(target=lambda name=name: limit.call(order.append, name), daemon=True)
        for name in ("first", "newcomer")
    ]
    threads[0].start()
    until(lambda: limit.snapshot().waiting == 1)

    def arrive() -> None:
        threads[1].start()
        time.sleep(0.02)  # it is in the queue by then, or further

    limit.meanwhile = arrive
    limit.leave(None, None, None)
    for thread in threads:
        thread.join(2.0)
    assert order == ["first", "newcomer"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("when", ["waiting", "inside"])
def test_cancellation_gives_places_back(resilience: None, backend: str, when: str) -> None:
    """Whether it stood in the queue or was inside: the next one gets in."""
    limit = bulkhead(1, max_waiting=10)

    @limit
    async def hang() -> None:
        await anyio.sleep_forever()

    async def main() -> None:
        if when == "waiting":
            await limit.aenter()
        with anyio.move_on_after(0.01):
            await hang()
        if when == "waiting":
            assert (limit.snapshot().running, limit.snapshot().waiting) == (1, 0)
            limit.leave(None, None, None)
        async with limit:
            pass

    anyio.run(main, backend=backend)
    assert (limit.snapshot().running, limit.snapshot().waiting) == (0, 0)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_in_the_moment_of_being_let_in(resilience: None, backend: str) -> None:
    """The place was granted, but nobody will use it: it goes on to the next, who is woken."""
    limit = bulkhead(1, max_waiting=10)
    served: list[str] = []

    async def wait(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            await limit.aenter()
            try:
                served.append(name)
                await anyio.lowlevel.checkpoint()  # where a cancellation comes at the latest
            finally:
                limit.leave(None, None, None)

    async def main() -> None:
        for _ in range(20):
            await limit.aenter()
            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as group:
                    first, second = anyio.CancelScope(), anyio.CancelScope()
                    for name, scope in (("first", first), ("second", second)):
                        group.start_soon(wait, name, scope)
                        await anyio.wait_all_tasks_blocked()
                    limit.leave(None, None, None)  # grants the place ...
                    first.cancel()  # ... to a task that is cancelled before it runs
            assert (limit.snapshot().running, limit.snapshot().waiting) == (0, 0)

    anyio.run(main, backend=backend)
    assert served.count("second") == 20


class _Interrupted(Bulkhead):
    """An interrupt comes while a thread waits."""

    __slots__ = ("meanwhile",)

    def _until(self, function: Callable[..., object]) -> float:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
            raise KeyboardInterrupt
        return super()._until(function)


def test_interrupted_in_the_moment_of_being_let_in(resilience: None) -> None:
    """As with a cancellation, where a thread waits."""
    limit = _Interrupted(1, max_waiting=10)
    limit.enter()
    second = threading.Thread(target=lambda: limit.call(lambda: None), daemon=True)

    def meanwhile() -> None:
        second.start()
        until(lambda: limit.snapshot().waiting == 2)
        limit.leave(None, None, None)  # grants the place to this thread

    limit.meanwhile = meanwhile
    with pytest.raises(KeyboardInterrupt):
        limit.enter()
    second.join(PATIENCE)
    assert not second.is_alive()
    assert limit.snapshot().running == 0


class Interrupt(KeyboardInterrupt):
    """Raised in the main thread at some moment."""


@contextmanager
def interrupts() -> Iterator[Callable[[Callable[[], object]], None]]:
    """What is given to it is done again and again until an interrupt comes out."""
    armed = False

    def strike(*_: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Interrupt

    def until_struck(work: Callable[[], object]) -> None:
        nonlocal armed
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, random.uniform(2e-5, 2e-4), 3e-4)
            while True:
                work()
        except Interrupt:
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    before = signal.signal(signal.SIGALRM, strike)
    try:
        yield until_struck
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.other_platform
@pytest.mark.skipif(not hasattr(signal, "setitimer") or sys.version_info < (3, 11), reason="see the bulkhead's comment")
@pytest.mark.parametrize("crowded", [False, True], ids=["alone", "crowded"])
def test_interrupts_lose_no_place(resilience: None, crowded: bool) -> None:
    """Ctrl-C at a thousand moments: when a place is taken or waited for, and when it is given back and handed on."""
    limit = bulkhead(1, max_waiting=10)
    work = limit(lambda: None)
    ended = threading.Event()
    served: list[int] = []

    def others() -> None:
        while not ended.is_set():
            work()
            served.append(1)

    threads = [threading.Thread(target=others, daemon=True) for _ in range(2 if crowded else 0)]
    for thread in threads:
        thread.start()
    with interrupts() as until_struck:
        for _ in range(1000):
            until_struck(work)
    ended.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert (limit.snapshot().running, limit.snapshot().waiting) == (0, 0)
    assert len(served) > 0 or not crowded


class _Unwoken(Bulkhead):
    """An interrupt comes between letting somebody in and waking them."""

    __slots__ = ()

    def _wake(self, waiter: object) -> None: ...


@pytest.mark.parametrize("backend", ["thread", "asyncio", "trio"])
def test_who_is_let_in_but_not_woken_notices(resilience: None, backend: str) -> None:
    """It looks by itself now and then."""
    limit = _Unwoken(1, max_waiting=10)
    limit.enter()

    @limit
    async def arrive() -> None: ...

    def come() -> None:
        if backend == "thread":
            limit.call(lambda: None)
        else:
            anyio.run(arrive, backend=backend)

    waiting = threading.Thread(target=come, daemon=True)
    waiting.start()
    until(lambda: limit.snapshot().waiting == 1)
    limit.leave(None, None, None)
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    assert limit.snapshot().running == 0


@pytest.mark.other_platform
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("how", ["call", "block"])
def test_forked_inside(resilience: None, how: str) -> None:
    """The place is the parent's: a child that comes out of the call has none to give back."""
    limit = bulkhead(1)

    def block() -> int:
        with limit:
            return os.fork()

    child = block() if how == "block" else limit(os.fork)()
    if child == 0:  # pragma: no cover
        os._exit(0 if len(limit._free) == 1 and limit.snapshot().running == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert limit.snapshot().running == 0


# -- waits that end otherwise --------------------------------------------------------------------------------------


def test_a_shutdown_ends_the_queue(mode: Mode, resilience: None) -> None:
    """Who waits is refused soon, who comes later at once; a free place is still given."""
    limit = bulkhead(1, max_waiting=10, max_wait=3.0)
    scripted = script("fine")
    guarded = limit(mode.function(scripted))
    began = time.monotonic()
    with limit:
        stopper = threading.Timer(0.05, shutdown)
        stopper.start()
        for _ in range(2):
            with pytest.raises(BulkheadFullError):
                mode.call(guarded)
        stopper.join()
    assert time.monotonic() - began < 2.0
    assert scripted.count == 0
    assert limit.snapshot().waiting == 0
    assert mode.call(guarded) == "fine"


def test_after_the_deadline_nobody_waits(mode: Mode, clock: ManualRuntime) -> None:
    """Not even for as long as a place may still come."""
    limit = bulkhead(1, max_waiting=10)
    scripted = script("unused")
    guarded = limit(mode.function(scripted))
    with limit, deadline(5.0):
        clock.advance(6.0)
        with pytest.raises(DeadlineExceededError, match="the deadline of 'scripted' has passed"):
            mode.call(guarded)
    assert (limit.snapshot().running, limit.snapshot().waiting) == (0, 0)


@pytest.mark.parametrize("how", ["call", "block"])
def test_a_sync_bulkhead_that_waits_in_a_loop_warns(resilience: None, how: str) -> None:
    """It stops the very task that has the place."""
    limit = bulkhead(1, max_waiting=10, max_wait=0.01)

    def block() -> None:
        with limit:
            pass

    work = block if how == "block" else limit(recognise)

    async def main() -> None:
        async with limit:
            with pytest.raises(BulkheadFullError):
                work()

    name = "recognise" if how == "call" else "Bulkhead.enter"
    with pytest.warns(ResilienceWarning, match=rf"RF100 the sync guard of '{name}'"):
        asyncio.run(main())


def recognise() -> None: ...


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_many_cancelled_waiters(resilience: None, backend: str) -> None:
    """Give up at random moments, among others who do not: all places come back."""
    limit = bulkhead(2, max_waiting=1000)
    crowd = Crowd()

    async def work(number: int) -> None:
        with anyio.move_on_after(0.0005 * (number % 7)):
            async with limit:
                crowd.enter()
                try:
                    await anyio.sleep(0.0003 * (number % 3))
                finally:
                    crowd.leave()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(work, number)

    anyio.run(main, backend=backend)
    assert crowd.most <= 2
    assert (limit.snapshot().running, limit.snapshot().waiting) == (0, 0)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_ended_keeps_no_place(resilience: None, backend: str) -> None:
    """A waiter whose loop is gone cannot be woken; its place goes to the next in the queue."""
    limit = bulkhead(1, max_waiting=10)
    limit.enter()
    ready = threading.Event()

    def loop() -> None:
        async def main() -> None:
            async def wait() -> None:
                await limit.aenter()

            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.sleep(0.01)
                ready.set()
                group.cancel_scope.cancel()

        anyio.run(main, backend=backend)

    _run([loop])
    assert ready.is_set()
    limit.leave(None, None, None)
    assert limit.snapshot().running == 0
    assert limit.call(lambda: "fine") == "fine"


def test_two_bulkheads_in_one_guard(mode: Mode, resilience: None) -> None:
    """Refused by the inner one, the outer place comes back."""
    outer, inner = bulkhead(5), bulkhead(1)
    with inner, pytest.raises(BulkheadFullError):
        mode.run(guard(outer, inner), script("unused"))
    assert outer.snapshot().running == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": 0}, "Bulkhead.limit must be 1 or more; got 0."),
        ({"limit": 1, "max_waiting": -1}, "Bulkhead.max_waiting must be 0 or more; got -1."),
        ({"limit": 1, "max_wait": -1.0}, "Bulkhead.max_wait must be 0 or more seconds; got -1.0."),
        ({"limit": 1, "max_wating": 3}, "Did you mean max_waiting?"),
    ],
)
def test_options_are_checked(resilience: None, options: dict[str, object], words: str) -> None:
    """Option, rule, value; a mistyped name is recognised."""
    with pytest.raises(OptionError) as caught:
        bulkhead(**options)  # type: ignore[arg-type]
    assert words in str(caught.value)
