"""`resilient-faces redrive`, as an operator runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("click", reason="the extra `cli` is not installed")
pytest.importorskip("boto3", reason="the extra `aws` is not installed")

from resilient_faces.adapters.aws import UNGUARDED, LocalEndpoint, connect
from resilient_faces.adapters.sqs import Sqs
from resilient_faces.testing.emulator import REGION, Emulator, EmulatorUnavailable
from resilient_faces.testing.fault_proxy import FaultKind, FaultPlan, FaultProxy, PlannedFault

COMMAND = [sys.executable, "-m", "resilient_faces", "redrive"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        running = Emulator(tmp_path_factory.mktemp("emulator"))
    except EmulatorUnavailable as error:
        pytest.skip(str(error))
    with running:
        yield running.url


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[Any]:
    made = connect("sqs", region=REGION, endpoint=LocalEndpoint(server))
    yield made
    made.close()


@pytest.fixture
def queue(client: Any, request: pytest.FixtureRequest) -> Sqs:
    name = request.node.name.replace("[", "-").replace("]", "")[:70]
    urls = [client.create_queue(QueueName=f"{name}{end}")["QueueUrl"] for end in ("", "-dead")]
    return Sqs(client, *urls, **UNGUARDED)


def fill(queue: Sqs, count: int) -> None:
    for number in range(count):
        queue.send(f"planted-key-{number}")
    for delivery in (one for _ in range(count) for one in queue.receive(10, wait=0, visibility=60)):
        queue.dead(delivery, "test")


def arguments(queue: Sqs, server: str, *more: str) -> list[str]:
    return [*COMMAND, "--from", queue._dead_letters or "", "--to", queue._queue, "--region", REGION,
            "--endpoint-url", server, *more]  # fmt: skip


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ})


def test_dead_letters_are_moved_and_counted(queue: Sqs, server: str) -> None:
    """JSON alone on standard output; no body of a message anywhere."""
    fill(queue, 3)
    done = run(*arguments(queue, server, "--json"))
    said = json.loads(done.stdout)
    assert (done.returncode, said["schema"], said["moved"], said["left"], said["ok"]) == (0, 1, 3, 0, True)
    assert queue.waiting() == (3, 0)
    assert "planted" not in done.stdout + done.stderr


def test_a_dry_run_touches_nothing(queue: Sqs, server: str) -> None:
    """Not even the count of deliveries."""
    fill(queue, 2)
    done = run(*arguments(queue, server, "--dry-run"))
    assert (done.returncode, "About 2 dead letters" in done.stdout) == (0, True)
    assert queue.waiting() == (0, 2)
    (letter, *_) = Sqs(queue._requests.client, queue._dead_letters or "", **UNGUARDED).receive(10, wait=0, visibility=0)
    assert letter.count == 1


def test_as_many_as_are_wanted(queue: Sqs, server: str) -> None:
    """--max 1 of 3; queues by their names."""
    fill(queue, 3)
    names = [url.rpartition("/")[2] for url in (queue._dead_letters or "", queue._queue)]
    done = run(*COMMAND, "--from", names[0], "--to", names[1], "--region", REGION, "--endpoint-url", server,
               "--max", "1", "--json")  # fmt: skip
    assert json.loads(done.stdout)["moved"] == 1
    assert queue.waiting() == (1, 2)


def test_exit_codes(queue: Sqs, server: str) -> None:
    """2 wrong usage, 3 no service, and what to do."""
    assert run(*arguments(queue, server, "--max", "0")).returncode == 2
    nobody = run(*arguments(queue, "http://127.0.0.1:1"))
    assert (nobody.returncode, nobody.stdout) == (3, "")
    assert nobody.stderr == (
        "--endpoint-url http://127.0.0.1:1 cannot be reached (EndpointConnectionError). Start the server there, or "
        "give its address.\n"
    )
    helped = run(*COMMAND, "--help")
    assert (helped.returncode, "--dry-run" in helped.stdout) == (0, True)
    assert "AWS_REGION, AWS_DEFAULT_REGION" in " ".join(helped.stdout.split())


def test_the_queue_that_is_not_there_is_named(queue: Sqs, server: str) -> None:
    """By its option and name, whether a name or a URL was given; a URL's account is not shown."""
    dead, good = queue._dead_letters or "", queue._queue
    missing = "http://sqs.us-west-2.amazonaws.com/123456789012/absent"
    for source, target, option in (
        ("absent", good, "--from absent"),
        (dead, "absent", "--to absent"),
        (missing, good, "--from absent"),
        (dead, missing, "--to absent"),
    ):
        done = run(*COMMAND, "--from", source, "--to", target, "--region", REGION, "--endpoint-url", server)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{option} is no queue at --endpoint-url {server} in --region {REGION} (" in done.stderr
        assert "123456789012" not in done.stderr


def test_a_queue_is_not_moved_into_itself(queue: Sqs, server: str) -> None:
    """By name and by URL."""
    url = queue._queue
    for source in (url, url.rpartition("/")[2]):
        done = run(*COMMAND, "--from", source, "--to", url, "--region", REGION, "--endpoint-url", server)
        assert (done.returncode, done.stdout) == (2, "")
        assert "--from and --to are the same queue" in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--from", "", "'--from': must be the name or the URL of a queue; got ''."),
        ("--to", "a b", "'--to': must be the name or the URL of a queue; got 'a b'."),
        ("--to", "arn:aws:sqs:us-west-2:123456789012:q", "'--to': must be the name or the URL of a queue; got an ARN."),
        (
            "--from",
            "http://user:planted@host/q",
            "'--from': must be the name or the URL of a queue; got another address",
        ),
        ("--to", "https://host", "'--to': must be the name or the URL of a queue; got another address"),
        ("--region", "", "must be the name of a region, such as us-west-2; got ''"),
        ("--region", "foo bar", "must be the name of a region, such as us-west-2; got 'foo bar'"),
        ("--endpoint-url", "foo:planted", "'--endpoint-url': must be an address such as http://127.0.0.1:8091"),
        ("--endpoint-url", "http://user:planted@127.0.0.1:1", "without a user and a password"),
    ],
)
def test_wrong_options_are_named(option: str, value: str, said: str) -> None:
    """As they were given, with the rule, before anything is asked; nobody's password or account is shown."""
    good = {"--from": "a", "--to": "b", "--region": REGION, "--endpoint-url": "http://127.0.0.1:1"}
    done = run(*COMMAND, *(text for pair in {**good, option: value}.items() for text in pair))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())
    assert "planted" not in done.stderr
    assert "123456789012" not in done.stderr


