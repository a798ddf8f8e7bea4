"""What the proofs share: their options, their JSON, their exit codes.

A proof is a command. It prints what it finds, writes JSON to `proof/out/NAME.json` (`--out FILE` for another place, or
`--json` to have nothing but the JSON on stdout), and exits with 0 if its claim holds, 1 if it does not, 2 if it was
called wrongly, 3 if something that it needs is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final, NoReturn

ROOT: Final = Path(__file__).resolve().parents[1]
OUT: Final = ROOT / "proof" / "out"
SCHEMA: Final = 1

HOLDS, BROKEN, USAGE, MISSING = 0, 1, 2, 3


class Proof:
    """One command: its options before, its report after.

    Attributes:
        name: Name of the command and of its JSON file.
        claim: What it proves, in one sentence.
        options: The command line, once `parse` was called.
    """

    def __init__(self, name: str, claim: str, description: str | None, small: str = "fewer rounds, for CI") -> None:
        self.name = name
        self.claim = claim
        self.parser = argparse.ArgumentParser(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        self.parser.add_argument("--small", action="store_true", help=small)
        self.parser.add_argument("--json", action="store_true", help="print the JSON and nothing else")
        self.parser.add_argument(
            "--out", type=Path, metavar="FILE", help=f"JSON goes here, not to proof/out/{name}.json"
        )
        self.options = argparse.Namespace()
        self._wrong: list[str] = []
        self._began = time.monotonic()

    def parse(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """Read the command line; exits with 2 if it is wrong."""
        self.options = self.parser.parse_args(arguments)
        return self.options

    def say(self, text: str = "") -> None:
        """A line for people."""
        if not self.options.json:
            print(text, flush=True)

    def need(
        self, *modules: str, cure: str = "python3 run.py test --prepare makes an environment that has it."
    ) -> None:
        """Exit with 3 unless these can be imported."""
        for module in modules:
            if importlib.util.find_spec(module) is None:
                self.lacks(f"{module} is not installed. {cure}")

    def lacks(self, text: str) -> NoReturn:
        """Exit with 3: something that the proof needs is not there."""
        print(f"{self.name}: {text}", file=sys.stderr)
        sys.exit(MISSING)

    def check(self, good: bool, otherwise: str) -> bool:
        """Note what is wrong unless `good`."""
        if not good:
            self._wrong.append(otherwise)
        return good

    def finish(
        self,
        *,
        parameters: Mapping[str, object],
        figures: Mapping[str, object],
        packages: Iterable[str] = (),
        python: str | None = None,
        versions_of: Mapping[str, str] | None = None,
    ) -> int:
        """Write the report and return the exit code.

        Args:
            parameters: What the figures depend on.
            figures: What was found.
            packages: Packages of this environment whose versions belong to the figures.
            python: Version of the Python that was looked at, if it is not this one.
            versions_of: Versions of packages in another environment.
        """
        found = {"python": python or platform.python_version(), **versions(packages), **(versions_of or {})}
        report = {
            "schema": SCHEMA,
            "proof": self.name,
            "claim": self.claim,
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "commit": commit(),
            "versions": found,
            "machine": {"system": platform.system(), "processors": os.cpu_count()},
            "parameters": {"small": self.options.small, **parameters},
            "seconds": round(time.monotonic() - self._began, 1),
            "figures": dict(figures),
            "wrong": self._wrong,
            "ok": not self._wrong,
        }
        text = json.dumps(report, indent=1) + "\n"
        target: Path = self.options.out or OUT / f"{self.name}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        if self.options.json:
            sys.stdout.write(text)
        else:
            for one in self._wrong:
                print(f"BROKEN: {one}")
            print(f"{self.name}: {'ok' if not self._wrong else 'the claim does not hold'}; {report['seconds']} s")
        return BROKEN if self._wrong else HOLDS


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Versions of these packages in this environment; None for one that is not here."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def commit() -> str:
    """The commit that is looked at, with `-dirty` behind it if files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def project_files() -> list[str]:
    """What is committed or would be: tracked files and new ones that nothing ignores, relative to the root."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted({name for name in found if name and (ROOT / name).is_file()})


def without_paths(text: str, places: Mapping[str, str]) -> str:
    """The text with directories of this machine replaced by names."""
    for path in sorted(places, key=len, reverse=True):
        text = text.replace(path, places[path])
    return text
