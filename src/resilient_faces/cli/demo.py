"""`resilient-faces demo`: the system at work on this machine, with faults, and what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from resilient_faces.cli import given
from resilient_faces.cli.codes import BROKEN, INTERRUPTED, MISSING, OK, USAGE
from resilient_faces.errors import OptionError

if TYPE_CHECKING:
    import click

    from resilient_faces.pipeline.demo import Report, State

_PLAIN_EVERY: Final = 2.0  # s between lines where there is no terminal


def command() -> click.Group:
    """The group `demo` with its demonstrations."""
    import click

    @click.group(invoke_without_command=True, short_help="Run the system on this machine, without an account.")
    @click.option(
        "--clean", is_flag=True, help="Remove what demonstrations left: run folders and the emulator's environment."
    )
    @click.pass_context
    def demo(context: click.Context, clean: bool) -> int | None:
        """Run the system on this machine, without an account."""
        if clean:
            if context.invoked_subcommand is not None:
                raise click.UsageError("--clean runs nothing: leave the subcommand out.")
            return _clean()
        if context.invoked_subcommand is None:
            click.echo(context.get_help())
        return None

    @demo.command(short_help="Index photos through queue and recogniser, with faults injected.")
    @click.option(
        "--faults",
        type=click.Choice(["none", "default", "heavy"]),
        default="default",
        show_default=True,
        help="How much goes wrong between the consumer and its services. heavy also makes some photos fail for good.",
    )
    @click.option(
        "--seed",
        type=int,
        default=0,
        show_default=True,
        help="Chooses photos and faults; the same seed, the same plan.",
    )
    @click.option("--count", type=click.IntRange(1, 5000), default=None, help="Photos to make.  [default: 200]")
    @click.option(
        "--photos",
        "folder",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="Index the JPEGs of this folder instead; faces are then counted, not judged.",
    )
    @click.option(
        "--rate",
        type=click.FloatRange(0.5, 1000),
        default=50.0,
        show_default=True,
        envvar="RESILIENT_FACES_RATE",
        show_envvar=True,
        callback=given.number,
        help="IndexFaces requests a second, retries included.",
    )
    @click.option(
        "--json", "as_json", is_flag=True, help="Print the report as JSON, and nothing else, on standard output."
    )
    def indexing(faults: str, seed: int, count: int | None, folder: Path | None, rate: float, as_json: bool) -> int:
        """Index photos: store, queue, paced consumer, IndexFaces, face rows, ack.

        Everything runs here: an AWS emulator (installed on first use into an environment of its own), a
        Rekognition-compatible endpoint that really looks for faces, and a proxy that injects faults. The report is
        made from the ledgers of proxy and endpoint and from the tables. It counts faces and names nobody.
        """
        if count is not None and folder is not None:
            raise click.UsageError(
                "--count is for photos that are made; with --photos all of the folder's JPEGs are taken."
            )
        return _indexing(faults=faults, seed=seed, count=count or 200, folder=folder, rate=rate, as_json=as_json)

    return demo


def _indexing(*, faults: str, seed: int, count: int, folder: Path | None, rate: float, as_json: bool) -> int:
    import click

    from resilient_faces.pipeline import demo
    from resilient_faces.testing.children import ChildError

    state = demo.State()
    options = demo.Options(level=demo.Level(faults), seed=seed, count=count, folder=folder, rate=rate)
    try:
        with _interruptible(), _display(state) as tell:
            report = demo.run(options, state, tell=tell)
    except KeyboardInterrupt:
        _say(f"Interrupted while {state.stage}. {_done(state)} All servers are stopped.")
        return INTERRUPTED
    except ChildError as error:
        _say(str(error))
        return MISSING
    except (OptionError, ValueError) as error:
        _say(str(error))
        return USAGE
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else _text(report))
    return OK if report.findings.holds else BROKEN


def _clean() -> int:
    import click

    from resilient_faces.pipeline import demo

    removed, kept = demo.clean()
    for folder in removed:
        click.echo(f"removed {folder}")
    for folder in kept:
        click.echo(f"kept {folder}: a demonstration is running")
    if not removed and not kept:
        click.echo("nothing to remove")
    return OK


def _done(state: State) -> str:
    return (
        f"{state.uploaded} of {state.photos} photos uploaded, {state.indexed} indexed with {state.faces} faces, "
        f"{state.failed} failed, {state.again} given back to the queue."
    )


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does, and a second signal does not interrupt the cleaning up."""

    def end(number: int, frame: FrameType | None) -> None:
        for one in watched:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    watched = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(one, end) for one in watched]
    try:
        yield
    finally:
        for one, handler in zip(watched, before, strict=True):
            signal.signal(one, handler)


