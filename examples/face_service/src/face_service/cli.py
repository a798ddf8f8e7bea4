"""The command `face-service`. Exit codes: 0 ok, 1 an invariant is broken, 2 usage, 3 a dependency is missing."""

from __future__ import annotations

import importlib.util
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from resilient_faces.cli.codes import BROKEN, INTERRUPTED, MISSING, OK, USAGE
from resilient_faces.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    import click

_NEEDED: Final = (
    ("fastapi", "web"),
    ("python_multipart", "web"),
    ("uvicorn", "web"),
    ("httpcore", "webhook"),
    ("av", "rtsp"),
    ("numpy", "rtsp"),
    ("PIL", "insightface"),
)
"""Modules without which nothing works, and their extras. Without InsightFace itself the service runs, degraded."""


def command() -> click.Group:
    """The command with all its subcommands."""
    try:
        import click
    except ImportError:
        raise MissingExtraError(extra="cli", missing="click") from None

    @click.group(
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        epilog="Everything else is set by variables with the prefix FACE_SERVICE_; the README lists them. "
        "Exit codes: 0 ok, 1 an invariant is broken, 2 wrong usage, 3 a dependency is missing.",
    )
    @click.version_option(package_name="face-service")
    @click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
    @click.option("--port", type=click.IntRange(0, 65_535), help="0 takes a free one and says it.  [default: 8000]")
    @click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Where enrolled people are kept; made if absent.  [default: face-service-data]",
    )
    @click.option(
        "--pack",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Directory with an InsightFace model pack. Nothing is downloaded.  [default: pack in --data]",
    )
    @click.option("--log", type=click.Choice(["json", "text"]), help="Form of the log on standard error.")
    @click.option("--json", "as_json", is_flag=True, help="Say where it listens as one JSON line on standard output.")
    @click.pass_context
    def face_service(
        context: click.Context,
        host: str | None,
        port: int | None,
        data: Path | None,
        pack: Path | None,
        log: str | None,
        as_json: bool,
    ) -> int | None:
        """Watch cameras, recognise enrolled people, tell signed webhooks.

        Serves until Ctrl-C or SIGTERM; then sessions are stopped, counted and said goodbye to. Two settings must be
        there: FACE_SERVICE_API_KEY and FACE_SERVICE_WEBHOOK_KEY, which `face-service keys` makes.

        InsightFace's pretrained packs are licensed for non-commercial research only, and none is part of this package.
        """
        given = {"host": host, "port": port, "data": data, "pack": pack, "log": log}
        if context.invoked_subcommand is not None:
            if as_json or any(value is not None for value in given.values()):
                raise click.UsageError(
                    f"These options belong behind {context.invoked_subcommand}, or to no subcommand."
                )
            return None
        return _serve(given, as_json=as_json)

    @face_service.command(short_help="Make an API key and a key for webhooks, as lines for a shell or an env file.")
    def keys() -> None:
        """Make an API key and a key for webhooks, as lines for a shell or an env file.

        \b
            face-service keys > service.env
            set -a; . ./service.env; set +a
        """
        from resilient_faces.adapters.webhook import SigningKey

        click.echo(f"FACE_SERVICE_API_KEY={secrets.token_urlsafe(32)}")
        click.echo(f"FACE_SERVICE_WEBHOOK_KEY={SigningKey.new().reveal()}")

    return face_service


def need() -> None:
    """Look for what the service needs before any of it is begun.

    Raises:
        MissingExtraError: Something is not installed; it names the extra.
    """
    for module, extra in _NEEDED:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(extra, module)


def _serve(given: Mapping[str, Any], *, as_json: bool) -> int:
    need()
    from face_service.server import log_to, serve
    from face_service.settings import Settings

    try:
        settings = Settings.from_environment(**given)
    except OptionError as error:
        say(str(error))
        return USAGE
    log_to(sys.stderr, settings.log)
    try:
        return OK if serve(settings, as_json=as_json) == 0 else BROKEN
    except OSError as error:
        where = f"--host {settings.host} --port {settings.port}"
        say(f"{where} cannot be listened on: {error.strerror}. Take another port, or 0.")
        return USAGE


def say(text: str) -> None:
    """A line for people, on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    try:
        group = command()
        import click

        try:
            code = group.main(
                args=None if arguments is None else list(arguments), prog_name="face-service", standalone_mode=False
            )
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except click.Abort:
            return INTERRUPTED
        return code if isinstance(code, int) else OK
    except MissingExtraError as error:
        say(str(error))
        return MISSING
