"""Write the generated parts of the pages, and the circuit's diagram, from the code that they describe.

`python docs/generate.py` rewrites what stands between `<!-- generated: NAME -->` and `<!-- end -->`; with `--check` it
only compares, and exits with 1 if a page says something else than the code. The tests compare too.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import inspect
import logging
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, get_args

import resilient_faces
from resilient_faces import breaker, composing, degrade, events, faults, limits
from resilient_faces.adapters import aws, gallery, insightface, rekognition, webhook
from resilient_faces.breaker.machine import TABLE, State, Trigger
from resilient_faces.composing import _described
from resilient_faces.events import Event, EventType
from resilient_faces.faults import _BY_ERRNO, _BY_NAME, _BY_STATUS, Executed, Kind, rule
from resilient_faces.pipeline import cameras
from resilient_faces.retry import (
    Retrier,
    Retry,
    Stop,
    additive,
    decorrelated,
    equal,
    exponential,
    fibonacci,
    fixed,
    full,
    linear,
    none,
    proportional,
    retry_with_backoff,
    sequence,
    stop_after,
    upward,
)
from resilient_faces.telemetry import JsonFormatter, log_event
from resilient_faces.telemetry.logs import _LEVELS, _ONCE, repeats

DOCS: Final = Path(__file__).resolve().parent
PART: Final = re.compile(r"(<!-- generated: (?P<name>[\w.-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


# -- tables --------------------------------------------------------------------------------------------------------


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def described(thing: object, section: str) -> dict[str, str]:
    """What the docstring's section (`Args`, `Attributes`) says of each name."""
    found: dict[str, str] = {}
    name = ""
    inside = False
    for line in (inspect.getdoc(thing) or "").splitlines():
        if line and not line.startswith(" "):
            inside = line == f"{section}:"
        elif inside and (match := re.match(r"    (\w+): (.*)", line)):
            name = match[1]
            found[name] = match[2]
        elif inside and line.strip() and name:
            found[name] += " " + line.strip()
    return found


def shown(value: object) -> str:
    """A default as it would be written."""
    if inspect.isfunction(value) or isinstance(value, type):
        return f"`{value.__name__}`"
    if isinstance(value, faults.Classification):
        return "`classify`"
    text = _described(value) if isinstance(value, Retry) else repr(value)
    return "must be given, or another option" if text.startswith("<object") else f"`{text}`"


def parameters(thing: Callable[..., object]) -> Iterator[tuple[str, str]]:
    """Options and their defaults."""
    if dataclasses.is_dataclass(thing):
        for field in dataclasses.fields(thing):
            if field.init:
                default = field.default
                if field.default_factory is not dataclasses.MISSING:
                    default = field.default_factory()
                yield field.name, "must be given" if default is dataclasses.MISSING else shown(default)
        return
    for name, parameter in inspect.signature(thing).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        given = parameter.default is parameter.empty
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        yield star + name, ("any number" if star else "must be given") if given else shown(parameter.default)


def options(thing: Callable[..., object]) -> str:
    """The options of a policy, with defaults and what they mean."""
    meaning = described(thing, "Args")
    rows = []
    for name, default in parameters(thing):
        rows.append((f"`{name}`", default, meaning[name.lstrip("*")]))
    return table(("option", "default", "meaning"), rows)


