"""The code of the session-management document runs as it stands there, with the import line added.

    python proof/document_003.py

The three examples below are the document's own, to the letter. They are run in a fresh interpreter that cannot import
tenacity, wrapt, anyio or opentelemetry, and once more where it can: each function is called as written, and then with
something to do where the document leaves room for it (`pass`, and the service behind `rate_limiter`).
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

IMPORT: Final = "from resilient_faces import circuit_breaker, retry_with_backoff, with_fallback\n"

RETRY: Final = """\
@retry_with_backoff(max_retries=3, base_delay=1.0)
def query_dynamodb():
    # Operation that may raise RetryableError
    pass
"""

BREAKER: Final = """\
@circuit_breaker(name='dynamodb', failure_threshold=5, timeout=30)
def query_database():
    # Database operation
    pass
"""

FALLBACK: Final = """\
@with_fallback(fallback_value=False)
def check_rate_limit(user_id):
    # May fail if RateLimits table unavailable
    return rate_limiter.check(user_id)
"""

BLOCKED: Final = ("tenacity", "wrapt", "anyio", "opentelemetry")


class Block(importlib.abc.MetaPathFinder):
    """Has no module of these names found."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)
        return None


def run_examples() -> dict[str, Any]:
    """Run all three in this interpreter; what was seen."""
    seen: dict[str, Any] = {}
    names: dict[str, Any] = {}
    exec(compile(IMPORT + RETRY + BREAKER + FALLBACK, "<document 003>", "exec"), names)
    seen["query_dynamodb()"] = names["query_dynamodb"]()
    seen["query_database()"] = names["query_database"]()
    seen["check_rate_limit() with no limiter"] = names["check_rate_limit"]("user")

    from resilient_faces import CircuitOpenError, RetryableError
    from resilient_faces.testing import ManualRuntime, fresh

    with fresh(), ManualRuntime(chance=0.5).installed() as clock:
        calls: list[str] = []

        def fail(error: Exception) -> None:
            calls.append(type(error).__name__)
            raise error

        busy: dict[str, Any] = {"work": lambda: fail(RetryableError("busy"))}
        exec(compile(IMPORT + RETRY.replace("pass", "return work()"), "<document 003>", "exec"), busy)
        seen["retryable: outcome"] = outcome(busy["query_dynamodb"])
        seen["retryable: calls"] = len(calls)
        seen["retryable: waits"] = [round(one, 6) for one in clock.slept]

        calls.clear()
        clock.slept.clear()
        busy["work"] = lambda: fail(ValueError("wrong"))
        seen["not retryable: outcome"] = outcome(busy["query_dynamodb"])
        seen["not retryable: calls"] = len(calls)

        calls.clear()
        down: dict[str, Any] = {"work": lambda: fail(OSError("down"))}
        exec(compile(IMPORT + BREAKER.replace("pass", "return work()"), "<document 003>", "exec"), down)
        seen["breaker: five failures"] = [outcome(down["query_database"]) for _ in range(5)]
        try:
            down["query_database"]()
        except CircuitOpenError as error:
            seen["breaker: the sixth"] = [type(error).__name__, error.name, round(error.retry_after or 0.0, 6)]
        seen["breaker: calls"] = len(calls)
        clock.advance(29.9)
        seen["breaker: after 29.9 s"] = outcome(down["query_database"])
        clock.advance(0.1)
        down["work"] = lambda: "rows"
        seen["breaker: after 30 s"] = [outcome(down["query_database"]), outcome(down["query_database"])]

        class Limiter:
            table = True

            def check(self, user_id: str) -> bool:
                if not self.table:
                    raise ConnectionError("RateLimits table unavailable")
                return True

        limiter = Limiter()
        limits: dict[str, Any] = {"rate_limiter": limiter}
        exec(compile(IMPORT + FALLBACK, "<document 003>", "exec"), limits)
        seen["fallback: with the table"] = limits["check_rate_limit"]("user")
        limiter.table = False
        seen["fallback: without it"] = limits["check_rate_limit"]("user")
    seen["imported of the blocked"] = sorted({one.partition(".")[0] for one in sys.modules}.intersection(BLOCKED))
    return seen


def outcome(function: Any) -> object:
    """What a call returns, or the class of what it raises."""
    try:
        return function()
    except Exception as error:
        return type(error).__name__


EXPECTED: Final[dict[str, Any]] = {
    "query_dynamodb()": None,
    "query_database()": None,
    "check_rate_limit() with no limiter": False,
    "retryable: outcome": "RetryableError",
    "retryable: calls": 4,
    "retryable: waits": [1.05, 2.1, 4.2],
    "not retryable: outcome": "ValueError",
    "not retryable: calls": 1,
    "breaker: five failures": ["OSError"] * 5,
    "breaker: the sixth": ["CircuitOpenError", "dynamodb", 30.0],
    "breaker: calls": 5,
    "breaker: after 29.9 s": "CircuitOpenError",
    "breaker: after 30 s": ["rows", "rows"],
    "fallback: with the table": True,
    "fallback: without it": False,
}


def main() -> int:
    if sys.argv[1:] in (["--child", "blocked"], ["--child", "free"]):
        if sys.argv[2] == "blocked":
            sys.meta_path.insert(0, Block())
        print(json.dumps(run_examples()))
        return 0

    from _report import Proof

    proof = Proof("document_003", "the three code examples of document 003 run as they stand there", __doc__, "no less")
    proof.parse()
    proof.need("resilient_faces")
    found: dict[str, Any] = {}
    for how in ("free", "blocked"):
        command = [sys.executable, str(Path(__file__).resolve()), "--child", how]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not proof.check(done.returncode == 0, f"{how}: {' / '.join(done.stderr.splitlines()[-3:])}"):
            continue
        seen = found[how] = json.loads(done.stdout)
        proof.say(f"with {', '.join(BLOCKED)} {'blocked' if how == 'blocked' else 'at hand'}:")
        for name, expected in EXPECTED.items():
            good = proof.check(seen.get(name) == expected, f"{how}: {name} is {seen.get(name)!r}, not {expected!r}")
            proof.say(f"  {'ok    ' if good else 'WRONG '} {name}: {seen.get(name)}")
        brought = seen.get("imported of the blocked")
        proof.check(not brought, f"{how}: {brought} came with it")
    return proof.finish(
        parameters={"blocked": BLOCKED, "chance": 0.5},
        figures={"examples": 3, "expectations": len(EXPECTED), "seen": found},
        packages=("resilient-faces",),
    )


if __name__ == "__main__":
    sys.exit(main())
