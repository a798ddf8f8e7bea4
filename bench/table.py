"""Every row that is measured, with its limits. `must` is the limit that the command's exit code stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Unit = Literal["x", "+x", "bytes", "objects", "us", "ms"]

WRAPPER: Final = "do-nothing wrapper"
ASYNC_WRAPPER: Final = "do-nothing async wrapper"
RAISE: Final = "bare raise + catch"
ASYNC_RAISE: Final = "bare async raise + catch"
DECORATING: Final = "decorating with the do-nothing wrapper"  # 8 and 20 us where that takes 1.1
LOOP: Final = "minimal loop"
ASYNC_LOOP: Final = "minimal async loop"


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario.

    Attributes:
        key: Its name on the command line and in the JSON file.
        group: The table that it is printed in.
        title: What is done.
        baseline: What a ratio refers to; empty for absolute figures.
        ambitious: The aim.
        must: The limit.
        unit: `x`: ratio to the baseline. `+x`: what something adds, in baselines. Others: absolute.
        aims: The largest ratio of ours to a peer's figure that is aimed at, by the peer's name.
    """

    key: str
    group: str
    title: str
    baseline: str
    ambitious: float
    must: float
    unit: Unit = "x"
    aims: Mapping[str, float] = field(default_factory=dict)


_TENACITY_CB: Final = "tenacity + circuitbreaker"
_OPNIEUW_CB: Final = "opnieuw + circuitbreaker"
_CB: Final = "circuitbreaker"

_SUCCESS: Final = (
    Row(
        "retry-sync",
        "success",
        "retry",
        WRAPPER,
        1.10,
        1.3,
        aims={"resilient-circuit": 1.0, "opnieuw": 0.14, "tenacity": 1 / 90},
    ),
    Row(
        "retry-async",
        "success",
        "retry, async",
        ASYNC_WRAPPER,
        1.10,
        1.3,
        aims={"resilient-circuit": 1.0, "pyfailsafe": 0.36, "tenacity": 1 / 90},
    ),
    Row(
        "breaker-consecutive-sync",
        "success",
        "breaker, consecutive failures",
        WRAPPER,
        1.3,
        1.6,
        aims={_CB: 0.25, "pybreaker": 0.10},
    ),
    Row("breaker-count-sync", "success", "breaker, count window", WRAPPER, 1.45, 1.8, aims={_CB: 0.28}),
    Row("breaker-time-sync", "success", "breaker, time window", WRAPPER, 1.8, 2.5, aims={_CB: 0.35}),
    Row("breaker-slow-sync", "success", "breaker, slow calls", WRAPPER, 2.2, 2.8, aims={_CB: 0.42}),
    Row(
        "breaker-consecutive-async",
        "success",
        "breaker, consecutive failures, async",
        ASYNC_WRAPPER,
        1.2,
        1.4,
        aims={_CB: 0.33, "hyx": 0.30},
    ),
    Row("breaker-count-async", "success", "breaker, count window, async", ASYNC_WRAPPER, 1.3, 1.5, aims={_CB: 0.33}),
    # Clocks cost the same ns in both colours; the async wrapper that they are divided by costs 1.9 sync ones.
    Row("breaker-time-async", "success", "breaker, time window, async", ASYNC_WRAPPER, 1.45, 1.8),
    Row("breaker-slow-async", "success", "breaker, slow calls, async", ASYNC_WRAPPER, 1.65, 2.0),
)