def values(*things: type) -> str:
    """Values such as delays and jitters: how they are written, and what they are."""
    rows = []
    for thing in things:
        given = [name if "must" in default else f"{name}={default.strip('`')}" for name, default in parameters(thing)]
        first = (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")
        rows.append((f"`{thing.__name__}({', '.join(given)})`", first))
    return table(("value", "what it is"), rows)


# -- faults --------------------------------------------------------------------------------------------------------

MEANT_FOR: Final = {
    Kind.throttled: "the other side asks for less: 429, `ThrottlingException`, `SlowDown`",
    Kind.transient: "passes by itself: 5xx, a reset, a lost connection, `RetryableError`",
    Kind.timeout: "no answer in time; nobody knows whether the call was carried out",
    Kind.unavailable: "nobody is there: refused, no route, no such host, connect time-out",
    Kind.integrity: "an answer that is none: cut short, damaged, not what was asked for",
    Kind.conflict: "two at once, one lost: 409, a cancelled transaction",
    Kind.unknown: "an error that nobody classified, a `ValueError` of your own for one",
    Kind.exists: "an answer of the business: it is there already",
    Kind.not_found: "an answer of the business: there is no such thing",
    Kind.condition: "an answer of the business: the condition does not hold",
    Kind.auth: "who asks may not",
    Kind.invalid: "the request itself is wrong",
    Kind.quota: "what was bought is used up",
    Kind.rejected: "one of our own policies said no: open circuit, full bulkhead, limiter, deadline",
    Kind.cancelled: "cancellation, interrupt, end of the program",
}


def kinds() -> str:
    """The kinds of fault and what follows from each."""
    rows = []
    for kind in Kind:
        follows = rule(kind)
        retried = "no" if not follows.retried else "if idempotent, or not carried out"
        rows.append(
            (
                f"`{kind.value}`",
                retried if follows.needs_idempotence or not follows.retried else "yes",
                "failure" if follows.failure else "neutral",
                "yes" if follows.fallback else "no",
                MEANT_FOR[kind],
            )
        )
    return table(("kind", "retried", "breaker", "fallback may answer", "meant for"), rows)


CARRIED_OUT: Final = {Executed.no: "no", Executed.yes: "yes", Executed.unknown: "perhaps"}
SHORT: Final = (
    ("builtins.", ""),
    ("asyncio.exceptions.", "asyncio."),
    ("concurrent.futures._base.", "concurrent.futures."),
    ("requests.exceptions.", "requests."),
    ("aiohttp.client_exceptions.", "aiohttp."),
)
CLIENTS: Final = ("httpx", "requests", "aiohttp")


def grouped(rows: list[tuple[Kind, Executed, str]], what: str) -> str:
    """One line for each kind, and whether the call was carried out."""
    lines: dict[tuple[Kind, Executed], list[str]] = {}
    for kind, executed, name in rows:
        lines.setdefault((kind, executed), []).append(f"`{name}`")
    order = list(Kind)
    chosen = sorted(lines, key=lambda one: (order.index(one[0]), one[1].value))
    return table(
        ("kind", "carried out", what), [(f"`{k.value}`", CARRIED_OUT[e], ", ".join(lines[k, e])) for k, e in chosen]
    )


def exceptions(wanted: Callable[[str], bool]) -> str:
    """Exceptions that are known by class."""
    rows = []
    for path, (kind, executed) in _BY_NAME.items():
        name = path
        for long, short in SHORT:
            name = name.replace(long, short)
        if wanted(name.partition(".")[0]):
            rows.append((kind, executed, name))
    return grouped(rows, "exceptions")


def numbers() -> str:
    """`OSError`s that are known by number."""
    import errno

    return grouped([(kind, executed, errno.errorcode[n]) for n, (kind, executed) in _BY_ERRNO.items()], "`errno`")


def statuses() -> str:
    """HTTP statuses."""
    rows = [(kind, executed, str(status)) for status, (kind, executed) in _BY_STATUS.items()]
    for status, name in ((599, "any other 5xx"), (499, "any other 3xx or 4xx")):
        fault = faults.http_fault(status)
        assert fault is not None
        rows.append((fault.kind, fault.executed, name))
    return grouped(rows, "status").replace("`any other", "any other").replace("xx`", "xx")


# -- events --------------------------------------------------------------------------------------------------------


def event_types() -> str:
    """The types of events, from the comments beside them, with the level that they are logged with."""
    source = inspect.getsource(events)
    said = dict(re.findall(r'^    "(\w+)",  # (.+)$', source, re.MULTILINE))
    rows = []
    for name in get_args(EventType):
        level = logging.getLevelName(_LEVELS[name])
        rows.append((f"`{name}`", said[name], level, "once a second" if name in _ONCE else "each"))
    return table(("type", "what happened", "level", "the same line"), rows)


def event_members() -> str:
    """The members of an event, under their names in Python and in JSON."""
    meaning = described(Event, "Attributes")
    bare = Event(type="retry", at=0.0, t=0.0)
    rows = []
    for field in dataclasses.fields(Event):
        mark = object()
        told = dataclasses.replace(bare, **{field.name: mark}).to_dict()  # type: ignore[arg-type]
        name = next(key for key, value in told.items() if value is mark)
        rows.append(
            (f"`{field.name}`", f"`{name}`", "always" if name in bare.to_dict() else "if known", meaning[field.name])
        )
    return table(("member", "in JSON", "there", "meaning"), rows)


# -- breaker and guard ---------------------------------------------------------------------------------------------


def transitions() -> str:
    """The state machine's own table."""
    everywhere = {Trigger.reset, Trigger.force_open, Trigger.disable, Trigger.observe}
    rows = [(f"`{s.value}`", t.value, f"`{after.value}`") for (s, t), after in TABLE.items() if t not in everywhere]
    for trigger in Trigger:
        if trigger in everywhere:
            after = next(target for (_, by), target in TABLE.items() if by is trigger)
            rows.append(("any other", f"`{trigger.value}`", f"`{after.value}`"))
    return table(("from", "when", "to"), rows)


def mermaid() -> str:
    """The same as a Mermaid diagram."""
    return f"```mermaid\n{breaker.diagram()}\n```"


def order_rules() -> str:
    """The questionable orders that `guard` warns of."""
    return table(("id", "what it says"), [(f"`{one.id}`", one.says) for one in composing.RULES])


def stops() -> str:
    """Why a retry ends."""
    return table(("`report.stopped`", "as"), [(f"`{one.value}`", f"`Stop.{one.name}`") for one in Stop])


def fixtures() -> str:
    """The pytest fixtures, read from the plugin."""
    source = (Path(inspect.getfile(resilient_faces)).parent / "testing" / "plugin.py").read_text(encoding="utf-8")
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    rows = [(f"`{node.name}`", ast.get_docstring(node) or "") for node in functions]
    return table(("fixture", "what it does"), rows)


def described_guard() -> str:
    """What `describe()` prints of the page's guard."""
    stack = composing.guard(
        degrade.Fallback(value=None), Retry(attempts=4), limits.Timeout(2.0), breaker.circuit_breaker("db")
    )
    return f"```text\n{stack.describe()}\n```"


def log_line() -> str:
    """One event as a line of JSON."""
    event = Event(
        type="retry",
        at=1_700_001_000.0,
        t=1_000.0,
        request_id="req-42",
        step="load-profile",
        status="retrying",
        error_code="ConnectionResetError",
        policy="retry",
        operation="load",
        attempt=1,
        delay=0.05,
        kind="transient",
        code="ConnectionResetError",
        executed="unknown",
    )
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(JsonFormatter().format(record))

    logger = logging.getLogger("resilient_faces.retry")
    handler, level, onward = Kept(), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        repeats.clear()
        log_event(event)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = onward
        repeats.clear()
    return f"```json\n{lines[0]}\n```"


# -- the diagram ---------------------------------------------------------------------------------------------------

WIDTH, HEIGHT = 860, 400
BOX: Final = (132, 40)
PLACES: Final = {
    State.closed: (170, 90),
    State.open: (690, 90),
    State.half_open: (430, 290),
    State.forced_open: (690, 290),
    State.disabled: (90, 290),
    State.metrics_only: (250, 290),
}


def to_edge(
    point: tuple[float, float], centre: tuple[float, float], way: tuple[float, float], beyond: float
) -> tuple[float, float]:
    """Where a line from inside a box leaves it, and so much further."""
    steps = [
        (math.copysign(side / 2, toward) - (at - middle)) / toward
        for at, middle, toward, side in zip(point, centre, way, BOX, strict=True)
        if abs(toward) > 1e-9
    ]
    reach = min(steps) + beyond
    return point[0] + way[0] * reach, point[1] + way[1] * reach


def drawing() -> str:
    """The state machine's table as a picture; a state without a place is an error."""
    everywhere = {Trigger.reset, Trigger.force_open, Trigger.disable, Trigger.observe}
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            'font-family="sans-serif" font-size="14">'
        ),
        "<title>States of a circuit</title>",
        (
            "<style>"
            ".back{fill:#fff}.box{fill:#eef2f7;stroke:#44546a;stroke-width:1.5}.line{stroke:#44546a;stroke-width:1.5;fill:none}"
            ".head{fill:#44546a}text{fill:#1f2937;text-anchor:middle}.halo{stroke:#fff;stroke-width:6;fill:#fff}"
            ".small{font-size:12px;font-style:italic}"
            "@media (prefers-color-scheme:dark){.back{fill:#1e2129}.box{fill:#2c313c;stroke:#9aa7b8}"
            ".line{stroke:#9aa7b8}"
            ".head{fill:#9aa7b8}text{fill:#e5e7eb}.halo{stroke:#1e2129;fill:#1e2129}}"
            "</style>"
        ),
        (
            '<defs><marker id="to" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
            'orient="auto"><path class="head" d="M0 0L10 5L0 10z"/></marker></defs>'
        ),
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
    ]
    drawn = [(s, trigger, after) for (s, trigger), after in TABLE.items() if trigger not in everywhere]
    pairs = {(s, after) for s, _, after in drawn}
    labels = []
    for before, trigger, after in drawn:
        (x1, y1), (x2, y2) = PLACES[before], PLACES[after]
        length = math.hypot(x2 - x1, y2 - y1)
        dx, dy = (x2 - x1) / length, (y2 - y1) / length
        aside = 16.0 if (after, before) in pairs else 0.0  # two arrows between the same boxes stand apart
        sx, sy = -dy * aside, dx * aside
        start = to_edge((x1 + sx, y1 + sy), (x1, y1), (dx, dy), 0.0)
        end = to_edge((x2 + sx, y2 + sy), (x2, y2), (-dx, -dy), 3.0)
        lines.append(
            f'<path class="line" marker-end="url(#to)" d="M{start[0]:.0f} {start[1]:.0f}L{end[0]:.0f} {end[1]:.0f}"/>'
        )
        flat = abs(dx) > abs(dy)
        at = 0.5 if flat and not aside else 0.36
        x, y = start[0] + (end[0] - start[0]) * at, start[1] + (end[1] - start[1]) * at
        anchor = "middle"
        if flat and dy:  # beside the line, and away from the other one if there are two
            anchor, x = ("end", x - 9) if sx < 0 else ("start", x + 9)
        place = f'x="{x:.0f}" y="{y + 5:.0f}" style="text-anchor:{anchor}"'
        # Twice, because not everything that draws SVG knows paint-order.
        labels += [f'<text class="{name}" {place}>{trigger.value}</text>' for name in ("halo", "label")]
    for state, (x, y) in PLACES.items():
        lines.append(
            f'<rect class="box" x="{x - BOX[0] // 2}" y="{y - BOX[1] // 2}" width="{BOX[0]}" height="{BOX[1]}" rx="8"/>'
            f'<text x="{x}" y="{y + 5}">{state.value}</text>'
        )
    for trigger in [one for one in Trigger if one in everywhere]:
        after = next(target for (_, by), target in TABLE.items() if by is trigger)
        x, y = PLACES[after]
        above = y < HEIGHT / 2
        labels.append(
            f'<text class="small" x="{x}" y="{y - 42 if above else y + 44}">{trigger.value}</text>'
            f'<text class="small" x="{x}" y="{y - 27 if above else y + 59}">from any other state</text>'
        )
    return "\n".join([*lines, *labels, "</svg>"]) + "\n"


