"""After a fork parent and children of one client get their own answers, each on connections of its own."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from resilient_faces.adapters.aws import LocalEndpoint, connect, protect
from resilient_faces.retry import Retry

pytest.importorskip("boto3", reason="the extra `aws` is not installed")
pytestmark = [
    pytest.mark.other_platform,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork"),
    # 3.12 and newer warn of forking with threads; the server's are not the client's
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]


class _Table:
    """A server that answers with the key that was asked for, and notes on which connection."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        table = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def log_message(self, *_: object) -> None: ...

            def do_POST(self) -> None:
                key = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["Key"]
                table.asked.append((key["id"]["S"], self.client_address[1]))
                body = json.dumps({"Item": key}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def connections_of(self, who: str) -> set[int]:
        return {port for asked, port in self.asked if asked.startswith(who)}


@pytest.fixture
def table() -> Iterator[_Table]:
    made = _Table()
    yield made
    made.server.shutdown()
    made.server.server_close()


def _connected(url: str) -> Any:
    return connect("dynamodb", region="us-west-2", endpoint=LocalEndpoint(url))


def _protected(url: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(retries={"total_max_attempts": 1, "mode": "standard"}, proxies={})
    client = boto3.client(
        "dynamodb",
        region_name="us-west-2",
        endpoint_url=url,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=config,
    )
    return protect(client, Retry())


def _wrong(client: Any, who: str) -> int:
    """How many of ten answers are somebody else's."""
    keys = [{"id": {"S": f"{who}-{number}"}} for number in range(10)]
    return sum(client.get_item(TableName="people", Key=key)["Item"] != key for key in keys)


@pytest.mark.parametrize("made", [_connected, _protected])
def test_children_get_their_own_answers(
    made: Callable[[str], Any], table: _Table, resilience: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the parent's kept-alive connection they would read each other's; the parent goes on with it afterwards."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = made(f"http://127.0.0.1:{table.server.server_port}")
    assert _wrong(client, "parent") == 0
    children: dict[str, int] = {}
    for name in ("alice", "bob"):
        child = os.fork()
        if child == 0:  # pragma: no cover
            code = 99
            try:
                code = _wrong(client, name)
            finally:
                os._exit(code)
        children[name] = child
    assert _wrong(client, "parent") == 0, "while its children ask"
    for child in children.values():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _wrong(client, "parent") == 0, "when they have ended, and their copies of its connection with them"
    used = [table.connections_of(who) for who in ("parent", *children)]
    assert [len(one) for one in used] == [1, 1, 1]
    assert len(set.union(*used)) == 3, "nobody shares one"
    client.close()
