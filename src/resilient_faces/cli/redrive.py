"""`resilient-faces redrive`: move dead letters back into their queue."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from resilient_faces._core.runtime import RUNTIME
from resilient_faces.cli.codes import BROKEN, INTERRUPTED, MISSING, OK, USAGE

if TYPE_CHECKING:
    import click

    from resilient_faces.adapters.sqs import Sqs

SCHEMA: Final = 1
_EVERY: Final = 2.0  # s between lines of progress
_IN_A_ROW: Final = 3  # failures after which the rest is left alone


@dataclass
class Run:
    """What one run did. `waiting` is about how many dead letters there were, `left` how many there are."""

    source: str
    target: str
    dry_run: bool
    waiting: int = 0
    moved: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    left: int | None = None
    interrupted: bool = False

    @property
    def code(self) -> int:
        if self.interrupted:
            return INTERRUPTED
        return BROKEN if self.failed else OK

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
    @click.option("--from", "source", required=True, metavar="QUEUE", help="The dead-letter queue: name or URL.")
    @click.option("--to", "target", required=True, metavar="QUEUE", help="The queue that they go back to.")
    @click.option("--region", envvar=["AWS_REGION", "AWS_DEFAULT_REGION"], required=True, help="Of both queues.")
    @click.option("--endpoint-url", metavar="URL", help="A server on this machine that stands in for SQS.")
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
        from resilient_faces.errors import OptionError
        from resilient_faces.faults import Kind

        try:
            queue, run = _queues(source, target, region, endpoint_url, dry_run)
            run.waiting = run.left = queue.waiting()[1]
            if not dry_run:
                _move(queue, run, most)
        except OptionError as error:
            _say(str(error))
            return USAGE
        except Exception as error:
            fault = AWS(error)
            if fault.kind is Kind.unknown:
                raise
            # Codes only: an error's text can name accounts and people.
            _say(f"redrive: {fault.kind.value}: {fault.code}")
            return USAGE if fault.kind in (Kind.not_found, Kind.invalid) else MISSING
        click.echo(json.dumps(run.to_json()) if as_json else _text(run))
        return run.code

    return redrive


def _queues(source: str, target: str, region: str, endpoint_url: str | None, dry_run: bool) -> tuple[Sqs, Run]:
    from resilient_faces.adapters.aws import LocalEndpoint, Requests, connect
    from resilient_faces.adapters.sqs import Sqs

    client = connect("sqs", region=region, endpoint=None if endpoint_url is None else LocalEndpoint(endpoint_url))
    ask = Requests(client)

    def url(queue: str) -> str:
        found = queue if "://" in queue else ask("GetQueueUrl", QueueName=queue)["QueueUrl"]
        return str(found)

    run = Run(source.rpartition("/")[2], target.rpartition("/")[2], dry_run)
    return Sqs(client, url(target), url(source)), run


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
    if run.left:
        lines.append(f"About {run.left} are left.")
    return "\n".join(lines)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