@contextmanager
def _display(state: State) -> Iterator[Callable[[str], None]]:
    """Progress on standard error: a bar on a terminal, else a line now and then."""
    try:
        from rich.console import Console
    except ImportError:
        with _lines(state) as tell:
            yield tell
        return
    console = Console(stderr=True)
    with _bar(state, console) if console.is_terminal else _lines(state) as tell:
        yield tell


@contextmanager
def _bar(state: State, console: Any) -> Iterator[Callable[[str], None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(
            "{task.completed:.0f}/{task.total:.0f} photos, {task.fields[faces]} faces, {task.fields[failed]} failed"
        ),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(state.stage, total=None, faces=0, failed=0)

        def show() -> None:
            progress.update(
                task,
                description=state.stage,
                total=state.photos or None,
                completed=state.indexed + state.failed,
                faces=state.faces,
                failed=state.failed,
            )

        with _ticking(show, 0.2):
            yield console.print


@contextmanager
def _lines(state: State) -> Iterator[Callable[[str], None]]:
    last = ""

    def show() -> None:
        nonlocal last
        settled = state.indexed + state.failed
        line = f"{state.stage}: {settled}/{state.photos} photos, {state.faces} faces" if state.uploaded else state.stage
        if line != last:
            last = line
            _say(line)

    with _ticking(show, _PLAIN_EVERY):
        yield _say


@contextmanager
def _ticking(show: Callable[[], None], seconds: float) -> Iterator[None]:
    over = threading.Event()

    def tick() -> None:
        show()
        while not over.wait(seconds):
            show()

    thread = threading.Thread(target=tick, name="display", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _text(report: Report) -> str:
    found = report.findings
    faults = ", ".join(f"{count} x {kind}" for kind, count in found.faults.items()) or "none"
    lines = [
        "",
        f"Photos        {found.photos}: {found.indexed} indexed with {found.faces} faces, {found.failed} failed",
        f"Faults        {faults}",
        f"Requests      {found.requests} x IndexFaces ({found.requests_per_photo:g} a photo), {found.retries} retries,",
        f"              at most {found.max_in_any_second} in any second (limit {report.options.rate:g})",
        f"Time          {report.seconds:.1f} s, after {report.ready_after:.1f} s to start",
        f"Plan          {report.plan.level.value}, seed {report.plan.seed} ({report.plan.fingerprint})",
        "",
    ]
    if report.plan.permanent:
        lines.append("Planned to fail: " + ", ".join(f"{key} ({why})" for key, why in report.plan.permanent.items()))
    lines += [
        f"{'ok  ' if one.holds else 'FAIL'}  {one.name.replace('_', ' ')}: {one.found}" for one in found.invariants
    ]
    if found.misses:
        lines += ["", "Photos with another number of faces than there are:", *(f"  {miss}" for miss in found.misses)]
    lines += ["", f"Ledgers of this run: {report.folder}", f"Remove what is left with: {_program()} demo --clean"]
    return "\n".join(lines)


def _program() -> str:
    """How this program is called again from here: by its name, unless it is not to be found by that."""
    if shutil.which("resilient-faces"):
        return "resilient-faces"
    return f"{os.path.relpath(sys.executable)} -m resilient_faces"


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
