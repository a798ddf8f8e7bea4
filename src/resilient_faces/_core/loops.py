"""Event loops: whether one runs in this thread, how another thread wakes one, and guards that would stop one."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from resilient_faces._core.outcome import name_of
from resilient_faces.errors import ResilienceWarning

__all__ = ["forget_warnings", "in_event_loop", "running_asyncio", "tell_if_blocking", "waker"]

_running_loop: Callable[[], object] | None = None  # asyncio's own, once somebody has loaded asyncio


def running_asyncio() -> bool:
    """Whether this thread is inside a running asyncio event loop; asyncio is not imported to find out."""
    global _running_loop  # noqa: PLW0603  # looked up once: the question is asked for every sleep
    if _running_loop is None:
        _running_loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)  # the one that never raises
        if _running_loop is None:
            return False
    return _running_loop() is not None


def in_event_loop() -> bool:
    """Whether this thread is inside a running event loop, asyncio's or trio's; neither is imported to find out."""
    if _running_loop is not None and _running_loop() is None and "trio" not in sys.modules:
        return False
    if running_asyncio():
        return True
    trio = sys.modules.get("trio")
    try:
        return trio is not None and trio.lowlevel.current_trio_token() is not None
    except RuntimeError:  # trio is loaded, and not running here
        return False


if TYPE_CHECKING:

    class Settable(Protocol):
        """An event of an event loop, such as anyio's."""

        def set(self) -> object: ...


def waker(ready: Settable) -> Callable[[], None]:
    """Sets an event of this event loop from any thread."""
    if running_asyncio():
        import asyncio

        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(ready.set)

        return wake
    # trio, which is loaded since it runs us. anyio has nothing to wake another thread's loop without waiting for it,
    # and two loops that wait for each other would never wake.
    token = sys.modules["trio"].lowlevel.current_trio_token()

    def wake_trio() -> None:
        token.run_sync_soon(ready.set)  # a RuntimeError if that loop has ended

    return wake_trio


# -- a sync guard that would block an event loop -------------------------------------------------------------------

_warned: set[str] = set()


def tell_if_blocking(function: Callable[..., object] | None) -> None:
    """Once for each function: its sync guard waits inside a running event loop, which stops every other task."""
    if function is None or not in_event_loop():
        return
    name = name_of(function)
    if name in _warned:
        return
    _warned.add(name)
    warnings.warn(
        f"RF100 the sync guard of {name!r} sleeps inside a running event loop and stops every other task meanwhile. "
        "Make the function `async def`, or call it through `asyncio.to_thread`.",
        ResilienceWarning,
        stacklevel=_outside(),
    )


def _outside() -> int:
    """The `stacklevel` of the nearest frame outside of this library, seen from `tell_if_blocking`."""
    frame, level = sys._getframe(2), 2  # noqa: SLF001  # the cheap way to the caller's frame
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("resilient_faces."):
        frame, level = frame.f_back, level + 1
    return level


def forget_warnings() -> None:
    """For tests: warn again."""
    _warned.clear()
