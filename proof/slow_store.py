"""A shared store that is slow, hangs or dies: `python proof/slow_store.py [--small]`.

Slow: every answer takes 50 ms, and each of 1,000 calls of a shared circuit, then of a shared limiter, asks for one. The
event loop's largest gap is measured by a task that runs beside them, less the time that a busy machine gave to other
programs (best of five runs).
Hanging and dying: the store's server is stopped, then killed, in the middle of calls from threads and from tasks. Every
call must return the dependency's own result, in bounded time.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import _shared
from _report import Proof

SLOW = 0.05  # seconds
LARGEST = 0.02  # seconds
LONGEST = {"breaker": 2.0, "limiter": 5.0}  # seconds that a call may take at the worst
WORKERS = 8  # calls at a time; each has a worker thread while the store is asked


class Gaps:
    """The largest time for which the event loop did nothing else.

    Attributes:
        raw: By the clock, in seconds.
        largest: Less the time that a busy machine gave to others.
    """

    def __init__(self) -> None:
        self.raw = self.largest = 0.0

    async def __aenter__(self) -> Gaps:
        self._task = asyncio.create_task(self._tick())
        await asyncio.sleep(0.05)
        self.raw = self.largest = 0.0
        return self

    async def _tick(self) -> None:
        last, without = time.monotonic(), _shared.denied()
        while True:
            await asyncio.sleep(0.002)
            now, waited = time.monotonic(), _shared.denied()
            self.raw = max(self.raw, now - last)
            self.largest = max(self.largest, now - last - (waited - without))
            last, without = now, waited

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()


def control() -> float:
    """The gap that the same tasks and threads show on this machine when all they do is to sleep."""

    async def main() -> float:
        numbers = iter(range(40 * WORKERS))

        async def worker() -> None:
            for _ in numbers:
                await asyncio.to_thread(time.sleep, SLOW)

        async with Gaps() as gaps:
            await asyncio.gather(*(worker() for _ in range(WORKERS)))
        return gaps.largest

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


async def in_tasks(
    policy: Any, calls: int, during: Callable[[int], None] | None = None, *, fails: bool = False
) -> tuple[list[Any], float]:
    """What so many calls return, with `WORKERS` of them at a time, and how long the longest took."""
    numbers = iter(range(calls))
    came: list[Any] = []
    longest = 0.0

    @policy
    async def call(number: int) -> int:
        await asyncio.sleep(0.0)
        if fails:
            raise ConnectionResetError(number)
        return number

    async def worker() -> None:
        nonlocal longest
        for number in numbers:
            if during is not None:
                during(number)
            began = time.monotonic()
            try:
                came.append((number, await call(number)))
            except ConnectionResetError as error:
                came.append((number, error.args[0]))
            longest = max(longest, time.monotonic() - began)

    await asyncio.gather(*(worker() for _ in range(WORKERS)))
    return came, longest


def in_threads(policy: Any, calls: int, during: Callable[[int], None] | None = None) -> tuple[list[Any], float]:
    """As `in_tasks`, with plain functions."""
    numbers = iter(range(calls))
    lock = threading.Lock()
    came: list[Any] = []
    longest = 0.0

    @policy
    def call(number: int) -> int:
        return number

    def worker() -> None:
        nonlocal longest
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            if during is not None:
                during(number)
            began = time.monotonic()
            result = call(number)
            took = time.monotonic() - began
            with lock:
                came.append((number, result))
                longest = max(longest, took)

    threads = [threading.Thread(target=worker) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return came, longest


def own_results(came: list[Any], calls: int) -> bool:
    return sorted(came) == [(number, number) for number in range(calls)]


def slow(store: Any, name: str, calls: int, round_: int) -> tuple[Gaps, bool, int]:
    """The gaps, whether all results were the dependency's own, and how often the store was asked."""
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
    policy = policies(store, f"slow-{name}-{round_}", patience=1.0)[name]
    fails = name == "breaker"  # a success would not have to be told

    async def main() -> tuple[Gaps, bool]:
        await in_tasks(policy, 2 * WORKERS, fails=fails)  # threads are started, modules are imported
        await asyncio.sleep(1.5)  # a store that was too slow meanwhile is asked again
        async with Gaps() as gaps:
            came, _ = await in_tasks(policy, calls, fails=fails)
        return gaps, own_results(came, calls)

    gaps, good = asyncio.run(main())
    return gaps, good, asked


def broken(kind: str, how: str, name: str, mode: str, calls: int) -> dict[str, Any]:
    """The server hangs or dies in the middle of the calls."""
    with tempfile.TemporaryDirectory() as folder, _shared.running(kind, Path(folder)) as server:
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
            came, longest = asyncio.run(work)  # type: ignore[arg-type]
        else:
            came, longest = in_threads(policy, calls, during)
        seconds = time.monotonic() - began
        if how == "hangs":
            server.thaw()
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
        small="200 calls while it hangs or dies, Redis only in threads",
    )
    options = proof.parse()
    proof.need("boto3", "redis", cure="pip install 'resilient-faces[aws,redis]'")
    figures: dict[str, Any] = {"slow": {}, "broken": {}}
    with tempfile.TemporaryDirectory() as folder, _shared.running("redis", Path(folder)) as server:
        # In a small run on a machine that pauses by itself: three times what it shows without any store.
        largest = max(LARGEST, 3.0 * min(control() for _ in range(3))) if options.small else LARGEST
        for name in ("breaker", "limiter"):
            gaps: list[float] = []
            raw: list[float] = []
            for number in range(5):
                found, good, asked = slow(_shared.open_store(server.spec, "slow:"), name, 1_000, number)
                gaps.append(round(found.largest, 4))
                raw.append(round(found.raw, 4))
                proof.check(good, f"slow, {name}: a call did not return the dependency's own result")
                proof.check(asked >= 1_000, f"slow, {name}: the store was asked only {asked} times")
                if found.largest < largest:
                    break
            figures["slow"][name] = {"largest_gaps": gaps, "by_the_clock": raw, "asked": asked}
            proof.say(f"slow, {name}: {figures['slow'][name]}")
            proof.check(min(gaps) < largest, f"slow, {name}: the event loop stood still for {min(gaps)} s")
    calls = 200 if options.small else 1_000
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
        parameters={"answer": SLOW, "largest": round(largest, 4), "longest": LONGEST, "workers": WORKERS},
        figures=figures,
        packages=("resilient-faces", "redis", "boto3", "botocore"),
    )


if __name__ == "__main__":
    sys.exit(main())
