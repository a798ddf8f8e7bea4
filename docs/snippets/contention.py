"""The page "Why full jitter"; the tests run this file."""

from __future__ import annotations

# --8<-- [start:model]
import heapq
import random

from resilient_faces.retry import Jitter, equal, exponential, full, none, proportional


def contend(jitter: Jitter, clients: int, chance: random.Random) -> int:
    """Calls until each client has written one row once; a write fails if another came in between. In milliseconds."""
    backoff = exponential(10.0, factor=2.0, cap=2000.0)

    def hop() -> float:
        return abs(chance.normalvariate(10.0, 2.0))

    version = calls = 0
    waiting = [(hop(), client, None, 0) for client in range(clients)]  # arrivals at the server
    heapq.heapify(waiting)
    while waiting:
        now, client, read, failures = heapq.heappop(waiting)
        if read is None:  # a read arrives: it is answered, and the write comes back
            heapq.heappush(waiting, (now + hop() + hop(), client, version, failures))
            continue
        calls += 1
        if read == version:
            version += 1
            continue
        failures += 1
        pause = jitter.spread(backoff.delay(failures), 0.0, backoff, chance.random())
        heapq.heappush(waiting, (now + hop() + pause + hop(), client, None, failures))
    return calls


def mean(jitter: Jitter) -> float:
    return sum(contend(jitter, 50, random.Random(seed)) for seed in range(5)) / 5


assert mean(full()) < 0.7 * mean(none())
assert mean(full()) < mean(proportional(0.2))
# --8<-- [end:model]
assert mean(equal()) < 0.7 * mean(none())
