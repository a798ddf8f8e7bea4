"""The service in this process, as `face_service.testing` has it."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

for module, extra in (("fastapi", "web"), ("httpcore", "webhook"), ("av", "rtsp"), ("PIL", "demo")):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"the extra `{extra}` is not installed", allow_module_level=True)

if TYPE_CHECKING:
    from face_service.testing import Service


@pytest.fixture
def service(tmp_path: Path, resilience: None) -> Iterator[Service]:
    from face_service.testing import Service

    with Service(tmp_path / "data") as running:
        yield running


@pytest.fixture
def start(tmp_path: Path, resilience: None) -> Iterator[Callable[..., Service]]:
    """Start a service with settings of the test's own."""
    from face_service.testing import Service

    with ExitStack() as stack:

        def started(**settings: Any) -> Service:
            return stack.enter_context(Service(tmp_path / "data", **settings))

        yield started


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All that is logged, from DEBUG on, but for the lines of the client that asks."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "httpx")
    return caplog


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[tuple[str, str]]]:
    """What a logger wrote: level and text."""
    caplog.set_level(logging.DEBUG)
    return lambda logger: [(one.levelname, one.getMessage()) for one in caplog.records if one.name == logger]
