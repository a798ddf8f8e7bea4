"""A shared store that is slow, hangs or dies: `python proof/slow_store.py [--small]`.

Slow: every answer takes 50 ms, and each of 1,000 calls of a shared circuit, then of a shared limiter, asks for one. Two
things are measured. By the clock: the event loop's largest gap, by a task that runs beside the calls; and beside it, in
the same minute, the gap that the same number of tasks and threads show when all they do is to sleep, which is the
machine's own. By callback: how long any callback kept the loop, that is computed, or waited for something while the
process's other threads went on. The claim is the clock's: under 20 ms (best of ten runs, for the machine's sake).

`--small` makes 200 calls and goes by the callbacks, as a machine that stops for a second now and then must not be taken
for a callback that blocks. Each run also shows that a store which is asked in the event loop would be found out.

Hanging and dying: the store's server is stopped, then killed, in the middle of calls from threads and from tasks. Every
call must return the dependency's own result, in bounded time; time in which the whole process stood still is left out.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _shared
from _report import Proof

SLOW = 0.05  # seconds
LARGEST = 0.02  # seconds
TRIES = 10  # runs of which the best counts
PATIENCE = 60.0  # seconds that a slow store may take: that it is left alone for being late is no subject here
LONGEST = {"breaker": 5.0, "limiter": 10.0}  # seconds that a call may take at the worst
WORKERS = 8  # calls at a time; each has a worker thread while the store is asked


class Callbacks:
    """What the callbacks of an event loop did, by those who time each of them.

    Attributes:
        ran: How many there were.
        kept: Seconds for which one kept the loop at most.
        by_the_clock: Seconds from the beginning to the end of one at most, whoever had the processor meanwhile.
    """

    def __init__(self) -> None:
        self.ran = 0
        self.kept = self.by_the_clock = 0.0
        self._slow: list[tuple[float, float, float, bool]] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Time every callback that this thread's loops run in the block."""
        plain = asyncio.Handle._run  # noqa: SLF001  # the one place that every callback passes
        thread = threading.get_ident()

        def timed(handle: Any) -> None:
            if threading.get_ident() != thread:
                return plain(handle)
            waits = waits_of_this_thread()
            computed, began = time.thread_time(), time.monotonic()
            try:
                return plain(handle)
            finally:
                ended = time.monotonic()
                self.ran += 1
                if ended - began > LARGEST / 10.0:
                    waited = waits_of_this_thread() > waits
                    self._slow.append((began, ended, time.thread_time() - computed, waited))

        with _shared.Pulse() as pulse:
            asyncio.Handle._run = timed  # type: ignore[method-assign]  # noqa: SLF001
            try:
                yield
            finally:
                asyncio.Handle._run = plain  # type: ignore[method-assign]  # noqa: SLF001
                time.sleep(0.05)  # for the pulse to tell of the last moments
        for began, ended, computed, waited in self._slow:
            self.by_the_clock = max(self.by_the_clock, ended - began)
            others_went_on = ended - began - pulse.stood_still(began, ended)
            # Who gave up the processor by itself waited for something; who did not was interrupted.
            self.kept = max(self.kept, others_went_on if waited else min(computed, others_went_on))


def waits_of_this_thread() -> int:
    """How often it gave up the processor by itself; of the whole process, where the system does not tell it apart."""
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_nvcsw


class Gap:
    """The largest time for which the event loop did nothing else, by the clock, in seconds."""

    largest = 0.0

    async def __aenter__(self) -> Gap:
        self._task = asyncio.create_task(self._tick())
        await asyncio.sleep(0.05)
        self.largest = 0.0
        return self

    async def _tick(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.002)
            now = time.monotonic()
            self.largest = max(self.largest, now - last)
            last = now

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()


def control(calls: int) -> float:
    """The gap that as many tasks and threads show on this machine when all they do is to sleep."""

    async def main() -> float:
        numbers = iter(range(calls))

        async def worker() -> None:
            for _ in numbers:
                await asyncio.to_thread(time.sleep, SLOW)

        async with Gap() as gap:
            await asyncio.gather(*(worker() for _ in range(WORKERS)))
        return gap.largest

    return asyncio.run(main())


