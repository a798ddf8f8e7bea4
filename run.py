#!/usr/bin/env python3
"""Run the project from a fresh clone: needs Python 3.10 or newer with venv, and nothing else.

    python3 run.py demo     the whole photo-indexing job on this machine, with faults injected
    python3 run.py cameras  the face service with cameras of its own, to be killed and frozen meanwhile (600 MB)
    python3 run.py test     the tests
    python3 run.py test-all the same with the extra `insightface`, for tests that are skipped without it (600 MB more)
    python3 run.py check    linter, formatter and both type checkers
    python3 run.py bench    ours beside its peers, as ratios in one run
    python3 run.py docs     the documentation, built strictly into site/
    python3 run.py clean    removes what the others left

Options for the program itself go after two dashes: `python3 run.py test -- -k breaker`.
Each command makes an environment of its own under .venv/ from the pins in constraints/, and makes it again only when
the pins or pyproject.toml have changed. Outside this directory the demo and the tests leave an AWS emulator in your
cache directory, and the demo its ledgers.
"""

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

OLDEST = (3, 10)
if sys.version_info < OLDEST:
    sys.exit("run.py: Python 3.10 or newer is needed; this is %d.%d" % sys.version_info[:2])

ROOT = Path(__file__).resolve().parent
ENVIRONMENTS = ROOT / ".venv"
BIN, SUFFIX = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")

TESTS = ("-m", "pytest", "--numprocesses=3", "--dist=loadfile")  # three on two processors: many wait for servers

# name: (extras of the package, dependency groups, commands that are run one after the other)
COMMANDS = {
    "demo": (("cli", "demo"), (), (("-m", "resilient_faces", "demo", "indexing"),)),
    "cameras": (("cli", "insightface", "rtsp", "web", "webhook"), (), (("-m", "face_service", "demo"),)),
    "test": (("cli", "demo", "redis", "rtsp", "web", "webhook"), ("test", "types"), (TESTS,)),
    "test-all": (
        ("cli", "demo", "insightface", "redis", "rtsp", "web", "webhook"),
        ("test", "fuzz", "types"),
        (TESTS,),
    ),
    "check": (
        ("cli", "demo", "redis", "rtsp", "web", "webhook"),
        ("test", "types", "lint", "build"),
        (
            ("-m", "ruff", "check", "."),
            ("-m", "ruff", "format", "--check", "."),
            ("-m", "mypy"),
            ("-m", "mypy", "tests/typing/usage.py", "tests/typing/mistakes.py"),
            ("-m", "pyright"),
        ),
    ),
    "bench": ((), ("bench",), (("-m", "bench"),)),
    "docs": ((), ("docs",), (("-m", "mkdocs", "build", "--strict", "--quiet"),)),
}
TAKES_ARGUMENTS = ("bench", "cameras", "demo", "test", "test-all")
SERVICE = ROOT / "examples" / "face_service"  # installed wherever the extra `web` is


def say(text: str) -> None:
    """Tell of progress on stderr, so that stdout stays the program's own."""
    print(text, file=sys.stderr, flush=True)


def fail(text: str, code: int = 3) -> NoReturn:
    say("run.py: " + text)
    sys.exit(code)


def pins() -> Path:
    """The constraints for the running Python; the newest ones for a Python that is newer than all of them."""
    own = ROOT / "constraints" / f"py{sys.version_info[0]}{sys.version_info[1]}.txt"
    if own.exists():
        return own
    known = sorted((ROOT / "constraints").glob("py3*.txt"))
    say(f"run.py: no pins for Python {sys.version_info[0]}.{sys.version_info[1]} yet; using {known[-1].name}")
    return known[-1]