def test_a_region_of_the_environment_is_checked_too() -> None:
    """And the variables are named."""
    done = subprocess.run([*COMMAND, "--from", "a", "--to", "b"], capture_output=True, text=True, check=False,
                          env={**os.environ, "AWS_REGION": "foo bar"})  # fmt: skip
    assert done.returncode == 2
    assert "AWS_REGION" in done.stderr
    assert "'foo bar'" in done.stderr


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        ({}, 3, "There are no credentials (NoCredentialsError). Set AWS_PROFILE"),
        ({"AWS_ACCESS_KEY_ID": "planted"}, 3, "The credentials are incomplete (PartialCredentialsError)."),
        ({"AWS_PROFILE": "planted"}, 2, "The profile of AWS_PROFILE is not in the SDK's configuration"),
        ({"AWS_CONFIG_FILE": __file__}, 2, "The SDK's configuration is wrong (ConfigParseError)."),
        ({"AWS_ENDPOINT_URL": "planted"}, 2, "AWS_ENDPOINT_URL or AWS_ENDPOINT_URL_SQS must be an address"),
    ],
)
def test_what_the_sdk_lacks_is_said(variables: dict[str, str], code: int, said: str, tmp_path: Path) -> None:
    """Profile, credentials and configuration, each with what to do; no value of them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nothing = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": str(tmp_path / "no"),
               "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no")}  # fmt: skip
    done = subprocess.run([*COMMAND, "--from", "a", "--to", "b", "--region", REGION], capture_output=True, text=True,
                          check=False, timeout=60, env={**kept, **nothing, **variables})  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(said), done.stderr
    assert "planted" not in done.stderr


@contextmanager
def answering(status: int, answer: dict[str, str]) -> Iterator[str]:
    """A server that always answers the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


