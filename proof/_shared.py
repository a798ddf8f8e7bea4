"""What the proofs about shared state share: stores to start, processes to start beside each other, and the ledger.

A child process is the same command with `--child` and what it has to do as JSON. It says when it is ready, begins when
it is told to, and prints one line of JSON in the end. What counts is what the ledger has seen, not what children say.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

STORES: Final = ("redis", "dynamodb")
REDIS_CURE: Final = "On Debian: apt-get install redis-server; and pip install 'resilient-faces[redis]'."
TIMESTAMP: Final = 35  # SO_TIMESTAMPNS of Linux: the kernel says when a datagram came, however late we read it


@dataclass
class Running:
    """A store's server.

    Attributes:
        spec: What a child needs to open the store.
        kill: Ends the server as a power cut would.
        freeze: Lets it hang.
        thaw: Lets it go on.
    """

    spec: dict[str, Any]
    kill: Callable[[], None]
    freeze: Callable[[], None]
    thaw: Callable[[], None]


@contextlib.contextmanager
def running(kind: str, folder: Path) -> Iterator[Running]:
    """Start a store's server."""
    if kind == "redis":
        from resilient_faces.testing.redis_server import RedisServer

        with RedisServer(folder / "redis") as server:
            yield Running({"kind": kind, "url": server.url}, server.kill, server.freeze, server.thaw)
        return
    import os
    import signal

    from resilient_faces.testing.emulator import REGION, Emulator

    with Emulator(folder / "emulator") as emulator:
        spec = {"kind": kind, "url": emulator.url, "region": REGION}
        open_store(spec, "first:", 30.0).ensure_table()

        def send(number: int) -> Callable[[], None]:
            return lambda: os.kill(emulator.pid, number)

        yield Running(spec, send(signal.SIGKILL), send(signal.SIGSTOP), send(signal.SIGCONT))


def open_store(spec: Mapping[str, Any], prefix: str, timeout: float = 1.0) -> Any:
    """The store of a running server, in this process."""
    if spec["kind"] == "redis":
        from resilient_faces.adapters.redis_store import RedisStore

        return RedisStore.from_url(spec["url"], prefix=prefix, timeout=timeout)
    from resilient_faces.adapters.aws import LocalEndpoint
    from resilient_faces.adapters.dynamodb_store import DynamoDbStore

    endpoint = LocalEndpoint(spec["url"])
    return DynamoDbStore.connected(region=spec["region"], endpoint=endpoint, prefix=prefix, timeout=timeout)


def shift_clock(seconds: float) -> None:
    """Set this process's wall clock; to be called before anything of the library is imported."""
    real = time.time
    time.time = lambda: real() + seconds


def denied() -> float:
    """Seconds for which threads of this process wanted a processor and had none; 0 where the system does not tell."""
    waited = 0
    for task in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(OSError, IndexError):
            waited += int((task / "schedstat").read_text().split()[1])
    return waited / 1e9


class Pulse:
    """A thread that does nothing but to beat: when it does not, the machine or the process stood still.

    What stands still with it is no fault of the code under test. In a test that ran on regardless, a thread that blocks
    would still hear it beat.
    """

    BEAT: Final = 0.001  # seconds

    def __init__(self) -> None:
        self._gaps: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._over.is_set():
            time.sleep(self.BEAT)
            now = time.monotonic()
            if now - last > 3.0 * self.BEAT:
                self._gaps.append((last + self.BEAT, now))
            last = now

    def stood_still(self, begin: float, end: float) -> float:
        """Seconds between two monotonic times in which it did not beat; to be asked a moment after `end`."""
        return sum(max(0.0, min(end, to) - max(begin, since)) for since, to in list(self._gaps))


# -- children ------------------------------------------------------------------------------------------------------


class Children:
    """Processes that begin together."""

    def __init__(self, script: str, tasks: Sequence[Mapping[str, Any]]) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, script, "--child", json.dumps(task)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for task in tasks
        ]

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def begin(self) -> None:
        """Wait until all are ready, then let them begin at the same moment."""
        for process in self._processes:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise RuntimeError("a child process did not come up")
        at = time.monotonic() + 0.2
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{at}\n")
            process.stdin.flush()

    def lines(self, expected: str, within: float) -> bool:
        """Whether each child says this in its next line, in time."""
        said: list[str] = []

        def read(process: subprocess.Popen[str]) -> None:
            assert process.stdout is not None
            said.append(process.stdout.readline().strip())

        threads = [threading.Thread(target=read, args=(process,), daemon=True) for process in self._processes]
        for thread in threads:
            thread.start()
        ends = time.monotonic() + within
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))
        return said == [expected] * len(self._processes)

    def end(self, timeout: float) -> list[dict[str, Any]]:
        """Tell all to end, and give what they say."""
        said = []
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        for process in self._processes:
            text, _ = process.communicate(timeout=timeout)
            if process.returncode:
                raise RuntimeError(f"a child process ended with {process.returncode}")
            said.append(json.loads(text.strip().splitlines()[-1]))
        return said


def as_child(work: Callable[[dict[str, Any], threading.Event], dict[str, Any]], prepare: Callable[..., Any]) -> None:
    """Be a child: prepare, say so, begin together with the others, and print what came of it.

    Args:
        work: Gets what `prepare` made, and an event that is set when the parent wants it to end.
        prepare: Gets the task.
    """
    prepared = prepare(json.loads(sys.argv[sys.argv.index("--child") + 1]))
    print("ready", flush=True)
    at = float(sys.stdin.readline())
    ended = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    time.sleep(max(0.0, at - time.monotonic()))
    print(json.dumps(work(prepared, ended)), flush=True)


# -- the ledger of a paced service ---------------------------------------------------------------------------------


class Ledger:
    """A server that notes when each datagram came, by the kernel's clock where it tells."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, TIMESTAMP, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.seen: list[tuple[float, str]] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                data, extra, *_ = self._socket.recvmsg(64, 128)
            except OSError:
                return
            at = time.time()
            for level, kind, content in extra:
                if (level, kind) == (socket.SOL_SOCKET, TIMESTAMP):
                    seconds, nanos = struct.unpack("qq", content[:16])
                    at = seconds + nanos / 1e9
            self.seen.append((at, data.decode()))

    def close(self) -> None:
        self._socket.close()


def most_in_a_second(times: Sequence[float]) -> int:
    """The largest number in any half-open second."""
    return _busiest(times)[0]


def busiest_second(times: Sequence[float]) -> float:
    """When the half-open second with the largest number begins."""
    return _busiest(times)[1]


def _busiest(times: Sequence[float]) -> tuple[int, float]:
    times = sorted(times)
    found = (0, 0.0)
    first = 0
    for last, at in enumerate(times):
        while at - times[first] >= 1.0:
            first += 1
        found = max(found, (last - first + 1, times[first]))
    return found
