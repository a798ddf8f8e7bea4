"""gunicorn with 4 preforked workers: each draws its own jitter, and no worker has a permit of another's.

    python proof/prefork.py           asks until every worker has answered 5 times
    python proof/prefork.py --small   once each

The application is loaded before the fork (`--preload`), with a circuit that is half-open and whose one probe the master
holds. Each worker must be able to send a probe of its own, exactly one, and must draw delays that no other draws.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from contextvars import Context
from pathlib import Path

from _report import Proof

WORKERS = 4
LONGEST = 60.0  # seconds


def application() -> Callable[..., Iterable[bytes]]:
    """The WSGI application, made once in the master."""
    from resilient_faces import CircuitOpenError, RetryableError, retry
    from resilient_faces.breaker import Breaker, consecutive
    from resilient_faces.retry import exponential, full

    breaker = Breaker("shared", trips=consecutive(1), recovery_timeout=0.001, probe_lease=3600.0)
    delays: list[float] = []

    @retry(attempts=6, backoff=exponential(0.000_1), jitter=full(), before_sleep=lambda one: delays.append(one.delay))
    def flaky() -> None:
        raise RetryableError

    def fail() -> None:
        raise ConnectionResetError

    try:
        breaker.call(fail)
    except ConnectionResetError:
        pass
    time.sleep(0.002)
    held = breaker.circuit.acquire()  # the master's probe, still out when it forks
    master = os.getpid()

    def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
        probed = []
        delays.clear()
        try:
            flaky()
        except RetryableError:
            pass

        def probe() -> None:
            probed.append("probe")
            try:
                Context().run(breaker.call, lambda: probed.append("second"))  # somebody else's, while the probe is out
            except CircuitOpenError:
                probed.append("refused")
            time.sleep(0.05)  # so that the other workers take the other requests

        state = breaker.circuit.snapshot()
        try:
            breaker.call(probe)
        except CircuitOpenError:
            probed.append("none")
        answer = {
            "pid": os.getpid(),
            "master": master,
            "masters_probe_is_out": held is not None,
            "state_at_first": state.state.value,
            "probes_at_first": state.probes,
            "probed": probed,
            "delays": list(delays),
        }
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    return app


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _ask(port: int, answers: list[dict[str, object]], lock: threading.Lock) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/", timeout=10.0) as response:
            answer = json.load(response)
    except OSError:
        time.sleep(0.1)  # not up yet
        return
    with lock:
        answers.append(answer)


def ask_workers(each: int) -> tuple[list[dict[str, object]], str]:
    """Answers of all workers, so many of each, in the order they came; and what gunicorn said."""
    port = _free_port()
    with tempfile.TemporaryFile("w+") as said:
        command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", str(WORKERS), "--worker-class", "sync"]
        command += ["--bind", f"127.0.0.1:{port}", "--chdir", str(Path(__file__).resolve().parent)]
        server = subprocess.Popen([*command, "prefork:application()"], stdout=said, stderr=said)
        answers: list[dict[str, object]] = []
        lock = threading.Lock()
        end = time.monotonic() + LONGEST
        try:
            while time.monotonic() < end and server.poll() is None and not _enough(answers, each):
                asking = [threading.Thread(target=_ask, args=(port, answers, lock)) for _ in range(WORKERS)]
                for one in asking:
                    one.start()
                for one in asking:
                    one.join()
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
            try:
                server.wait(15.0)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        said.seek(0)
        return answers, said.read()


def _by_worker(answers: list[dict[str, object]]) -> dict[int, list[dict[str, object]]]:
    found: dict[int, list[dict[str, object]]] = {}
    for answer in answers:
        pid = answer["pid"]
        assert isinstance(pid, int)
        found.setdefault(pid, []).append(answer)
    return found


def _enough(answers: list[dict[str, object]], each: int) -> bool:
    found = _by_worker(answers)
    return len(found) >= WORKERS and all(len(some) >= each for some in found.values())


def judge(answers: list[dict[str, object]], each: int) -> list[str]:
    """What is wrong with these answers; empty if nothing is."""
    wrong: list[str] = []
    workers = _by_worker(answers)
    if len(workers) != WORKERS:
        wrong.append(f"{len(workers)} workers answered instead of {WORKERS}")
    elif not _enough(answers, each):
        wrong.append(f"not every worker answered {each} times")
    drawn = [tuple(answer["delays"]) for answer in answers]  # type: ignore[arg-type]
    if any(len(one) != 5 for one in drawn):
        wrong.append("a worker did not draw 5 delays")
    if len(set(drawn)) != len(drawn):
        wrong.append("two answers have the same delays")
    for pid, some in workers.items():
        first = some[0]
        if pid == first["master"]:
            wrong.append("the master answered")
        if first["state_at_first"] != "half_open" or first["probes_at_first"] != 0:
            wrong.append(f"worker {pid} began {first['state_at_first']} with {first['probes_at_first']} probes")
        if first["probed"] != ["probe", "refused"]:
            wrong.append(f"worker {pid} should send one probe of its own; it came to {first['probed']}")
    return wrong


def main() -> int:
    proof = Proof(
        "prefork",
        "Preforked workers draw different jitter and share no permits.",
        __doc__,
        small="one answer of each worker is enough",
    )
    options = proof.parse()
    proof.need("gunicorn")
    each = 1 if options.small else 5
    answers, said = ask_workers(each)
    wrong = judge(answers, each)
    for one in wrong:
        proof.check(False, one)
    if wrong:
        print(said, file=sys.stderr)
    workers = _by_worker(answers)
    proof.say(f"{len(workers)} workers gave {len(answers)} answers")
    return proof.finish(
        parameters={"workers": WORKERS, "answers_of_each": each},
        figures={
            "workers": len(workers),
            "answers": len(answers),
            "first_delays": [some[0]["delays"] for some in workers.values()],
        },
        packages=("resilient-faces", "gunicorn"),
    )


if __name__ == "__main__":
    sys.exit(main())
