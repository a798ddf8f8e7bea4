"""A million calls from 8 threads and 3 event loops through one guard: exact counters, and memory that stays.

python proof/stress.py            1,000,000 calls; resident memory after the last half within 1 MB of before it
python proof/stress.py --small    30,000 calls, as the tests run it; memory is reported, not judged
"""

from __future__ import annotations

import asyncio
import functools
import gc
import math
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _report import Proof

from resilient_faces import CircuitOpenError, Event, RetryableError, circuits, fallback, guard, listen, retry
from resilient_faces.breaker import Breaker, consecutive
from resilient_faces.retry import none

THREADS, LOOPS, TASKS = 8, 3, 10
MOST_GROWTH = 1_048_576  # bytes
NEVER = 1_000_000_000


class Steady:
    """A dependency that fails now and then. Each worker has its own, so that its ledger needs no lock.

    Every 20th call fails once and passes at the second attempt; every 100th fails until the fallback answers.
    """

    def __init__(self) -> None:
        self.ledger: Counter[str] = Counter()
        self.number = 0

    def attempt(self, number: int, tried: list[int]) -> str:
        tried[0] += 1
        if number % 100 == 0 or (number % 20 == 0 and tried[0] == 1):
            self.ledger["failed attempts"] += 1
            raise RetryableError
        return "fine"

    async def aattempt(self, number: int, tried: list[int]) -> str:
        if number % 10 == 0:
            await asyncio.sleep(0)  # other tasks come in between
        return self.attempt(number, tried)

    def expect(self, number: int, answer: str) -> None:
        self.ledger["calls"] += 1
        if number % 100 == 0:
            self.ledger["retries"] += 2
            self.ledger["degraded"] += 1
            self.ledger["wrong"] += answer != "stale"
        else:
            self.ledger["retries"] += number % 20 == 0
            self.ledger["wrong"] += answer != "fine"


class Heard:
    """What the listener was told."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self.lock:
            self.counts[event.type] += 1


def round_of(calls: int) -> Counter[str]:
    """At least so many calls by all workers together through one guard; what the workers' ledgers add up to."""
    policy = guard(
        fallback(value="stale"),
        retry(attempts=3, backoff=0.0, jitter=none()),
        Breaker("steady", trips=consecutive(NEVER)),
    )
    each = math.ceil(calls / (THREADS + LOOPS))
    workers = [Steady() for _ in range(THREADS + LOOPS)]

    def in_thread(worker: Steady) -> None:
        guarded = policy(worker.attempt)
        for number in range(1, each + 1):
            worker.expect(number, guarded(number, [0]))

    def in_loop(worker: Steady) -> None:
        guarded = policy(worker.aattempt)
        numbers = iter(range(1, each + 1))

        async def task() -> None:
            for number in numbers:
                worker.expect(number, await guarded(number, [0]))

        async def main() -> None:
            await asyncio.gather(*[task() for _ in range(TASKS)])

        asyncio.run(main())

    jobs = [(in_thread, one) for one in workers[:THREADS]] + [(in_loop, one) for one in workers[THREADS:]]
    run_together([functools.partial(job, worker) for job, worker in jobs])
    total: Counter[str] = Counter()
    for worker in workers:
        total.update(worker.ledger)
    return total


def flapping(calls: int) -> dict[str, int]:
    """A dependency that goes down and comes back: every call is made or refused, and each is counted once."""
    breaker = Breaker("flapping", trips=consecutive(3), recovery_timeout=0.0005, growth=1.0)
    made, refused = [0] * THREADS, [0] * THREADS
    failed = [0] * THREADS
    each = calls // THREADS

    def work(index: int) -> None:
        @breaker
        def depend(number: int) -> None:
            made[index] += 1
            if number // 50 % 2:
                failed[index] += 1
                raise RetryableError

        for number in range(each):
            try:
                depend(number)
            except CircuitOpenError:
                refused[index] += 1
            except RetryableError:
                pass

    run_together([functools.partial(work, index) for index in range(THREADS)])
    snapshot = breaker.circuit.snapshot()
    return {
        "calls": each * THREADS,
        "made": sum(made),
        "refused": sum(refused),
        "refused by the circuit": snapshot.rejected,
        "failed": sum(failed),
        "failures of the circuit": snapshot.failures,
        "opened": snapshot.opened,
        "probes left over": snapshot.probes,
    }


def run_together(work: list[Callable[[], None]]) -> None:
    """All of it at once, a thread each; what one of them raises comes out here."""
    errors: list[BaseException] = []

    def carry_out(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=carry_out, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


def resident() -> int | None:
    """Bytes of this process in memory; None where nobody can tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def stress(calls: int) -> dict[str, Any]:
    """Both workloads; the facts and what is wrong with them."""
    heard = Heard()
    stop = listen(heard)
    began = time.monotonic()
    keep = Breaker("steady", trips=consecutive(NEVER))  # the circuit must outlive each round's guard
    try:
        total = round_of(calls // 2)
        gc.collect()
        before = resident()
        total.update(round_of(calls // 2))
        gc.collect()
        after = resident()
        told = dict(heard.counts)
        flap = flapping(max(2_000, calls // 20))
    finally:
        stop()
    snapshot = circuits["steady"].snapshot()
    wrong = [
        f"{what}: {got} instead of {expected}"
        for what, got, expected in (
            ("wrong answers", total["wrong"], 0),
            ("failures of the circuit", snapshot.failures, total["failed attempts"]),
            ("retry events", told.get("retry", 0), total["retries"]),
            ("degraded events", told.get("degraded", 0), total["degraded"]),
            ("refused while steady", snapshot.rejected, 0),
            ("state after it", keep.circuit.state.value, "closed"),
            ("flapping: made + refused", flap["made"] + flap["refused"], flap["calls"]),
            ("flapping: refused by the circuit", flap["refused by the circuit"], flap["refused"]),
            ("flapping: probes left over", flap["probes left over"], 0),
            ("flapping: more failures than calls that failed", flap["failures of the circuit"] > flap["failed"], False),
            ("flapping: opened at all", flap["opened"] > 0, True),
        )
        if got != expected
    ]
    return {
        "steady": dict(total),
        "events": told,
        "flapping": flap,
        "resident_before": before,
        "resident_after": after,
        "growth": None if before is None or after is None else after - before,
        "seconds": round(time.monotonic() - began, 2),
        "wrong": wrong,
    }


def main() -> int:
    proof = Proof(
        "stress",
        "8 threads and 3 event loops on one guard: exact counters, and no growth over the last half of the calls.",
        __doc__,
        small="30,000 calls, and memory is not judged",
    )
    proof.parser.add_argument("--calls", type=int, help="how many calls instead")
    options = proof.parse()
    calls = options.calls or (30_000 if options.small else 1_000_000)
    found = stress(calls)
    for one in found.pop("wrong"):
        proof.check(False, one)
    growth = found["growth"]
    proof.say(
        f"{found['steady']['calls']:,} calls, {found['steady']['retries']:,} retries; memory grew by {growth} bytes"
    )
    if not options.small and growth is not None:
        proof.check(growth <= MOST_GROWTH, f"memory grew by {growth} bytes; at most {MOST_GROWTH} are allowed")
    return proof.finish(
        parameters={"calls": calls, "threads": THREADS, "loops": LOOPS, "tasks": TASKS, "most_growth": MOST_GROWTH},
        figures=found,
        packages=("resilient-faces", "anyio"),
    )


if __name__ == "__main__":
    sys.exit(main())
