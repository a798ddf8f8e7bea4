"""The requests of one client, each under its operation's guard; and the async face of adapters."""

from __future__ import annotations

import functools
import re
import threading
import uuid
import weakref
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, TypeAlias, TypeVar
from urllib.parse import urlsplit

from resilient_faces._core.options import Checks, checked_call
from resilient_faces._core.runtime import on_fork
from resilient_faces.adapters._aws_accounts import accounts, is_label
from resilient_faces.adapters._aws_clients import (
    BODIES,
    bodies_of,
    fitted,
    is_aws,
    is_client,
    refuse_coroutines,
    service_of,
    warn_of_inner_retries,
    wrong_parameters,
)
from resilient_faces.adapters._aws_costs import CostMeter
from resilient_faces.adapters._aws_errors import AWS
from resilient_faces.adapters._aws_operations import operation_of
from resilient_faces.breaker import Breaker
from resilient_faces.breaker.registry import frame_of_caller
from resilient_faces.composing import Decorator, Guard
from resilient_faces.errors import DuplicateNameError, OptionError
from resilient_faces.limits import RateLimiter
from resilient_faces.retry import Retry

if TYPE_CHECKING:
    from typing_extensions import TypedDict

    class Guarding(TypedDict, total=False):
        """The options of `Requests`, which every adapter hands on."""

        retry: Retry | None
        breaker: Callable[[str], Decorator[Any]] | None
        limiter: Callable[..., RateLimiter] | None
        rates: Mapping[str, float] | None
        meter: CostMeter | None
        account: str | None


P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

UNGUARDED: Final[Guarding] = {"retry": None, "breaker": None, "limiter": None}
"""Options of an adapter whose caller brings guards of their own: one request a call and nothing around it."""


_THREE: Final = Retry()
_Made: TypeAlias = "tuple[Callable[..., Any], str | None]"  # the guarded call, and its token's name


