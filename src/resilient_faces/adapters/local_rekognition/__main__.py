"""The endpoint as a child process of demonstrations and tests, in memory and with the basic engine.

    python -m resilient_faces.adapters.local_rekognition --port 0 --ledger calls.jsonl

prints one JSON line with the port, and ends when its standard input closes. For people there is
`resilient-faces rekognition`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from resilient_faces.adapters._aws_clients import is_region
from resilient_faces.adapters.local_rekognition.quotas import Quotas
from resilient_faces.adapters.local_rekognition.server import RekognitionServer, until_input_closes
from resilient_faces.adapters.local_rekognition.service import RekognitionService
from resilient_faces.adapters.recogniser import choose
from resilient_faces.telemetry.ledger import Ledger


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the endpoint until standard input closes; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="local_rekognition", description="Rekognition-compatible endpoint on this machine.", allow_abbrev=False
    )
    parser.add_argument("--host", type=_host, default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=0, help="0 takes a free port, which is printed")
    parser.add_argument("--region", default="us-west-2")
    parser.add_argument("--ledger", type=_file, help="file that gets one JSON line a call")
    parser.add_argument("--index-tps", type=_rate, default=50.0, help="IndexFaces calls a second before throttling")
    parser.add_argument("--nice", type=int, default=0, help="run at this lower priority")
    options = parser.parse_args(arguments)
    if options.nice and hasattr(os, "nice"):
        os.nice(options.nice)
    if not is_region(options.region):
        parser.error(f"--region must be the name of a region, such as us-west-2; got {options.region!r}.")
    try:
        ledger = Ledger(options.ledger)
    except OSError as error:
        parser.error(f"--ledger {options.ledger} cannot be written: {error.strerror}.")
    service = RekognitionService(
        choose("basic"),
        region=options.region,
        quotas=Quotas(options.region, rates={"IndexFaces": options.index_tps}),
        ledger=ledger,
    )
    service.warm_up()
    try:
        server = RekognitionServer(service, host=options.host, port=options.port)
    except OSError as error:
        service.close()
        ledger.close()
        parser.error(f"--host {options.host} --port {options.port} cannot be listened on: {error.strerror}.")
    server.start()
    sys.stdout.write(json.dumps({"url": server.url, "port": server.server_port, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    until_input_closes(sys.stdin.buffer)
    server.stop()
    ledger.close()
    return 0


def _file(text: str) -> Path:
    if not text:  # it would be the current directory
        raise argparse.ArgumentTypeError("must be a file; got ''. Leave the option out to do without.")
    return Path(text)


def _host(text: str) -> str:
    if not text.strip():  # as of a variable that is not set; it would mean all addresses
        rule = "must be an address of this machine, such as 127.0.0.1"
        raise argparse.ArgumentTypeError(f"{rule}; got {text!r}. 0.0.0.0 listens on all of them.")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535; got {text!r}.")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not rate > 0.0:
        raise argparse.ArgumentTypeError(f"must be more than 0 calls a second; got {text!r}.")
    return rate


if __name__ == "__main__":
    sys.exit(main())
