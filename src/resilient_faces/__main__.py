"""The way in: `resilient-faces`, or `python -m resilient_faces`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command and exit with its code; without the extra `cli`, say how to get it and exit with 3."""
    from resilient_faces.cli.main import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