class Requests:
    """The requests of one boto3 client, each under its operation's guard.

    Outermost the retry, which repeats an unknown outcome only where the operation may be repeated; in it the circuit of
    (service, account, region, operation); in that the limiter of the same, at the service's default quota unless told
    otherwise. A circuit that is open refuses at once, without a place in the limiter's queue. Circuits and limiters of
    the same account, region and operation are shared by all clients of the process, and so must have equal options.

    Args:
        client: A boto3 client that tries once, made by `connect`.
        retry: How failed requests are repeated; None makes one attempt.
        breaker: Makes the circuit from its name, such as `rekognition/us-west-2/IndexFaces`; None for no circuit. Use
            `functools.partial(Breaker, recovery_timeout=10.0)` for other options.
        limiter: Makes the limiter from its rate, `name=` and `classify=`; None for no limiter. One that it gives a name
            of its own is used as it is, and shared with nobody.
        rates: Calls a second by operation, such as `{"IndexFaces": 20.0}`, where your quota is not the default;
            None for the defaults.
        meter: Counts dollars for each request, and stops at a daily cap.
        account: A label of yours for the client's account, for a process that uses several: it stands in the names of
            circuits and limiters. None tells accounts apart by the client's credentials, as far as those are known
            before the first request; the first account has the short names.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
        DecorationError: The client's operations are coroutines.
        DuplicateNameError: At the first request of an operation: its circuit or limiter exists with other options.

    Warns:
        ResilienceWarning: The client retries inside (RF101), or its account is another than that of earlier clients
            and neither has a label (RF102).
    """

    def __init__(
        self,
        client: Any,
        *,
        retry: Retry | None = _THREE,
        breaker: Callable[[str], Decorator[Any]] | None = Breaker,
        limiter: Callable[..., RateLimiter] | None = RateLimiter,
        rates: Mapping[str, float] | None = None,
        meter: CostMeter | None = None,
        account: str | None = None,
    ) -> None:
        checks = Checks("Requests")
        checks.that(retry is None or isinstance(retry, Retry), "retry", "a Retry(...) or None", retry)
        for option, made in (("breaker", breaker), ("limiter", limiter)):
            good = made is None or (callable(made) and not isinstance(made, Decorator))
            checks.that(good, option, "a function that makes one, such as the class, or None", made)
        checks.that(is_client(client), "client", "a boto3 client", type(client).__name__, _cure("rekognition"))
        service = service_of(client)
        self._methods = {name: method for method, name in client.meta.method_to_api_mapping.items()} if service else {}
        rule = "a mapping of operation to calls a second"
        if checks.that(rates is None or isinstance(rates, Mapping), "rates", rule, rates):
            for operation, rate in (rates or {}).items():
                if self._check(checks, "rates", operation, service):
                    checks.number(f"rates[{operation!r}]", rate, above=True, unit="per second")
        if checks.that(meter is None or isinstance(meter, CostMeter), "meter", "a CostMeter(...) or None", meter):
            for operation in () if meter is None else meter.priced(service):
                self._check(checks, "meter.prices", operation, service)
        if account is not None:
            rule = "a label of 1 to 64 letters, digits and _ . -, and no number or key of an account"
            checks.that(is_label(account), "account", rule, "another text", "It is shown in names.")
        checks.done()
        refuse_coroutines(client)
        self.client: Final = client
        meta = getattr(client, "meta", None)
        self.service: Final[str] = "" if meta is None else meta.service_model.service_name
        self.region: Final[str] = "" if meta is None else meta.region_name or ""
        self._place = self.region
        url = "" if meta is None else meta.endpoint_url
        if url and not is_aws(url):
            at_place = urlsplit(url)  # another server is another circuit
            self._place = f"{at_place.hostname}:{at_place.port}" if at_place.port else str(at_place.hostname)
        if account is None and meta is not None:
            account = accounts.label(client, self.service, self._place)
        self._owner = f"{account}/" if account else ""
        at = frame_of_caller()
        self._made_at = f"{at.f_code.co_filename}:{at.f_lineno}"
        self._retry = retry
        self._breaker = breaker
        self._limiter = limiter
        self._rates = dict(rates or {})
        self._meter = meter
        self._guarded: dict[tuple[str, bool | None], _Made] = {}
        if retry is not None and meta is not None:
            warn_of_inner_retries(client, retry.attempts, stacklevel=5)

    def _check(self, checks: Checks, option: str, operation: object, service: str) -> bool:
        """An operation that the client has; of a stand-in that has no model, any."""
        good = not self._methods or operation in self._methods
        return checks.that(good, option, f"named by operations of {service}", operation, self._meant(operation))

    def _meant(self, operation: object) -> str:
        """What may have been meant by an operation that the client does not have."""
        import difflib

        names = {name.lower(): name for name in self._methods}
        near = difflib.get_close_matches(str(operation).replace("_", "").lower(), names, n=1)
        return f"Did you mean {names[near[0]]}?" if near else "They are named as in boto3's model, such as GetItem."

    def __call__(self, operation: str, /, **parameters: Any) -> Any:
        """Make one call of an operation, named as in boto3's model: `IndexFaces`. Returns boto3's answer.

        Raises:
            OptionError: The client has no such operation, or the SDK does not take the parameters.
        """
        return self.call(operation, parameters, _as_it_is)

    def call(
        self,
        operation: str,
        parameters: Mapping[str, Any],
        finish: Callable[[Any], R],
        *,
        idempotent: bool | None = None,
    ) -> R:
        """Make one call, and let `finish` make the result of boto3's answer inside of each attempt.

        So an answer that proves damaged while it is read is an attempt that failed.

        Args:
            operation: Named as in boto3's model.
            parameters: Of the operation.
            finish: Reads and checks the answer.
            idempotent: Whether this very call may be repeated; None for what the operation's row says of it.
        """
        row = operation_of(self.service, operation)
        if idempotent is None and row.idempotent and not row.may_repeat(parameters):
            idempotent = False
        function, token = self._guarded.get((operation, idempotent)) or self._make(operation, idempotent)
        if token is not None and token not in parameters:
            # Before the first attempt: all of them carry the same.
            parameters = {**parameters, token: str(uuid.uuid4())}
        # By context: what policies are given are the parameters, by which they choose a circuit or an answer.
        noted = FINISH.set(finish), BODIES.set(bodies_of(parameters))
        try:
            result: R = function(**parameters)
            return result
        finally:
            FINISH.reset(noted[0])
            BODIES.reset(noted[1])

    def name_of(self, operation: str) -> str:
        """Name of this operation's circuit and limiter."""
        return f"{self.service}/{self._owner}{self._place}/{operation}"

    def _make(self, operation: str, idempotent: bool | None) -> _Made:
        if self._methods and operation not in self._methods:
            raise OptionError(f"{self.service} has no operation {operation!r}. {self._meant(operation)}")
        row = operation_of(self.service, operation)
        if idempotent is not None:
            row = replace(row, idempotent=idempotent, token=None)
        name = self.name_of(operation)
        policies: list[Decorator[Any]] = []
        if self._retry is not None:
            policies.append(self._retry)
        charging = () if self._meter is None else self._meter.policies(f"{self.service}.{operation}")
        policies += charging[:-1]
        if self._breaker is not None:
            policies.append(self._breaker(name))
        rate = self._rates.get(operation, None if row.rate is None else row.rate.of(self.region))
        if self._limiter is not None and rate is not None:
            made = self._limiter(rate, name=name, classify=AWS)
            policies.append(made if made.name != name else limiters.shared(made, self, self._made_at))
        policies += charging[-1:]
        method: Callable[..., Any] = getattr(self.client, self._methods.get(operation) or _snake(operation))

        def send(**parameters: Any) -> Any:
            for body in BODIES.get():
                body.rewind()
            try:
                answer = method(**parameters)
            except Exception as error:
                wrong = wrong_parameters(error)
                if wrong is None:
                    raise
                raise OptionError(f"{called}: {wrong}") from None
            return FINISH.get()(answer)

        called = send.__name__ = send.__qualname__ = f"{self.service}.{operation}"  # what events and reports call it
        function: Callable[..., Any] = send
        if policies:
            function = fitted(Guard(policies), row)(send)  # type: ignore[arg-type]
        both = self._guarded[operation, idempotent] = (function, row.token)
        return both


