"""Write the pins anew: name==version, really resolved by pip on each interpreter.

    python constraints/resolve.py                  # all files
    python constraints/resolve.py py312 min        # some of them
    python constraints/resolve.py --check          # resolve inside the present pins: do they still fit together?

pip resolves without installing (`--dry-run --report`), so a run costs metadata only. Interpreters are looked for among
pyenv's and as `python3.X` on PATH; `--python 3.12=...` names one. Needs Python 3.11 or newer (it reads pyproject.toml).

What each file is for:

- `py3XX.txt`    everything that tests, demo, linters, type checkers, docs, benchmarks and extras install on Python 3.XX
- `min.txt`      the lowest versions that pyproject.toml allows for the core and the extras that
                 the tests need, with the tests' tools

`emulator` is the AWS emulator of demo and tests. It pins botocore, so it lives in an environment of its own, and its
pins are part of the package: src/resilient_faces/testing/emulator.txt.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tomllib

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "constraints"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
OLDEST = PYTHONS[0]
GROUPS = ("test", "fuzz", "types", "lint", "docs", "build", "bench")
MIN_GROUPS = ("test", "types", "build")
MIN_EXTRAS = ("cli", "demo", "redis", "rtsp", "web", "webhook")
EMULATOR = "ministack==1.5.33"
EMULATOR_PINS = ROOT / "src" / "resilient_faces" / "testing" / "emulator.txt"


def find_python(version: str, named: dict[str, str]) -> str:
    """The path of one interpreter.

    Raises:
        SystemExit: There is none of this version; the message says how to name one.
    """
    if version in named:
        return named[version]
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    if pyenv:
        return str(pyenv[-1])
    if found := shutil.which(f"python{version}"):
        return found
    raise SystemExit(f"resolve.py: no Python {version} found; name it with --python {version}=PATH")


class Resolver:
    """A throw-away environment whose pip resolves for one interpreter."""

    def __init__(self, python: str, directory: Path) -> None:
        subprocess.run([python, "-m", "venv", directory], check=True)
        self._python = directory / "bin" / "python"
        self._pip("install", "--quiet", "--upgrade", "pip")

    def _pip(self, *arguments: str) -> None:
        subprocess.run([self._python, "-m", "pip", *arguments], check=True, cwd=ROOT)

    def pip_version(self) -> str:
        code = "import importlib.metadata as m; print(m.version('pip'))"
        return subprocess.run([self._python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()

    def resolve(self, *requirements: str) -> dict[str, str]:
        """Names and versions that pip would install into an empty environment, this project left out."""
        with tempfile.TemporaryDirectory() as directory:
            report = Path(directory) / "report.json"
            self._pip("install", "--quiet", "--dry-run", "--ignore-installed", "--report", str(report), *requirements)
            found: list[dict[str, Any]] = json.loads(report.read_text())["install"]
        pins = {canonical(item["metadata"]["name"]): item["metadata"]["version"] for item in found}
        pins.pop("resilient-faces", None)
        return pins


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def groups(*names: str) -> list[str]:
    return [argument for name in names for argument in ("--group", name)]


def lowest(project: dict[str, Any]) -> list[str]:
    """The lower bounds of the core and of MIN_EXTRAS, as exact requirements."""
    wanted: list[str] = [*project["dependencies"]]
    for extra in MIN_EXTRAS:
        wanted += project["optional-dependencies"][extra]
    return sorted({requirement.replace(">=", "==") for requirement in wanted})


def write(file: Path, purpose: str, pins: dict[str, str]) -> None:
    lines = [f"# {purpose}", "# Written by constraints/resolve.py."]
    lines += [f"{package}=={version}" for package, version in sorted(pins.items())]
    file.write_text("\n".join(lines) + "\n")
    print(f"{file.relative_to(ROOT)}: {len(pins)} packages", flush=True)


def for_all_pythons(requirement: str, resolvers: dict[str, Resolver]) -> dict[str, str]:
    """One set of pins for all interpreters: the oldest one's, with a marker on what newer ones no longer need."""
    oldest, *newer = resolvers
    pins = resolvers[oldest].resolve(requirement)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as held:
        held.write("\n".join(f"{package}=={version}" for package, version in pins.items()))
        held.flush()
        needed = {version: resolvers[version].resolve("--constraint", held.name, requirement) for version in newer}
    for package in list(pins):
        if gone := [version for version in newer if package not in needed[version]]:
            pins[package] += f' ; python_version < "{gone[0]}"'
    return pins


def main() -> None:
    stems = [f"py{version.replace('.', '')}" for version in PYTHONS] + ["min", "emulator"]
    parser = argparse.ArgumentParser(description="Write the constraint files anew.")
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"which of: {' '.join(stems)} (all)")
    parser.add_argument("--python", action="append", default=[], metavar="3.X=PATH", help="an interpreter by its path")
    parser.add_argument("--check", action="store_true", help="resolve inside the present pins and write nothing")
    options = parser.parse_args()
    if unknown := set(options.files) - set(stems):
        parser.error(f"unknown: {' '.join(sorted(unknown))}; there are {' '.join(stems)}")
    wanted = options.files or stems
    named = dict(item.split("=", 1) for item in options.python)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    with tempfile.TemporaryDirectory() as directory:

        @functools.cache
        def resolver(version: str) -> Resolver:
            return Resolver(find_python(version, named), Path(directory) / version)

        def settle(stem: str, using: Resolver, purpose: str, *requirements: str) -> None:
            if options.check:
                using.resolve("--constraint", str(HERE / f"{stem}.txt"), *requirements)
                print(f"constraints/{stem}.txt: fits", flush=True)
                return
            write(HERE / f"{stem}.txt", purpose, {"pip": using.pip_version(), **using.resolve(*requirements)})

        for version in PYTHONS:
            stem = f"py{version.replace('.', '')}"
            if stem in wanted:
                purpose = f"Everything that the project's environments install on Python {version}."
                settle(stem, resolver(version), purpose, *groups(*GROUPS), ".[all]")
        if "min" in wanted:
            purpose = f"The lowest versions that pyproject.toml allows, with the tests' tools, on Python {OLDEST}."
            extras = ",".join(MIN_EXTRAS)
            settle("min", resolver(OLDEST), purpose, *lowest(project), *groups(*MIN_GROUPS), f".[{extras}]")
        if "emulator" in wanted and not options.check:
            pins = for_all_pythons(EMULATOR, {version: resolver(version) for version in PYTHONS})
            write(EMULATOR_PINS, "The AWS emulator of demo and tests, for an environment of its own.", pins)


if __name__ == "__main__":
    sys.exit(main())
