"""`resilient-faces redrive`: move dead letters back into their queue."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from resilient_faces._core.runtime import RUNTIME
from resilient_faces.cli import given
from resilient_faces.cli.codes import BROKEN, INTERRUPTED, MISSING, OK, USAGE
from resilient_faces.errors import OptionError

if TYPE_CHECKING:
    import click

    from resilient_faces.adapters.aws import Requests
    from resilient_faces.adapters.sqs import Sqs
    from resilient_faces.faults import Fault

SCHEMA: Final = 1
_EVERY: Final = 2.0  # s between lines of progress
_IN_A_ROW: Final = 3  # failures after which the rest is left alone
_CREDENTIALS: Final = "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."


@dataclass
class Run:
    """What one run did.

    `waiting` is about how many dead letters there were, `left` how many there are; `stopped` is the code of what ended
    the run early.
    """

    source: str
    target: str
    dry_run: bool
    waiting: int = 0
    moved: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    left: int | None = None
    interrupted: bool = False
    stopped: str = ""

    @property
    def code(self) -> int:
        if self.interrupted:
            return INTERRUPTED
        return BROKEN if self.failed or self.stopped else OK

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "from": self.source,
            "to": self.target,
            "dry_run": self.dry_run,
            "waiting": self.waiting,
            "moved": self.moved,
            "failed": dict(self.failed),
            "left": self.left,
            "interrupted": self.interrupted,
            "stopped": self.stopped or None,
            "ok": self.code == OK,
        }


def command() -> click.Command:
    """The subcommand `redrive`."""
    import click

    @click.command(
        short_help="Move dead letters back into their queue.",
        epilog="Exit codes: 0 ok, 1 some were not moved, 2 wrong usage or no such queue, 3 the service or boto3 is "
        "missing, 130 interrupted.",
    )
    @click.option(
        "--from",
        "source",
        required=True,
        metavar="QUEUE",
        callback=given.queue,
        help="The dead-letter queue: name or URL.",
    )
    @click.option(
        "--to", "target", required=True, metavar="QUEUE", callback=given.queue, help="The queue that they go back to."
    )
    @click.option(
        "--region",
        envvar=["AWS_REGION", "AWS_DEFAULT_REGION"],
        show_envvar=True,
        required=True,
        callback=given.region,
        help="Of both queues.",
    )
    @click.option(
        "--endpoint-url",
        metavar="URL",
        callback=given.endpoint,
        help="A server on this machine that stands in for SQS.",
    )
    @click.option("--max", "most", type=click.IntRange(1), help="Messages at most.  [default: all]")
    @click.option("--dry-run", is_flag=True, help="Say about how many there are, and touch nothing.")
    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else, on stdout.")
    def redrive(
        source: str, target: str, region: str, endpoint_url: str | None, most: int | None, dry_run: bool, as_json: bool
    ) -> int:
        """Move dead letters back into their queue.

        Each message keeps its id, is sent first and deleted then: a crash between the two leaves it twice, never none.
        What dies again meanwhile stays where it is. Ctrl-C ends the run after the message in hand.
        """
        from resilient_faces.adapters.aws import AWS
        from resilient_faces.adapters.sqs import Sqs
        from resilient_faces.faults import Kind

        place = _Place(region, endpoint_url)
        run = Run(_name(source), _name(target), dry_run)
        asked = "", ""  # the option that is asked about, and its queue
        try:
            client, ask = place.connected()
            asked = "--from", source
            source_url, run.waiting = _found(ask, source)
            asked = "--to", target
            target_url, _ = _found(ask, target)
            if source_url == target_url:
                raise OptionError("--from and --to are the same queue. Dead letters go back to another one.")
            asked = "--from", source
            run.left = run.waiting
            if not dry_run:
                _move(Sqs(client, target_url, source_url), run, most)
        except OptionError as error:
            _say(str(error))
            return USAGE
        except Exception as error:
            fault = AWS(error)
            if fault.kind is Kind.unknown:
                raise
            _say(_explained(error, fault, place, *asked))
            if not run.moved and not run.failed:
                return USAGE if fault.kind in (Kind.not_found, Kind.invalid) else MISSING
            run.stopped, run.left = fault.code, None
        click.echo(json.dumps(run.to_json()) if as_json else _text(run))
        return run.code

    return redrive


@dataclass(frozen=True)
class _Place:
    """Where both queues are, as it was given."""

    region: str
    endpoint_url: str | None

    def __str__(self) -> str:
        return (
            f"in --region {self.region}" if self.endpoint_url is None else f"at {self.server} in --region {self.region}"
        )

    @property
    def server(self) -> str:
        """What answers there; of an address only what names the server."""
        if self.endpoint_url is None:
            return f"SQS in --region {self.region}"
        url = urlsplit(self.endpoint_url)
        return f"--endpoint-url {url.scheme}://{url.netloc}"

    @property
    def cure(self) -> str:
        """What to do if nothing answers there."""
        if self.endpoint_url is not None:
            return "Start the server there, or give its address."
        elsewhere = [name for name in ("AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL") if os.environ.get(name)]
        return f"Look at {elsewhere[0]}." if elsewhere else "Look at the network, and whether there is such a region."

    def connected(self) -> tuple[Any, Requests]:
        """A client, and what asks through it."""
        from resilient_faces.adapters.aws import LocalEndpoint, Requests, connect

        endpoint = None if self.endpoint_url is None else LocalEndpoint(self.endpoint_url)
        client = connect("sqs", region=self.region, endpoint=endpoint)
        return client, Requests(client)


def _found(ask: Requests, queue: str) -> tuple[str, int]:
    """The URL of a queue, and about how many messages wait in it."""
    url = queue if "://" in queue else str(ask("GetQueueUrl", QueueName=queue)["QueueUrl"])
    count = "ApproximateNumberOfMessages"
    return url, int(ask("GetQueueAttributes", QueueUrl=url, AttributeNames=[count])["Attributes"][count])


def _name(queue: str) -> str:
    return queue.rpartition("/")[2]


def _explained(error: Exception, fault: Fault, place: _Place, option: str, queue: str) -> str:
    """What is wrong, by the option that says it, and what to do. Codes only: a text can name accounts and people."""
    from resilient_faces.adapters.aws import NOT_THERE
    from resilient_faces.faults import Kind

    code = fault.code
    answered = getattr(error, "response", None) is not None
    match fault.kind:
        case Kind.not_found:
            return (
                f"{option} {_name(queue)} is no queue {place} ({code}). Give the name or the URL of one that is there."
            )
        case Kind.auth if not answered and code == "PartialCredentialsError":
            return f"The credentials are incomplete ({code}). {_CREDENTIALS}"
        case Kind.auth if not answered:
            return f"There are no credentials ({code}). {_CREDENTIALS}"
        case Kind.auth if "Denied" in code or "Authoriz" in code:
            return (
                f"The credentials may not use {option} {_name(queue)} ({code}). Give them sqs:GetQueueUrl, "
                "GetQueueAttributes, ReceiveMessage, DeleteMessage and ChangeMessageVisibility on --from, and "
                "GetQueueUrl, GetQueueAttributes and SendMessage on --to."
            )
        case Kind.auth:
            return f"The credentials are not taken ({code}). Sign in again. {_CREDENTIALS}"
        case Kind.invalid if code == "ProfileNotFound":
            name = "AWS_DEFAULT_PROFILE" if os.environ.get("AWS_DEFAULT_PROFILE") else "AWS_PROFILE"
            return f"The profile of {name} is not in the SDK's configuration. Name one that is, or unset the variable."
        case Kind.invalid if code == "RequestTimeTooSkewed":
            return f"The clock of this machine is off ({code}). Set it."
        case Kind.invalid if code == "SSLError":
            return f"{place.server}: its certificate is not trusted ({code}). AWS_CA_BUNDLE names the good ones."
        case Kind.invalid if not answered:
            return f"The SDK's configuration is wrong ({code}). Look at ~/.aws/config and at the variables AWS_..."
        case Kind.invalid if code not in (NOT_THERE, "UnknownOperationException", "InvalidAction"):
            return f"{option} {_name(queue)} is not taken {place} ({code}). Give the name or the URL of a queue there."
        case Kind.invalid | Kind.integrity:
            return f"{place.server} does not answer as SQS does ({code}). {place.cure}"
        case Kind.unavailable if not answered:
            return f"{place.server} cannot be reached ({code}). {place.cure}"
    return f"{place.server} does not do what it should ({fault.kind.value}: {code}). Try again later."


def _move(queue: Sqs, run: Run, most: int | None) -> None:
    """Move until all are moved, nothing works any more, or somebody says stop."""
    in_a_row = 0
    spoken = RUNTIME.monotonic()
    with _told_to_stop() as stop, closing(queue.redrive(most)) as steps:
        for step in steps:
            if step.error_code:
                run.failed[step.error_code] += 1
                in_a_row += 1
            else:
                run.moved += 1
                in_a_row = 0
            if RUNTIME.monotonic() - spoken >= _EVERY:
                spoken = RUNTIME.monotonic()
                _say(f"{run.moved} of about {run.waiting} moved")
            if stop.is_set() or in_a_row >= _IN_A_ROW:
                break
        run.interrupted = stop.is_set()
    try:
        run.left = queue.waiting()[1]
    except Exception:  # the work is done; nobody needs to hear of a count that failed
        run.left = None


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C or SIGTERM; the second one ends the run on the spot."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    watched = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(one, note) for one in watched]
    try:
        yield stop
    finally:
        for one, handler in zip(watched, before, strict=True):
            signal.signal(one, handler)


def _text(run: Run) -> str:
    if run.dry_run:
        return f"About {run.waiting} dead letters in {run.source}. Nothing was touched."
    lines = [f"{run.moved} dead letters moved from {run.source} to {run.target}."]
    lines += [f"{count} not moved: {code}" for code, count in run.failed.items()]
    if run.interrupted:
        lines.append("Interrupted; the rest was not touched.")
    if run.stopped:
        lines.append("The rest was not touched.")
    if run.left:
        lines.append(f"About {run.left} are left.")
    return "\n".join(lines)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
