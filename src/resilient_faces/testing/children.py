"""Child processes for tests and demonstrations: started with a pipe that ends them when their starter ends.

Each child reads its standard input; when that closes, because it was asked to stop or because the starter died in
whatever way, the child ends. A child gets a session of its own, so that Ctrl-C on a terminal reaches the starter
alone, which then ends its children in order. Only processes started here are ever signalled.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class ChildError(RuntimeError):
    """A child process did not come up; the message carries the end of what it said."""


class Child:
    """One running child process.

    Attributes:
        name: For people.
        process: The process; `process.pid` is the only one that is ever signalled.
        hello: What the child said in its first line, if it was a JSON object.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        says_hello: bool = False,
        within: float = 30.0,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as sink:
            self.process = subprocess.Popen(  # noqa: S603  # commands are made by this package
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if says_hello else sink,
                stderr=sink,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        self.hello: dict[str, Any] = {}
        if says_hello:
            try:
                self.hello = self._first_line(within)
            except BaseException:
                self.stop(grace=1.0)
                raise

    def _first_line(self, within: float) -> dict[str, Any]:
        lines: queue.Queue[bytes] = queue.Queue()
        stdout = self.process.stdout
        assert stdout is not None
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
        try:
            line = lines.get(timeout=within)
        except queue.Empty:
            raise ChildError(f"{self.name} said nothing within {within:g} s. {self.last_words()}") from None
        try:
            hello: dict[str, Any] = json.loads(line)
        except ValueError:
            raise ChildError(f"{self.name} ended before it was ready. {self.last_words()}") from None
        return hello

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def stop(self, grace: float = 5.0) -> int:
        """End the child: close its standard input, then SIGTERM, then SIGKILL; returns its exit status."""
        if self.process.stdin is not None:
            try:
                self.process.stdin.close()
            except OSError:
                pass
        for insist in (None, self.process.terminate, self.process.kill):
            if insist is not None:
                insist()
            try:
                return self.process.wait(grace)
            except subprocess.TimeoutExpired:
                continue
            finally:
                if self.process.poll() is not None and self.process.stdout is not None:
                    self.process.stdout.close()
        return self.process.wait()

    def last_words(self, lines: int = 6) -> str:
        """The end of the child's log, for an error message."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "It said: " + " | ".join(text.strip().splitlines()[-lines:]) if text.strip() else "It said nothing."

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def python_module(
    name: str, module: str, *arguments: str, log: Path, env: Mapping[str, str] | None = None, within: float = 30.0
) -> Child:
    """Run a module of this package in a process of its own and wait for its first line, a JSON object."""
    command = [sys.executable, "-m", module, *arguments]
    return Child(name, command, log=log, env=env, says_hello=True, within=within)