_STACK: Final = (
    Row(
        "stack-sync",
        "stack",
        "guard(fallback, retry, breaker)",
        WRAPPER,
        1.35,
        1.7,
        aims={_OPNIEUW_CB: 0.09, _TENACITY_CB: 1 / 80},
    ),
    Row("stack-decorators-sync", "stack", "the same as three decorators", WRAPPER, 1.35, 1.7),
    Row(
        "stack-async",
        "stack",
        "guard(fallback, retry, breaker), async",
        ASYNC_WRAPPER,
        1.25,
        1.5,
        aims={"pyfailsafe": 0.28, "hyx": 0.11, _TENACITY_CB: 1 / 90},
    ),
    Row(
        "stack-timeout-async",
        "stack",
        "... with a timeout inside, async",
        "async closure + asyncio.timeout",
        1.05,
        1.3,
        aims={"pyfailsafe": 0.70, "hyx": 0.25, _TENACITY_CB: 0.11},
    ),
    Row("two-circuits-sync", "stack", "two circuits", WRAPPER, 2.2, 2.6),
    Row("two-circuits-async", "stack", "two circuits, async", ASYNC_WRAPPER, 2.2, 2.6),
    Row("limiter-sync", "stack", "stack with a paced limiter", WRAPPER, 4.7, 5.5),
    Row("limiter-async", "stack", "stack with a paced limiter, async", ASYNC_WRAPPER, 4.7, 5.5),
    Row("bulkhead-sync", "stack", "added by a bulkhead", WRAPPER, 1.0, 1.3, "+x"),
    Row("bulkhead-async", "stack", "added by a bulkhead, async", ASYNC_WRAPPER, 1.0, 1.3, "+x"),
    # 50 and 100 ns where a wrapper costs 113 and an async one 211.
    Row("listener-sync", "stack", "added by a listener", WRAPPER, 0.44, 0.88, "+x"),
    Row("listener-async", "stack", "added by a listener, async", ASYNC_WRAPPER, 0.24, 0.47, "+x"),
)

_FAILURE: Final = (
    Row(
        "two-failures-sync",
        "failure",
        "retry, two failures, built-in backoff",
        LOOP,
        2.0,
        3.0,
        aims={"opnieuw": 0.4, "retry2": 0.4, "tenacity": 1 / 19},
    ),
    Row(
        "two-failures-async",
        "failure",
        "retry, two failures, built-in backoff, async",
        ASYNC_LOOP,
        2.0,
        3.0,
        aims={"tenacity": 1 / 19},
    ),
    Row(
        "two-tenacity-sync",
        "failure",
        "retry, two failures, tenacity's strategies",
        LOOP,
        3.0,
        4.5,
        aims={"opnieuw": 0.6, "tenacity": 1 / 13},
    ),
    Row(
        "two-tenacity-async",
        "failure",
        "retry, two failures, tenacity's strategies, async",
        ASYNC_LOOP,
        3.0,
        4.5,
        aims={"tenacity": 1 / 20},
    ),
    Row(
        "zero-delay",
        "failure",
        "two failures, no delay, the real time.sleep",
        "the same with a sleep that does nothing",
        1.05,
        1.1,
        aims={"backoff": 1 / 60, "tenacity": 1 / 70},
    ),
    Row("not-retryable-sync", "failure", "retry, not retryable", RAISE, 4.0, 6.0, aims={"tenacity": 1 / 14}),
    Row(
        "not-retryable-async",
        "failure",
        "retry, not retryable, async",
        ASYNC_RAISE,
        4.0,
        6.0,
        aims={"tenacity": 1 / 14},
    ),
    Row("two-stack-sync", "failure", "stack, two failures", LOOP, 4.5, 5.5),
    Row("two-stack-async", "failure", "stack, two failures, async", ASYNC_LOOP, 4.0, 5.0),
    Row("not-retryable-stack-sync", "failure", "stack, not retryable", RAISE, 6.5, 7.5),
    Row("not-retryable-stack-async", "failure", "stack, not retryable, async", ASYNC_RAISE, 6.5, 7.5),
)

_OPEN: Final = (
    Row("open-sync", "open", "breaker, open", RAISE, 1.8, 2.3, aims={_CB: 0.65, "pybreaker": 0.18}),
    Row("open-async", "open", "breaker, open, async", ASYNC_RAISE, 1.8, 2.3, aims={_CB: 0.65}),
    Row("open-retry-sync", "open", "guard(retry, breaker), open", RAISE, 1.8, 2.3),
    Row("open-retry-async", "open", "guard(retry, breaker), open, async", ASYNC_RAISE, 1.8, 2.3),
    Row("open-answered-sync", "open", "stack, open, the fallback answers", RAISE, 4.5, 5.5),
    Row("open-answered-async", "open", "stack, open, the fallback answers, async", ASYNC_RAISE, 4.5, 5.5),
)

