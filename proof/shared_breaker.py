"""Eight processes share a circuit: `python proof/shared_breaker.py [--small] [--store redis|dynamodb]`.

All call a service that fails, as fast as they can, until each finds the circuit open: with a threshold of 5, the
service's ledger may have at most 12 calls (5, and one that each of the other seven had under way). Then they go on
calling. When the open time is over, exactly one call may reach the service, however long its answer takes: first one
that fails, after the next open time one that succeeds, which closes the circuit everywhere. One of the eight has a
clock that is 5 s fast, in the next round one that is 5 s slow.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import _shared
from _report import Proof

PROCESSES = 8
THRESHOLD = 5
MOST = 12
OPEN = 2.0  # seconds
ANSWER = 0.5  # seconds that the service takes to answer a probe: long enough for others to slip in


class Service:
    """What is called: it notes each call, and answers as it is told."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.calls: list[tuple[float, int, str]] = []  # when, from which process, answered with
        self.answer = "fails"
        self.delay = 0.0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            number = int(connection.recv(16))
            answer, delay = self.answer, self.delay
            self.calls.append((time.monotonic(), number, answer))
            time.sleep(delay)
            connection.sendall(answer.encode())

    def since(self, at: float) -> int:
        return sum(1 for when, _, _ in list(self.calls) if when >= at)

    def within(self, at: float, seconds: float) -> int:
        """Calls in so many seconds from the first one after `at`: by their times, whenever somebody counts."""
        times = sorted(when for when, _, _ in list(self.calls) if when >= at)
        return sum(1 for when in times if when < times[0] + seconds)

    def close(self) -> None:
        self._listener.close()


def prepare(task: dict[str, Any]) -> dict[str, Any]:
    _shared.shift_clock(task["clock_off"])
    from resilient_faces import Breaker
    from resilient_faces.breaker import consecutive

    store = _shared.open_store(task["spec"], task["prefix"])
    breaker = Breaker(
        "service",
        trips=consecutive(THRESHOLD),
        recovery_timeout=OPEN,
        growth=1.0,
        probe_lease=10.0,
        refresh=0.25,
        store=store,
        store_timeout=1.0,
    )
    store.load("nothing")  # connected
    return {**task, "breaker": breaker}


def work(task: dict[str, Any], ended: threading.Event) -> dict[str, Any]:
    from resilient_faces import CircuitOpenError

    breaker, number = task["breaker"], task["number"]

    @breaker
    def call() -> None:
        with socket.create_connection(("127.0.0.1", task["port"]), timeout=5.0) as connection:
            connection.sendall(str(number).encode())
            if connection.recv(16) != b"works":
                raise ConnectionResetError("the service fails")

    came = {"fails": 0, "works": 0, "refused": 0}
    while not ended.is_set():
        try:
            call()
            came["works"] += 1
            ended.wait(0.05)
        except CircuitOpenError:
            if not came["refused"]:
                print("open", flush=True)
            came["refused"] += 1
            ended.wait(0.02)
        except ConnectionResetError:
            came["fails"] += 1
    return {**came, "state": breaker.circuit.state.value}


def until(true: Any, within: float) -> bool:
    ends = time.monotonic() + within
    while time.monotonic() < ends:
        if true():
            return True
        time.sleep(0.01)
    return False


def run(spec: dict[str, Any], number: int) -> dict[str, Any]:
    service = Service()
    off = 5.0 if number % 2 == 0 else -5.0
    prefix = f"{number}-{time.time_ns()}:"  # the same for all: they share one circuit
    tasks = [
        {
            "spec": spec,
            "prefix": prefix,
            "port": service.port,
            "number": one,
            "clock_off": off if one == 0 else 0.0,
        }
        for one in range(PROCESSES)
    ]
    found: dict[str, Any] = {"clock_off": off}
    with _shared.Children(__file__, tasks) as children:
        children.begin()
        opened = children.lines("open", 20.0)
        found["open_everywhere"] = opened
        found["calls_before_open"] = len(service.calls)
        service.delay = ANSWER
        # The first trial fails: one call, and the circuit stays open for all.
        at = time.monotonic()
        found["first_trial_came"] = until(lambda: service.since(at) > 0, OPEN + 5.0)
        time.sleep(ANSWER + OPEN / 2.0)
        found["calls_of_first_trial"] = service.within(at, ANSWER + OPEN / 2.0)
        # The second succeeds: one call until the service has answered it.
        service.answer = "works"
        at = time.monotonic()
        found["second_trial_came"] = until(lambda: service.since(at) > 0, OPEN + 5.0)
        time.sleep(ANSWER * 0.9)
        found["calls_of_second_trial"] = service.within(at, ANSWER * 0.9)
        service.delay = 0.0
        began = time.monotonic()
        found["closed_everywhere"] = until(
            lambda: len({one for when, one, _ in list(service.calls) if when >= began}) == PROCESSES, 10.0
        )
        found["seconds_until_all_called_again"] = round(time.monotonic() - began, 2)
        said = children.end(20.0)
    service.close()
    found["states"] = sorted({one["state"] for one in said})
    return found


def main() -> int:
    proof = Proof(
        "shared_breaker",
        "8 processes that share a circuit with a threshold of 5 make at most 12 calls before it is open everywhere, "
        "and exactly one when it half-opens, also if a clock is 5 s off",
        __doc__,
        small="one round a store",
    )
    proof.parser.add_argument("--store", choices=_shared.STORES, action="append", help="one of them only")
    options = proof.parse()
    proof.need("boto3", "redis", cure="pip install 'resilient-faces[aws,redis]'")
    figures: dict[str, Any] = {}
    for kind in options.store or _shared.STORES:
        figures[kind] = []
        with tempfile.TemporaryDirectory() as folder, _shared.running(kind, Path(folder)) as server:
            for number in range(1 if options.small else 5):
                one = run(server.spec, number)
                figures[kind].append(one)
                proof.say(f"{kind}: {one}")
                label = f"{kind}, round {number + 1}: {one}"
                proof.check(one["open_everywhere"], f"not open everywhere: {label}")
                proof.check(
                    THRESHOLD <= one["calls_before_open"] <= MOST, f"too many calls before it was open: {label}"
                )
                proof.check(one["first_trial_came"] and one["calls_of_first_trial"] == 1, f"first trial: {label}")
                proof.check(one["second_trial_came"] and one["calls_of_second_trial"] == 1, f"second trial: {label}")
                proof.check(one["closed_everywhere"] and one["states"] == ["closed"], f"not closed again: {label}")
    return proof.finish(
        parameters={"processes": PROCESSES, "threshold": THRESHOLD, "open": OPEN, "answer": ANSWER, "clock_off": 5.0},
        figures=figures,
        packages=("resilient-faces", "redis", "boto3", "botocore"),
    )


if __name__ == "__main__":
    if "--child" in sys.argv:
        _shared.as_child(work, prepare)
    else:
        sys.exit(main())
