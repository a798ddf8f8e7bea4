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

from resilient_faces.adapters.local_rekognition.quotas import Quotas
from resilient_faces.adapters.local_rekognition.server import RekognitionServer, until_input_closes
from resilient_faces.adapters.local_rekognition.service import RekognitionService
from resilient_faces.adapters.recogniser import choose
from resilient_faces.telemetry.ledger import Ledger


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the endpoint until standard input closes; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="local_rekognition", description="Rekognition-compatible endpoint on this machine."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port, which is printed")
    parser.add_argument("--region", default="us-west-2")
    parser.add_argument("--ledger", type=Path, help="file that gets one JSON line a call")
    parser.add_argument("--index-tps", type=float, default=50.0, help="IndexFaces calls a second before throttling")
    parser.add_argument("--nice", type=int, default=0, help="run at this lower priority")
    options = parser.parse_args(arguments)
    if options.nice and hasattr(os, "nice"):
        os.nice(options.nice)
    ledger = Ledger(options.ledger)
    service = RekognitionService(
        choose("basic"),
        region=options.region,
        quotas=Quotas(options.region, rates={"IndexFaces": options.index_tps}),
        ledger=ledger,
    )
    service.warm_up()
    server = RekognitionServer(service, host=options.host, port=options.port)
    server.start()
    sys.stdout.write(json.dumps({"url": server.url, "port": server.server_port, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    until_input_closes(sys.stdin.buffer)
    server.stop()
    ledger.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
