"""The fault proxy does to a connection what it says, once the plan says so, and writes all of it down."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from resilient_faces.testing.children import Child
from resilient_faces.testing.fault_proxy import (
    FaultKind,
    FaultPlan,
    FaultProxy,
    PlannedFault,
    busiest_second,
    main,
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


# -- protocols ----------------------------------------------------------------------------------------------------

FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
CBOR = {"smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}
CBOR_PATH = "/service/GraniteServiceVersion20100801/operation/PutMetricData"


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "named"),
    [
        ("POST", "/", FORM, b"Action=Publish&Version=2010-03-31&Message=x", "sns.Publish"),
        ("POST", "/", FORM, b"Action=PutMetricData&Version=2010-08-01", "cloudwatch.PutMetricData"),
        ("POST", CBOR_PATH, CBOR, b"\xa0", "cloudwatch.PutMetricData"),
        (
            "POST",
            "/",
            {"X-Amz-Target": "GraniteServiceVersion20100801.GetMetricData"},
            b"{}",
            "cloudwatch.GetMetricData",
        ),
        ("POST", "/1/q", {"X-Amz-Target": "AmazonSQS.SendMessageBatch"}, b"{}", "sqs.SendMessageBatch"),
        ("PUT", "/b/k", {"x-amz-copy-source": "/b/a"}, b"", "s3.CopyObject"),
        ("PUT", "/b/k", {}, b"x", "s3.PutObject"),
        ("POST", "/b?delete", {}, b"<Delete/>", "s3.DeleteObjects"),
        ("HEAD", "/b/k", {}, b"", "s3.HeadObject"),
        ("DELETE", "/b/k", {}, b"", "s3.DeleteObject"),
    ],
)
def test_a_request_is_named_in_every_protocol(
    method: str, path: str, headers: dict[str, str], body: bytes, named: str
) -> None:
    """JSON by its target, the query protocol by its form, CBOR and S3 by their paths."""
    assert name_request(method, path, headers, body)[0] == named


def cbor(data: bytes) -> dict[str, str]:
    """A map of texts, read as RFC 8949 says."""
    at = 1
    texts = []
    assert data[0] >> 5 == 5
    while at < len(data):
        assert data[at] >> 5 == 3
        length, at = (data[at + 1], at + 2) if data[at] == 0x78 else (data[at] & 31, at + 1)
        texts.append(data[at : at + length].decode())
        at += length
    assert len(texts) == 2 * (data[0] & 31)
    return dict(zip(texts[::2], texts[1::2], strict=True))


def test_errors_are_in_the_protocol_of_their_request(proxied: Proxies) -> None:
    """SNS answers XML with an ErrorResponse, CloudWatch CBOR or JSON, as it was asked."""
    rows = [PlannedFault("sns.Publish", FaultKind.throttle, nth=1)]
    rows += [PlannedFault("cloudwatch.PutMetricData", FaultKind.server_error, nth=nth) for nth in (1, 2)]
    with proxied(*rows) as proxy, connection(proxy) as client:
        client.request("POST", "/", body=b"Action=Publish&Version=2010-03-31", headers=FORM)
        answer = client.getresponse()
        assert (answer.status, b"<ErrorResponse><Error><Type>Sender</Type><Code>Throttled" in answer.read()) == (
            429,
            True,
        )
        client.request("POST", CBOR_PATH, body=b"\xa0", headers=CBOR)
        answer = client.getresponse()
        assert (answer.status, answer.headers["smithy-protocol"]) == (500, "rpc-v2-cbor")
        assert cbor(answer.read())["__type"] == "InternalServiceError"
        client.request("POST", "/", body=b"{}", headers={"X-Amz-Target": "GraniteServiceVersion20100801.PutMetricData"})
        answer = client.getresponse()
        assert (answer.status, json.loads(answer.read())["__type"]) == (500, "InternalServiceError")


def test_an_error_for_head_has_no_body(proxied: Proxies) -> None:
    """And the connection goes on."""
    with proxied(PlannedFault("s3.HeadObject", FaultKind.throttle, nth=1)) as proxy, connection(proxy) as client:
        client.request("HEAD", "/b/k")
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (503, b"")
        assert post(client)[0] == 200


def test_an_answer_without_a_body_is_cut_in_its_head(proxied: Proxies, upstream: Upstream) -> None:
    """Nothing of the headers comes, where half of nothing would be a whole answer."""
    with proxied(PlannedFault("s3.HeadObject", FaultKind.truncated, nth=1)) as proxy, connection(proxy) as client:
        client.request("HEAD", "/b/k")
        answer = client.getresponse()
        assert (answer.status, answer.headers["X-Kept"]) == (200, None)
    assert len(upstream.seen) == 1


# -- batches, another plan, a closed port -------------------------------------------------------------------------


class Batches(Upstream):
    """Says that all it was sent is done."""

    said = b'{"Successful": [{"Id": "0"}], "UnprocessedItems": {}}'

    def __init__(self) -> None:
        super().__init__()
        handler: Any = self.RequestHandlerClass
        server = self

        def answer(self: Any) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server.seen.append((self.command, self.path, dict(self.headers), body))
            self.send_response(200)
            self.send_header("Content-Length", str(len(server.said)))
            self.send_header("x-amz-crc32", "1")
            self.end_headers()
            self.wfile.write(server.said)

        handler.do_POST = answer


@pytest.mark.parametrize(
    ("target", "body", "forwarded", "left"),
    [
        (
            "AmazonSQS.SendMessageBatch",
            {"QueueUrl": "u", "Entries": [{"Id": "0"}, {"Id": "1"}, {"Id": "2"}]},
            {"QueueUrl": "u", "Entries": [{"Id": "0"}]},
            {"Failed": [{"Id": name, "SenderFault": False, "Code": "InternalError"} for name in "12"]},
        ),
        (
            "DynamoDB_20120810.BatchWriteItem",
            {"RequestItems": {"t": [1, 2, 3]}},
            {"RequestItems": {"t": [1]}},
            {"UnprocessedItems": {"t": [2, 3]}},
        ),
        (
            "DynamoDB_20120810.BatchGetItem",
            {"RequestItems": {"t": {"Keys": [1, 2], "ConsistentRead": True}}},
            {"RequestItems": {"t": {"Keys": [1], "ConsistentRead": True}}},
            {"UnprocessedKeys": {"t": {"Keys": [2], "ConsistentRead": True}}},
        ),
        ("DynamoDB_20120810.BatchWriteItem", {"RequestItems": {"t": [1]}}, None, {"UnprocessedItems": {"t": [1]}}),
    ],
)
def test_of_a_batch_only_the_first_half_is_done(
    target: str, body: dict[str, Any], forwarded: dict[str, Any] | None, left: dict[str, Any]
) -> None:
    """The answer says what is left, as the service would; a checksum of another answer does not go with it."""
    server = Batches()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        operation, _ = name_request("POST", "/", {"X-Amz-Target": target}, b"")
        plan = FaultPlan((PlannedFault(operation, FaultKind.partial, nth=1),))
        with FaultProxy(plan, {"*": f"http://127.0.0.1:{server.server_port}"}) as proxy, connection(proxy) as client:
            client.request("POST", "/", body=json.dumps(body).encode(), headers={"X-Amz-Target": target})
            answer = client.getresponse()
            said = json.loads(answer.read())
        assert answer.headers["x-amz-crc32"] is None
        assert {name: said[name] for name in left} == left
        assert [json.loads(one[3]) for one in server.seen] == ([] if forwarded is None else [forwarded])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_another_plan_counts_from_one(proxied: Proxies) -> None:
    """One proxy serves many cases."""
    with proxied() as proxy, connection(proxy) as client:
        assert post(client)[0] == 200
        proxy.replan(FaultPlan((strike(FaultKind.throttle),)))
        assert [post(client)[0] for _ in range(2)] == [400, 200]


def test_a_closed_port_refuses_and_opens_again(proxied: Proxies) -> None:
    """Kept connections end as well; afterwards it is the same port."""
    with proxied() as proxy:
        with connection(proxy) as client:
            assert post(client)[0] == 200
            with proxy.refusing():
                with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
                    post(client)
                client.close()
                with pytest.raises(ConnectionRefusedError):
                    post(client)
        with connection(proxy) as client:
            assert post(client)[0] == 200
        proxy.refuse()  # and stopping it then is no error


def test_a_proxy_of_its_own_process_obeys_its_input(upstream: Upstream, tmp_path: Path) -> None:
    """So a program in another language can have its port closed and opened."""
    command = ["-m", "resilient_faces.testing.fault_proxy", "--route", f"*=http://127.0.0.1:{upstream.server_port}"]
    with Child("proxy", [sys.executable, *command], log=tmp_path / "log", says_hello=True) as child:

        def tell(line: str) -> None:
            assert child.process.stdin is not None
            child.process.stdin.write(f"{line}\n".encode())
            child.process.stdin.flush()

        def answers() -> bool:
            client = http.client.HTTPConnection("127.0.0.1", child.hello["port"], timeout=3)
            try:
                return post(client)[0] == 200
            except ConnectionError:
                return False
            finally:
                client.close()

        def becomes(state: bool) -> bool:
            ends = time.monotonic() + 10
            while answers() is not state and time.monotonic() < ends:
                time.sleep(0.02)
            return answers() is state

        assert answers()
        tell("refuse")
        assert becomes(False)
        tell("accept")
        assert becomes(True)
    assert child.process.returncode == 0


# -- as a command --------------------------------------------------------------------------------------------------

ROW = {"operation": "s3.GetObject", "fault": "500", "nth": 1}
WRONG_PLANS = (
    ("", "is no JSON"),
    ("[]", "must be an object"),
    (json.dumps({"schema": 2}), "FaultPlan has schema 1; got 2"),
    (json.dumps({"schema": 1}), "faults must be a list of rows; got NoneType"),
    (json.dumps({"schema": 1, "faults": ["x"]}), "faults[0] must be an object"),
    (json.dumps({"schema": 1, "faults": [ROW, {**ROW, "falut": 1}]}), "faults[1] has no member 'falut'. It takes: op"),
    (json.dumps({"schema": 1, "faults": [{**ROW, "fault": "501"}]}), "faults[0].fault must be one of throttle, 500"),
    (json.dumps({"schema": 1, "faults": [{"fault": "500"}]}), "faults[0].operation must be such as s3.GetObject; got"),
    (json.dumps({"schema": 1, "faults": [{**ROW, "nth": 0}]}), "faults[0] must have nth or subject, or it strikes"),
    (json.dumps({"schema": 1, "faults": [{**ROW, "nth": "1"}]}), "faults[0].nth must be a whole number from 0 on"),
    (json.dumps({"schema": 1, "faults": [{**ROW, "times": -1}]}), "faults[0].times must be a whole number from 0 on"),
    (json.dumps({"schema": 1, "faults": [{**ROW, "after": 1}]}), "faults[0].after must be true or false; got 1"),
)


@pytest.mark.parametrize(("text", "said"), WRONG_PLANS)
def test_what_is_no_plan_is_refused(text: str, said: str) -> None:
    """With the row and the rule: a row that is read wrongly strikes nothing, and a test would pass for nothing."""
    with pytest.raises(ValueError, match=re.escape(said)):
        FaultPlan.from_json(text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--plan", "{here}/none"), "argument --plan: {here}/none cannot be read: No such file or directory."),
        (("--plan", "{here}"), "argument --plan: {here} cannot be read: Is a directory."),
        (("--plan", "{here}/plan.json"), "argument --plan: {here}/plan.json: FaultPlan has schema 1; got 2."),
        (("--route", "rekognition"), "argument --route: must be SERVICE=URL, such as s3=http://127.0.0.1:4566; got"),
        (("--route", "s3=127.0.0.1:1"), "argument --route: must be SERVICE=URL, such as s3=http://127.0.0.1:4566; got"),
        (("--route", "s3=http://h:1", "--route", "s3=http://h:2"), "--route names s3 twice."),
        (("--ledger", "{here}/none/x"), "--ledger {here}/none/x cannot be written: No such file or directory."),
        (("--port", "70000"), "argument --port: must be a whole number from 0 to 65535; got '70000'."),
        (("--hang-seconds", "nan"), "argument --hang-seconds: must be a number of seconds, 0 or more; got 'nan'."),
        (("--host", "192.0.2.1"), "--host 192.0.2.1 --port 0 cannot be listened on: "),
        (("--plna", "x"), "unrecognized arguments: --plna"),
        (("--pl", "x"), "unrecognized arguments: --pl"),
        (("--plan", ""), "argument --plan: must be a file; got ''. Leave the option out to do without."),
        (("--plan", "{here}/latin.json"), "argument --plan: {here}/latin.json must be JSON in UTF-8. Make it with"),
        (("--ledger", ""), "argument --ledger: must be a file; got ''. Leave the option out to do without."),
        (("--host", ""), "argument --host: must be an address of this machine, such as 127.0.0.1; got ''. 0.0.0.0"),
        (
            ("--route", "rekogniton=http://h:1"),
            "argument --route: must name a service; got 'rekogniton'. Did you mean r",
        ),
        (("--route", "s3=https://h:1"), "argument --route: s3 must go to http://host:port, without TLS, a user,"),
        (("--route", "s3=http://me:planted@h:1"), "argument --route: s3 must go to http://host:port, without TLS, a"),
        (("--route", "s3=http://h:1/planted"), "argument --route: s3 must go to http://host:port, without TLS, a"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 as of the other commands, the option, and the rule; no traceback."""
    (tmp_path / "plan.json").write_text('{"schema": 2}')
    (tmp_path / "latin.json").write_bytes(b"planted \xff")
    with pytest.raises(SystemExit) as ended:
        main([one.format(here=tmp_path) for one in arguments])
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (2, "")
    assert said.format(here=tmp_path) in " ".join(shown.err.split())
    assert "planted" not in shown.err


@pytest.mark.parametrize("plan", [ROW | {"subject": ["planted"]}, "planted"])
def test_a_plan_s_subjects_are_not_shown(plan: object) -> None:
    """They are the keys of photos, and those may say who is on them."""
    with pytest.raises(ValueError, match=r"faults\[0\]") as caught:
        FaultPlan.from_json(json.dumps({"schema": 1, "faults": [plan]}))
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("route", ["s3=http://h:1", "*=http://127.0.0.1", "ses=http://my-host.example:4566/"])
def test_a_route_of_any_service_is_taken(
    route: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a port and without one, which is 80."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["--route", route]) == 0
    assert json.loads(capsys.readouterr().out)["port"]
