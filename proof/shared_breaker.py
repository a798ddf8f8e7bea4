"""Eight processes share a circuit: `python proof/shared_breaker.py [--small] [--store redis|dynamodb]`.

All call a service that fails, as fast as they can, until each finds the circuit open: with a threshold of 5, the
service's ledger may have at most 12 calls of a closed circuit (5, and one that each of the other seven had under way).
Then they go on calling. When the open time is over, exactly one call may reach the service, which holds its answer back
until each of the other seven has been refused ten times meanwhile: first it fails, after the next open time it
succeeds, which closes the circuit everywhere. Two of the eight have clocks that are 5 s fast and 5 s slow.

Who called what is told by the service's ledger, and in what order things happened by the service itself, which waits
for them: a machine that stops for a second makes the proof longer, and no verdict wrong.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _shared
from _report import Proof

PROCESSES = 8
THRESHOLD = 5
MOST = 12
OFF = {0: 5.0, 1: -5.0}  # seconds that clocks are off, by process
ANSWER = 0.5  # seconds that the service takes to answer a probe, at least: long enough for others to slip in
REFUSED = 10  # refusals of each other process that it waits for
PATIENCE = 120.0  # seconds for anything to happen


@dataclass
class Call:
    """One call that reached the service."""

    process: int
    circuit: str  # how the caller's circuit stood: closed, or half_open for a probe
    at: float
    answered: threading.Event = field(default_factory=threading.Event)
    answer: str = "fails"


class Service:
    """What is called: it notes each call, answers those of closed circuits, and holds probes until it is told what."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.works = False
        self.calls: list[Call] = []
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
            number, circuit = connection.recv(64).decode().split()
            call = Call(int(number), circuit, time.monotonic())
            self.calls.append(call)
            if circuit == "closed":
                call.answer = "works" if self.works else "fails"
            else:
                call.answered.wait(PATIENCE)
            connection.sendall(call.answer.encode())

    def of(self, circuit: str) -> list[Call]:
        return [one for one in list(self.calls) if one.circuit == circuit]

    def close(self) -> None:
        self._listener.close()


def prepare(task: dict[str, Any]) -> dict[str, Any]:
    _shared.shift_clock(task["clock_off"])
    from resilient_faces import Breaker
    from resilient_faces.breaker import consecutive

    store = _shared.open_store(task["spec"], task["prefix"], PATIENCE)
    breaker = Breaker(
        "service",
        trips=consecutive(THRESHOLD),
        recovery_timeout=task["open"],
        growth=1.0,
        probe_lease=PATIENCE,
        refresh=0.25,
        store=store,
        store_timeout=PATIENCE,
    )
    store.load("nothing")  # connected
    teller = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    teller.connect(("127.0.0.1", task["ledger"]))
    return {**task, "breaker": breaker, "teller": teller}


def work(task: dict[str, Any], ended: threading.Event) -> dict[str, Any]:
    from resilient_faces import CircuitOpenError

    breaker, number = task["breaker"], task["number"]

    @breaker
    def call() -> None:
        with socket.create_connection(("127.0.0.1", task["port"]), timeout=PATIENCE) as connection:
            connection.sendall(f"{number} {breaker.circuit.state.value}".encode())
            if connection.recv(16) != b"works":
                raise ConnectionResetError("the service fails")

    while not ended.is_set():
        try:
            call()
            ended.wait(0.05)
        except CircuitOpenError:
            task["teller"].send(str(number).encode())
            ended.wait(0.02)
        except ConnectionResetError:
            pass
    return {"state": breaker.circuit.state.value}


def until(true: Any) -> bool:
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        if true():
            return True
        time.sleep(0.01)
    return False


class Round:
    """One round: what reached the service, and what the processes were refused."""

    def __init__(self, service: Service, ledger: _shared.Ledger) -> None:
        self._service = service
        self._ledger = ledger

    def refused(self, since: int, without: int | None = None) -> bool:
        """Whether each process but one was refused often enough since so many refusals were told."""
        times = Counter(process for _, process in self._ledger.seen[since:])
        return all(times[str(number)] >= REFUSED for number in range(PROCESSES) if number != without)

    def trial(self, number: int, answer: str) -> dict[str, Any]:
        """Hold the probe that comes; how many came until it was answered, and when the first one did."""
        probes = self._service.of
        came = until(lambda: len(probes("half_open")) >= number)
        if not came:
            return {"came": False, "calls": 0}
        first, told = probes("half_open")[number - 1], len(self._ledger.seen)
        time.sleep(ANSWER)
        others = until(lambda: self.refused(told, without=first.process))
        calls = len(probes("half_open")) - number + 1
        self._service.works = answer == "works"
        answered = time.monotonic()
        for one in probes("half_open"):
            if not one.answered.is_set():
                one.answer = answer
                one.answered.set()
        return {"came": came, "others_refused": others, "calls": calls, "at": first.at, "answered": answered}