def policies(store: Any, prefix: str, patience: float = 0.2) -> dict[str, Any]:
    from resilient_faces import Breaker, rate_limit
    from resilient_faces.breaker import failures_within

    return {
        "breaker": Breaker(
            f"{prefix}-breaker",
            trips=failures_within(1_000_000, seconds=3600.0),
            store=store,
            refresh=0.0,
            store_timeout=patience,
            replace=True,
        ),
        "limiter": rate_limit(2_000.0, name=f"{prefix}-limiter", store=store, processes=2, store_timeout=patience),
    }


Taken = list[tuple[float, float]]  # when each call began and ended


async def in_tasks(
    policy: Any, calls: int, during: Callable[[int], None] | None = None, *, fails: bool = False
) -> tuple[list[Any], Taken]:
    """What so many calls return, with `WORKERS` of them at a time, and when each was made."""
    numbers = iter(range(calls))
    came: list[Any] = []
    taken: Taken = []

    @policy
    async def call(number: int) -> int:
        await asyncio.sleep(0.0)
        if fails:
            raise ConnectionResetError(number)
        return number

    async def worker() -> None:
        for number in numbers:
            if during is not None:
                during(number)
            began = time.monotonic()
            try:
                came.append((number, await call(number)))
            except ConnectionResetError as error:
                came.append((number, error.args[0]))
            taken.append((began, time.monotonic()))

    await asyncio.gather(*(worker() for _ in range(WORKERS)))
    return came, taken