@pytest.mark.parametrize(
    ("status", "error", "code", "said"),
    [
        (403, "AccessDenied", 3, "The credentials may not use --from dead (AccessDenied). Give them sqs:GetQueueUrl"),
        (403, "InvalidClientTokenId", 3, "The credentials are not taken (InvalidClientTokenId)."),
        (403, "RequestTimeTooSkewed", 2, "The clock of this machine is off (RequestTimeTooSkewed). Set it."),
        (400, "InvalidParameterValue", 2, "--from dead is not taken at --endpoint-url"),
        (400, "UnknownOperationException", 2, "--endpoint-url http://127.0.0.1:{port} does not answer as SQS does ("),
    ],
)
def test_what_the_service_refuses_is_said(status: int, error: str, code: int, said: str) -> None:
    """By the option that it is about, with the cure, and without the service's own text, which names accounts."""
    with answering(status, {"__type": f"com.amazonaws.sqs#{error}", "message": "planted 123456789012"}) as url:
        done = run(*COMMAND, "--from", "dead", "--to", "b", "--region", REGION, "--endpoint-url", url)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(said.format(port=url.rpartition(":")[2])), done.stderr
    assert "planted" not in done.stderr


def test_what_cannot_be_moved_is_exit_1(queue: Sqs, server: str) -> None:
    """With its code; the dead letter stays."""
    fill(queue, 1)
    plan = FaultPlan(tuple(PlannedFault("sqs.SendMessage", FaultKind.server_error, nth=n) for n in range(1, 20)))
    with FaultProxy(plan, {"*": server}) as proxy:
        done = run(*arguments(queue, proxy.url, "--json"))
    said = json.loads(done.stdout)
    assert (done.returncode, said["failed"], said["moved"]) == (1, {"InternalServerError": 1}, 0)
    assert queue.waiting()[0] == 0


def test_a_run_that_breaks_off_says_what_it_did(queue: Sqs, server: str) -> None:
    """The second look for dead letters fails: what was moved before is told all the same, and why it ended."""
    fill(queue, 3)
    plan = FaultPlan(tuple(PlannedFault("sqs.ReceiveMessage", FaultKind.server_error, nth=n) for n in range(2, 9)))
    with FaultProxy(plan, {"*": server}) as proxy:
        done = run(*arguments(queue, proxy.url, "--json"))
    said = json.loads(done.stdout)
    assert (done.returncode, said["moved"], said["ok"], said["stopped"]) == (1, 3, False, "InternalServerError")
    assert "(transient: InternalServerError)" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_after_the_message_in_hand(
    queue: Sqs, server: str, number: signal.Signals, tmp_path: Path
) -> None:
    """The send in hand is slow; it and its deletion are finished, the rest is not touched."""
    fill(queue, 3)
    ledger = tmp_path / "requests.jsonl"
    plan = FaultPlan((PlannedFault("sqs.SendMessage", FaultKind.hang, nth=1),))
    with FaultProxy(plan, {"*": server}, ledger=ledger, hang_seconds=1.0) as proxy:
        running = subprocess.Popen(
            arguments(queue, proxy.url, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        ends = time.monotonic() + 30
        while '"fault":"hang"' not in ledger.read_text() and time.monotonic() < ends:
            time.sleep(0.02)
        running.send_signal(number)
        out, _ = running.communicate(timeout=30)
    said = json.loads(out)
    assert (running.returncode, said["interrupted"], said["moved"]) == (130, True, 1)
    assert queue.waiting() == (1, 2)
