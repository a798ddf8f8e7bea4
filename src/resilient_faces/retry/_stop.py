"""Why a retry ends."""

from __future__ import annotations

from enum import Enum
from typing import final

__all__ = ["Stop"]


@final
class Stop(Enum):
    """Why no further attempt is made."""

    attempts = "all attempts are used"
    not_retryable = "this kind of fault is not retried"
    not_idempotent = "the call may have been carried out and is not said to be idempotent"
    deadline = "the wait would end after the deadline"
    strategy = "the stop strategy said so"
    off = "retries are switched off"
    shutdown = "the process is shutting down"
