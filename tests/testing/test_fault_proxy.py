"""The fault proxy does to a connection what it says, once the plan says so, and writes all of it down."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from resilient_faces.testing.fault_proxy import (
    FaultKind,
    FaultPlan,
    FaultProxy,
    PlannedFault,
    busiest_second,
    name_request,
    read_ledger,
    scatter,
)

TARGET = {"X-Amz-Target": "RekognitionService.IndexFaces"}
Proxies: TypeAlias = "Callable[..., AbstractContextManager[FaultProxy]]"


class Upstream(ThreadingHTTPServer):
    """Answers everything with what it was sent, and remembers it."""

    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                upstream.seen.append((self.command, self.path, dict(self.headers), body))
                self.send_response(200)
                self.send_header("Content-Length", "20")
                self.send_header("X-Kept", "yes")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(b"0123456789" * 2)

            do_GET = do_POST = do_PUT = do_HEAD = answer

            def log_message(self, *_: object) -> None: ...

        upstream = self
        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def proxied(upstream: Upstream, tmp_path: Path) -> Proxies:
    @contextmanager
    def start(*faults: PlannedFault, **options: Any) -> Iterator[FaultProxy]:
        routes = {"*": f"http://127.0.0.1:{upstream.server_port}"}
        with FaultProxy(FaultPlan(faults), routes, ledger=tmp_path / "requests.jsonl", **options) as proxy:
            yield proxy

    return start


@contextmanager
def connection(proxy: FaultProxy) -> Iterator[http.client.HTTPConnection]:
    client = http.client.HTTPConnection("127.0.0.1", proxy.server_port, timeout=3)
    try:
        yield client
    finally:
        client.close()


def post(client: http.client.HTTPConnection, body: bytes = b"{}", **headers: str) -> tuple[int, bytes]:
    client.request("POST", "/", body=body, headers={**TARGET, **headers})
    answer = client.getresponse()
    return answer.status, answer.read()


def strike(kind: FaultKind, **more: Any) -> PlannedFault:
    return PlannedFault("rekognition.IndexFaces", kind, **{"nth": 1, **more})


def test_without_faults_everything_goes_through(proxied: Proxies, upstream: Upstream) -> None:
    """Body, path, Host and headers arrive as sent, and one connection serves several requests."""
    with proxied() as proxy, connection(proxy) as client:
        for _ in range(2):
            client.request("PUT", "/bucket/a%20key?x=1", body=b"abc", headers={"Host": "queue.example"})
            answer = client.getresponse()
            assert (answer.status, answer.read(), answer.headers["X-Kept"]) == (200, b"0123456789" * 2, "yes")
    method, path, headers, body = upstream.seen[-1]
    assert (method, path, headers["Host"], body) == ("PUT", "/bucket/a%20key?x=1", "queue.example", b"abc")


def test_chunked_bodies_are_forwarded(proxied: Proxies, upstream: Upstream) -> None:
    """S3 clients send in chunks."""
    with proxied() as proxy, connection(proxy) as client:
        client.request("PUT", "/b/k", body=iter([b"abc", b"def"]), encode_chunked=True)
        assert client.getresponse().read()
    assert upstream.seen[-1][3] == b"abcdef"


def test_head_has_a_length_and_no_body(proxied: Proxies) -> None:
    """A HEAD answer announces a length, and the connection goes on."""
    with proxied() as proxy, connection(proxy) as client:
        client.request("HEAD", "/b/k")
        answer = client.getresponse()
        assert (answer.headers["Content-Length"], answer.read()) == ("20", b"")
        assert post(client)[0] == 200


def test_expect_continue_is_answered_at_once(proxied: Proxies) -> None:
    """A client that waits for leave to send its body gets it."""
    with proxied() as proxy, socket.create_connection(("127.0.0.1", proxy.server_port), timeout=3) as raw:
        raw.sendall(b"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 100")
        raw.sendall(b"abc")
        assert raw.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("kind", "headers", "status", "code"),
    [
        (FaultKind.throttle, TARGET, 400, "ProvisionedThroughputExceededException"),
        (FaultKind.server_error, TARGET, 500, "InternalServerError"),
        (FaultKind.unavailable, TARGET, 503, "ServiceUnavailable"),
        (FaultKind.throttle, {"X-Amz-Target": "AmazonSQS.ReceiveMessage"}, 400, "ThrottlingException"),
    ],
)
def test_errors_are_the_services_own(
    proxied: Proxies, upstream: Upstream, kind: FaultKind, headers: dict[str, str], status: int, code: str
) -> None:
    """Status and code as the service gives them; the request never arrived."""
    operation, _ = name_request("POST", "/", headers, b"")
    with proxied(PlannedFault(operation, kind, nth=1)) as proxy, connection(proxy) as client:
        client.request("POST", "/", body=b"{}", headers=headers)
        answer = client.getresponse()
        assert (answer.status, json.loads(answer.read())["__type"]) == (status, code)
        assert upstream.seen == []
        assert post(client)[0] == 200


def test_s3_errors_are_xml(proxied: Proxies) -> None:
    """S3's throttle is SlowDown with a 503."""
    with proxied(PlannedFault("s3.GetObject", FaultKind.throttle, nth=1)) as proxy, connection(proxy) as client:
        client.request("GET", "/bucket/key")
        answer = client.getresponse()
        assert (answer.status, b"<Code>SlowDown</Code>" in answer.read()) == (503, True)


