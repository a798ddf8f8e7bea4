"""The local AWS emulator (MiniStack) in a process and a virtual environment of its own.

It pins botocore, so it cannot share an environment with the program under test. The environment is made on first use
below the cache folder, from versions that this package carries; `Emulator` starts the server in it on a free port of
the loopback address and ends it by its process id. The server gets an environment of its own as well: no credentials
of the user, no proxy, no Docker (it would otherwise look for containers of its kind and remove them), no listener but
the one port.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from resilient_faces.errors import MissingExtraError
from resilient_faces.testing.children import Child, ChildError

REGION: Final = "us-west-2"
_READY: Final = "ready"
_PATHS: Final = ("PATH", "SYSTEMROOT", "LANG", "LC_ALL")
# Ends when standard input closes, however its starter ended.
_BOOT: Final = """
import os, sys, threading
def watch():
    while sys.stdin.buffer.read(1024):
        pass
    os._exit(0)
threading.Thread(target=watch, daemon=True).start()
sys.argv = ["ministack"]
from ministack.app import main
main()
"""


class EmulatorUnavailable(MissingExtraError):
    """The emulator's environment cannot be made, mostly for want of a package index; `detail` says what pip said."""

    def __init__(self, detail: str) -> None:
        super().__init__("demo", "the AWS emulator")
        self.detail = detail

    def __str__(self) -> str:
        return (
            f"the AWS emulator cannot be installed ({self.detail}). It needs `python -m venv` and a package index "
            "on first use; try again with a connection, or set RESILIENT_FACES_CACHE to a folder that has it."
        )

    def __reduce__(self) -> tuple[type[EmulatorUnavailable], tuple[str]]:
        return (type(self), (self.detail,))


def cache_folder() -> Path:
    """Where demonstrations and tests keep what they made: RESILIENT_FACES_CACHE, or below the user's cache folder."""
    named = os.environ.get("RESILIENT_FACES_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = _home("Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or _home(".cache")
    if not Path(base).is_absolute():  # no home: a folder of this user below the temporary one
        user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
        return Path(tempfile.gettempdir()) / f"resilient-faces-{user}"
    return Path(base) / "resilient-faces"


def _home(below: str) -> str:
    try:
        return str(Path.home() / below)
    except RuntimeError:  # nobody knows where home is
        return ""


def pinned_versions() -> str:
    """The requirements of the emulator's environment, one `name==version` a line."""
    return importlib.resources.files("resilient_faces.testing").joinpath("emulator.txt").read_text(encoding="utf-8")


def ensure_environment(cache: Path | None = None, *, tell: Callable[[str], None] = lambda _: None) -> Path:
    """Make the emulator's virtual environment unless it is there, and return its interpreter.

    Two processes may ask at once: one makes it, the other waits. A half-made one is made anew.

    Raises:
        EmulatorUnavailable: It is not there and cannot be made.
    """
    pins = pinned_versions()
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    key = hashlib.sha256(f"{pins}\n{version}\n{sys.base_prefix}".encode()).hexdigest()[:12]
    folder = (cache or cache_folder()) / "emulator" / f"py{version}-{key}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (folder / _READY).is_file() and python.exists():
        return python
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise EmulatorUnavailable(f"{folder.parent} cannot be made: {error.strerror}") from error
    with _locked(folder.parent / f"{folder.name}.lock"):
        if (folder / _READY).is_file() and python.exists():
            return python
        if folder.exists():
            shutil.rmtree(folder)
        tell("installing the AWS emulator in an environment of its own (first use)")
        wishes = folder.parent / f"{folder.name}.txt"
        wishes.write_text(pins, encoding="utf-8")
        _run([sys.executable, "-m", "venv", str(folder)], folder)
        quiet = ["--disable-pip-version-check", "--no-input", "--quiet"]
        _run([str(python), "-m", "pip", "install", *quiet, "-r", str(wishes)], folder)
        (folder / _READY).touch()
    return python


def _run(command: list[str], folder: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")}
    try:
        done = subprocess.run(  # noqa: S603  # commands are made by this package
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False
        )
    except subprocess.TimeoutExpired:
        raise EmulatorUnavailable("it took more than 10 minutes") from None
    except OSError as error:
        raise EmulatorUnavailable(str(error.strerror)) from error
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).strip().splitlines() if not line.startswith("WARNING")]
        shutil.rmtree(folder, ignore_errors=True)
        raise EmulatorUnavailable(said[-1][:200] if said else f"exit status {done.returncode}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes of this program out; where the system has no such lock, carry on without."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class Emulator:
    """The running emulator: S3, SQS and DynamoDB at `url`. Everything it holds is gone when it stops.

    Args:
        folder: Its scratch and log folder.
        python: The interpreter of its environment; by default the one in the cache, made on first use.
        within: Seconds to come up in.
    """

    def __init__(self, folder: Path, *, python: Path | None = None, within: float = 60.0) -> None:
        interpreter = python or ensure_environment()
        folder.mkdir(parents=True, exist_ok=True)
        self._child, self.url = self._started(interpreter, folder, within)

    def _started(self, python: Path, folder: Path, within: float) -> tuple[Child, str]:
        problem = "no free port"
        for _ in range(3):  # the port is free now, and may be taken before the server binds it
            port = _free_port()
            url = f"http://127.0.0.1:{port}"
            child = Child(
                "the AWS emulator",
                [str(python), "-I", "-c", _BOOT],
                log=folder / "emulator.log",
                env=_environment(folder, port),
                cwd=folder,
            )
            try:
                if _wait_until_ready(url, child, within):
                    return child, url
                problem = child.last_words()
            except BaseException:
                child.stop(grace=1.0)
                raise
            child.stop(grace=1.0)
        raise ChildError(f"the AWS emulator did not come up within {within:g} s. {problem}")

    @property
    def pid(self) -> int:
        return self._child.process.pid

    @property
    def running(self) -> bool:
        return self._child.running

    def stop(self) -> None:
        self._child.stop()

    def __enter__(self) -> Emulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _environment(folder: Path, port: int) -> Mapping[str, str]:
    """All that the emulator is told. Nothing else of this process's environment reaches it."""
    inherited = {name: os.environ[name] for name in _PATHS if name in os.environ}
    return {
        **inherited,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "emulator",
        "AWS_SECRET_ACCESS_KEY": "emulator",
        "PERSIST_STATE": "0",
        "S3_PERSIST": "0",
        "S3_DATA_DIR": str(folder / "s3"),
        "STATE_DIR": str(folder / "state"),
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",  # it removes containers with its label: let it find none
        "LOG_LEVEL": "WARNING",
        "NO_PROXY": "*",
    }


def _wait_until_ready(url: str, child: Child, within: float) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    ends = time.monotonic() + within
    while time.monotonic() < ends and child.running:
        try:
            with opener.open(f"{url}/_ministack/health", timeout=2) as answer:
                health: Any = json.load(answer)
                if answer.status == 200 and isinstance(health, dict):
                    return True
        except (urllib.error.URLError, OSError, ValueError):
            pass
        time.sleep(0.05)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
