"""Eight processes share a limiter of 50 a second: `python proof/shared_limiter.py [--small] [--store redis|dynamodb]`.

They reserve slots one by one, in tens and in fifties, as fast as they get them, and send a datagram at each. The ledger
that receives them counts what came in any half-open second, by the kernel's clock: at most 51, with the store alive and
with the store killed midway, when each process goes by its share. Two of the eight have clocks that are 5 s fast and
5 s slow. `--small` has processes of all three sorts in one run a store, at the end of which the store is killed.

That 50 a second are reached is judged by the best second of a run if the machine stopped, or had no processor for
the processes, which mostly sleep: who does not get its turn is too late for its slots and lets them pass.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import _shared
from _report import Proof

RATE = 50.0
PROCESSES = 8
MOST = 51
OFF = {0: 5.0, 1: -5.0}  # seconds that clocks are off, by process
MIXED = (1, 10, 50, 1, 10, 50, 1, 10)  # batches of the processes in a small run
STARVED = 0.01  # share of the time that a process had no processor, or the machine stood still
PATIENCE = 10.0  # seconds that the store may take


def prepare(task: dict[str, Any]) -> dict[str, Any]:
    _shared.shift_clock(task["clock_off"])
    from resilient_faces import rate_limit

    store = _shared.open_store(task["spec"], task["prefix"], PATIENCE)
    if task["spec"]["kind"] == "dynamodb":
        store.learn_clock()
    else:
        store.load("nothing")  # connected
    limiter = rate_limit(RATE, name="index-faces", store=store, store_timeout=PATIENCE)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(("127.0.0.1", task["port"]))
    return {**task, "limiter": limiter, "socket": sender}


def work(task: dict[str, Any], ended: threading.Event) -> dict[str, Any]:
    limiter, batch, me = task["limiter"], task["batch"], str(task["number"]).encode()

    def send() -> None:
        task["socket"].send(me)

    paced = limiter(send)
    began, waited = time.monotonic(), _shared.denied()
    while not ended.is_set():
        if batch == 1:
            paced()
            continue
        reserved = limiter.reserve_batch(batch)
        for index in range(batch):
            if ended.wait(max(0.0, reserved.begins + index * reserved.interval - time.monotonic())):
                break
            if not reserved.missed(index):
                send()
    return {"share": limiter.share, "denied": (_shared.denied() - waited) / (time.monotonic() - began)}


def best(times: Sequence[float], seconds: float) -> float:
    """The most a second in any so many seconds."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return round(most / seconds, 2)


def run(
    spec: dict[str, Any],
    batches: Sequence[int],
    alive: float,
    kill: Callable[[], None] | None = None,
    dead: float = 0.0,
) -> dict[str, Any]:
    """One run: so many seconds with the store, and if it is killed, so many without it."""
    ledger = _shared.Ledger()
    prefix = f"{time.time_ns()}:"
    tasks = [
        {
            "spec": spec,
            "prefix": prefix,
            "port": ledger.port,
            "batch": batch,
            "number": number,
            "clock_off": OFF.get(number, 0.0),
        }
        for number, batch in enumerate(batches)
    ]
    with _shared.Children(__file__, tasks) as children, _shared.Pulse() as pulse:
        children.begin()
        began = time.monotonic()
        time.sleep(alive)
        killed = time.time()
        if kill is not None:
            kill()
            time.sleep(dead)
        ended = time.time()
        stopped = pulse.stood_still(began, time.monotonic())
        said = children.end(120.0)
    ledger.close()
    times = sorted(at for at, _ in ledger.seen)
    with_store = [at for at in times if at < killed]
    figures: dict[str, Any] = {
        "batches": sorted(set(batches)),
        "seen": len(times),
        "most_in_any_second": _shared.most_in_a_second(times),
        "a_second": round((len(with_store) - 1) / (with_store[-1] - with_store[0]), 2),
        "best_second": best(with_store, 1.0),
        "by_process": {name: sum(1 for _, one in ledger.seen if one == name) for name in map(str, range(PROCESSES))},
        "denied": round(max(one["denied"] for one in said), 3),  # share of the time without a processor
        "stopped": round(stopped, 2),  # seconds that the machine stood still
    }
    if kill is not None:
        alone = [at for at in times if ended - dead / 3.0 <= at < ended]
        figures["most_began"] = round(_shared.busiest_second(times) - killed, 2)  # seconds after it was killed
        figures["a_second_alone"] = round(len(alone) / (dead / 3.0), 2)
        figures["best_second_alone"] = best(alone, 1.0)
        figures["shares"] = sorted({round(one["share"], 3) for one in said})
    return figures


def judge(proof: Proof, label: str, one: dict[str, Any]) -> None:
    proof.say(f"{label}: {one}")
    proof.check(one["most_in_any_second"] <= MOST, f"{label}: {one}")
    starved = one["denied"] > STARVED or one["stopped"] > STARVED * one["seen"] / RATE
    held = one["best_second"] if starved else one["a_second"]
    proof.check(held >= 0.9 * RATE, f"{label} is too slow: {one}")
    if "shares" in one:
        fair = all(5.0 <= share <= RATE / PROCESSES for share in one["shares"])
        alone = one["best_second_alone"] if starved else one["a_second_alone"]
        proof.check(fair and alone >= 0.5 * RATE, f"{label}, without the store: {one}")


def main() -> int:
    proof = Proof(
        "shared_limiter",
        "8 processes that share a limiter of 50 a second start at most 51 in any half-open second, whatever they "
        "reserve at a time, with the store alive and with the store killed midway",
        __doc__,
        small="one run a store, with batches of all sizes",
    )
    proof.parser.add_argument("--store", choices=_shared.STORES, action="append", help="one of them only")
    options = proof.parse()
    proof.need("boto3", "redis", cure="pip install 'resilient-faces[aws,redis]'")
    found: dict[str, Any] = {}
    for kind in options.store or _shared.STORES:
        found[kind] = []
        if not options.small:
            with tempfile.TemporaryDirectory() as folder, _shared.running(kind, Path(folder)) as server:
                for batch in (1, 10, 50):
                    one = run(server.spec, (batch,) * PROCESSES, 20.0)
                    found[kind].append(one)
                    judge(proof, f"{kind}, batches of {batch}", one)
        for batches, alive, dead in (
            [(MIXED, 7.0, 9.0)] if options.small else [((batch,) * PROCESSES, 15.0, 30.0) for batch in (1, 10, 50)]
        ):
            with tempfile.TemporaryDirectory() as folder, _shared.running(kind, Path(folder)) as server:
                one = run(server.spec, batches, alive, server.kill, dead)
                found[kind].append(one)
                judge(proof, f"{kind} killed, batches of {' and '.join(map(str, sorted(set(batches))))}", one)
    return proof.finish(
        parameters={"processes": PROCESSES, "rate": RATE, "clocks_off": list(OFF.values())},
        figures=found,
        packages=("resilient-faces", "redis", "boto3", "botocore"),
    )


if __name__ == "__main__":
    if "--child" in sys.argv:
        _shared.as_child(work, prepare)
    else:
        sys.exit(main())
