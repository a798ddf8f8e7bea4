"""The command and its subcommands. Exit codes: 0 ok, 1 an invariant is broken, 2 usage, 3 a dependency is missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from resilient_faces.cli.codes import INTERRUPTED, MISSING, OK
from resilient_faces.errors import MissingExtraError

if TYPE_CHECKING:
    import click


def command() -> click.Group:
    """The command with all its subcommands."""
    try:
        import click
    except ImportError:
        raise MissingExtraError(extra="cli", missing="click") from None
    from resilient_faces.cli import demo, redrive, rekognition

    @click.group(
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        epilog="Exit codes: 0 ok, 1 an invariant is broken, 2 wrong usage, 3 a dependency is missing.",
    )
    @click.version_option(package_name="resilient-faces")
    def resilient_faces() -> None:
        """Retry, circuit breakers and graceful degradation for face-recognition systems."""

    resilient_faces.add_command(demo.command())
    resilient_faces.add_command(rekognition.command())
    resilient_faces.add_command(redrive.command())
    return resilient_faces


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    try:
        group = command()
        import click

        try:
            code = group.main(
                args=None if arguments is None else list(arguments), prog_name="resilient-faces", standalone_mode=False
            )
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except click.Abort:
            return INTERRUPTED
        return code if isinstance(code, int) else OK
    except MissingExtraError as error:
        sys.stderr.write(f"{error}\n")
        return MISSING
