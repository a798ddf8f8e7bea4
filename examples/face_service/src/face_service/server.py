"""Serve until told to end: one process, uvicorn, signals that end it in order and with exit code 0."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from face_service.app import create_app
from resilient_faces.telemetry import JsonFormatter

if TYPE_CHECKING:
    from face_service.settings import Settings
    from face_service.watching import Parts

__all__ = ["SCHEMA", "end_with_input", "listen", "log_to", "serve"]

SCHEMA: Final = 1
_BACKLOG: Final = 256
_IDLE: Final = 10  # seconds that a connection without a request is kept


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        OSError: The address cannot be listened on.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    return socket.create_server(address[:2], family=family, backlog=_BACKLOG)


def log_to(stream: Any, style: str) -> None:
    """Write the log of the service, the library and the server to a stream: `json` or `text`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        JsonFormatter() if style == "json" else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    # Pillow warns of damaged metadata, once a place and in words that the photo had a part in.
    warnings.filterwarnings("ignore", module=r"PIL\.")


def end_with_input() -> None:
    """End this process in order when its standard input ends: so it cannot outlive who started it."""
    while sys.stdin.buffer.read(1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def serve(settings: Settings, *, as_json: bool = False, make: Callable[[], Parts] | None = None) -> int:
    """Run the service until SIGTERM or SIGINT, and then for as long as its grace lets it.

    Args:
        settings: How it runs.
        as_json: Say where it listens as one JSON line on standard output.
        make: Makes its parts, as of `create_app`.

    Returns:
        0, or 1 if it could not be started.

    Raises:
        OSError: The address cannot be listened on.
        OptionError: Options are wrong.
    """
    # uvicorn notes these signals and, once it has ended, raises them again, which would be the exit code.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    listening = listen(settings.host, settings.port)
    host, port = listening.getsockname()[:2]
    config = uvicorn.Config(
        create_app(settings, make),
        log_config=None,
        access_log=False,  # it has paths, which have people's ids; the door writes its own lines
        server_header=False,
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=max(1, round(settings.grace)),
        h11_max_incomplete_event_size=65_536,
        ws="none",
    )
    server = _Server(config, lambda: _say_hello(host, port, as_json))
    try:
        server.run([listening])
    except SystemExit:  # uvicorn's way to say that the application did not start; the log has the reason
        return 1
    finally:
        listening.close()
    return 0 if server.started else 1


def _say_hello(host: str, port: int, as_json: bool) -> None:
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    if as_json:
        hello = {"schema": SCHEMA, "url": url, "host": host, "port": port, "pid": os.getpid()}
        sys.stdout.write(json.dumps(hello) + "\n")
    else:
        sys.stdout.write(f"Face service on {url}; what can be asked is at {url}/openapi.json\n")
    sys.stdout.flush()


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config, hello: Callable[[], None]) -> None:
        super().__init__(config)
        self._hello = hello

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._hello()