_MANY: Final = (
    Row("threads", "many", "8 threads, one breaker", WRAPPER, 1.25, 1.6, aims={_CB: 0.28, "pybreaker": 0.12}),
    Row(
        "threads-io",
        "many",
        "8 threads, one breaker, 1 ms of blocking I/O",
        "bare function",
        1.03,
        1.1,
        aims={"pybreaker": 1 / 8},
    ),
    Row(
        "tasks",
        "many",
        "10,000 tasks, retry + breaker",
        ASYNC_WRAPPER,
        1.05,
        1.15,
        aims={"pyfailsafe": 0.87, "hyx": 0.65, _TENACITY_CB: 0.16},
    ),
    Row("tasks-bytes", "many", "... bytes a task in flight, over the wrapper's", "", 100, 250, "bytes", aims={}),
)

_WRAPPING: Final = (
    Row("method", "wrapping", "stack on a method", "wrapper on a method", 1.4, 1.8, aims={"do-nothing wrapt": 0.3}),
    Row(
        "classmethod",
        "wrapping",
        "stack below @classmethod",
        "wrapper below @classmethod",
        1.4,
        1.8,
        aims={"do-nothing wrapt": 0.3},
    ),
    Row("wrapt-classmethod", "wrapping", "stack on a classmethod object", "do-nothing wrapt", 1.15, 1.4),
    Row("wrapt-staticmethod", "wrapping", "stack on a staticmethod object", "do-nothing wrapt", 1.15, 1.4),
    Row("wrapt-object", "wrapping", "stack on a callable object", "do-nothing wrapt", 1.15, 1.4),
    Row("wrapt-partial", "wrapping", "stack on a partial", "do-nothing wrapt", 1.15, 1.4),
    Row("wrapt-builtin", "wrapping", "stack on a builtin", "do-nothing wrapt", 1.15, 1.4),
)

_MEMORY: Final = (
    Row(
        "memory-stack",
        "memory",
        "full stack, its own breaker",
        "",
        950,
        1400,
        "bytes",
        aims={"pyfailsafe": 0.6, "hyx": 0.45, _TENACITY_CB: 0.26},
    ),
    Row("memory-stack-objects", "memory", "full stack, its own breaker", "", 10, 16, "objects"),
    Row("memory-shared", "memory", "one more function on a shared guard", "", 700, 900, "bytes"),
    Row("memory-shared-objects", "memory", "one more function on a shared guard", "", 7, 9, "objects"),
    Row("memory-left", "memory", "left after the function is dropped", "", 0, 0, "bytes"),
    Row("memory-left-objects", "memory", "left after the function is dropped", "", 0, 0, "objects"),
    Row("decorate", "memory", "decorate: full stack, policies and breaker made anew", DECORATING, 7.3, 18),
    Row("decorate-shared", "memory", "decorate: one more function on a shared guard", DECORATING, 7.3, 18),
)

PATHS: Final = ("success", "retry", "exhausted", "not-retryable", "open", "fallback")


def _garbage() -> tuple[Row, ...]:
    rows: list[Row] = []
    for path in PATHS:
        for colour in ("sync", "async"):
            title = path.replace("-", " ") + (", async" if colour == "async" else "")
            rows.append(
                Row(f"garbage-{path}-{colour}", "garbage", f"cyclic garbage a call: {title}", "", 0, 0, "objects")
            )
            rows.append(Row(f"held-{path}-{colour}", "garbage", f"held after a call: {title}", "", 0, 0, "bytes"))
    return tuple(rows)


_IMPORTS: Final = (
    Row("import-cold", "import", "cold, nothing decorated yet", "", 20, 35, "ms"),
    Row("import-cold-tenacity", "import", "cold, beside tenacity's", "import tenacity, cold", 1.0, 1.3),
    Row("import-warm", "import", "own code, asyncio loaded already", "", 4, 7, "ms"),
    Row("import-in-use", "import", "asyncio loaded already, tenacity in use", "", 12, 20, "ms"),
)

TABLE: Final[tuple[Row, ...]] = (
    _SUCCESS + _STACK + _FAILURE + _OPEN + _MANY + _WRAPPING + _MEMORY + _garbage() + _IMPORTS
)

GROUPS: Final[Mapping[str, str]] = {
    "success": "One policy, the call succeeds",
    "stack": "The stack and its joints, the call succeeds",
    "failure": "The call fails",
    "open": "The circuit is open",
    "many": "Threads and tasks",
    "wrapping": "Methods, and what a closure cannot wrap",
    "memory": "Memory and time of a decorated function",
    "garbage": "What a call leaves behind",
    "import": "Import",
}
