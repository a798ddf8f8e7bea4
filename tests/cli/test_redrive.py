"""`resilient-faces redrive`, as an operator runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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
    """2 no such queue or wrong usage, 3 no service."""
    missing = [*COMMAND, "--from", "nothing", "--to", "nowhere", "--region", REGION, "--endpoint-url", server]
    assert run(*missing).returncode == 2
    assert run(*arguments(queue, server, "--max", "0")).returncode == 2
    wrong = run(*arguments(queue, "http://user:planted@127.0.0.1:1"))
    assert (wrong.returncode, "LocalEndpoint.url must be without a user" in wrong.stderr) == (2, True), "says the cure"
    assert "planted" not in wrong.stderr
    nobody = run(*arguments(queue, "http://127.0.0.1:1"))
    assert (nobody.returncode, "unavailable" in nobody.stderr) == (3, True)
    helped = run(*COMMAND, "--help")
    assert (helped.returncode, "--dry-run" in helped.stdout) == (0, True)


def test_what_cannot_be_moved_is_exit_1(queue: Sqs, server: str) -> None:
    """With its code; the dead letter stays."""
    fill(queue, 1)
    plan = FaultPlan(tuple(PlannedFault("sqs.SendMessage", FaultKind.server_error, nth=n) for n in range(1, 20)))
    with FaultProxy(plan, {"*": server}) as proxy:
        done = run(*arguments(queue, proxy.url, "--json"))
    said = json.loads(done.stdout)
    assert (done.returncode, said["failed"], said["moved"]) == (1, {"InternalServerError": 1}, 0)
    assert queue.waiting()[0] == 0


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
