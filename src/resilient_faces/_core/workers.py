"""Worker threads for blocking code that must not hold up its caller for longer than a limit.

Python cannot stop a thread. One that is still busy when the limit passes is *abandoned*: its result is dropped, it is
counted until it ends, and it goes back to the pool then. The threads are daemons, so a stuck one does not keep the
process alive.
"""

from __future__ import annotations

import functools
import math
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar

from resilient_faces._core.context import LAST
from resilient_faces._core.runtime import on_fork

if TYPE_CHECKING:
    from anyio import CapacityLimiter
    from anyio.lowlevel import RunVar

__all__ = ["Abandoned", "LimitPassed", "run", "run_async"]

T = TypeVar("T")


class LimitPassed(Exception):
    """The work took longer than its limit; told apart from any `TimeoutError` of the work itself."""


class Abandoned:
    """Counts the threads that outlived their limit and still run."""

    __slots__ = ("__weakref__", "_lock", "count")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0
        on_fork(self)

    def after_fork(self) -> None:
        """A child inherits the number but not the threads."""
        self._lock = threading.Lock()
        self.count = 0

    def add(self, change: int) -> None:
        with self._lock:
            self.count += change


class _Job:
    __slots__ = ("abandoned", "done", "error", "gave_up", "lock", "result", "work")

    def __init__(self, work: Callable[[], object], abandoned: Abandoned | None) -> None:
        self.work: Callable[[], object] | None = work
        self.abandoned = abandoned
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.gave_up = False
        self.result: object = None
        self.error: BaseException | None = None


class _Worker:
    """One thread that takes a job at a time."""

    __slots__ = ("job", "ready")

    def __init__(self) -> None:
        self.ready = threading.Semaphore(0)
        self.job: _Job | None = None
        threading.Thread(target=self._loop, name="resilient_faces-worker", daemon=True).start()

    def give(self, job: _Job) -> None:
        self.job = job
        self.ready.release()

    def _loop(self) -> None:
        while True:
            self.ready.acquire()
            job = self.job
            self.job = None
            if job is None:
                return
            self._carry_out(job)
            del job
            if not _pool.put_back(self):
                return

    @staticmethod
    def _carry_out(job: _Job) -> None:
        work = job.work
        job.work = None  # what it refers to goes as soon as it is done
        try:
            if work is not None:
                job.result = work()
        except BaseException as error:  # handed to the caller, who decides
            job.error = error
        with job.lock:
            job.done.set()
            late = job.gave_up
        if late:
            job.result = job.error = None
            if job.abandoned is not None:
                job.abandoned.add(-1)


class _Pool:
    """Idle workers, newest first."""

    KEEP = 8

    def __init__(self) -> None:
        self._idle: deque[_Worker] = deque()
        on_fork(self)

    def take(self) -> _Worker:
        try:
            return self._idle.pop()
        except IndexError:
            return _Worker()

    def put_back(self, worker: _Worker) -> bool:
        if len(self._idle) >= self.KEEP:
            return False
        self._idle.append(worker)
        return True

    def after_fork(self) -> None:
        self._idle = deque()  # a child inherits the objects but not their threads


_pool = _Pool()


def run(work: Callable[[], T], limit: float | None, abandoned: Abandoned | None = None) -> T:
    """Do the work in a worker thread, in a copy of the caller's context. The last outcome comes back from there.

    Args:
        work: What to do.
        limit: Seconds to wait for it at most; None, or more than a thread can wait, waits for ever.
        abandoned: Counts the thread for as long as it outlives the limit.

    Raises:
        LimitPassed: The limit passed first.
    """
    context = copy_context()
    job = _Job(lambda: context.run(work), abandoned)
    _pool.take().give(job)
    try:
        finished = job.done.wait(None if limit is None else min(limit, threading.TIMEOUT_MAX))
    except BaseException:  # interrupted while waiting: nobody will fetch the result
        _give_up(job)
        raise
    if not finished and _give_up(job):
        raise LimitPassed
    if (last := context.get(LAST)) is not LAST.get():
        LAST.set(last)  # a degraded answer is known as such where it arrives
    error = job.error
    if error is not None:
        job.error = None
        try:
            raise error
        finally:
            del error, job  # else: error -> traceback -> this frame -> error
    result: T = job.result  # type: ignore[assignment]
    return result


def _give_up(job: _Job) -> bool:
    """Mark the job as abandoned; False if it was done in the last moment."""
    with job.lock:
        if job.done.is_set():
            return False
        job.gave_up = True
        if job.abandoned is not None:
            job.abandoned.add(1)
        return True


async def run_async(work: Callable[[], T], limit: float | None, *, apart: bool = False) -> T:
    """As `run`, without blocking the event loop.

    Args:
        work: What to do.
        limit: Seconds to wait for it at most.
        apart: Take none of the 40 threads that the loop lends to everybody, and wait for none: for work that the caller
            bounds, and that must not be held up when all of those are stuck in something slow.
    """
    import anyio

    with anyio.move_on_after(limit):
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=_unlimited() if apart else None)
    raise LimitPassed


@functools.cache
def _limiters() -> RunVar[CapacityLimiter]:
    """For each event loop the limiter that limits nothing."""
    from anyio.lowlevel import RunVar

    return RunVar("resilient_faces.apart")


def _unlimited() -> CapacityLimiter:
    import anyio

    found = _limiters().get(None)
    if found is None:
        found = anyio.CapacityLimiter(math.inf)
        _limiters().set(found)
    return found
