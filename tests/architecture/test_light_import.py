"""`import resilient_faces` is light, and the name `retry` means the same in whatever order one imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CORE = {"tenacity", "wrapt", "anyio", "trio", "opentelemetry"}
CLOUD = {"boto3", "botocore", "redis", "psycopg", "dbos"}
VISION = {"av", "cv2", "insightface", "onnxruntime", "numpy", "skimage", "PIL"}
WEB = {"httpx", "requests", "aiohttp", "fastapi", "starlette", "uvicorn"}
HEAVY = CORE | CLOUD | VISION | WEB | {"click", "rich", "pytest", "hypothesis"}


def run(code: str, cwd: Path) -> str:
    """What a fresh interpreter prints for this code."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_after(statement: str, cwd: Path) -> set[str]:
    """Top-level modules that a statement brings in."""
    code = (
        "import sys, json; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    found: list[str] = json.loads(run(code, cwd))
    return set(found)


@pytest.mark.parametrize(
    "statement",
    [
        "import resilient_faces",
        "from resilient_faces.retry import exponential",
        "from resilient_faces.breaker import consecutive",
    ],
)
def test_core_brings_in_nothing_heavy(statement: str, tmp_path: Path) -> None:
    """What the core depends on is imported when something decorated first needs it; extras never by themselves."""
    assert not modules_after(statement, tmp_path) & HEAVY


def test_core_brings_in_no_adapter(tmp_path: Path) -> None:
    """Floors 5 and up stay on disk until somebody asks for them."""
    code = "import sys, resilient_faces; print([m for m in sys.modules if m.startswith('resilient_faces.')])"
    upper = ("saga", "adapters", "planning", "pipeline", "cli")
    assert not [name for name in upper if f"resilient_faces.{name}" in run(code, tmp_path)]


def test_decorating_a_plain_function_brings_in_nothing_heavy(tmp_path: Path) -> None:
    """A plain sync function that succeeds needs neither wrapt nor an async library nor tenacity."""
    statement = (
        "from resilient_faces import guard, retry\n@guard(retry(attempts=2))\ndef f(): return 1\nassert f() == 1"
    )
    assert not modules_after(statement, tmp_path) & HEAVY


FIRST = "from resilient_faces.retry import exponential"
SECOND = "from resilient_faces import retry"


@pytest.mark.parametrize("statements", [(FIRST, SECOND), (SECOND, FIRST)], ids=["package first", "decorator first"])
def test_retry_is_the_decorator_in_either_order(statements: tuple[str, str], tmp_path: Path) -> None:
    """As an attribute `resilient_faces.retry` is the decorator, in an import statement it is the package."""
    code = "\n".join(
        [
            *statements,
            "import resilient_faces, sys",
            "assert resilient_faces.retry is retry",
            "assert callable(retry) and not hasattr(retry, '__path__')",
            "assert hasattr(sys.modules['resilient_faces.retry'], '__path__')",
            "assert callable(exponential)",
            "print(retry(attempts=2)(lambda: 'called')())",
        ]
    )
    assert run(code, tmp_path) == "called\n"
