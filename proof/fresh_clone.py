"""Both commands of the README from a fresh clone, with an empty home and a bare PATH; once more; then the clean-up.

    python proof/fresh_clone.py                    the committed state of HEAD
    python proof/fresh_clone.py --worktree         what would be committed now
    python proof/fresh_clone.py --python python3.12    with another Python than /usr/bin's
    python proof/fresh_clone.py --small            20 photos and a few tests, to see that they start

The commands are read from the README's section "Try it". Each is started by `env -i` with HOME set to an empty
directory and PATH to /usr/bin:/bin, so that nothing of a developer's machine helps. `--pass NAME` lets one more
variable through, such as a package index's address where a network has its own. After both rounds
`resilient-faces demo --clean` and `run.py clean` run, and nothing of this library's may be left in HOME.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from _report import ROOT, Proof, project_files, without_paths

SECTION: Final = re.compile(r"^## Try it$(.*?)^## ", re.MULTILINE | re.DOTALL)
COMMAND: Final = re.compile(r"^\$ (python3 run\.py \w+)$", re.MULTILINE)
FEWER: Final = {
    "demo": "--count 20 --seed 1",
    "test": "-q tests/test_errors.py tests/architecture/test_public_names.py",
}
LINES: Final = 12  # of what a command said last
LONGEST: Final = 3600.0  # seconds for one command
MOST_FOR_TESTS: Final = 300.0  # seconds that the README promises


def commands() -> list[str]:
    """What the README tells a newcomer to type."""
    section = SECTION.search((ROOT / "README.md").read_text(encoding="utf-8"))
    return COMMAND.findall(section[1]) if section else []


def copy(target: Path, worktree: bool) -> None:
    """A clone of HEAD, or a copy of what would be committed."""
    if not worktree:
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(target)], check=True)
        return
    for name in project_files():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)


def python_directory(proof: Proof, parent: Path, python: str) -> str:
    """A directory with this Python as `python3` and nothing else."""
    found = shutil.which(python)
    if found is None:
        proof.lacks(f"there is no Python {python!r}: neither a file nor on PATH")
    directory = parent / "bin"
    directory.mkdir()
    wrapper = directory / "python3"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(str(Path(found).absolute()))} "$@"\n', encoding="utf-8")
    wrapper.chmod(0o755)
    return str(directory)


def run(command: list[str], where: Path, environment: list[str], log: Path) -> tuple[int, float, list[str]]:
    """Exit code, seconds and last lines of a command under `env -i`; its output goes through a file, as it comes."""
    began = time.monotonic()
    with log.open("wb") as kept:
        process = subprocess.Popen(
            ["env", "-i", *environment, *command], cwd=where, stdin=subprocess.DEVNULL, stdout=kept, stderr=kept
        )
        try:
            code = process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = -1
    said = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    return code, time.monotonic() - began, [line.rstrip() for line in said if line.strip()][-LINES:]


def main() -> int:
    proof = Proof(
        "fresh_clone",
        "from a fresh clone both README commands run start to end, twice, and the clean-up leaves nothing",
        __doc__,
        "20 photos and a few tests",
    )
    proof.parser.add_argument("--worktree", action="store_true", help="copy what would be committed instead of HEAD")
    proof.parser.add_argument("--python", metavar="COMMAND", help="the Python to start with (/usr/bin/python3)")
    proof.parser.add_argument("--only", choices=sorted(FEWER), help="one of the commands")
    proof.parser.add_argument("--rounds", type=int, default=2, metavar="N", help="how often (2)")
    proof.parser.add_argument(
        "--pass",
        action="append",
        default=[],
        dest="passed",
        metavar="NAME",
        help="an environment variable to let through",
    )
    options = proof.parse()
    if options.rounds < 1:
        proof.parser.error(f"--rounds must be 1 or more; got {options.rounds}")
    if shutil.which("git") is None or shutil.which("env") is None:
        proof.lacks("git and env are needed")
    typed = commands()
    proof.check(len(typed) == 2, f"the README tells {len(typed)} commands instead of two")
    if options.only:
        typed = [one for one in typed if one.endswith(options.only)]
    runs: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="fresh-") as directory:
        parent = Path(directory)
        home, clone, log = parent / "home", parent / "clone", parent / "log"
        home.mkdir()
        copy(clone, options.worktree)
        path = "/usr/bin:/bin"
        if options.python:
            path = f"{python_directory(proof, parent, options.python)}:{path}"
        environment = [f"HOME={home}", f"PATH={path}"]
        environment += [f"{name}={os.environ[name]}" for name in options.passed if name in os.environ]
        places = {str(home): "<home>", str(clone): "<clone>", str(parent): "<temporary>"}
        version = subprocess.run(
            ["env", "-i", *environment, "python3", "-c", "import platform; print(platform.python_version())"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if version.returncode:
            proof.lacks("no python3 can be started under the bare PATH")

        def step(command: list[str], shown: str, number: int) -> float:
            proof.say(f"$ {shown}    (time {number})")
            code, seconds, last = run(command, clone, environment, log)
            last = [without_paths(line, places) for line in last]
            for line in last:
                proof.say(f"    {line}")
            proof.say(f"  exit code {code} after {seconds:.0f} s")
            proof.check(code == 0, f"`{shown}`, time {number}: exit code {code}")
            runs.append(
                {"command": shown, "time": number, "exit_code": code, "seconds": round(seconds, 1), "last_lines": last}
            )
            return seconds

        for number in range(1, options.rounds + 1):
            for one in typed:
                name = one.split()[-1]
                shown = f"{one} -- {FEWER[name]}" if options.small else one
                seconds = step(shlex.split(shown), shown, number)
                if name == "test":
                    proof.check(
                        seconds < MOST_FOR_TESTS,
                        f"time {number}: the tests took {seconds:.0f} s; {MOST_FOR_TESTS:.0f} promised",
                    )
        if any(one.endswith("demo") for one in typed):
            command = next(clone.glob(".venv/demo-*/bin/resilient-faces"), None)
            if proof.check(command is not None, "the demo's environment has no command resilient-faces"):
                step([str(command), "demo", "--clean"], "resilient-faces demo --clean", 1)
        step(["python3", "run.py", "clean"], "python3 run.py clean", 1)
        proof.check(not (clone / ".venv").exists(), "run.py clean left environments in the clone")
        left = sorted(str(one.relative_to(home)) for one in home.rglob("*resilient*"))
        proof.check(not left, f"left in HOME: {', '.join(left[:5])}")
        status = subprocess.run(
            ["git", "-C", str(clone), "status", "--short"], capture_output=True, text=True, check=False
        )
        changed = [] if options.worktree else status.stdout.splitlines()
        proof.check(not changed, f"changed in the clone: {', '.join(changed[:5])}")
        others = sorted(str(one.relative_to(home)) for one in [*home.glob("*"), *home.glob(".cache/*")])
    return proof.finish(
        parameters={
            "source": "worktree" if options.worktree else "HEAD",
            "environment": [one.partition("=")[0] for one in environment],
            "path": path.replace(str(parent), "<temporary>"),
            "commands": typed,
            "rounds": options.rounds,
        },
        figures={"runs": runs, "left_of_ours": left, "left_of_others": others, "changed_in_clone": changed},
        python=version.stdout.strip(),
    )


if __name__ == "__main__":
    sys.exit(main())
