"""What people see of a demonstration: a table that lives on a terminal, lines elsewhere, a report in the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from face_service.demo.script import VERBS

if TYPE_CHECKING:
    from face_service.demo.judge import Report
    from face_service.demo.watch import Watch

__all__ = ["display", "shown"]

_PLAIN_EVERY: Final = 2.0  # seconds between lines where there is no terminal
_COLOURS: Final = {"live": "green", "stalled": "yellow", "opening": "yellow"}


@contextmanager
def display(quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[Watch], None]]]:
    """How progress and cameras are shown, on standard error: functions of a text and of what was seen."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield _plain(quiet), _lines(quiet)
        return
    notes: list[str] = []
    with Live(console=console, refresh_per_second=4, transient=True) as live:

        def tell(text: str) -> None:
            notes.append(text)
            if len(notes) == 1 or live.renderable is None:
                live.update(f"{text} ...")
            else:
                console.print(f"  {text}", style="dim")

        yield tell, lambda watch: live.update(_table(watch))


def _plain(quiet: bool) -> Callable[[str], None]:
    def tell(text: str) -> None:
        if not quiet:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    return tell


def _lines(quiet: bool) -> Callable[[Watch], None]:
    last = -_PLAIN_EVERY

    def show(watch: Watch) -> None:
        nonlocal last
        now = time.monotonic()
        if quiet or now - last < _PLAIN_EVERY:
            return
        last = now
        cameras = "  ".join(f"{row.number}:{_state(row.state, row.dead)}" for row in watch.rows)
        letters = sum(watch.letters().values())
        sys.stderr.write(f"{watch.seconds:5.1f} s  {cameras}  {letters} webhooks\n")
        sys.stderr.flush()

    return show


def _state(state: str, dead: bool) -> str:
    return f"{state} (dead)" if dead else state


def _table(watch: Watch) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"face-service demo, {watch.seconds:.0f} s", title_justify="left")
    for head in ("camera", "done to it", "the service says", "newest frame", "frames looked at", "card recognised"):
        table.add_column(head)
    for row in watch.rows:
        colour = "red" if row.dead else _COLOURS.get(row.state, "red")
        table.add_row(
            str(row.number),
            row.done,
            Text(_state(row.state, row.dead), style=colour),
            "" if row.age is None else f"{row.age:.1f} s ago",
            str(row.looked),
            "yes" if row.recognised else "",
        )
    letters = "  ".join(f"{kind} {count}" for kind, count in sorted(watch.letters().items()))
    session = watch.session
    counts = f"{session['delivered']} delivered, {session['undelivered']} given up" if session else "session ended"
    return Group(
        table,
        Text(f"health {watch.health.get('status', '?')}, webhooks: {counts}"),
        Text(letters, style="dim"),
        Text(f"In another terminal: face-service camera {'|'.join(VERBS)} N.  Ctrl-C ends it.", style="dim"),
    )


def shown(report: Report) -> str:
    """The report for people."""
    people = report.session.get("recognised", 0)
    lines = [f"{report.seconds:.0f} s, {report.cameras} cameras, {people} people recognised"]
    lines += [f"  {one.at:5.1f} s  {one.step}: {one.said}" for one in report.done]
    lines.append("webhooks: " + (", ".join(f"{kind} {count}" for kind, count in report.letters.items()) or "none"))
    lines += [f"  {'holds ' if one.holds else 'BROKEN'}  {one.rule} ({one.seen})" for one in report.findings]
    return "\n".join(lines)