def in_threads(policy: Any, calls: int, during: Callable[[int], None] | None = None) -> tuple[list[Any], Taken]:
    """As `in_tasks`, with plain functions."""
    numbers = iter(range(calls))
    lock = threading.Lock()
    came: list[Any] = []
    taken: Taken = []

    @policy
    def call(number: int) -> int:
        return number

    def worker() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            if during is not None:
                during(number)
            began = time.monotonic()
            result = call(number)
            with lock:
                came.append((number, result))
                taken.append((began, time.monotonic()))

    threads = [threading.Thread(target=worker) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return came, taken


def own_results(came: list[Any], calls: int) -> bool:
    return sorted(came) == [(number, number) for number in range(calls)]


def slow(store: Any, name: str, calls: int, label: str) -> dict[str, Any]:
    """What is seen of the event loop, whether all results were the dependency's own, how often the store was asked."""
    asked = 0

    def slowly(operation: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*args: Any) -> Any:
            nonlocal asked
            asked += 1
            time.sleep(SLOW)
            return operation(*args)

        return ask

    for operation in ("load", "save", "count", "clear", "reserve", "slow_down", "join"):
        setattr(store, operation, slowly(getattr(store, operation)))
    policy = policies(store, f"slow-{name}-{label}", PATIENCE)[name]
    fails = name == "breaker"  # a success would not have to be told
    callbacks = Callbacks()

    async def main() -> tuple[float, bool]:
        await in_tasks(policy, 2 * WORKERS, fails=fails)  # threads are started, modules are imported
        nonlocal asked
        asked = 0
        async with Gap() as gap:
            with callbacks.watched():
                came, _ = await in_tasks(policy, calls, fails=fails)
        return gap.largest, own_results(came, calls)

    gap, good = asyncio.run(main())
    return {
        "calls": calls,
        "asked": asked,
        "own_results": good,
        "gap": round(gap, 4),
        "callbacks": callbacks.ran,
        "longest_callback": round(callbacks.by_the_clock, 4),
        "kept_by_a_callback": round(callbacks.kept, 4),
    }


def broken(kind: str, how: str, name: str, mode: str, calls: int) -> dict[str, Any]:
    """The server hangs or dies in the middle of the calls."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _shared.running(kind, Path(folder)) as server,
        _shared.Pulse() as pulse,
    ):
        store = _shared.open_store(server.spec, "broken:")
        policy = policies(store, f"{kind}-{how}-{mode}")[name]
        once = threading.Lock()

        def during(number: int) -> None:
            if number >= calls // 3 and once.acquire(blocking=False):
                (server.kill if how == "dies" else server.freeze)()
            time.sleep(0.0 if mode == "tasks" else 0.001)

        began = time.monotonic()
        if mode == "tasks":
            work: Awaitable[Any] = in_tasks(policy, calls, during)
            came, taken = asyncio.run(work)  # type: ignore[arg-type]
        else:
            came, taken = in_threads(policy, calls, during)
        seconds = time.monotonic() - began
        if how == "hangs":
            server.thaw()
        time.sleep(0.05)
        longest = max(ended - began - pulse.stood_still(began, ended) for began, ended in taken)
    return {
        "own_results": own_results(came, calls),
        "calls": calls,
        "longest_call": round(longest, 3),
        "seconds": round(seconds, 2),
    }


def main() -> int:
    proof = Proof(
        "slow_store",
        "a shared store that answers in 50 ms keeps the event loop's largest gap under 20 ms over 1,000 calls; while "
        "it hangs or is dead, every call returns the dependency's own result in bounded time",
        __doc__,
        small="200 calls, judged by what each callback did; hanging and dying for Redis, and for DynamoDB in tasks",
    )
    options = proof.parse()
    proof.need("boto3", "redis", cure="pip install 'resilient-faces[aws,redis]'")
    calls = 200 if options.small else 1_000
    judged = "kept_by_a_callback" if options.small else "gap"
    figures: dict[str, Any] = {"slow": {}, "broken": {}, "found_out": {}}
    with tempfile.TemporaryDirectory() as folder, _shared.running("redis", Path(folder)) as server:
        for name in ("breaker", "limiter"):
            runs: list[dict[str, Any]] = []
            for number in range(TRIES):
                store = _shared.open_store(server.spec, "slow:", PATIENCE)
                one = {"control_gap": round(control(calls), 4), **slow(store, name, calls, str(number))}
                runs.append(one)
                proof.say(f"slow, {name}: {one}")
                proof.check(one["own_results"], f"slow, {name}: a call did not return the dependency's own result")
                proof.check(one["asked"] >= calls, f"slow, {name}: the store was asked only {one['asked']} times")
                if one[judged] < LARGEST:
                    break
            figures["slow"][name] = runs
            best = min(one[judged] for one in runs)
            proof.check(best < LARGEST, f"slow, {name}: the event loop stood still for {best} s ({judged})")
            # The same store as one that claims to answer from memory: it is asked in the event loop.
            blocking = _shared.open_store(server.spec, "slow:", PATIENCE)
            blocking.inline = True
            seen = slow(blocking, name, 20, "inline")
            figures["found_out"][name] = seen
            proof.say(f"asked in the event loop, {name}: {seen}")
            found = min(seen["kept_by_a_callback"], seen["gap"]) > LARGEST
            proof.check(found, f"{name}: a store that blocks the event loop was not found out: {seen}")
    for kind in _shared.STORES:
        for how in ("hangs", "dies"):
            for name in ("breaker", "limiter"):
                for mode in ("tasks", "threads"):
                    if options.small and (kind, mode) == ("dynamodb", "threads"):
                        continue
                    one = broken(kind, how, name, mode, calls)
                    label = f"{kind} {how}, {name} in {mode}"
                    figures["broken"][label] = one
                    proof.say(f"{label}: {one}")
                    proof.check(one["own_results"], f"{label}: a call did not return the dependency's own result")
                    proof.check(one["longest_call"] <= LONGEST[name], f"{label}: a call took {one['longest_call']} s")
    return proof.finish(
        parameters={"answer": SLOW, "largest": LARGEST, "judged": judged, "longest": LONGEST, "workers": WORKERS},
        figures=figures,
        packages=("resilient-faces", "redis", "boto3", "botocore"),
    )


if __name__ == "__main__":
    sys.exit(main())
