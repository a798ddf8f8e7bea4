"""The peers, each in its most favourable setting: no wait, no log hooks, one breaker a function.

Every peer retries `Down` up to three calls in all, opens its circuit after about five failures and for an hour.
A maker gives a decorator with a state of its own. Peers are optional: `makers` raises ImportError for an absent one.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from bench.workloads import (
    ATTEMPTS,
    FALLBACK,
    THRESHOLD,
    Decorator,
    Down,
    Function,
    Refused,
    hand_fallback,
    hand_fallback_async,
    hand_timeout,
    wrapt_wrapper,
)

Maker = Callable[[], Decorator]
Makers = Mapping[str, Maker]

FOREVER: Final = 3600
LIMIT: Final = 30.0
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer or one customary pair.

    Attributes:
        name: What tables call it.
        distributions: Its packages, whose versions are noted.
        makers: Imports it and gives a decorator for each feature that it has.
        patience: Seconds for which its circuit may need failing calls before it opens: it counts time, not calls.
    """

    name: str
    distributions: tuple[str, ...]
    makers: Callable[[], Makers]
    patience: float = 0.0


def _fresh(prefix: str = "circuit") -> str:
    return f"{prefix}-{next(_numbers)}"


def _is_down(error: BaseException) -> bool:
    return isinstance(error, Down)


