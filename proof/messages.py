"""What people read when they got something wrong says what, where, why, and what to do.

    python proof/messages.py

Each slip below is made, its message is printed, and is looked at for what a message has to name: the class or function
that complains, the option or thing that is wrong, the rule, the value that was given, and the cure.
"""

from __future__ import annotations

import asyncio
import importlib.abc
import importlib.machinery
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

from _report import ROOT, Proof, without_paths


@dataclass(frozen=True)
class Slip:
    """One mistake and what its message must say.

    Attributes:
        name: What was got wrong.
        make: Makes the mistake; returns the message and the class of what carried it.
        kind: The class that must carry it.
        says: Parts of the message, by what they name.
    """

    name: str
    make: Callable[[], tuple[str, str]]
    kind: str
    says: Mapping[str, str]


def raised(make: Callable[[], object]) -> tuple[str, str]:
    """The message and class of what this raises."""
    try:
        make()
    except Exception as error:
        return str(error), type(error).__name__
    return "", "nothing"


def wrong_option() -> tuple[str, str]:
    from resilient_faces import retry

    return raised(lambda: retry(attempts=0))


def several_wrong_options() -> tuple[str, str]:
    from resilient_faces import Breaker

    return raised(lambda: Breaker("db", probes=0, growth=0.5))


def mistyped_option() -> tuple[str, str]:
    from resilient_faces import retry

    return raised(lambda: retry(atempts=3))  # type: ignore[call-arg]


def generator() -> tuple[str, str]:
    from resilient_faces import retry

    def pages() -> Iterator[int]:
        yield 1

    return raised(lambda: retry()(pages))


def same_name() -> tuple[str, str]:
    from resilient_faces import Breaker
    from resilient_faces.testing import fresh

    with fresh():
        first = Breaker("db", recovery_timeout=5.0)
        found = raised(lambda: Breaker("db", recovery_timeout=60.0))
        assert first.circuit.name == "db"
    return found


def sleeps_in_a_loop() -> tuple[str, str]:
    from resilient_faces import RetryableError, retry
    from resilient_faces.testing import ManualRuntime, fresh

    @retry(attempts=2, backoff=0.5)
    def load_row() -> None:
        raise RetryableError

    async def main() -> None:
        try:
            load_row()
        except RetryableError:
            pass

    with fresh(), ManualRuntime().installed(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
    ours = [one for one in caught if str(one.message).startswith("RF")]
    if len(ours) != 1:
        return f"{len(ours)} warnings", "nothing"
    here = Path(ours[0].filename).resolve() == Path(__file__).resolve()
    return str(ours[0].message) + ("" if here else " (and it points at a strange file)"), ours[0].category.__name__


class Without(importlib.abc.MetaPathFinder):
    """As if the extras were not installed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] in ("click", "boto3", "botocore"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def child(what: str) -> int:
    """In an interpreter without extras: the command, or a client of an adapter."""
    sys.meta_path.insert(0, Without())
    if what == "command":
        sys.argv = ["resilient-faces", "demo"]
        from resilient_faces.__main__ import main as command

        command()
        return 0
    from resilient_faces.adapters.aws import connect

    print(*raised(lambda: connect("rekognition", region="eu-west-1")), sep="\n", end="")
    return 0


def _told_by_child(what: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(__file__).resolve()), "--child", what]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def missing_extra() -> tuple[str, str]:
    """The command line without its extra, by what the user sees: stderr and the exit code."""
    done = _told_by_child("command")
    return (done.stderr + done.stdout).strip(), f"exit code {done.returncode}"


def missing_extra_as_error() -> tuple[str, str]:
    """An adapter without its extra."""
    done = _told_by_child("adapter")
    message, _, kind = done.stdout.rpartition("\n")
    return message or done.stderr[-300:], kind


SLIPS: Final = (
    Slip(
        "a wrong option",
        wrong_option,
        "OptionError",
        {
            "class and option": "Retry.attempts",
            "rule": "must be 1 or more (the first call counts too)",
            "value": "got 0",
            "cure": "To switch retries off, leave Retry out of the guard.",
        },
    ),
    Slip(
        "two wrong options at once",
        several_wrong_options,
        "OptionError",
        {
            "first": "Breaker.growth must be 1 or more; got 0.5",
            "its cure": "1 keeps the open time fixed.",
            "second": "Breaker.probes must be 1 or more; got 0",
        },
    ),
    Slip(
        "a mistyped option name",
        mistyped_option,
        "UnknownOptionError",
        {
            "class": "Retry",
            "rule and value": "has no option 'atempts'",
            "cure": "Did you mean attempts?",
            "what there is": "It takes: attempts, backoff, jitter",
        },
    ),
    Slip(
        "a generator decorated",
        generator,
        "DecorationError",
        {
            "thing": "pages is a generator",
            "rule": "fails between the items, where no guard can see it",
            "cure": "Guard the function that fetches one item or page",
        },
    ),
    Slip(
        "a missing extra, on the command line",
        missing_extra,
        "exit code 3",
        {"what is missing": "click is not installed", "cure": "pip install 'resilient-faces[cli]'"},
    ),
    Slip(
        "a missing extra, in an adapter",
        missing_extra_as_error,
        "MissingExtraError",
        {"what is missing": "is not installed", "cure": "pip install 'resilient-faces[aws]'"},
    ),
    Slip(
        "the same breaker name with other options",
        same_name,
        "DuplicateNameError",
        {
            "thing": "circuit 'db'",
            "rule": "exists with other options",
            "first place": "first given in <project>/proof/messages.py:",
            "second place": "now in <project>/proof/messages.py:",
            "cure": "Use the same options in both places, another name, or replace=True",
        },
    ),
    Slip(
        "a sync guard that sleeps in an event loop",
        sleeps_in_a_loop,
        "ResilienceWarning",
        {
            "id": "RF100",
            "thing": "'load_row'",
            "rule": "sleeps inside a running event loop and stops every other task",
            "cure": "Make the function `async def`, or call it through `asyncio.to_thread`.",
        },
    ),
)


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2])
    proof = Proof("messages", "each message names who, what, which rule, which value, and the cure", __doc__, "no less")
    proof.parse()
    proof.need("resilient_faces")
    told = {}
    for slip in SLIPS:
        message, kind = slip.make()
        message = without_paths(message, {str(ROOT): "<project>"})
        told[slip.name] = {"message": message, "carried_by": kind}
        proof.say(f"{slip.name}: {kind}")
        for line in message.splitlines():
            proof.say(f"    {line}")
        proof.check(kind == slip.kind, f"{slip.name}: carried by {kind}, not by {slip.kind}")
        proof.check("Traceback" not in message, f"{slip.name}: shows a traceback")
        for what, part in slip.says.items():
            proof.check(part in message, f"{slip.name}: does not say {what} ({part!r})")
        proof.say(f"  names {', '.join(slip.says)}")
    return proof.finish(
        parameters={"slips": [slip.name for slip in SLIPS]},
        figures=told,
        packages=("resilient-faces",),
    )


if __name__ == "__main__":
    sys.exit(main())