# -- AWS -----------------------------------------------------------------------------------------------------------


def aws_errors(rows: Mapping[str, aws.Row]) -> str:
    """Codes that mean the same, in one row."""
    together: dict[aws.Row, list[str]] = {}
    for code, row in rows.items():
        together.setdefault(row, []).append(f"`{code}`")
    found = [(", ".join(codes), f"`{row.kind.value}`", row.executed.value, row.why) for row, codes in together.items()]
    return table(("code", "kind", "carried out", "why"), found)


def aws_operations() -> str:
    """What is known of each operation."""
    found = []
    for name, one in aws.OPERATIONS.items():
        repeated = "yes" if one.token is None else f"with `{one.token}`"
        if one.only_with:
            repeated = f"with {' and '.join(f'`{name}`' for name in one.only_with)}"
        if one.never_with:
            repeated = f"without {' and '.join(f'`{name}`' for name in one.never_with)}"
        rate = "" if one.rate is None else f"{one.rate.large:g}"
        if one.rate is not None and one.rate.elsewhere != one.rate.large:
            rate += f" in {', '.join(sorted(one.rate.regions))}; {one.rate.elsewhere:g} elsewhere"
        mandatory = ", ".join(f"`{member}`" for member in one.mandatory)
        found.append((f"`{name}`", repeated if one.idempotent else "no", mandatory, rate, f"{one.read_timeout:g}"))
    return table(("operation", "may be repeated", "members of an answer", "calls a second", "read timeout, s"), found)


