"""For writers of policies: the requests a flow may make, the types of flows and policies, what outcomes look like.

A policy is frozen options plus `flow(inner, call)`, a generator. It works in threads, asyncio and trio alike, because
it only asks: `outcome = yield from inner(call)` for an attempt, `yield from sleep(0.4)`,
`yield from call_other(function)`, `yield from ask(store.load, key)`, `yield from tell(event)`. Unless it declares
`quiet = True` it is part of every call.
"""

from resilient_faces._core.context import event
from resilient_faces._core.drivers import run_async, run_sync
from resilient_faces._core.effects import (
    ATTEMPT,
    Ask,
    Attempt,
    CallOther,
    Flow,
    Inner,
    Policy,
    Request,
    Sleep,
    Tell,
    Unanswered,
    ask,
    attempt,
    call_other,
    sleep,
    tell,
    unwrap,
)
from resilient_faces._core.outcome import Call, Degraded, Outcome, Raised, Returned, Verdict
from resilient_faces.composing import Decorator

__all__ = [
    "ATTEMPT",
    "Ask",
    "Attempt",
    "Call",
    "CallOther",
    "Decorator",
    "Degraded",
    "Flow",
    "Inner",
    "Outcome",
    "Policy",
    "Raised",
    "Request",
    "Returned",
    "Sleep",
    "Tell",
    "Unanswered",
    "Verdict",
    "ask",
    "attempt",
    "call_other",
    "event",
    "run_async",
    "run_sync",
    "sleep",
    "tell",
    "unwrap",
]