def nested(*decorators: Decorator) -> Decorator:
    """Apply decorators, the first named outermost."""

    def decorate(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _pair(retry: Maker, breaker: Maker, retry_async: Maker | None, breaker_async: Maker | None) -> Makers:
    """The stack that users build from a retry package and a breaker package, fallback and timeout by hand."""
    makers: dict[str, Maker] = {
        "stack": lambda: nested(hand_fallback, retry(), breaker()),
        "retry+breaker": lambda: nested(retry(), breaker()),
    }
    if retry_async is not None and breaker_async is not None:
        makers |= {
            "stack-async": lambda: nested(hand_fallback_async, retry_async(), breaker_async()),
            "retry+breaker-async": lambda: nested(retry_async(), breaker_async()),
            "stack-timeout-async": lambda: nested(
                hand_fallback_async, retry_async(), breaker_async(), hand_timeout(LIMIT)
            ),
        }
    return makers


def _both(maker: Maker, feature: str) -> Makers:
    return {feature: maker, f"{feature}-async": maker}


def _tenacity_retry() -> Any:
    import tenacity

    return tenacity.retry(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_none(),
        retry=tenacity.retry_if_exception_type(Down),
        reraise=True,
    )


def _stamina_retry() -> Any:
    import stamina
    import stamina.instrumentation

    stamina.instrumentation.set_on_retry_hooks([])
    return stamina.retry(on=Down, attempts=ATTEMPTS, timeout=None, wait_initial=0, wait_max=0, wait_jitter=0)


def _backoff_retry() -> Any:
    import backoff

    return backoff.on_exception(backoff.constant, Down, max_tries=ATTEMPTS, interval=0, jitter=None, logger=None)


def _opnieuw_retry() -> Any:
    import opnieuw

    return opnieuw.retry(
        retry_on_exceptions=Down, max_calls_total=ATTEMPTS, retry_window_after_first_call_in_seconds=60
    )


def _circuitbreaker() -> Any:
    import circuitbreaker

    return circuitbreaker.circuit(
        failure_threshold=THRESHOLD, recovery_timeout=FOREVER, expected_exception=Down, name=_fresh()
    )


def _pybreaker() -> Any:
    import pybreaker

    return pybreaker.CircuitBreaker(fail_max=THRESHOLD, reset_timeout=FOREVER, exclude=[Refused])


def _wrapt() -> Makers:
    import wrapt  # noqa: F401  absent means absent

    return dict.fromkeys(("retry", "retry-async", "breaker", "breaker-async"), lambda: wrapt_wrapper)


def _tenacity() -> Makers:
    import tenacity  # noqa: F401

    return _both(_tenacity_retry, "retry")


def _stamina() -> Makers:
    import stamina  # noqa: F401

    return _both(_stamina_retry, "retry")


def _backoff() -> Makers:
    import backoff  # noqa: F401

    return _both(_backoff_retry, "retry")


def _opnieuw() -> Makers:
    import opnieuw  # noqa: F401

    return _both(_opnieuw_retry, "retry")


def _riprova() -> Makers:
    import riprova

    def retry() -> Any:
        return riprova.retry(
            backoff=riprova.ConstantBackoff(interval=0, retries=ATTEMPTS - 1), error_evaluator=_is_down
        )

    return {"retry": retry}


def _retrying() -> Makers:
    import retrying

    def retry() -> Any:
        return retrying.retry(stop_max_attempt_number=ATTEMPTS, wait_fixed=0, retry_on_exception=_is_down)

    return {"retry": retry}


def _retry2() -> Makers:
    import retry.api

    return {"retry": lambda: retry.api.retry(Down, tries=ATTEMPTS, delay=0, logger=None)}


def _pybreaker_only() -> Makers:
    import pybreaker  # noqa: F401

    return {"breaker": _pybreaker}


def _circuitbreaker_only() -> Makers:
    import circuitbreaker  # noqa: F401

    return _both(_circuitbreaker, "breaker")


def _aiobreaker() -> Makers:
    import aiobreaker

    def breaker() -> Any:
        return aiobreaker.CircuitBreaker(
            fail_max=THRESHOLD, timeout_duration=dt.timedelta(seconds=FOREVER), exclude=[Refused]
        )

    return _both(breaker, "breaker")


def _purgatory() -> Makers:
    import purgatory

    return {
        "breaker": lambda: purgatory.SyncCircuitBreakerFactory(default_threshold=THRESHOLD, default_ttl=FOREVER)("db"),
        "breaker-async": lambda: purgatory.AsyncCircuitBreakerFactory(default_threshold=THRESHOLD, default_ttl=FOREVER)(
            "db"
        ),
    }


def _resilient_circuit() -> Makers:
    from resilient_circuit import CircuitProtectorPolicy, RetryWithBackoffPolicy, SafetyNet
    from resilient_circuit.storage import InMemoryStorage

    def retry() -> Any:
        return RetryWithBackoffPolicy(max_retries=ATTEMPTS - 1, should_handle=_is_down)

    def breaker() -> Any:
        return CircuitProtectorPolicy(
            resource_key=_fresh(),
            storage=InMemoryStorage(),
            cooldown=dt.timedelta(seconds=FOREVER),
            failure_limit=Fraction(THRESHOLD - 1, THRESHOLD),
            should_handle=_is_down,
        )

    return {
        "retry": retry,
        "retry-async": retry,
        "breaker": breaker,
        "breaker-async": breaker,
        "stack": lambda: nested(hand_fallback, SafetyNet(policies=(retry(), breaker()))),
        "retry+breaker": lambda: SafetyNet(policies=(retry(), breaker())),
    }


def _hyx() -> Makers:
    from hyx.circuitbreaker import consecutive_breaker
    from hyx.fallback import fallback
    from hyx.retry import retry
    from hyx.timeout import timeout

    async def answer(result: Any, *args: Any, **kwargs: Any) -> str:
        return FALLBACK

    def a_retry() -> Any:
        return retry(on=Down, attempts=ATTEMPTS - 1, backoff=0)  # its attempts do not count the first call

    def a_breaker() -> Any:
        return consecutive_breaker(exceptions=Down, failure_threshold=THRESHOLD, recovery_time_secs=FOREVER)

    return {
        "retry-async": a_retry,
        "breaker-async": a_breaker,
        "stack-async": lambda: nested(fallback(answer), a_retry(), a_breaker()),
        "retry+breaker-async": lambda: nested(a_retry(), a_breaker()),
        "stack-timeout-async": lambda: nested(fallback(answer), a_retry(), a_breaker(), timeout(LIMIT)),
    }


def _pyfailsafe() -> Makers:
    from failsafe import CircuitBreaker, Failsafe, RetryPolicy

    def runner(*, retries: bool, breaks: bool) -> Any:
        net = Failsafe(
            retry_policy=RetryPolicy(
                allowed_retries=ATTEMPTS - 1 if retries else 0,
                retriable_exceptions=[Down],
                abortable_exceptions=[Refused],
            ),
            circuit_breaker=CircuitBreaker(maximum_failures=THRESHOLD, reset_timeout_seconds=FOREVER)
            if breaks
            else None,
        )
        # It has no decorator; a partial of `run` is its cheapest form.
        return lambda function: functools.partial(net.run, function)

    def inside_timeout() -> Any:
        return nested(hand_fallback_async, runner(retries=True, breaks=True), hand_timeout(LIMIT))

    return {
        "retry-async": lambda: runner(retries=True, breaks=False),
        "breaker-async": lambda: runner(retries=False, breaks=True),
        "stack-async": lambda: nested(hand_fallback_async, runner(retries=True, breaks=True)),
        "retry+breaker-async": lambda: runner(retries=True, breaks=True),
        "stack-timeout-async": inside_timeout,
    }


def _aioresilience() -> Makers:
    import aioresilience
    from aioresilience.config import CircuitConfig, RetryConfig
    from aioresilience.retry import RetryStrategy

    def a_retry() -> Any:
        return aioresilience.with_retry(
            aioresilience.RetryPolicy(
                RetryConfig(
                    max_attempts=ATTEMPTS,
                    initial_delay=0.001,  # zero is refused; the sleep itself takes no time here
                    strategy=RetryStrategy.CONSTANT,
                    jitter=0.0,
                    retry_on_exceptions=(Down,),
                )
            )
        )

    def a_breaker() -> Any:
        config = CircuitConfig(failure_threshold=THRESHOLD, recovery_timeout=float(FOREVER), failure_exceptions=(Down,))
        return aioresilience.with_circuit_breaker(aioresilience.CircuitBreaker(name=_fresh(), config=config))

    def stack() -> Any:
        return nested(aioresilience.fallback(FALLBACK), a_retry(), a_breaker())

    return {
        "retry-async": a_retry,
        "breaker-async": a_breaker,
        "stack-async": stack,
        "retry+breaker-async": lambda: nested(a_retry(), a_breaker()),
        "stack-timeout-async": lambda: nested(stack(), aioresilience.timeout(LIMIT)),
    }


def _aiomisc() -> Makers:
    import aiomisc
    from aiomisc.circuit_breaker import cutout

    def a_retry() -> Any:
        return aiomisc.asyncretry(ATTEMPTS, exceptions=(Down,))

    def a_breaker() -> Any:
        return cutout(0.5, 1, Down, broken_time=FOREVER)

    return {
        "retry-async": a_retry,
        "breaker-async": a_breaker,
        "stack-async": lambda: nested(hand_fallback_async, a_retry(), a_breaker()),
        "retry+breaker-async": lambda: nested(a_retry(), a_breaker()),
        "stack-timeout-async": lambda: nested(hand_fallback_async, a_retry(), a_breaker(), aiomisc.timeout(LIMIT)),
    }


def _pyresilience() -> Makers:
    from pyresilience import (
        BulkheadConfig,
        CircuitBreakerConfig,
        FallbackConfig,
        RateLimiterConfig,
        RetryConfig,
        TimeoutConfig,
        resilient,
    )

    def retries() -> Any:
        return RetryConfig(max_attempts=ATTEMPTS, delay=0, jitter=False, retry_on=(Down,))

    def breaks(**options: Any) -> Any:
        return CircuitBreakerConfig(
            failure_threshold=THRESHOLD, recovery_timeout=FOREVER, error_types=(Down,), **options
        )

    def falls() -> Any:
        return FallbackConfig(handler=FALLBACK, fallback_on=(Exception,))

    def stack(**more: Any) -> Any:
        return resilient(retry=retries(), circuit_breaker=breaks(), fallback=falls(), **more)

    def window() -> Any:
        return resilient(circuit_breaker=breaks(sliding_window_size=100, minimum_calls=THRESHOLD))

    def slow() -> Any:
        return resilient(circuit_breaker=breaks(slow_call_duration=10.0))

    return {
        **_both(lambda: resilient(retry=retries()), "retry"),
        **_both(lambda: resilient(circuit_breaker=breaks()), "breaker"),
        **_both(window, "breaker-count"),
        **_both(slow, "breaker-slow"),
        **_both(stack, "stack"),
        **_both(lambda: resilient(retry=retries(), circuit_breaker=breaks()), "retry+breaker"),
        **_both(lambda: stack(bulkhead=BulkheadConfig(max_concurrent=100)), "stack-bulkhead"),
        **_both(lambda: stack(rate_limiter=RateLimiterConfig(max_calls=10**9, period=1.0)), "stack-limiter"),
        "stack-timeout-async": lambda: stack(timeout=TimeoutConfig(seconds=LIMIT)),
    }


def _interlock() -> Makers:
    from interlock import CircuitBreaker, Config
    from interlock.pipeline import Pipeline
    from interlock.window import WindowType

    def breaker(**options: Any) -> Any:
        config = Config(
            failure_rate_threshold=0.5,
            minimum_number_of_calls=THRESHOLD,
            wait_duration_in_open=float(FOREVER),
            **options,
        )
        return CircuitBreaker(name=_fresh(), config=config, classifier=OnlyDown())

    makers: dict[str, Maker] = {
        **_both(breaker, "breaker"),
        **_both(breaker, "breaker-count"),
        **_both(lambda: breaker(window_type=WindowType.TIME_BASED, window_size=60), "breaker-time"),
        **_both(lambda: breaker(slow_call_duration_threshold=10.0, slow_call_rate_threshold=0.5), "breaker-slow"),
    }
    try:
        import tenacity
    except ImportError:
        return makers

    def retries(builder: Any) -> Any:
        return builder.retry(attempts=ATTEMPTS, retry=tenacity.retry_if_exception_type(Down), wait=tenacity.wait_none())

    def stack(*, limit: float = 0.0, slots: int = 0) -> Any:
        builder = retries(Pipeline.builder().fallback(lambda _error: FALLBACK))
        builder = builder.circuit_breaker(breaker())
        if slots:
            builder = builder.bulkhead(slots)
        if limit:
            builder = builder.timeout(limit)
        return builder.build()

    return {
        **makers,
        **_both(lambda: retries(Pipeline.builder()).build(), "retry"),
        **_both(stack, "stack"),
        **_both(lambda: retries(Pipeline.builder()).circuit_breaker(breaker()).build(), "retry+breaker"),
        **_both(lambda: stack(slots=100), "stack-bulkhead"),
        "stack-timeout-async": lambda: stack(limit=LIMIT),
    }


class OnlyDown:
    """interlock's classifier: a failure is `Down` and nothing else."""

    def is_failure(self, *, result: object, exception: BaseException | None) -> bool:
        """Say whether the outcome counts against the dependency."""
        return isinstance(exception, Down)


def _opnieuw_pair() -> Makers:
    import circuitbreaker  # noqa: F401
    import opnieuw  # noqa: F401

    return _pair(_opnieuw_retry, _circuitbreaker, _opnieuw_retry, _circuitbreaker)


def _backoff_pair() -> Makers:
    import backoff  # noqa: F401
    import circuitbreaker  # noqa: F401

    return _pair(_backoff_retry, _circuitbreaker, _backoff_retry, _circuitbreaker)


def _stamina_pair() -> Makers:
    import circuitbreaker  # noqa: F401
    import stamina  # noqa: F401

    return _pair(_stamina_retry, _circuitbreaker, _stamina_retry, _circuitbreaker)


def _tenacity_pair() -> Makers:
    import circuitbreaker  # noqa: F401
    import tenacity  # noqa: F401

    return _pair(_tenacity_retry, _circuitbreaker, _tenacity_retry, _circuitbreaker)


def _tenacity_pybreaker() -> Makers:
    import pybreaker  # noqa: F401
    import tenacity  # noqa: F401

    return _pair(_tenacity_retry, _pybreaker, None, None)


PEERS: Final[tuple[Peer, ...]] = (
    Peer("tenacity", ("tenacity",), _tenacity),
    Peer("stamina", ("stamina",), _stamina),
    Peer("backoff", ("backoff",), _backoff),
    Peer("opnieuw", ("opnieuw",), _opnieuw),
    Peer("riprova", ("riprova",), _riprova),
    Peer("retrying", ("retrying",), _retrying),
    Peer("retry2", ("retry2",), _retry2),
    Peer("pybreaker", ("pybreaker",), _pybreaker_only),
    Peer("circuitbreaker", ("circuitbreaker",), _circuitbreaker_only),
    Peer("aiobreaker", ("aiobreaker",), _aiobreaker),
    Peer("purgatory", ("purgatory",), _purgatory),
    Peer("hyx", ("hyx",), _hyx),
    Peer("pyfailsafe", ("pyfailsafe",), _pyfailsafe),
    Peer("resilient-circuit", ("resilient-circuit",), _resilient_circuit),
    Peer("aioresilience", ("aioresilience",), _aioresilience),
    Peer("aiomisc", ("aiomisc",), _aiomisc, patience=4.0),
    Peer("pyresilience", ("pyresilience",), _pyresilience),
    Peer("interlock-cb", ("interlock-cb",), _interlock),
    Peer("opnieuw + circuitbreaker", ("opnieuw", "circuitbreaker"), _opnieuw_pair),
    Peer("backoff + circuitbreaker", ("backoff", "circuitbreaker"), _backoff_pair),
    Peer("stamina + circuitbreaker", ("stamina", "circuitbreaker"), _stamina_pair),
    Peer("tenacity + circuitbreaker", ("tenacity", "circuitbreaker"), _tenacity_pair),
    Peer("tenacity + pybreaker", ("tenacity", "pybreaker"), _tenacity_pybreaker),
    Peer("do-nothing wrapt", ("wrapt",), _wrapt),
)
