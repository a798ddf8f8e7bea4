"""Sleeps that take no time, so that rows show the cost of deciding, not the pause that was decided on.

`install()` runs before any peer is imported: several of them bind `time.sleep` when they are imported.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

REAL_SLEEP: Final = time.sleep


def no_sleep(_seconds: float, _function: Any = None) -> None:
    """Stand in for `time.sleep`."""


async def no_async_sleep(_seconds: float, result: Any = None) -> Any:
    """Stand in for `asyncio.sleep`."""
    return result


def install() -> None:
    """Replace both sleeps in this process, for good."""
    setattr(time, "sleep", no_sleep)  # noqa: B010
    setattr(asyncio, "sleep", no_async_sleep)  # noqa: B010
