"""Every row of the bench meets its limit: `python -m bench` in its own environment, and its exit code.

    python proof/speed.py            all rows, as measured for a verdict
    python proof/speed.py --small    one short process: a look

`bench/README.md` says what is measured and how. Other Pythons: start this with them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from _report import ROOT, Proof


def main() -> int:
    proof = Proof("speed", "every row of the bench meets its limit", __doc__, "one short process")
    options = proof.parse()
    with tempfile.TemporaryDirectory(prefix="speed-") as directory:
        target = Path(directory) / "bench.json"
        command = [
            sys.executable,
            "run.py",
            "bench",
            "--",
            "--json",
            str(target),
            *(["--quick"] if options.small else []),
        ]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        proof.say(done.stdout)
        if done.returncode not in (0, 1) or not target.exists():
            proof.lacks(f"the bench could not run: exit code {done.returncode}")
        table = json.loads(target.read_text(encoding="utf-8"))
    proof.check(done.returncode == 0, f"rows beyond their limit: {table.get('missed')}")
    return proof.finish(parameters={"quick": options.small}, figures=table, packages=("resilient-faces",))


if __name__ == "__main__":
    sys.exit(main())
