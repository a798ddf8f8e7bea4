"""Break the code in one line at a time, and see a named test fail each time.

    python proof/mutations                  all of them, two at a time
    python proof/mutations --small          every sixth, as CI runs them; whether they are stale is looked at for all
    python proof/mutations --only lease     those whose name contains this
    python proof/mutations --list           what there is

The breakages are data, in `table.py`: file, exact old text, new text, the tests that must fail, and why the line is
there. Each process works on a copy of its own of the project. Before anything is broken all tests that are named must
pass there; a test that is red before proves nothing. The old text must be in its file exactly once, else the breakage
is stale, which is a failure as well: whoever changes a line that has one has to look at it again.
"""

from __future__ import annotations

import ast
import concurrent.futures
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `proof`, however this is started

from _report import ROOT, USAGE, Proof, project_files
from mutations.table import MUTATIONS, Mutation

LONGEST: Final = 90.0  # seconds that named tests may take on broken code, which may hang
HANGING: Final = 8.0  # the same where it is known to hang
SOURCES: Final = Path("src/resilient_faces")
EXAMPLE: Final = Path("examples/face_service/src")


@dataclass(frozen=True)
class Result:
    """What came of one breakage.

    Attributes:
        verdict: killed, survived, stale, hung, red before: its tests fail on the unbroken code, or error: pytest
            could not run them.
        failed: The tests that failed, without their parameters.
        seconds: How long it took.
        said: The end of pytest's output, unless it was killed.
    """

    mutation: Mutation
    verdict: str
    failed: tuple[str, ...] = ()
    seconds: float = 0.0
    said: str = ""


class Copy:
    """A copy of the project, whose sources come first on the path."""

    def __init__(self, parent: Path, number: int, like: Copy | None = None) -> None:
        self.root = parent / f"copy{number}"
        if like is not None:  # not from the project again, which somebody may be working on
            shutil.copytree(like.root, self.root)
            return
        for name in project_files():
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
        # Bytecode goes by the hash of its source here: a broken line may be as long and as young as the good one.
        compileall = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash"]
        sources = [str(self.root / SOURCES), str(self.root / EXAMPLE)]
        subprocess.run([*compileall, *sources], check=False, stdout=subprocess.DEVNULL)

    def pytest(self, tests: tuple[str, ...], within: float | None = None) -> tuple[int, dict[str, str], str]:
        """Run these tests; exit code, outcome of each, and what was said.

        Args:
            tests: Their names.
            within: Seconds that they may take on broken code, where the first failure is enough. None: the code is
                good, and all of them run.

        Raises:
            TimeoutExpired: They took longer.
        """
        outcomes = self.root / "outcomes.json"
        outcomes.unlink(missing_ok=True)
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "CI", "PYTEST_ADDOPTS")}
        path = os.pathsep.join(str(self.root / sources) for sources in ("src", EXAMPLE))
        environment = {**kept, "PYTHONPATH": path, "HYPOTHESIS_PROFILE": "default"}
        if within is not None:
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "--tb=line"]
        command += [] if within is None else ["-x"]
        command += [f"--outcomes={outcomes}", "--hypothesis-seed=0", *tests]
        said = self.root / "said.txt"  # not a pipe, which a grandchild might hold open
        with said.open("wb") as kept_output:
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=kept_output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(within)
            finally:
                if process.poll() is None:
                    _end(process)
        found = json.loads(outcomes.read_text())["outcomes"] if outcomes.exists() else {}
        return code, found, "\n".join(said.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])

    def wear(self, mutation: Mutation) -> Result:
        """Break the line, run the tests that must fail, mend the line."""
        began = time.monotonic()
        file = place(mutation, self.root)
        good = file.read_text(encoding="utf-8") if file.exists() else ""
        if old := stale(mutation, self.root):
            return Result(mutation, "stale", said=old)
        start, end = part(good, mutation.within)
        worse = good[:start] + good[start:end].replace(mutation.old, mutation.new) + good[end:]
        file.write_text(worse, encoding="utf-8")
        try:
            code, outcomes, said = self.pytest(mutation.tests, within=HANGING if mutation.hangs else LONGEST)
        except subprocess.TimeoutExpired:
            seconds = time.monotonic() - began
            if mutation.hangs:
                return Result(mutation, "killed", (*mutation.tests, "which did not end"), seconds)
            return Result(mutation, "hung", seconds=seconds)
        finally:
            file.write_text(good, encoding="utf-8")
        seconds = time.monotonic() - began
        failed = tuple(sorted({name.partition("[")[0] for name, outcome in outcomes.items() if outcome == "failed"}))
        if code == 1 and failed:
            return Result(mutation, "killed", failed, seconds)
        return Result(mutation, "survived" if code == 0 else "error", seconds=seconds, said=said)


def stale(mutation: Mutation, root: Path) -> str:
    """Why the breakage does not fit the code below this directory any more; empty if it does."""
    file = place(mutation, root)
    source = file.read_text(encoding="utf-8") if file.exists() else ""
    start, end = part(source, mutation.within)
    found = source[start:end].count(mutation.old)
    where = f"{mutation.within} of {mutation.file}" if mutation.within else mutation.file
    return "" if found == 1 else f"the old text is {found} times in {where}"


