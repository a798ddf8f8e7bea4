"""boto3 clients that try once, keep to the deadline and refuse damaged answers; and guards in an existing client."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import json
import math
import os
import re
import uuid
import warnings
import zlib
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from resilient_faces._core.context import ATTEMPTS, Link, event, remaining, underway
from resilient_faces._core.options import Checks, checked_call
from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces.adapters._aws_credentials import FollowingCredentials
from resilient_faces.adapters._aws_errors import AWS, NOT_THERE, REFRESHABLE, AwsError, DamagedAnswerError
from resilient_faces.adapters._aws_operations import OPERATIONS, Operation, operation_of
from resilient_faces.composing import Decorator, Guard
from resilient_faces.errors import (
    DeadlineExceededError,
    DecorationError,
    MissingExtraError,
    OptionError,
    ResilienceWarning,
)
from resilient_faces.faults import Classification, Executed, Fault, Kind, matcher
from resilient_faces.retry import Retry

if TYPE_CHECKING:
    from typing import TypeGuard

    from resilient_faces._core.effects import Policy

C = TypeVar("C")

_HOOKED: Final = "_resilient_faces_hooks"  # where a client keeps what handles its events
_MARK: Final = "_resilient_faces_protected"  # and what `protect` put on

_REGION: Final = re.compile(r"(?![0-9]+$)(?!-)[a-zA-Z0-9-]{1,63}(?<!-)")

IDLE: Final = 60.0
"""Seconds without a request after which pooled connections are dropped: what froze or slept may hold dead ones."""


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """A server on this machine that speaks a service's protocol.

    The SDK then reads no profile and no credentials of the user.

    Raises:
        OptionError: The address is none of http, or holds a user or a password: those would show in the SDK's errors.
    """

    url: str
    access_key: str = field(default="local", repr=False)  # a server on this machine asks for none
    secret_key: str = field(default="local", repr=False)

    def __post_init__(self) -> None:
        checks = Checks("LocalEndpoint")
        try:
            url = urlsplit(self.url if isinstance(self.url, str) else "")
            _ = url.port  # read when first used, and its error would show what stands there: perhaps a password
        except ValueError:
            url = urlsplit("")
        good = url.scheme in ("http", "https") and bool(url.hostname)
        shown = "another text" if isinstance(self.url, str) else self.url
        cure = "Begin it with http:// or https://. It is not shown, since it may hold a password."
        checks.that(good, "url", "an address such as http://127.0.0.1:8091", shown, cure)
        checks.that("@" not in url.netloc, "url", "without a user and a password", "one with them")
        checks.done()


# -- making a client ----------------------------------------------------------------------------------------------


@checked_call
def connect(
    service: str,
    *,
    region: str,
    endpoint: LocalEndpoint | None = None,
    profile: str | None = None,
    connect_timeout: float = 2.0,
    read_timeout: float | None = None,
    pool: int = 32,
) -> Any:
    """Make a boto3 client that tries once, has explicit time limits and refuses damaged answers.

    Retrying belongs to the guard around the call: two retrying layers multiply. What remains of the deadline in force
    bounds each request's read timeout (botocore 1.43.70 or newer; an older one only refuses to begin once it has
    passed). That is the wait for the next bytes of an answer. Looking up the host's address, connecting, and an answer
    that comes byte by byte can outlast the deadline: `connect_timeout` and a `timeout` around the call bound those.
    Credentials are looked up again when their file changes or the service calls them expired.

    Args:
        service: Such as `rekognition`.
        region: Such as `us-west-2`.
        endpoint: A server on this machine; None for AWS itself with the SDK's own credentials.
        profile: Of the shared configuration; None for the SDK's own choice. Not with an endpoint.
        connect_timeout: Seconds to connect in, for each address of the host; the deadline does not shorten it.
        read_timeout: Seconds between two bytes of an answer; None for each operation's own in `OPERATIONS` (before
            botocore 1.43.70 the longest of them for all).
        pool: Connections kept; at least as many as threads that call.

    Raises:
        MissingExtraError: boto3 is not installed (extra `aws`).
        OptionError: Options are wrong; the message lists all of them.
    """
    checks = Checks("connect")
    checks.that(isinstance(service, str) and service != "", "service", "a name such as 'rekognition'", service)
    checks.that(is_region(region), "region", "a region such as 'us-west-2'", region)
    checks.seconds("connect_timeout", connect_timeout)
    if read_timeout is not None:
        checks.seconds("read_timeout", read_timeout)
    checks.whole("pool", pool, 1)
    checks.that(
        endpoint is None or isinstance(endpoint, LocalEndpoint), "endpoint", "a LocalEndpoint(url)", type(endpoint)
    )
    checks.that(endpoint is None or profile is None, "profile", "left out with an endpoint", profile)
    checks.done()
    config_class = load("botocore.config").Config
    boto3 = load("boto3")
    longest = max(one.read_timeout for one in OPERATIONS.values())
    settings: dict[str, Any] = {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": connect_timeout,
        "read_timeout": longest if read_timeout is None else read_timeout,
        "max_pool_connections": pool,
        "tcp_keepalive": True,
    }
    credentials: FollowingCredentials | None = None
    if endpoint is None:
        session = _sharing_models(load("botocore.session").Session(profile=profile))
        credentials = _following(session, profile)
        of = boto3.Session(botocore_session=session)
        client = _made(of, service, region_name=region, config=config_class(**settings))
        if _is_this_machine(client.meta.endpoint_url):  # AWS_ENDPOINT_URL says so; a proxy could not find it
            client = of.client(service, region_name=region, config=config_class(**settings, proxies={}))
    else:
        nothing = (None, None, None, None)
        overrides = {
            "profile": nothing,
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
        session = _sharing_models(load("botocore.session").Session(session_vars=overrides))
        settings.update(proxies={}, use_fips_endpoint=False, use_dualstack_endpoint=False)
        if service == "s3":
            settings["s3"] = {"addressing_style": "path"}
        client = _made(
            boto3.Session(botocore_session=session),
            service,
            region_name=region,
            endpoint_url=endpoint.url,
            aws_access_key_id=endpoint.access_key,
            aws_secret_access_key=endpoint.secret_key,
            config=config_class(**settings),
        )
    _Hooks(client, own_times=read_timeout is None).attach()
    if credentials is not None:
        client.meta.events.register(f"needs-retry.{_event_name(client)}", _Refresh(credentials))
    return client


def _made(session: Any, service: str, **options: Any) -> Any:
    """The client, or in our words what is wrong: the SDK's show addresses and lists of hundreds of names."""
    try:
        return session.client(service, **options)
    except Exception as error:
        unknown = type(error).__name__ == "UnknownServiceError"
        # Of the SDK's checks only the one of an address has no class of its own; a given one was looked at before.
        if not unknown and type(error) is not ValueError:
            raise
    if unknown:
        import difflib

        near = difflib.get_close_matches(service, session.get_available_services(), n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise OptionError(f"connect.service must be one that boto3 knows; got {service!r}.{meant}")
    raise OptionError(
        f"AWS_ENDPOINT_URL or AWS_ENDPOINT_URL_{service.upper()} must be an address such as http://127.0.0.1:8091 (in "
        "the SDK's configuration: endpoint_url). It is not shown, since it may hold a password."
    )


def is_region(text: object) -> bool:
    """Whether this may be a region: it becomes a part of the service's address, so the SDK takes nothing else."""
    return isinstance(text, str) and _REGION.fullmatch(text) is not None


def _sharing_models(session: Any) -> Any:
    """The session with the services' models that others have read before: they are most of what a client takes."""
    session.register_component("data_loader", _models(session.get_config_variable("data_path")))
    return session


@functools.cache
def _models(path: str | None) -> Any:
    return load("botocore.loaders").create_loader(path)


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def is_aws(url: str) -> bool:
    """Whether an address is AWS's own, in any of its partitions, and not of what stands in for it."""
    return (urlsplit(url).hostname or "").endswith(_own_domains())


@functools.cache
def _own_domains() -> tuple[str, ...]:
    """Of all partitions that this botocore knows: China and the sovereign ones have domains of their own."""
    partitions = _models(None).load_data("partitions")["partitions"]
    names = {one["outputs"][kind] for one in partitions for kind in ("dnsSuffix", "dualStackDnsSuffix")}
    return (".aws", *(f".{name}" for name in sorted(names)))


def _following(session: Any, profile: str | None) -> FollowingCredentials | None:
    """Give this session credentials that follow their source; None if it finds none, which the SDK then says."""

    def look_up() -> Any:
        return load("botocore.session").Session(profile=profile).get_credentials()

    files = tuple(
        Path(os.path.expandvars(str(session.get_config_variable(name)))).expanduser()
        for name in ("credentials_file", "config_file")
    )
    credentials = FollowingCredentials(look_up, files, session.get_scoped_config().get("role_arn"))
    if not credentials.found:
        return None

    class Following:
        """As botocore's providers: asked before all others."""

        METHOD = "resilient-faces"
        CANONICAL_NAME = None

        @staticmethod
        def load() -> FollowingCredentials:
            return credentials

    session.get_component("credential_provider").providers.insert(0, Following())
    return credentials


class _Refresh:
    """For botocore's `needs-retry`: credentials that are out of date are looked up again, and the call signed anew.

    Once: the service refused the call unread, so repeating it is safe whatever it does.
    """

    def __init__(self, credentials: FollowingCredentials) -> None:
        self._credentials = credentials

    def __call__(self, response: Any = None, attempts: int = 1, **_: object) -> float | None:
        if response is None or attempts != 1:
            return None
        code = (response[1].get("Error") or {}).get("Code")
        if code not in REFRESHABLE:
            return None
        self._credentials.refresh()
        return 0.0


# -- what every request passes ------------------------------------------------------------------------------------


class _Hooks:
    """Handlers of one client's events.

    Args:
        client: A boto3 client.
        own_times: Whether the read timeouts of `OPERATIONS` hold, and not the client's one for all.
    """

    def __init__(self, client: Any, *, own_times: bool = False) -> None:
        self._client = client
        self._own_times = own_times
        self._service = client.meta.service_model.service_name
        self._used = RUNTIME.wall()
        self._local = not is_aws(client.meta.endpoint_url)

    def _handlers(self) -> list[tuple[str, Callable[..., object]]]:
        name = _event_name(self._client)
        handlers: list[tuple[str, Callable[..., object]]] = [
            (f"before-call.{name}", self.begin),
            (f"request-created.{name}", self.count),
            (f"after-call.{name}", self.end),
            (f"after-call-error.{name}", self.fail),
        ]
        if self._service == "sqs":
            handlers.append((f"before-parameter-build.{name}", note_bodies))
        return handlers

    def attach(self) -> None:
        """Begin to handle the client's events, unless others of this kind do already: those of `connect`."""
        if _HOOKED not in vars(self._client):
            setattr(self._client, _HOOKED, self)
            on_fork(self)
            for name, handler in self._handlers():
                self._client.meta.events.register(name, handler)

    def detach(self) -> None:
        """Let go what `attach` began."""
        if vars(self._client).get(_HOOKED) is self:
            delattr(self._client, _HOOKED)
            for name, handler in self._handlers():
                self._client.meta.events.unregister(name, handler)

    def after_fork(self) -> None:
        """The pooled connections are the parent's, whose answers come on them: the next call opens new ones.

        Not here: a pool's lock may have been held when the process forked, and many a child never calls.
        """
        self._used = -math.inf

    def begin(self, model: Any, context: dict[str, Any], **_: object) -> None:
        """Before a call: what remains of the deadline is its read timeout; connections too old to trust are dropped."""
        left = remaining()
        limit = self._client.meta.config.read_timeout
        if self._own_times:
            limit = operation_of(self._service, model.name).read_timeout
        if left is not None:
            if left <= 0.0:
                raise DeadlineExceededError(f"{self._service}.{model.name}", None)
            limit = left if limit is None else min(limit, left)  # None: a client that waits for ever
        context["read_timeout"] = limit
        # By the wall clock: the monotonic one may stand still while a machine or a Lambda sleeps.
        now = RUNTIME.wall()
        if abs(now - self._used) > IDLE:
            self._client.close()  # only the pooled connections; new ones are opened
        self._used = now

    def count(self, request: Any, operation_name: str, **_: object) -> None:
        """Before each request: those that the SDK repeats by itself count as attempts."""
        context = getattr(request, "context", None)
        if not isinstance(context, dict):
            return
        number = context["resilient_faces.requests"] = context.get("resilient_faces.requests", 0) + 1
        if number == 1:
            return
        if "resilient_faces.link" not in context:
            outer = underway()
            link = Link(number, self.count, outer)
            context["resilient_faces.link"] = (link, ATTEMPTS.set(link))
        context["resilient_faces.link"][0].number = number
        link = context["resilient_faces.link"][0]
        if RUNTIME.listeners or RUNTIME.log is not None:
            RUNTIME.tell(
                event(
                    "retry",
                    policy="sdk",
                    status="retrying",
                    name=self._service,
                    operation=f"{self._service}.{operation_name}",
                    attempt=number,
                    parent=1 if link.outer is None else link.outer.number,
                )
            )

    def end(
        self, http_response: Any, parsed: dict[str, Any], model: Any, context: dict[str, Any] | None = None, **_: object
    ) -> None:
        """After a call that was answered, whatever the answer."""
        self.fail(context)
        # For S3, botocore calls a 200 whose body is no XML a 500: a damaged answer, and no sign of a missing operation.
        absent = (404, 501) if self._service == "s3" else (404, 500, 501)
        if self._local and http_response.status_code in absent and _is_page(http_response):
            # What stands in for the service lacks the operation and says so with a page. No retry will help.
            parsed["Error"] = {**(parsed.get("Error") or {}), "Code": NOT_THERE}
        refuse_damaged(http_response, parsed, model)
        if context:
            compare_bodies(parsed, model, context)

    def fail(self, context: dict[str, Any] | None = None, **_: object) -> None:
        """After a call: the SDK's own attempts are over."""
        link = (context or {}).pop("resilient_faces.link", None)
        if link is not None:
            token: Token[Link | None] = link[1]
            ATTEMPTS.reset(token)


def _event_name(client: Any) -> str:
    name: str = client.meta.service_model.service_id.hyphenize()
    return name


def _is_page(http_response: Any) -> bool:
    start = http_response.content[:200].lstrip().lower()
    return bool(start.startswith((b"<!doctype html", b"<html")))


def refuse_damaged(http_response: Any, parsed: Mapping[str, Any], model: Any, **_: object) -> None:
    """For botocore's `after-call` event: raise `DamagedAnswerError` for a 200 that is no answer.

    An error that was cut is none either: without its code it would pass for a refusal, while an earlier attempt may
    have been carried out. Streamed bodies are not read here, only their headers; who reads them compares length and
    checksum.
    """
    service = model.service_model
    name = f"{service.service_name}.{model.name}"
    streamed = model.has_streaming_output or model.has_event_stream_output
    if streamed and http_response.status_code < 300:
        try:
            _refuse_incomplete(name, parsed)
        except DamagedAnswerError:
            http_response.raw.close()  # nobody will read it
            raise
        return
    content = http_response.content
    length = http_response.headers.get("Content-Length")
    if length is not None and model.http.get("method") != "HEAD" and length.isdigit() and int(length) != len(content):
        raise DamagedAnswerError(name, f"{len(content)} bytes instead of {length}")
    if http_response.status_code >= 300:
        return
    checksum = http_response.headers.get("x-amz-crc32")
    if checksum is not None and checksum.isdigit() and int(checksum) != zlib.crc32(content):
        raise DamagedAnswerError(name, "the checksum is wrong")
    protocol = _protocol(service)
    answers = model.output_shape is not None and bool(model.output_shape.members)
    if protocol == "json":
        try:
            body = json.loads(content or b"{}")
        except ValueError:
            body = None
        if not isinstance(body, dict) or (not content and answers):
            raise DamagedAnswerError(name, "the body is no JSON object")
        if body and answers and body.keys().isdisjoint(_members_of_body(model.output_shape) or body):
            # Such as {"message": "Please sign in"} of a network's gate, which else would pass for "no such item".
            raise DamagedAnswerError(name, "nothing in the body is a member of its answers")
    elif protocol == "cbor" and http_response.headers.get("smithy-protocol") != "rpc-v2-cbor":
        raise DamagedAnswerError(name, "the answer is not of the protocol")
    elif _is_page(http_response):
        raise DamagedAnswerError(name, "the body is a page")
    _refuse_incomplete(name, parsed)


def _members_of_body(shape: Any) -> set[str]:
    """What the body of an answer may hold, as it stands there; empty where the body is of another shape."""
    if "payload" in shape.serialization:
        return set()
    return {
        member.serialization.get("name", name)
        for name, member in shape.members.items()
        if "location" not in member.serialization
    }


def _refuse_incomplete(name: str, parsed: Mapping[str, Any]) -> None:
    known = OPERATIONS.get(name)
    missing = [] if known is None else [member for member in known.mandatory if not _has(parsed, member)]
    if missing:
        raise DamagedAnswerError(name, f"{' and '.join(missing)} missing")


def _has(parsed: Mapping[str, Any], member: str) -> bool:
    outer, _, inner = member.partition(".")
    return outer in parsed and (not inner or _has(parsed[outer], inner))


def _protocol(service: Any) -> str:
    """`json`, `cbor` or another one's name, as this botocore speaks to the service."""
    try:
        name = str(service.resolved_protocol)
    except AttributeError:  # botocore before it could choose
        name = str(service.metadata.get("protocol", ""))
    return "cbor" if "cbor" in name else "json" if "json" in name else name


def note_bodies(params: Mapping[str, Any], model: Any, context: dict[str, Any], **_: object) -> None:
    """For `before-parameter-build.sqs`: remember the checksums of the bodies that are sent."""
    if model.name == "SendMessage" and "MessageBody" in params:
        context["resilient_faces.md5"] = {"": _md5(params["MessageBody"])}
    elif model.name == "SendMessageBatch":
        entries = params.get("Entries") or ()
        context["resilient_faces.md5"] = {
            str(one["Id"]): _md5(one["MessageBody"]) for one in entries if "Id" in one and "MessageBody" in one
        }


def compare_bodies(parsed: Mapping[str, Any], model: Any, context: Mapping[str, Any]) -> None:
    """SQS tells the checksum of each body, which boto3 leaves unread.

    Raises:
        DamagedAnswerError: What the queue stored, or what came out of it, is something else.
    """
    sent: Mapping[str, str] | None = context.get("resilient_faces.md5")
    stored: list[tuple[str, object]] = []
    if sent is not None:
        entries = [parsed] if model.name == "SendMessage" else parsed.get("Successful") or ()
        stored = [(sent.get(str(one.get("Id", "")), ""), one.get("MD5OfMessageBody")) for one in entries]
    elif model.name == "ReceiveMessage":
        stored = [(_md5(one.get("Body", "")), one.get("MD5OfBody")) for one in parsed.get("Messages") or ()]
    if any(told is not None and told != own for own, told in stored):
        raise DamagedAnswerError(f"sqs.{model.name}", "the checksum of a body is wrong")


def _md5(text: object) -> str:
    # The queue's own choice; it guards against damage, not against people.
    return hashlib.md5(str(text).encode(), usedforsecurity=False).hexdigest()


# -- guarding a client that is there ------------------------------------------------------------------------------


def protect(client: C, policy: Decorator[Any] | Callable[[str], Decorator[Any]]) -> C:
    """Put a policy around every operation of an existing boto3 client, in place. Returns the same client.

    Paginators and waiters that are made from now on use the guarded operations too, and so does s3transfer. Each
    operation gets the policy with its own idempotence: a `Retry` in it repeats an unknown outcome only where that is
    safe, and a token that makes it safe is made once for all attempts. Damaged answers raise `DamagedAnswerError`, the
    deadline in force bounds each request, and the SDK's error about wrong parameters shows no values.

    Args:
        client: A boto3 client. Best is one that tries once: `Config(retries={"total_max_attempts": 1})`.
        policy: A policy or guard; or a function that takes an operation's name, such as `GetItem`, and returns one.

    Raises:
        DecorationError: The client is protected already, or its operations are coroutines.

    Warns:
        ResilienceWarning: The client retries inside, so that attempts multiply; the message starts with RF101.
    """
    if not is_client(client) or not hasattr(client, "meta"):
        raise DecorationError(
            f"protect takes a boto3 client; got {type(client).__name__!r}. Make one with connect(). "
            "Of a resource, it is meta.client."
        )
    if _MARK in vars(client):
        raise DecorationError("this client is protected already. Take the guards off with unprotect(client) first.")
    refuse_coroutines(client)
    target: Any = client
    service = target.meta.service_model.service_name
    hooks = _Hooks(client)
    guarded: dict[str, Callable[..., object]] = {}
    most = 1.0
    for method, operation in target.meta.method_to_api_mapping.items():
        row = operation_of(service, operation)
        own = policy if _is_policy(policy) or not callable(policy) else policy(operation)
        if not _is_policy(own):
            raise DecorationError(
                "protect takes a policy, or a function of an operation's name that returns one; got "
                f"{type(own).__name__!r} for {operation}."
            )
        whole = fitted(own, row)
        most = max(most, _attempts(whole))
        attempt = _attempt(getattr(client, method))
        careful = fitted(own, replace(row, idempotent=False)) if row.idempotent else whole
        guarded[method] = _for_all_attempts(whole(attempt), careful(attempt), row)
    warn_of_inner_retries(client, most)
    before = {name: vars(client)[name] for name in guarded if name in vars(client)}  # what others have put there
    for method, function in guarded.items():
        setattr(client, method, function)
    setattr(client, _MARK, (tuple(guarded), before, hooks, most))
    hooks.attach()
    return client


def service_of(client: Any) -> str:
    """The service of a boto3 client; empty for a stand-in that does not say."""
    name = getattr(getattr(getattr(client, "meta", None), "service_model", None), "service_name", None)
    return name if isinstance(name, str) else ""


def is_client(client: Any) -> bool:
    """Whether this may be a boto3 client, or stand in for one; not what has a client inside, or makes one."""
    if client is None or isinstance(client, (str, bytes)):
        return False
    if hasattr(client, "meta"):  # a resource has another one, and its methods take other parameters
        return hasattr(client.meta, "service_model") or not hasattr(client.meta, "client")
    return not callable(getattr(client, "client", None))  # as of a session, or of boto3 itself


def refuse_coroutines(client: Any) -> None:
    """Refuse a client of aiobotocore: its failures would come when nobody here listens any more.

    Raises:
        DecorationError: The client's operations are coroutines.
    """
    mapping: Mapping[str, str] = getattr(getattr(client, "meta", None), "method_to_api_mapping", None) or {}
    if any(inspect.iscoroutinefunction(getattr(client, method, None)) for method in list(mapping)[:1]):
        raise DecorationError(
            "this client's operations are coroutines, as those of aiobotocore are, and cannot be guarded here. "
            "Use a boto3 client with an adapter's async face, such as AsyncRekognition, or guard functions of your own."
        )


def unprotect(client: C) -> C:
    """Take away what `protect` put on. Returns the same client; one that is not protected is left as it is."""
    marks = vars(client)
    if _MARK in marks:
        names, before, hooks, _ = marks.pop(_MARK)
        for name in names:
            marks.pop(name, None)
        marks.update(before)
        hooks.detach()
    return client


def _is_policy(policy: object) -> TypeGuard[Decorator[Any]]:
    return isinstance(policy, Decorator)


def _attempt(method: Callable[..., Any]) -> Callable[..., Any]:
    """One attempt of an operation: what its body read before is read again."""

    @functools.wraps(method)
    def attempt(*args: object, **parameters: object) -> Any:
        for body in BODIES.get():
            body.rewind()
        try:
            return method(*args, **parameters)
        except Exception as error:
            wrong = wrong_parameters(error)
            if wrong is None:
                raise
            again: Any = type(error)
            raise again(report=wrong) from None

    return attempt


def wrong_parameters(error: Exception) -> str | None:
    """What the SDK finds wrong with the parameters of a call, without the values that its text shows; else None."""
    if type(error).__name__ != "ParamValidationError":
        return None
    wrong = "; ".join(dict.fromkeys(match[0] for match in _WRONG.finditer(str(error)))) or "wrong parameters"
    return f"{wrong}. Values are not shown: they may be pictures or identities."


_WRONG: Final = re.compile(
    r"Invalid (?:type|length|range|format) for parameter [\w.\[\]-]{1,200}"
    r'|Missing required parameter in [\w.\[\]-]{1,200}: "\w{1,100}"|Unknown parameter in [\w.\[\]-]{1,200}: "\w{1,100}"'
)


def _for_all_attempts(function: Callable[..., Any], careful: Callable[..., Any], row: Operation) -> Callable[..., Any]:
    """What is done once a call: whether it may repeat, the token that all attempts carry, where the bodies begin."""
    token = row.token

    @functools.wraps(function)
    def call(*args: object, **parameters: object) -> Any:
        if token is not None:
            # botocore makes one for each call, which for a retry around it is each attempt.
            parameters.setdefault(token, str(uuid.uuid4()))
        chosen = function if row.may_repeat(parameters) else careful
        # By context: what policies are given are the call's own arguments, by which they choose a circuit or an answer.
        noted = BODIES.set(bodies_of(parameters))
        try:
            return chosen(*args, **parameters)
        finally:
            BODIES.reset(noted)

    return call


class UnrepeatableBodyError(AwsError):
    """A request with this body failed, and the body cannot be read a second time."""

    fault: Fault = Fault(Kind.invalid, "aws.unrepeatable_body", Executed.unknown)

    def __str__(self) -> str:
        return "the request failed, and its body cannot be read again: give bytes, or a file that can seek"


class Body:
    """A file among the parameters of a call. A failed attempt leaves it at its end: the next would send nothing."""

    __slots__ = ("_begin", "_file", "_read")

    def __init__(self, file: Any) -> None:
        self._file = file
        self._read = False
        try:
            self._begin: int | None = file.tell()
        except (AttributeError, OSError, ValueError):
            self._begin = None

    def rewind(self) -> None:
        """Before an attempt: back to where it began.

        Raises:
            UnrepeatableBodyError: An attempt was made already, and this file cannot seek.
        """
        if self._read:
            if self._begin is None:
                raise UnrepeatableBodyError
            try:
                self._file.seek(self._begin)
            except (AttributeError, OSError, ValueError):
                raise UnrepeatableBodyError from None
        self._read = True


BODIES: Final[ContextVar[tuple[Body, ...]]] = ContextVar("resilient_faces.bodies", default=())
"""The files among the parameters of the call that is made now, which all its attempts share."""


def bodies_of(parameters: Mapping[str, object]) -> tuple[Body, ...]:
    """The files among the parameters of a call."""
    return tuple(Body(value) for value in parameters.values() if hasattr(value, "read"))


def fitted(policy: Decorator[Any], row: Operation) -> Guard[Any]:
    """The policy as a guard of this operation: AWS's classification unless it has its own, retries only where safe."""
    whole = policy.as_guard()
    classification = whole.classification or AWS
    policies: list[Policy] = []
    for one in whole.policies:
        if isinstance(one, Retry):
            policies.append(_repeating(one, _may_repeat(row, one), classification))
        else:
            policies.append(one)
    return Guard(policies, classification)


def _may_repeat(row: Operation, retry: Retry) -> bool:
    return row.idempotent or row.token is not None or (retry.idempotent and not row.known)


def _repeating(retry: Retry, safe: bool, classification: Classification) -> Retry:
    """The retry for an operation that may be repeated, or only if it is known not to have been carried out."""
    if safe:
        return replace(retry, idempotent=True)

    def may_be_done(error: BaseException) -> bool:
        return classification(error).executed is not Executed.no

    never = may_be_done if retry.never is None else (retry.never, may_be_done)
    # A retrier decides alone, so this one stands before all others.
    return replace(
        retry, idempotent=False, never=never, retriers=tuple(_careful(one, may_be_done) for one in retry.retriers)
    )


def _careful(retrier: Any, may_be_done: Callable[[BaseException], bool]) -> Any:
    matches = matcher(retrier.on)
    return replace(retrier, on=lambda error: matches(error, AWS(error)) and not may_be_done(error))


def _attempts(whole: Guard[Any]) -> float:
    """The most calls that this guard makes for one."""
    most = 1.0
    for one in whole.policies:
        if isinstance(one, Retry):
            most *= one.attempts
    return most


def inner_attempts(client: Any) -> float:
    """Requests that this client makes by itself for one call, at most; those of `protect` included."""
    if _MARK in getattr(client, "__dict__", {}):
        most: float = vars(client)[_MARK][3]
        return most * _sdk_attempts(client)
    return _sdk_attempts(client)


def _sdk_attempts(client: Any) -> int:
    retries: Mapping[str, Any] = getattr(getattr(getattr(client, "meta", None), "config", None), "retries", None) or {}
    total = retries.get("total_max_attempts")
    if isinstance(total, int):
        return max(1, total)
    service = client.meta.service_model.service_name if retries else ""
    if not retries:
        return 1
    table = "dynamodb" in service  # and its streams
    if retries.get("mode") == "legacy":
        return 10 if table else 5
    version = tuple(int(part) for part in load("botocore").__version__.split(".")[:2])
    return 4 if table and version >= (1, 44) else 3


def warn_of_inner_retries(client: Any, outer: float, *, stacklevel: int = 3) -> None:
    """Warn if this client retries inside of `outer` attempts around it."""
    inner = inner_attempts(client)
    if inner > 1:
        endless = math.inf in (outer, inner)
        total = "requests without an end" if endless else f"up to {outer * inner:g} requests"
        shown = "any number of" if outer == math.inf else f"{outer:g}"
        warnings.warn(
            f"RF101 this {client.meta.service_model.service_name} client makes up to {inner:g} attempts by itself: "
            f"{shown} attempts of the policy x {inner:g} inside are {total} for one call. "
            "Make the client with Config(retries={'total_max_attempts': 1, 'mode': 'standard'}), or with connect().",
            ResilienceWarning,
            stacklevel=stacklevel,
        )


def load(module: str) -> Any:
    """A module of the extra `aws`.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(extra="aws", missing=module.partition(".")[0]) from error