def _as_it_is(answer: Any) -> Any:
    return answer


FINISH: Final[ContextVar[Callable[[Any], Any]]] = ContextVar("resilient_faces.finish", default=_as_it_is)
"""What makes the result of the call that is made now of its answer."""


def check_client(checks: Checks, client: Any, service: str) -> bool:
    """A boto3 client of this service. What stands in for one in tests does not say of which it is."""
    given = service_of(client)
    good = is_client(client) and given in ("", service)
    shown = f"one of {given}" if given else type(client).__name__
    return checks.that(good, "client", f"a boto3 client of {service}", shown, _cure(service))


def _cure(service: str) -> str:
    return f"Make one with connect({service!r}, region=...). Of a resource, it is meta.client."


Requests.__init__ = checked_call(Requests.__init__)  # type: ignore[method-assign]


class _Shared:
    """A limiter that adapters of one name share: who they are, and where the first was made."""

    def __init__(self, limiter: RateLimiter, place: str) -> None:
        self.limiter = limiter
        self.place = place
        self.users: weakref.WeakSet[Requests] = weakref.WeakSet()


class Limiters:
    """One limiter a name, for as long as somebody uses it or it has something to remember."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[str, _Shared] = {}
        on_fork(self)

    def shared(self, made: RateLimiter, user: Requests, place: str) -> RateLimiter:
        """The limiter of this name: the one that is there, or the one that was just made.

        Raises:
            DuplicateNameError: The one that is there has other options, and somebody uses it.
        """
        with self._lock:
            for name in [name for name, one in self._live.items() if not one.users and one.limiter.resting]:
                del self._live[name]
            found = self._live.get(made.name)
            if found is None or (found.limiter.options != made.options and not set(found.users) - {user}):
                found = self._live[made.name] = _Shared(made, place)
            elif found.limiter.options != made.options:
                raise DuplicateNameError(
                    f"limiter {made.name!r} exists with other options: first given in {found.place}, now in {place}. "
                    "A quota is one, so use the same options in both places. Give the adapters account=... if they are "
                    "of different accounts, or a limiter with a name of its own if each is to have a part of the quota."
                )
            found.users.add(user)
            return found.limiter

    def forget(self) -> None:
        """For tests: who has a limiter keeps it, and nobody else finds it."""
        with self._lock:
            self._live.clear()

    def after_fork(self) -> None:
        self._lock = threading.Lock()


limiters: Final = Limiters()


def _snake(operation: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", operation).lower()


# -- the async face -----------------------------------------------------------------------------------------------


class AsyncFace(Generic[S]):
    """An adapter for async code: each method runs in a worker thread, in a copy of the caller's context.

    The threads are the adapter's own: requests that wait for their answers, such as long polls of a queue, take none of
    those that the program's other blocking work shares. A task that is cancelled leaves its thread running until the
    request ends, at the latest after its read timeout.

    Args:
        sync: The adapter.
        threads: Requests at a time at most; the client's connections should be as many (`connect(pool=...)`).

    Raises:
        OptionError: Options are wrong.
    """

    def __init__(self, sync: S, *, threads: int = 32) -> None:
        checks = Checks(type(self).__name__)
        if service_of(sync):
            own = type(self).__name__.removeprefix("Async")
            cure = f"Put it into one: {type(self).__name__}({own}(client))."
            checks.that(False, "sync", "an adapter", "a boto3 client", cure)
        checks.whole("threads", threads, 1)
        checks.done()
        self.sync: Final = sync
        self._threads = threads
        self._limiter: Any = None  # one for each event loop

    async def in_thread(self, work: Callable[[], R]) -> R:
        """Do the work in one of the adapter's threads."""
        import anyio
        import anyio.lowlevel

        if self._limiter is None:
            self._limiter = anyio.lowlevel.RunVar("resilient_faces.threads")
        try:
            limiter = self._limiter.get()
        except LookupError:
            limiter = anyio.CapacityLimiter(self._threads)
            self._limiter.set(limiter)
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)


def threaded(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[AsyncFace[S], P], Coroutine[Any, Any, R]]:
    """Make the async face of a method, for a class that builds on `AsyncFace`."""

    @functools.wraps(method)
    async def in_thread(self: AsyncFace[S], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.in_thread(functools.partial(method, self.sync, *args, **kwargs))

    return in_thread
