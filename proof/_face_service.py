"""The face service as a process, for the proofs that ask it as its callers do."""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from resilient_faces.adapters.webhook import SigningKey
from resilient_faces.testing.children import Child

STUBBED: Final = "face_service.testing"
CURE: Final = "python3 run.py test-all --prepare makes an environment that has it."


class ServiceProcess:
    """`face-service` on a free port, while its `with` block runs.

    Args:
        folder: For data and log.
        stubbed: With stubs for model, cameras and receivers.
        settings: Of the service, by their names.

    Attributes:
        url: Where it listens.
        key: What callers must send.
        log: What it says.
    """

    def __init__(self, folder: Path, *, stubbed: bool = False, **settings: object) -> None:
        self.key = secrets.token_urlsafe(32)
        self.log = folder / "service.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FACE_SERVICE_")}
        kept |= {f"FACE_SERVICE_{name.upper()}": str(value) for name, value in settings.items()}
        kept |= {"FACE_SERVICE_API_KEY": self.key, "FACE_SERVICE_WEBHOOK_KEY": SigningKey.new().reveal()}
        command = [sys.executable, "-m", STUBBED if stubbed else "face_service", "--data", str(folder / "data")]
        command += [] if stubbed else ["--port", "0", "--json", "--until-eof"]
        self._child = Child("the service", command, log=self.log, env=kept, says_hello=True, within=60.0)
        self.url = str(self._child.hello["url"])
        self.port = int(self._child.hello["port"])
        if stubbed:
            from face_service.testing import KEY

            self.key = KEY

    def __enter__(self) -> ServiceProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        return self._child.running

    def stop(self) -> int:
        """End it in order; its exit code."""
        return self._child.stop(grace=20.0)

    @property
    def memory(self) -> float:
        """Megabytes that it has in memory now."""
        for line in Path(f"/proc/{self._child.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def client(self, **options: Any) -> Any:
        """An HTTP client with the key."""
        import httpx

        return httpx.Client(
            base_url=self.url, headers={"X-API-Key": self.key}, trust_env=False, timeout=30.0, **options
        )


class MemoryWatch:
    """The most memory of a service, looked at fifty times a second while its `with` block runs."""

    def __init__(self, service: ServiceProcess) -> None:
        self._service = service
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.most = 0.0

    def _look(self) -> None:
        while not self._over.is_set():
            try:
                self.most = max(self.most, self._service.memory)
            except OSError:  # it has ended
                return
            time.sleep(0.02)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
