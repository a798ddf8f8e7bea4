"""How often each step of identity verification is retried, and what comes after the last attempt: one table, as values.

The delays are the document's own numbers, so there is no jitter on them. Where thousands of clients fail together,
give `jitter=full()` to a copy: `replace(STORE.retry, jitter=full())`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from resilient_faces.retry import Retry, exponential, fixed, none

__all__ = ["AUDIT", "COMPARE", "PRESETS", "STORE", "UPLOAD", "Preset"]

Afterwards: TypeAlias = Literal["surface", "dead_letter", "audit", "secondary_queue", "alarm"]


@dataclass(frozen=True, slots=True)
class Preset:
    """One row of the table.

    Attributes:
        retry: How the step is retried.
        then: What happens once all attempts have failed, in this order: the user hears of it (`surface`), the item goes
            to a dead-letter queue, an audit entry with status ERROR is written, the record goes to a secondary queue,
            an alarm is emitted.
    """

    retry: Retry
    then: tuple[Afterwards, ...]


UPLOAD: Final = Preset(Retry(attempts=3, backoff=fixed(1.0), jitter=none()), ("surface",))
STORE: Final = Preset(Retry(attempts=3, backoff=exponential(0.1, factor=4.0), jitter=none()), ("dead_letter",))
COMPARE: Final = Preset(
    Retry(attempts=4, backoff=exponential(0.1, factor=5.0, cap=1.0), jitter=none()), ("audit", "surface")
)
AUDIT: Final = Preset(Retry(attempts=3, backoff=exponential(0.1), jitter=none()), ("secondary_queue", "alarm"))

PRESETS: Final = {"upload": UPLOAD, "store": STORE, "compare": COMPARE, "audit": AUDIT}
