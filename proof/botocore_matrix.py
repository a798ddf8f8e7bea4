"""The adapters keep their word on every version of botocore that matters: `python proof/botocore_matrix.py [--small]`.

botocore changed its default retry mode in 1.44 and its care for truncated answers in 1.43, and a deadline can be handed
to a single request only since 1.43.70. So the adapters' tests run on 1.40, 1.43 and 1.44, each in a virtual environment
of its own below the cache folder, and once more beside the AWS CLI, which pins a botocore; there the real `aws` command
also speaks to the local endpoint. A skipped test counts as failed. Needs a package index on first use.

`--small` takes the oldest version and the tests that need no server.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _report import ROOT, Proof

from resilient_faces.testing.emulator import cache_folder

TESTS: Final = ("aws", "protect", "rekognition", "dynamodb", "s3", "sqs", "sns", "cloudwatch")
SMALL: Final = ("aws", "protect")
PACKAGES: Final = ("anyio", "hypothesis", "pytest", "trio")
OF_BOTO: Final = re.compile(r"^(awscli|boto3|botocore|s3transfer)\b", re.IGNORECASE)

ABOUT: Final = """
import json, warnings
import boto3, botocore
from botocore.httpsession import URLLib3Session
from resilient_faces.adapters.aws import inner_attempts
warnings.simplefilter("ignore")
def client(name):
    return boto3.client(name, region_name="us-west-2", aws_access_key_id="a", aws_secret_access_key="b")