def place(mutation: Mutation, root: Path) -> Path:
    """Where the broken file is, below this directory."""
    return root / (EXAMPLE if mutation.file.startswith("face_service/") else SOURCES) / mutation.file


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that does not end by itself, and what it started."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def part(source: str, name: str) -> tuple[int, int]:
    """Where the function or class of this name begins and ends in the source; all of it without a name."""
    if not name:
        return 0, len(source)
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name == name:
            return sum(map(len, lines[: node.lineno - 1])), sum(map(len, lines[: node.end_lineno]))
    return 0, 0


def chosen(only: list[str], small: bool) -> list[Mutation]:
    """The breakages that the command line asks for."""
    found = [one for one in MUTATIONS if not only or any(word in one.id for word in only)]
    return found[::6] if small and not only else found


def main() -> int:
    proof = Proof(
        "mutations",
        "each one-line breakage of the code makes a named test fail",
        __doc__,
        small="every sixth breakage",
    )
    proof.parser.add_argument(
        "--only", action="append", default=[], metavar="WORD", help="those with this in their name"
    )
    proof.parser.add_argument("--processes", type=int, default=2, metavar="N", help="copies to work on at once (2)")
    proof.parser.add_argument("--list", action="store_true", help="list the breakages")
    options = proof.parse()
    if options.processes < 1:
        proof.parser.error(f"--processes must be 1 or more; got {options.processes}")
    mutations = chosen(options.only, options.small)
    if not mutations:
        print(f"no breakage has {' or '.join(options.only)} in its name; --list shows them", file=sys.stderr)
        return USAGE
    if options.list:
        for one in mutations:
            print(f"{one.id:<34}{one.file:<26}{one.why}")
        return 0
    proof.need("pytest", "hypothesis", "trio")
    proof.check(len({one.id for one in MUTATIONS}) == len(MUTATIONS), "two breakages have the same name")
    for one in MUTATIONS:
        if one not in mutations and not options.only and (old := stale(one, ROOT)):
            proof.check(False, f"{one.id}: stale ({old})")
    with tempfile.TemporaryDirectory(prefix="mutations-") as parent:
        first = Copy(Path(parent), 0)
        tests = tuple(sorted({test for one in mutations for test in one.tests}))
        proof.say(f"{len(mutations)} breakages; unbroken, the {len(tests)} tests that they name ...")
        began = time.monotonic()
        code, outcomes, said = first.pytest(tests)
        red = {name.partition("[")[0] for name, outcome in outcomes.items() if outcome != "passed"}
        proof.say(f"  pass: {time.monotonic() - began:.0f} s" if code == 0 else said)
        if code and not red:
            proof.check(False, "the tests cannot be run on the unbroken code")
            mutations = []
        ready = [one for one in mutations if not red.intersection(one.tests)]
        results = [Result(one, "red before") for one in mutations if one not in ready]
        results += broken(proof, ready, first, Path(parent), options.processes)
        results.sort(key=lambda one: mutations.index(one.mutation))
    for result in results:
        if result.verdict != "killed":
            why = result.said if result.verdict == "stale" else ", ".join(result.mutation.tests)
            proof.check(False, f"{result.mutation.id}: {result.verdict} ({why})")
    return proof.finish(
        parameters={"breakages": len(mutations), "of": len(MUTATIONS), "processes": options.processes},
        figures={
            "killed": sum(one.verdict == "killed" for one in results),
            "survived": [one.mutation.id for one in results if one.verdict == "survived"],
            "breakages": [
                {
                    "id": one.mutation.id,
                    "file": one.mutation.file,
                    "why": one.mutation.why,
                    "verdict": one.verdict,
                    "failed": one.failed,
                    "seconds": round(one.seconds, 2),
                }
                for one in results
            ],
        },
        packages=("resilient-faces", "pytest", "hypothesis", "trio", "anyio", "tenacity"),
    )


def broken(proof: Proof, mutations: list[Mutation], first: Copy, parent: Path, processes: int) -> list[Result]:
    """Every breakage in turn, so many copies at once; the results in the table's order."""
    copies = [first, *(Copy(parent, number, first) for number in range(1, processes))]
    waiting = iter(mutations)
    results: dict[str, Result] = {}

    def work(copy: Copy) -> None:
        for mutation in waiting:  # list iterators are atomic
            result = copy.wear(mutation)
            results[mutation.id] = result
            failed = ", ".join(name.rpartition("/")[2] for name in result.failed)
            proof.say(f"  {result.verdict:<9}{mutation.id:<34}{result.seconds:5.1f} s  {failed}")
            if result.verdict in ("survived", "error", "stale"):
                proof.say("\n".join(f"      {line}" for line in result.said.splitlines()[-6:]))

    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
        for job in [pool.submit(work, copy) for copy in copies]:
            job.result()
    return [results[one.id] for one in mutations]


if __name__ == "__main__":
    sys.exit(main())