@pytest.mark.parametrize("after", [False, True])
def test_reset_is_a_reset(proxied: Proxies, upstream: Upstream, after: bool) -> None:
    """The client sees RST, not an end; with `after` the work was done."""
    with proxied(strike(FaultKind.reset, after=after)) as proxy, connection(proxy) as client:
        with pytest.raises(ConnectionResetError):
            post(client)
        client.close()
        assert len(upstream.seen) == int(after)
        assert post(client)[0] == 200


def test_truncated_announces_more_than_it_sends(proxied: Proxies, upstream: Upstream) -> None:
    """Half the body and then the end: the client can only tell by the length."""
    with proxied(strike(FaultKind.truncated)) as proxy, connection(proxy) as client:
        client.request("POST", "/", body=b"{}", headers=TARGET)
        answer = client.getresponse()
        with pytest.raises(http.client.IncompleteRead) as caught:
            answer.read()
        assert (answer.status, caught.value.partial) == (200, b"0123456789")
    assert len(upstream.seen) == 1


def test_garbage_is_a_200(proxied: Proxies, upstream: Upstream) -> None:
    """What a captive portal says: 200, and no answer."""
    with proxied(strike(FaultKind.garbage)) as proxy, connection(proxy) as client:
        status, body = post(client)
        assert (status, body.startswith(b"<!doctype html>")) == (200, True)
    assert upstream.seen == []


def test_hang_says_nothing_until_the_client_goes(proxied: Proxies) -> None:
    """No byte comes; other requests are served meanwhile."""
    with proxied(strike(FaultKind.hang)) as proxy:
        with connection(proxy) as client:
            client.timeout = 0.2
            with pytest.raises(TimeoutError):
                post(client)
        with connection(proxy) as client:
            assert post(client)[0] == 200


def test_a_subject_can_be_struck_for_ever(proxied: Proxies) -> None:
    """Requests about one photo fail, all others pass."""
    with proxied(strike(FaultKind.server_error, nth=0, subject="bad", times=0)) as proxy, connection(proxy) as client:
        bodies = [b'{"ExternalImageId": "bad"}', b'{"ExternalImageId": "good"}'] * 2
        assert [post(client, body)[0] for body in bodies] == [500, 200, 500, 200]


def test_a_lost_upstream_ends_the_connection(tmp_path: Path) -> None:
    """A server that is not there is a connection that ends, as without a proxy."""
    lost = pytest.raises((http.client.RemoteDisconnected, ConnectionResetError))
    with FaultProxy(FaultPlan(), {"*": "http://127.0.0.1:1"}) as proxy, connection(proxy) as client, lost:
        post(client)


def test_the_ledger_has_every_request_and_no_content(proxied: Proxies, tmp_path: Path) -> None:
    """Operation, subject, fault, status; neither bodies nor headers."""
    with proxied(strike(FaultKind.throttle)) as proxy, connection(proxy) as client:
        for _ in range(2):
            post(
                client, b'{"ExternalImageId": "p1", "Image": {"Bytes": "c2VjcmV0"}}', Authorization="Credential=secret"
            )
        client.request("GET", "/photos/a/b.jpg")
        client.getresponse().read()
    seen = read_ledger(tmp_path / "requests.jsonl")
    assert [(one.operation, one.subject, one.fault, one.status) for one in seen] == [
        ("rekognition.IndexFaces", "p1", "throttle", 400),
        ("rekognition.IndexFaces", "p1", None, 200),
        ("s3.GetObject", "a/b.jpg", None, 200),
    ]
    text = (tmp_path / "requests.jsonl").read_text()
    assert "c2VjcmV0" not in text
    assert "Credential" not in text


def test_a_plan_survives_json() -> None:
    """What the proxy's process reads is what was planned."""
    plan = FaultPlan((strike(FaultKind.reset, after=True), strike(FaultKind.hang, nth=0, subject="x", times=0)), seed=7)
    assert FaultPlan.from_json(plan.to_json()) == plan
    with pytest.raises(ValueError, match="schema 1"):
        FaultPlan.from_json('{"schema": 2}')


def test_scattering_depends_on_the_seed_alone() -> None:
    """The same seed strikes the same requests, another seed others; never one request twice."""
    wanted = {"s3.GetObject": [(FaultKind.reset, True, 3), (FaultKind.hang, False, 2)]}
    one, again, other = (scatter(seed, wanted, {"s3.GetObject": 50}) for seed in (1, 1, 2))
    assert one == again != other
    assert len({row.nth for row in one}) == 5
    assert all(1 <= row.nth <= 50 for row in one)


@pytest.mark.parametrize(
    ("times", "most"),
    [([], 0), ([0.0], 1), ([0.0, 0.999, 1.0], 2), ([0.0, 0.5, 0.9, 1.0, 1.4, 2.0], 4), ([5.0] * 4, 4)],
)
def test_the_busiest_second_is_half_open(times: list[float], most: int) -> None:
    """[t, t + 1): two requests exactly one second apart are not in the same second."""
    assert busiest_second(times) == most
