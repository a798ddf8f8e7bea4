"""A Redis server in a process of its own, for tests and proofs: on a free port of the loopback address, empty.

It needs `redis-server` on PATH (the Debian package of the same name); nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Final

from resilient_faces.testing.children import Child, ChildError

__all__ = ["RedisServer", "RedisUnavailable"]

# The server does not read its standard input, so a parent that does ends it, however its starter ended.
_BOOT: Final = """
import json, subprocess, sys
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr)
print(json.dumps({"pid": server.pid}), flush=True)
while sys.stdin.buffer.read(1024):
    pass
server.kill()
server.wait()
"""


class RedisUnavailable(RuntimeError):
    """`redis-server` is not installed."""


class RedisServer:
    """A running server, which keeps nothing on disk.

    Args:
        folder: Its scratch and log folder.
        password: What clients must give; None for nothing.
        within: Seconds to come up in.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        pid: Its process id.

    Raises:
        RedisUnavailable: `redis-server` is not installed.
        ChildError: It did not come up.
    """

    def __init__(self, folder: Path, *, password: str | None = None, within: float = 10.0) -> None:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            raise RedisUnavailable("redis-server is not installed; on Debian: apt-get install redis-server")
        folder.mkdir(parents=True, exist_ok=True)
        self._password = password
        for _ in range(3):  # the port is free now, and may be taken before the server binds it
            self.port = _free_port()
            command = [program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder)]
            command += ["--save", "", "--appendonly", "no"]
            command += [] if password is None else ["--requirepass", password]
            self._child = Child(
                "redis-server",
                [sys.executable, "-I", "-c", _BOOT, *command],
                log=folder / "redis.log",
                says_hello=True,
                within=within,
            )
            self.pid = int(self._child.hello["pid"])
            if self._ready(within):
                return
            words = self._child.last_words()
            self.stop()
        raise ChildError(f"redis-server did not come up within {within:g} s. {words}")

    def _ready(self, within: float) -> bool:
        ends = time.monotonic() + within
        while time.monotonic() < ends and self._child.running:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(16)[:1] in (b"+", b"-"):  # an error means that it wants a password
                        return True
            except OSError:
                pass
            time.sleep(0.02)
        return False

    @property
    def url(self) -> str:
        """For `redis.Redis.from_url`."""
        login = "" if self._password is None else f":{self._password}@"
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def kill(self) -> None:
        """End it as a power cut would."""
        os.kill(self.pid, signal.SIGKILL)

    def freeze(self) -> None:
        """Let it hang: it takes connections, and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it, and its parent."""
        self._child.stop(grace=2.0)

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
