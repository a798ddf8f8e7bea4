"""The command `face-service`. Exit codes: 0 ok, 1 an invariant is broken, 2 usage, 3 a dependency is missing."""

from __future__ import annotations

import importlib.util
import json
import secrets
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from resilient_faces.cli import given as checks
from resilient_faces.cli.codes import BROKEN, INTERRUPTED, MISSING, OK, USAGE
from resilient_faces.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    import click

_AFTER_SCRIPT: Final = 25.0  # seconds: what is done last must have been noticed
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
        epilog="Everything else is set by variables with the prefix FACE_SERVICE_; "
        "docs/how-to/face-service.md lists them. Exit codes: 0 ok, 1 it could not start or an invariant is broken, "
        "2 wrong usage, 3 a dependency is missing.",
    )
    @click.version_option(package_name="face-service")
    @click.option("--host", callback=checks.host, help="Address to listen on.  [default: 127.0.0.1]")
    @click.option("--port", type=click.IntRange(0, 65_535), help="0 takes a free one and says it.  [default: 8000]")
    @click.option(
        "--data",
        type=checks.path(file_okay=False),
        metavar="DIR",
        help="Where enrolled people are kept; made if absent.  [default: face-service-data]",
    )
    @click.option(
        "--pack",
        type=checks.path(file_okay=False),
        metavar="DIR",
        help="Directory with an InsightFace model pack. Nothing is downloaded.  [default: pack in --data]",
    )
    @click.option("--log", type=click.Choice(["json", "text"]), help="Form of the log on standard error.")
    @click.option("--until-eof", is_flag=True, hidden=True, help="End when standard input ends, as a child does.")
    @click.option("--json", "as_json", is_flag=True, help="Say where it listens as one JSON line on standard output.")
    @click.pass_context
    def face_service(
        context: click.Context,
        host: str | None,
        port: int | None,
        data: Path | None,
        pack: Path | None,
        log: str | None,
        until_eof: bool,
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
        return _serve(given, until_eof=until_eof, as_json=as_json)

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

    face_service.add_command(_demo())
    face_service.add_command(_camera())
    return face_service


def _demo() -> click.Command:
    import click

    @click.command(short_help="Run all of it on this machine, to be broken while you watch.")
    @click.option("--cameras", type=click.IntRange(2, 12), default=3, show_default=True, help="RTSP servers to start.")
    @click.option(
        "--seconds",
        type=click.FloatRange(1, 86_400),
        callback=checks.number,
        help="End after so many.  [default: when somebody ends it]",
    )
    @click.option(
        "--script",
        metavar="STEPS",
        help="What is done by itself, such as `3 kill 2, 13 restart 2`; `whole` for one that shows all. Ends 25 s "
        "after the last step unless --seconds says otherwise.",
    )
    @click.option(
        "--json", "as_json", is_flag=True, help="Print the report as JSON, and nothing else, on standard output."
    )
    def demo(cameras: int, seconds: float | None, script: str | None, as_json: bool) -> int:
        """Run all of it on this machine: RTSP cameras that show moving cards, the service, a receiver of its webhooks.

        The cards are enrolled, a session is begun, and what the service says of each camera is shown live. Break
        something from another terminal: `face-service camera kill 2`, and mend it: `face-service camera restart 2`.
        In the end it checks what the receiver got, and exits with 1 if something that must hold does not.
        """
        need(*_NEEDED, ("insightface", "insightface"), ("onnx", "insightface"), ("httpx", "web"), ("rich", "cli"))
        return _demonstrate(cameras, seconds, script, as_json=as_json)

    return demo


def _camera() -> click.Command:
    import click

    verbs = ("kill", "freeze", "thaw", "restart", "fault", "status")

    @click.command(short_help="Do something to a camera of the demonstration that is running.")
    @click.argument("verb", type=click.Choice(verbs))
    @click.argument("camera", type=click.IntRange(1), required=False)
    @click.argument("fault", required=False)
    def camera(verb: str, camera: int | None, fault: str | None) -> int:
        """Do something to a camera of the demonstration that is running, or ask how all stand.

        \b
            face-service camera kill 2
            face-service camera restart 2
            face-service camera freeze 1
            face-service camera thaw 1
            face-service camera fault 3 reports_only
            face-service camera status

        Faults: none, frozen, drip, reports_only, still, corrupt, lossy, backwards, silent, no_picture, unauthorised,
        missing, broken, brief.
        """
        from face_service.demo.control import ControlError, NoDemonstrationError, ask

        if camera is None and verb != "status":
            raise click.UsageError(f"{verb} needs the number of a camera.")
        try:
            click.echo(ask({"verb": verb, "camera": camera, "fault": fault or ""})["said"])
        except NoDemonstrationError as error:
            say(str(error))
            return MISSING
        except ControlError as error:
            say(str(error))
            return USAGE
        return OK

    return camera


def need(*modules: tuple[str, str]) -> None:
    """Look for modules, of extras, before anything that needs them is begun.

    Raises:
        MissingExtraError: Something is not installed; it names the extra.
    """
    for module, extra in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(extra, module)


def _serve(given: Mapping[str, Any], *, until_eof: bool, as_json: bool) -> int:
    need(*_NEEDED)
    from face_service.server import end_with_input, log_to, serve
    from face_service.settings import Settings

    try:
        settings = Settings.from_environment(**given)
    except OptionError as error:
        say(str(error))
        return USAGE
    log_to(sys.stderr, settings.log)
    if until_eof:
        threading.Thread(target=end_with_input, daemon=True).start()
    try:
        return OK if serve(settings, as_json=as_json) == 0 else BROKEN
    except OSError as error:
        say(checks.not_listened(settings.host, settings.port, error))
        return USAGE


def _demonstrate(cameras: int, seconds: float | None, script: str | None, *, as_json: bool) -> int:
    import click
    import httpx

    from face_service.demo.control import ControlError
    from face_service.demo.run import Run
    from face_service.demo.script import WHOLE, parsed
    from face_service.demo.view import display, shown
    from resilient_faces.testing.children import ChildError

    try:
        steps = parsed(WHOLE if script == "whole" else script or "", cameras)
    except OptionError as error:
        say(str(error))
        return USAGE
    if seconds is None and script is not None:
        seconds = (steps[-1].at if steps else 0.0) + _AFTER_SCRIPT
    run = Run(cameras, seconds, steps)
    try:
        with _interruptible(), display(as_json) as (tell, show):
            report = run.go(tell, show)
    except KeyboardInterrupt:
        say(f"Interrupted while {run.stage}. {run.summary()} Everything that was started is stopped.")
        return INTERRUPTED
    except ControlError as error:
        say(str(error))
        return USAGE
    except (ChildError, httpx.HTTPError) as error:
        say(f"The demonstration could not be started. {error}")
        return MISSING
    click.echo(json.dumps(report.to_json(), indent=1) if as_json else shown(report))
    return OK if report.holds else BROKEN


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does, and a second signal does not interrupt the cleaning up."""

    def end(number: int, frame: FrameType | None) -> None:
        for one in watched:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    watched = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(one, end) for one in watched]
    try:
        yield
    finally:
        for one, handler in zip(watched, before, strict=True):
            signal.signal(one, handler)


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