print(json.dumps({
    "boto3": boto3.__version__,
    "botocore": botocore.__version__,
    "default_mode": client("s3").meta.config.retries["mode"],
    "default_attempts": {name: inner_attempts(client(name)) for name in ("rekognition", "dynamodb")},
    "timeout_per_request": hasattr(URLLib3Session, "_get_request_timeout"),
}))
"""


@dataclass(frozen=True)
class Environment:
    """One virtual environment: what is pinned in it."""

    name: str
    pins: tuple[str, ...]
    cli: bool = False


MATRIX: Final = (
    Environment("botocore-1.40", ("boto3==1.40.61", "botocore==1.40.61")),
    Environment("botocore-1.43", ("boto3==1.43.127", "botocore==1.43.127")),
    Environment("botocore-1.44", ("boto3==1.44.5", "botocore==1.44.5")),
    Environment("awscli", ("awscli==1.45.11", "boto3==1.43.11"), cli=True),
)


def clean() -> dict[str, str]:
    """The environment without what would lead Python or the SDK elsewhere."""
    strays = ("PYTHON", "PIP_", "AWS_", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(strays)}


def made(environment: Environment, folder: Path, extras: str, constraints: Path, proof: Proof) -> Path:
    """The interpreter of an up-to-date environment."""
    packages = [*environment.pins, *PACKAGES, "--editable", f"{ROOT}[{extras}]"]
    recipe = repr((sys.version, packages, constraints.read_text(), (ROOT / "pyproject.toml").read_text()))
    home = folder / f"{environment.name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (home / "ready").exists():
        return python
    proof.say(f"{environment.name}: making its virtual environment")
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, env=clean())
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(constraints)]
    done = subprocess.run([*install, *packages], capture_output=True, text=True, check=False, env=clean())
    if done.returncode:
        proof.lacks(f"{environment.name} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    (home / "ready").touch()
    return python


def suite(python: Path, files: list[str], work: Path) -> dict[str, Any]:
    """Run the tests there; how many passed, and which did not."""
    outcomes = work / "outcomes.json"
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--outcomes={outcomes}", *files]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env={**clean(), "CI": "1"}, capture_output=True, text=True, check=False, timeout=3600
    )
    found = json.loads(outcomes.read_text())["outcomes"] if outcomes.exists() else {}
    return {
        "exit_code": done.returncode,
        "passed": sum(one == "passed" for one in found.values()),
        "not_passed": sorted(name for name, one in found.items() if one != "passed"),
        "seconds": round(time.monotonic() - began, 1),
    }


def cli(python: Path, work: Path) -> list[dict[str, Any]]:
    """The real `aws` command against the local endpoint in this process: exit codes, and what it printed."""
    from resilient_faces.adapters.local_rekognition import RekognitionServer, RekognitionService
    from resilient_faces.adapters.recogniser import BasicEngine

    service = RekognitionService(BasicEngine())
    server = RekognitionServer(service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        **clean(),
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_CONFIG_FILE": str(work / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(work / "none"),
        "AWS_PAGER": "",
        "NO_PROXY": "127.0.0.1",
    }
    steps = (
        (("create-collection", "--collection-id", "c1"), 0, "CollectionArn"),
        (("create-collection", "--collection-id", "c1"), 255, "ResourceAlreadyExistsException"),
        (("list-collections",), 0, "c1"),
        (("list-faces", "--collection-id", "c2"), 255, "ResourceNotFoundException"),
        (("delete-collection", "--collection-id", "c1"), 0, "StatusCode"),
    )
    told = []
    try:
        for arguments, code, text in steps:
            command = [str(python), "-m", "awscli", "--endpoint-url", server.url, "--region", "us-west-2"]
            done = subprocess.run(
                [*command, "rekognition", *arguments],
                env=settings,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            good = done.returncode == code and text in done.stdout + done.stderr
            told.append({"command": " ".join(arguments), "exit_code": done.returncode, "as_expected": good})
    finally:
        server.shutdown()
        server.server_close()
        service.close()
    return told


def main() -> int:
    proof = Proof(
        "botocore_matrix",
        "the adapters' tests pass on botocore 1.40, 1.43, 1.44 and beside the AWS CLI, and nothing is skipped",
        __doc__,
        small="botocore 1.40 only, and no servers",
    )
    proof.parser.add_argument("--only", metavar="NAME", help="one environment, such as botocore-1.44")
    options = proof.parse()
    known = [one.name for one in MATRIX]
    if options.only is not None and options.only not in known:
        proof.parser.error(f"--only takes one of {', '.join(known)}")
    chosen = [one for one in MATRIX if options.only in (None, one.name)]
    if options.small and options.only is None:
        chosen = chosen[:1]
    names = SMALL if options.small else TESTS
    files = sorted(
        str(file.relative_to(ROOT))
        for file in (ROOT / "tests" / "adapters").glob("test_*.py")
        if re.match(rf"test_({'|'.join(names)})(_(?!store)|\.)", file.name)
    )
    version = f"{sys.version_info[0]}{sys.version_info[1]}"
    pinned = ROOT / "constraints" / f"py{version}.txt"
    lines = pinned.read_text().splitlines() if pinned.exists() else []
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        constraints = work / "constraints.txt"
        constraints.write_text("\n".join(line for line in lines if not OF_BOTO.match(line)) + "\n")
        for environment in chosen:
            extras = "aws" if options.small else "aws,cli,demo"
            python = made(environment, cache_folder() / "botocore-matrix", extras, constraints, proof)
            told = subprocess.run([str(python), "-c", ABOUT], capture_output=True, text=True, check=True, env=clean())
            result: dict[str, Any] = {**json.loads(told.stdout), "suite": suite(python, files, work)}
            if environment.cli:
                result["cli"] = cli(python, work)
                for step in result["cli"]:
                    proof.check(step["as_expected"], f"aws {step['command']}: exit code {step['exit_code']}")
            figures[environment.name] = result
            ran = result["suite"]
            proof.check(
                ran["exit_code"] == 0 and ran["passed"] > 0,
                f"{environment.name}: {ran['not_passed'][:5] or 'the tests did not run'}",
            )
            proof.say(
                f"{environment.name}: botocore {result['botocore']}, by default {result['default_mode']} with "
                f"{result['default_attempts']} attempts, timeout per request: {result['timeout_per_request']}; "
                f"{ran['passed']} passed, {len(ran['not_passed'])} did not, {ran['seconds']} s"
            )
    return proof.finish(parameters={"files": files, "environments": [one.name for one in chosen]}, figures=figures)


if __name__ == "__main__":
    sys.exit(main())
