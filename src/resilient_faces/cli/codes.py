"""Exit codes of every command."""

from typing import Final

OK: Final = 0
BROKEN: Final = 1  # an invariant does not hold
USAGE: Final = 2
MISSING: Final = 3  # a dependency is missing
INTERRUPTED: Final = 130  # as shells have it: 128 + SIGINT
