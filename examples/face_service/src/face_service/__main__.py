"""The way in: `face-service`, or `python -m face_service`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command and exit with its code."""
    from face_service.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