def aws_prices() -> str:
    """What a call costs."""
    return table(("operation", "dollars a call"), [(f"`{name}`", f"{price:g}") for name, price in aws.PRICES.items()])


# -- pages ---------------------------------------------------------------------------------------------------------


def service_settings() -> str:
    """The settings of the face service: variable, default, meaning."""
    from face_service.settings import PREFIX, Settings

    meaning = described(Settings, "Attributes")
    rows = []
    for field in dataclasses.fields(Settings):
        default = field.default
        if default is dataclasses.MISSING:
            text = "must be set"
        elif isinstance(default, tuple):
            text = f"`{','.join(str(one) for one in default)}`" if default else "none"
        else:
            text = "see there" if default is None else f"`{default}`"
        rows.append((f"`{PREFIX}{field.name.upper()}`", text, meaning[field.name]))
    return table(("variable", "default", "meaning"), rows)


def service_operations() -> str:
    """What the face service can be asked, from its OpenAPI document."""
    from face_service.app import create_app
    from face_service.testing import KEY, SIGNING, Settings

    document = create_app(Settings(api_key=(KEY,), webhook_key=(SIGNING.reveal(),))).openapi()
    rows = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            said = operation["description"].split("\n\n")[0].replace("\n", " ")
            rows.append((f"`{method.upper()} {path}`", said, " ".join(sorted(operation["responses"]))))
    return table(("operation", "what it does", "answers"), rows)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "kinds": kinds,
    "exceptions": lambda: exceptions(lambda module: module not in CLIENTS),
    "exceptions-httpx": lambda: exceptions(lambda module: module == "httpx"),
    "exceptions-requests": lambda: exceptions(lambda module: module == "requests"),
    "exceptions-aiohttp": lambda: exceptions(lambda module: module == "aiohttp"),
    "errno": numbers,
    "http": statuses,
    "event-types": event_types,
    "event-members": event_members,
    "transitions": transitions,
    "mermaid": mermaid,
    "rules": order_rules,
    "stops": stops,
    "fixtures": fixtures,
    "describe": described_guard,
    "log-line": log_line,
    "delays": lambda: values(fixed, linear, exponential, sequence, fibonacci),
    "jitters": lambda: values(
        none,
        full,
        equal,
        proportional,
        additive,
        decorrelated,
        upward,
    ),
    "trips": lambda: values(breaker.consecutive, breaker.failures_within, breaker.failure_rate, breaker.slow_rate),
    "options.Retry": lambda: options(Retry),
    "options.Retrier": lambda: options(Retrier),
    "options.retry_with_backoff": lambda: options(retry_with_backoff),
    "options.stop_after": lambda: options(stop_after),
    "options.Breaker": lambda: options(breaker.Breaker),
    "options.circuit_breaker": lambda: options(breaker.circuit_breaker),
    "options.failure_rate": lambda: options(breaker.failure_rate),
    "options.slow_rate": lambda: options(breaker.slow_rate),
    "options.Fallback": lambda: options(degrade.Fallback),
    "options.with_fallback": lambda: options(degrade.with_fallback),
    "options.Chain": lambda: options(degrade.Chain),
    "options.LastGood": lambda: options(degrade.LastGood),
    "options.register": lambda: options(degrade.services.register),
    "options.Deadline": lambda: options(limits.Deadline),
    "options.Timeout": lambda: options(limits.Timeout),
    "options.Bulkhead": lambda: options(limits.Bulkhead),
    "options.RateLimiter": lambda: options(limits.RateLimiter),
    "options.guard": lambda: options(composing.guard),
    "aws.shared": lambda: aws_errors(aws.SHARED),
    **{f"aws.{name}": functools.partial(aws_errors, rows) for name, rows in aws.BY_SERVICE.items()},
    "aws.transactions": lambda: aws_errors(dict(aws.TRANSACTION_REASONS)),
    "aws.transport": lambda: aws_errors(aws.TRANSPORT),
    "aws.operations": aws_operations,
    "aws.prices": aws_prices,
    "options.Requests": lambda: options(aws.Requests),
    "options.CostMeter": lambda: options(aws.CostMeter),
    "options.Rekognition": lambda: options(rekognition.Rekognition),
    "options.Webhook": lambda: options(webhook.Webhook),
    "options.Destinations": lambda: options(webhook.Destinations),
    "options.Verifier": lambda: options(webhook.Verifier),
    "options.Patience": lambda: options(webhook.Patience),
    "options.Rules": lambda: options(cameras.Rules),
    "options.Sessions": lambda: options(cameras.Sessions),
    "service.settings": service_settings,
    "service.operations": service_operations,
    "options.Gallery": lambda: options(gallery.Gallery),
    "options.FrameRecogniser": lambda: options(insightface.FrameRecogniser),
}
FILES: Final[dict[str, Callable[[], str]]] = {"images/circuit.svg": drawing}


def generated(text: str) -> str:
    """A page with its generated parts as the code has them now."""

    def part(found: re.Match[str]) -> str:
        return f"{found[1]}\n{PARTS[found['name']]()}\n\n{found[3]}"

    return PART.sub(part, text)


def wanted() -> dict[Path, str]:
    """Every page with a generated part, and every generated file, as they should be."""
    pages = {}
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if "<!-- generated: " in text:
            pages[page] = generated(text)
    return pages | {DOCS / name: make() for name, make in FILES.items()}


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them; 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args(arguments).check
    different = []
    for path, text in wanted().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            different.append(path.relative_to(DOCS).as_posix())
            if not check:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    for name in different:
        sys.stdout.write(f"{name} {'differs' if check else 'written'}\n")
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