def run(spec: dict[str, Any], open_time: float) -> dict[str, Any]:
    service, ledger = Service(), _shared.Ledger()
    prefix = f"{time.time_ns()}:"  # the same for all: they share one circuit
    tasks = [
        {
            "spec": spec,
            "prefix": prefix,
            "port": service.port,
            "ledger": ledger.port,
            "number": number,
            "clock_off": OFF.get(number, 0.0),
            "open": open_time,
        }
        for number in range(PROCESSES)
    ]
    with _shared.Children(__file__, tasks) as children:
        children.begin()
        one = Round(service, ledger)
        open_everywhere = until(lambda: one.refused(0))
        first = one.trial(1, "fails")
        second = one.trial(2, "works")
        closed = len(service.of("closed"))
        began = time.monotonic()
        everywhere = until(lambda: len({call.process for call in service.of("closed")[closed:]}) == PROCESSES)
        took = time.monotonic() - began
        said = children.end(PATIENCE)
    service.close()
    ledger.close()
    rested = second["at"] - first["answered"] if first["came"] and second["came"] else None
    return {
        "open_everywhere": open_everywhere,
        "calls_before_open": closed,
        "calls_of_first_trial": first["calls"],
        "calls_of_second_trial": second["calls"],
        "others_refused": bool(first.get("others_refused") and second.get("others_refused")),
        "rested": None if rested is None else round(rested, 2),
        "closed_everywhere": everywhere,
        "seconds_until_all_called_again": round(took, 2),
        "states": sorted({one["state"] for one in said}),
    }


def main() -> int:
    proof = Proof(
        "shared_breaker",
        "8 processes that share a circuit with a threshold of 5 make at most 12 calls before it is open everywhere, "
        "and exactly one when it half-opens, also if clocks are 5 s off",
        __doc__,
        small="one round a store, with a shorter open time",
    )
    proof.parser.add_argument("--store", choices=_shared.STORES, action="append", help="one of them only")
    options = proof.parse()
    proof.need("boto3", "redis", cure="pip install 'resilient-faces[aws,redis]'")
    open_time = 1.0 if options.small else 2.0
    figures: dict[str, Any] = {}
    for kind in options.store or _shared.STORES:
        figures[kind] = []
        with tempfile.TemporaryDirectory() as folder, _shared.running(kind, Path(folder)) as server:
            for number in range(1 if options.small else 10):
                one = run(server.spec, open_time)
                figures[kind].append(one)
                proof.say(f"{kind}: {one}")
                label = f"{kind}, round {number + 1}: {one}"
                proof.check(one["open_everywhere"], f"not open everywhere: {label}")
                proof.check(
                    THRESHOLD <= one["calls_before_open"] <= MOST, f"too many calls before it was open: {label}"
                )
                proof.check(one["calls_of_first_trial"] == 1, f"first trial: {label}")
                proof.check(one["calls_of_second_trial"] == 1, f"second trial: {label}")
                proof.check(one["others_refused"], f"a process was not refused during another's trial: {label}")
                proof.check((one["rested"] or 0.0) >= open_time / 2.0, f"the second trial came too early: {label}")
                proof.check(one["closed_everywhere"] and one["states"] == ["closed"], f"not closed again: {label}")
    return proof.finish(
        parameters={
            "processes": PROCESSES,
            "threshold": THRESHOLD,
            "open": open_time,
            "answer": ANSWER,
            "refused": REFUSED,
            "clocks_off": list(OFF.values()),
        },
        figures=figures,
        packages=("resilient-faces", "redis", "boto3", "botocore"),
    )


if __name__ == "__main__":
    if "--child" in sys.argv:
        _shared.as_child(work, prepare)
    else:
        sys.exit(main())
