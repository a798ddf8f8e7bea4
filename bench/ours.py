"""Ours, as the README shows it: public decorators, a breaker of its own for each function."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final

from bench.peers import FOREVER, LIMIT, Maker, Makers, nested
from bench.quiet import no_async_sleep, no_sleep
from bench.workloads import ATTEMPTS, FALLBACK, THRESHOLD, Decorator, Down

_numbers = itertools.count()


class _Names:
    """The public names, imported when first needed and once: an import statement in each function would be timed."""

    def __getattr__(self, name: str) -> Any:
        import resilient_faces
        from resilient_faces import breaker

        found = getattr(resilient_faces, name, None) or getattr(breaker, name)
        setattr(self, name, found)
        return found


_ours: Final[Any] = _Names()

_TRIPS: Final = ("consecutive", "count", "time", "slow")


def quiet() -> None:
    """Make our sleeps take no time in this process, as the peers' do."""
    from resilient_faces._core.runtime import RUNTIME

    RUNTIME.sleep = no_sleep
    RUNTIME.asleep = no_async_sleep


def retries(**options: Any) -> Any:
    """The retry with its built-in backoff and jitter."""
    return _ours.retry(attempts=ATTEMPTS, **options)


def retries_by_tenacity() -> Any:
    """The retry with tenacity's own strategies."""
    import tenacity

    from resilient_faces import retry

    options: dict[str, Any] = {
        "stop": tenacity.stop_after_attempt(ATTEMPTS),
        "backoff": tenacity.wait_none(),
        "on": tenacity.retry_if_exception_type(Down),
    }
    return retry(**options)


_RULES: Final[Mapping[str, Callable[[], Any]]] = {
    "consecutive": lambda: _ours.consecutive(THRESHOLD),
    "count": lambda: _ours.failure_rate(0.5, calls=100, minimum=THRESHOLD),
    "time": lambda: _ours.failure_rate(0.5, seconds=60.0, minimum=THRESHOLD),
    "slow": lambda: (
        _ours.consecutive(THRESHOLD),
        _ours.slow_rate(0.5, slower_than=10.0, calls=100, minimum=THRESHOLD),
    ),
}


def breaks(trip: str = "consecutive") -> Any:
    """A breaker that nobody else shares, with one of the trip rules."""
    return _ours.Breaker(
        name=f"bench-{next(_numbers)}",
        trips=_RULES[trip](),
        recovery_timeout=float(FOREVER),
        max_recovery_timeout=float(FOREVER),
    )


def falls() -> Any:
    """A fallback to a fixed value."""
    return _ours.fallback(value=FALLBACK)


def stack() -> Any:
    """Fallback, retry and breaker as one guard."""
    return _ours.guard(falls(), retries(), breaks())


def stack_with(*inner: Any) -> Any:
    """The stack with something inside of it."""
    return _ours.guard(falls(), retries(), breaks(), *inner)


def _slots() -> Any:
    from resilient_faces import bulkhead

    return bulkhead(100)


def _limiter() -> Any:
    from resilient_faces import rate_limit

    return rate_limit(1e9, name=f"bench-{next(_numbers)}")


def _time_limit() -> Any:
    from resilient_faces import timeout

    return timeout(LIMIT)


def makers() -> Makers:
    """A decorator for each feature; sync and async are the same objects."""
    from resilient_faces import guard

    plain: dict[str, Maker] = {
        "retry": retries,
        "retry-tenacity": retries_by_tenacity,
        "retry-zero": _zero,
        "breaker": breaks,
        "stack": stack,
        "stack-decorators": lambda: nested(falls(), retries(), breaks()),
        "stack-timeout": lambda: stack_with(_time_limit()),
        "stack-bulkhead": lambda: stack_with(_slots()),
        "stack-limiter": lambda: stack_with(_limiter()),
        "stack-two": lambda: guard(falls(), retries(), breaks(), breaks()),
        "retry+breaker": lambda: guard(retries(), breaks()),
        **{f"breaker-{trip}": functools.partial(breaks, trip) for trip in _TRIPS},
    }
    return {**plain, **{f"{feature}-async": maker for feature, maker in plain.items()}}


def _zero() -> Decorator:
    from resilient_faces.retry import fixed

    decorator: Decorator = retries(backoff=fixed(0.0))
    return decorator


def listen() -> Any:
    """Attach a listener that does nothing; the answer takes it away."""
    from resilient_faces import listen as attach

    return attach(lambda _event: None)


def available() -> Mapping[str, str]:
    """Which package is measured: its version and whether it imports.

    Raises:
        ImportError: `resilient_faces` is not installed.
    """
    import resilient_faces

    return {"resilient-faces": getattr(resilient_faces, "__version__", "source")}