def outside() -> dict:
    """The process's environment without what would lead pip or Python out of ours."""
    strays = ("PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    kept = {name: value for name, value in os.environ.items() if name not in strays}
    return {**kept, "NO_MKDOCS_2_WARNING": "1"}  # the theme's announcement is no concern of a build


def pip(python: Path, log: Path, arguments: list) -> None:
    """Run pip, show what it is at, keep all it says in a log, and show the end of that if it fails."""
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments]
    collected, shown = 0, time.monotonic()
    lines = []
    with log.open("a", encoding="utf-8") as kept:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=outside(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        for line in process.stdout:
            kept.write(line)
            lines.append(line.rstrip())
            collected += line.startswith("Collecting ")
            if line.startswith("Installing collected packages"):
                say(f"      installing {line.count(',') + 1} packages")
            elif line.startswith("Collecting ") and time.monotonic() - shown > 5:
                say(f"      {collected} packages found")
                shown = time.monotonic()
        if process.wait():
            say("\n".join(lines[-30:]))
            fail(f"pip could not install what is needed; all it said is in {log}")


def prepare(name: str, constraints: Path) -> Path:
    """The Python of an up-to-date environment for one command."""
    extras, groups, _ = COMMANDS[name]
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    suffix = "" if constraints.stem.startswith("py3") else f"-{constraints.stem}"
    directory = ENVIRONMENTS / f"{name}-{version}{suffix}"
    python = directory / BIN / f"python{SUFFIX}"
    stamp = directory / "stamp"

    recipe = hashlib.sha256(repr((sys.version, sys.executable, str(ROOT), extras, groups)).encode())
    for file in (constraints, ROOT / "pyproject.toml", SERVICE / "pyproject.toml"):
        recipe.update(file.read_bytes())
    fingerprint = recipe.hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == fingerprint:
        return python

    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        fail(
            f"{sys.executable} cannot make virtual environments: its venv module is not installed.\n"
            "        On Debian and Ubuntu: apt-get install python3-venv"
        )
    began = time.monotonic()
    say(f"[1/3] making {directory.relative_to(ROOT)} with Python {version}")
    shutil.rmtree(directory, ignore_errors=True)
    make = [sys.executable, "-m", "venv", str(directory)]
    made = subprocess.run(make, env=outside(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if made.returncode:
        say(made.stdout.decode(errors="replace").strip())
        fail("the virtual environment could not be made. On Debian and Ubuntu: apt-get install python3-venv")
    log = directory / "pip.log"
    say("[2/3] installing pip and the build back end")
    # Packages are built with what the pins say (no build isolation), so nothing unpinned is fetched.
    peers = ["setuptools"] if "bench" in groups else []  # some of them come as sources only
    pip(python, log, ["--constraint", str(constraints), "pip", "hatchling", *peers])
    say(f"[3/3] installing what `{name}` needs, as pinned in {constraints.relative_to(ROOT)}")
    target = "." + (f"[{','.join(extras)}]" if extras else "")
    chosen = [argument for group in groups for argument in ("--group", group)]
    pip(python, log, ["--constraint", str(constraints), "--no-build-isolation", "--editable", target, *chosen])
    if "web" in extras:  # without its own extras: those that are wanted here are installed by now
        pip(python, log, ["--no-deps", "--no-build-isolation", "--editable", str(SERVICE)])
    stamp.write_text(fingerprint)
    say(f"      ready after {time.monotonic() - began:.0f} s; the next run starts at once")
    return python


def clean() -> None:
    """Remove what demo and tests keep outside this directory, as `demo --clean` does, and then all that is inside."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(ROOT / "src"))  # no environment need be there: this much needs the standard library alone
    from resilient_faces.pipeline import demo

    removed, kept = demo.clean()
    for path in removed:
        say(f"removed {path}")
    for path in kept:
        say(f"kept {path}: a demonstration is running")
    left = [
        ENVIRONMENTS,
        *(ROOT / name for name in ("site", "dist", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis")),
    ]
    for path in left:
        if path.exists():
            shutil.rmtree(path)
            say(f"removed {path.relative_to(ROOT)}")


def run(python: Path, commands: list) -> NoReturn:
    """Run all commands and end with the first exit code that was not 0; a single one takes this process's place."""
    environment = outside()
    if len(commands) == 1 and os.name == "posix":
        os.chdir(ROOT)
        os.execve(python, [str(python), *commands[0]], environment)  # so that signals reach it directly
    codes = []
    for command in commands:
        if len(commands) > 1:
            say("$ python " + " ".join(command))
        codes.append(subprocess.call([str(python), *command], cwd=ROOT, env=environment))
    sys.exit(next((code for code in codes if code), 0))


def main() -> None:
    own, passed = sys.argv[1:], []
    if "--" in own:
        split = own.index("--")
        own, passed = own[:split], own[split + 1 :]
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("command", choices=[*COMMANDS, "clean"], help="what to run")
    parser.add_argument(
        "--constraints", type=Path, help="other pins than those of the running Python (constraints/min.txt)"
    )
    parser.add_argument("--prepare", action="store_true", help="only make the environment and print its Python")
    options, unknown = parser.parse_known_args(own)
    if unknown:
        parser.error(
            f"unknown: {' '.join(unknown)}. Options for the program itself go after two dashes: "
            f"python3 run.py {options.command} -- {' '.join(unknown)}"
        )
    if passed and options.command not in TAKES_ARGUMENTS:
        parser.error(f"`{options.command}` takes no options of its own; got {' '.join(passed)}")
    if options.command == "clean":
        clean()
        return
    if options.constraints and not options.constraints.is_file():
        parser.error(f"--constraints: there is no file {options.constraints}")
    constraints = options.constraints.resolve() if options.constraints else pins()
    python = prepare(options.command, constraints)
    if options.prepare:
        print(python)
        return
    *first, last = COMMANDS[options.command][2]
    run(python, [*first, (*last, *passed)])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
