"""Batches whose answer says what was not done: only the rest is sent again, with a pause, for as long as it helps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeVar

from resilient_faces._core.context import remaining
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.adapters._aws_errors import AWS, AwsError
from resilient_faces.faults import Executed, Fault, Kind
from resilient_faces.retry import Backoff, exponential, full

T = TypeVar("T")

ROUNDS: Final = 8
"""Requests in a row that may get nothing done before the rest is reported."""
PAUSE: Final[Backoff] = exponential(0.05, factor=2.0, cap=5.0)


class UnfinishedBatchError(AwsError):
    """A part of a batch was left undone, again and again, or an error came in between. What was done stays done.

    Attributes:
        operation: Such as `dynamodb.BatchWriteItem`.
        left: The entries that were not done; after an error, the last of those that were sent may be done all the same.
        done: How many were.
        results: What was read, for an operation that reads.
        refused: Code of each entry that is wrong in itself, by its id; sending it again is no use.
    """

    fault: Fault = Fault(Kind.throttled, "aws.unfinished_batch", Executed.unknown)

    def __init__(
        self,
        operation: str,
        left: Sequence[object],
        done: int,
        results: Sequence[object] = (),
        refused: Mapping[str, str] = MappingProxyType({}),
        fault: Fault | None = None,
    ) -> None:
        super().__init__(operation, len(left), done)  # the entries themselves stay out of texts and logs
        if fault is not None:
            self.fault = fault  # that of the error in between
        self.operation = operation
        self.left = tuple(left)
        self.done = done
        self.results = tuple(results)
        self.refused = dict(refused)

    def __reduce__(self) -> tuple[type[UnfinishedBatchError], tuple[object, ...]]:
        return type(self), (self.operation, self.left, self.done, self.results, self.refused, self.fault)

    def __str__(self) -> str:
        undone = len(self.left) + len(self.refused)
        codes = f" ({', '.join(sorted(set(self.refused.values())))})" if self.refused else ""
        return f"{self.operation} left {undone} of {undone + self.done} entries undone{codes}"


class RefusedEntriesError(UnfinishedBatchError):
    """The service did all of a batch but for entries that are wrong in themselves."""

    fault: Fault = Fault(Kind.invalid, "aws.refused_entries", Executed.no)


class Left(list[T]):
    """Entries that were left undone, in their order.

    Attributes:
        error: What came in between, once a part was done; None if the service left them.
    """

    error: Exception | None = None

    @property
    def fault(self) -> Fault | None:
        """The fault of that error."""
        return None if self.error is None else AWS(self.error)


def send_all(
    entries: Iterable[T],
    send: Callable[[list[T]], Sequence[T]],
    *,
    most: int,
    weigh: Callable[[T], int] = lambda _: 0,
    heaviest: int = 0,
    apart: Callable[[T], object] = lambda _: None,
) -> Left[T]:
    """Send entries in batches, and what the answers leave undone again, until nothing is left or nothing helps.

    Every answer that leaves something is followed by a pause with full jitter, which grows while no progress is made.
    No pause begins that would end after the deadline in force, or in a process that shuts down.

    Args:
        entries: What to send.
        send: Sends one batch and returns what was not done.
        most: Entries of a batch at most.
        weigh: Weight of an entry.
        heaviest: Weight of a batch at most, unless one entry alone is heavier.
        apart: Entries for which this is the same, and not None, come in batches of their own, one after the other.

    Returns:
        What is left undone. An error that comes before anything was done is raised as it is.
    """
    waiting = deque(entries)
    total = len(waiting)
    in_vain = 0
    previous = 0.0
    while waiting:
        batch = [waiting.popleft()]
        weight = weigh(batch[0])
        there = {apart(batch[0])} - {None}
        while waiting and len(batch) < most and (weight := weight + weigh(waiting[0])) <= heaviest:
            if (key := apart(waiting[0])) is not None:
                if key in there:
                    break
                there.add(key)
            batch.append(waiting.popleft())
        try:
            left = send(batch)
        except Exception as error:
            if len(batch) + len(waiting) == total:
                raise
            rest = Left([*batch, *waiting])
            rest.error = error
            return rest
        if not left:
            in_vain = 0
            continue
        waiting.extendleft(reversed(left))
        in_vain = in_vain + 1 if len(left) >= len(batch) else 0
        if in_vain >= ROUNDS:
            break
        previous = full().spread(PAUSE.delay(in_vain + 1), previous, PAUSE, RUNTIME.random())
        time_left = remaining()
        if RUNTIME.stopped or (time_left is not None and previous >= time_left):
            break
        RUNTIME.sleep(previous)
    return Left(waiting)
