"""For the adapters' tests: boto3 clients whose answers are written down beforehand, and the emulator behind a proxy."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


class _Raw(io.BytesIO):
    """As much of an HTTP answer as botocore reads."""

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        yield self.read()


@dataclass
class Sent:
    """One request that would have left."""

    operation: str
    body: Any
    headers: Mapping[str, str]


@dataclass
class Script:
    """Answers in order, the last one for ever; what was sent."""

    replies: list[Any]
    sent: list[Sent] = field(default_factory=list)

    @property
    def operations(self) -> list[str]:
        return [one.operation for one in self.sent]

    def __call__(self, request: Any, **_: object) -> Any:
        from botocore.awsrequest import AWSResponse

        headers = {
            str(name).lower(): value.decode() if isinstance(value, bytes) else str(value)
            for name, value in request.headers.items()
        }
        body = request.body or b""
        read = body.read() if hasattr(body, "read") else body
        if headers.get("content-type", "").startswith("application/x-amz-json"):
            read = json.loads(read)
        self.sent.append(Sent(headers.get("x-amz-target", "").partition(".")[2] or request.method, read, headers))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if callable(reply) and not isinstance(reply, Exception):
            reply = reply()
        if isinstance(reply, Exception):
            raise reply
        status, content, *more = reply
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        return AWSResponse(
            request.url, status, {"Content-Length": str(len(data)), **(more[0] if more else {})}, _Raw(data)
        )


@pytest.fixture
def script() -> Callable[..., Script]:
    """Give a client its answers: `(status, body)`, `(status, body, headers)`, errors, or functions that make one."""

    def given(client: Any, *replies: Any) -> Script:
        made = Script(list(replies))
        name = client.meta.service_model.service_id.hyphenize()
        client.meta.events.register(f"before-send.{name}", made)
        return made

    return given


@pytest.fixture
def local(resilience: None) -> Callable[..., Any]:
    """Make a client that tries once, for a server on this machine that nobody started."""
    pytest.importorskip("boto3", reason="the extra `aws` is not installed")
    from resilient_faces.adapters.aws import LocalEndpoint, connect

    def made(service: str = "rekognition", **options: Any) -> Any:
        return connect(service, region="us-west-2", endpoint=LocalEndpoint("http://127.0.0.1:9"), **options)

    return made


@pytest.fixture
def foreign(resilience: None) -> Callable[..., Any]:
    """Make a client as anybody would, with boto3's own retries unless told otherwise."""
    boto3 = pytest.importorskip("boto3", reason="the extra `aws` is not installed")
    from botocore.config import Config

    def made(service: str = "rekognition", retries: Mapping[str, object] | None = None) -> Any:
        config = Config() if retries is None else Config(retries=dict(retries))
        return boto3.client(
            service,
            region_name="us-west-2",
            endpoint_url="http://127.0.0.1:9",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            config=config,
        )

    return made


def failed(code: str, status: int = 400, message: str = "m") -> tuple[int, dict[str, str]]:
    """An error as the JSON services answer it."""
    return status, {"__type": code, "Message": message}


@pytest.fixture(name="failed")
def failed_fixture() -> Callable[..., tuple[int, dict[str, str]]]:
    """An error as the JSON services answer it: code, status, message."""
    return failed


class Services:
    """The emulator, reached directly and through a proxy that damages what a test says."""

    def __init__(self, url: str, proxy: Any, ledger: Path) -> None:
        self._url = url
        self._proxy = proxy
        self._ledger = ledger
        self._clients: dict[tuple[str, str], Any] = {}
        self._begun = 0

    def begin(self) -> None:
        """Another test: no faults, nothing seen."""
        from resilient_faces.testing.fault_proxy import FaultPlan

        self._proxy.replan(FaultPlan())
        self._begun = len(self._ledger.read_text(encoding="utf-8"))

    def direct(self, service: str) -> Any:
        """A client that the proxy does not see."""
        return self._client(service, self._url)

    def through(self, service: str) -> Any:
        """A client whose requests go through the proxy."""
        return self._client(service, self._proxy.url)

    def _client(self, service: str, url: str) -> Any:
        from resilient_faces.adapters.aws import LocalEndpoint, connect

        made = self._clients.get((service, url))
        if made is None:
            made = connect(service, region="us-west-2", endpoint=LocalEndpoint(url), read_timeout=5.0)
            self._clients[service, url] = made
        return made

    def strike(self, operation: str, fault: str, *nths: int, after: bool = False) -> None:
        """Damage these requests of the operation, counted from 1; without a number the next one."""
        from resilient_faces.testing.fault_proxy import FaultKind, FaultPlan, PlannedFault

        rows = [PlannedFault(operation, FaultKind(fault), nth=nth, after=after) for nth in nths or (1,)]
        self._proxy.replan(FaultPlan(tuple(rows)))

    def lose(self, operation: str, *nths: int) -> None:
        """Have these requests carried out, and their answers lost."""
        self.strike(operation, "reset", *nths, after=True)

    @property
    def seen(self) -> list[str]:
        """The operations that came to the proxy, in order."""
        rows = [json.loads(line) for line in self.written.splitlines()]
        return [row["op"].partition(".")[2] for row in rows if row["event"] == "request"]

    @property
    def written(self) -> str:
        """All that the proxy's ledger says of this test."""
        return self._ledger.read_text(encoding="utf-8")[self._begun :]

    def table(self, name: str | None = None) -> str:
        """A new table with the string key `id`."""
        made = name or f"t-{uuid.uuid4().hex}"
        self.direct("dynamodb").create_table(
            TableName=made,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        return made

    def queue(self, *, fifo: bool = False) -> str:
        """The URL of a new queue."""
        name = f"q-{uuid.uuid4().hex[:16]}" + (".fifo" if fifo else "")
        attributes = {"FifoQueue": "true"} if fifo else {}
        return str(self.direct("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])

    def bucket(self) -> str:
        """A new bucket."""
        name = f"b-{uuid.uuid4().hex}"
        self.direct("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
        return name

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the AWS emulator, one for all tests."""
    pytest.importorskip("boto3", reason="the extra `aws` is not installed")
    from resilient_faces.testing.emulator import Emulator, EmulatorUnavailable

    try:
        running = Emulator(tmp_path_factory.mktemp("emulator"))
    except EmulatorUnavailable as error:
        pytest.skip(str(error))
    with running:
        yield running.url


@pytest.fixture(scope="session")
def _services(emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    from resilient_faces.testing.fault_proxy import FaultPlan, FaultProxy

    ledger = tmp_path_factory.mktemp("proxy") / "requests.jsonl"
    with FaultProxy(FaultPlan(), {"*": emulator}, ledger=ledger) as proxy:
        made = Services(emulator, proxy, ledger)
        yield made
        made.close()


@pytest.fixture
def services(_services: Services, clock: Any) -> Services:
    """The emulator behind a fault proxy that damages nothing yet; waits take no time."""
    _services.begin()
    return _services
