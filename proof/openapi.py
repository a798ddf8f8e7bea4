"""The face service against its own OpenAPI document, asked by schemathesis: `python proof/openapi.py [--small]`.

The real application in a process of its own, asked over HTTP, with stubs for what lies outside: a model, cameras, and
receivers whose names have no address, so that no packet leaves this machine. schemathesis makes requests that fit the
document and requests that do not, of every kind that it knows, and compares each answer with the document: status,
content type, headers, schema, methods, keys. Not compared is whether a request that fits is accepted: a file is any
bytes to the document, and most are no photo.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from _face_service import CURE, ServiceProcess
from _report import Proof

proof = Proof(
    "openapi",
    "Asked everything that its OpenAPI document allows, and more, the service gives no 500 and no undocumented answer",
    __doc__,
    "15 requests of each kind instead of 300, no sequences of requests",
)
NOT_COMPARED = "positive_data_acceptance"
SETTINGS = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 501, 503]
"""
"""501 is the document's answer to looking a camera up, 503 a busy service's; 500 and all others are faults."""


def asked(service: ServiceProcess, folder: Path, small: bool) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code of schemathesis, the answers that it got, and what it said."""
    (folder / "schemathesis.toml").write_text(SETTINGS, encoding="utf-8")
    report = folder / "answers.ndjson"
    phases = "examples,coverage,fuzzing" if small else "examples,coverage,fuzzing,stateful"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml"), "run"]
    command += [f"{service.url}/openapi.json", "--header", f"X-API-Key: {service.key}", "--no-color"]
    command += ["--max-examples", "15" if small else "300", "--phases", phases, "--checks", "all"]
    command += ["--exclude-checks", NOT_COMPARED, "--seed", "1", "--continue-on-failure", "--warnings", "off"]
    command += ["--report", "ndjson", "--report-ndjson-path", str(report), "--request-timeout", "10"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, list(answers(report)), done.stdout + done.stderr


def answers(report: Path) -> Any:
    """Every answer in schemathesis's report: operation, method and status."""
    if not report.exists():
        return
    for line in report.read_text(encoding="utf-8").splitlines():
        yield from _within(json.loads(line))


def _within(value: Any) -> Any:
    if isinstance(value, dict):
        if "status_code" in value:
            yield value
        for inner in value.values():
            yield from _within(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _within(inner)


def main() -> int:
    options = proof.parse()
    proof.need("schemathesis", "fastapi", "httpx", cure=CURE)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with ServiceProcess(folder, stubbed=True) as service:
            code, found, said = asked(service, folder, options.small)
            with service.client() as client:
                live = client.get("/health/live").status_code
                document = client.get("/openapi.json").json()
            proof.check(live == 200 and service.alive, "the service is not alive in the end")
            proof.check(service.stop() == 0, "the service did not end in order")
        log = service.log.read_text(encoding="utf-8")
    statuses = Counter(int(answer["status_code"]) for answer in found)
    operations = sum(len(methods) for methods in document["paths"].values())
    proof.check(code == 0, f"schemathesis has found something:\n{said[-6000:]}")
    proof.check(statuses[500] == 0, f"{statuses[500]} answers are 500")
    proof.check(len(found) >= operations * (10 if options.small else 100), f"only {len(found)} answers were looked at")
    proof.check("Request failed" not in log, "the service's log has an error of its own")
    for status, count in sorted(statuses.items()):
        proof.say(f"  {status}  {count:6}")
    proof.say(f"{len(found)} answers of {operations} operations")
    return proof.finish(
        parameters={"operations": operations, "seed": 1, "not_compared": NOT_COMPARED},
        figures={"answers": len(found), "by_status": {str(key): count for key, count in sorted(statuses.items())}},
        packages=("schemathesis", "hypothesis", "fastapi", "starlette", "uvicorn", "pydantic"),
    )


if __name__ == "__main__":
    sys.exit(main())
