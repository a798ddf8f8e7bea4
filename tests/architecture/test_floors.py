"""The house stands on its floors: who may import whom, read from the syntax trees of src/.

The tables below are the rules. A new package gets a floor here; a new third-party module gets a home here.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = "resilient_faces"
SOURCE: Final = ROOT / "src" / PACKAGE

FLOORS: Final[Mapping[str, int]] = {
    "_light": 0,
    "errors": 0,
    "faults": 0,
    "events": 0,
    "_core": 1,
    "composing": 2,
    "flows": 2,
    "retry": 3,
    "breaker": 3,
    "degrade": 3,
    "limits": 3,
    "telemetry": 4,
    "idempotency": 4,
    "saga": 5,
    "adapters": 6,
    "planning": 7,
    "testing": 7,
    "pipeline": 8,
    "cli": 9,
    "__main__": 10,
}
"""Top-level module or package: its floor. It imports from lower floors only, and never from a neighbour."""

NEIGHBOURS: Final[Mapping[str, frozenset[str]]] = {
    "faults": frozenset({"_light", "errors"}),
    "events": frozenset({"_light", "errors", "faults"}),
    "flows": frozenset({"composing"}),
}
"""Exceptions to the rule about neighbours: floor 0 runs from _light, errors to faults to events; flows re-exports."""

ADAPTER_IMPORTS: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("rekognition", "dynamodb", "s3", "sqs", "cloudwatch", "sns", "stepfunctions"), frozenset({"aws"})),
    "insightface": frozenset({"gallery"}),
    "recogniser": frozenset({"insightface"}),
    "dynamodb_store": frozenset({"aws", "dynamodb"}),
    "redis_store": frozenset(),
    "local_rekognition": frozenset({"aws", "rekognition", "recogniser", "insightface"}),
}
"""Inside adapters/: who may import which neighbour. Modules that begin with an underscore are everybody's."""

HOMES: Final[Mapping[str, frozenset[str]]] = {
    "tenacity": frozenset({"retry/_tenacity.py"}),
    "wrapt": frozenset({"composing.py"}),
    "opentelemetry": frozenset({"telemetry/otel.py"}),
}
"""Third-party module: the only files that may import it."""

ANYWHERE: Final = frozenset({"typing_extensions"})
"""Third-party modules that any file may import."""

LATE: Final = frozenset({"anyio", "asyncio", "trio", "sniffio"})
"""Imported by the core (floors 0 to 5) inside functions only, so that sync users do not pay for them..."""

LATE_EXCEPT: Final[Mapping[str, frozenset[str]]] = {}
"""... except, at module level, by these files."""

EXTRAS_MAY_ENTER: Final = frozenset({"adapters", "testing", "pipeline", "cli"})
"""Where third-party modules of the extras may be imported: inside functions, on first use..."""

AT_MODULE_LEVEL: Final[Mapping[str, frozenset[str]]] = {
    "testing/plugin.py": frozenset({"pytest"}),
}
"""... except, at module level, these by these files."""

ANY_IS_AT_HOME_IN: Final = "_core/effects.py"
ANY_IS_WATCHED_UP_TO_FLOOR: Final = 3


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, as a dotted name, and how it is imported."""

    file: str  # relative to the package, with forward slashes
    line: int
    module: str  # absolute dotted name; submodules are resolved
    late: bool  # inside a function
    for_types: bool  # under `if TYPE_CHECKING`

    @property
    def root(self) -> str:
        return self.module.partition(".")[0]

    @property
    def part(self) -> str:
        """The top-level part of our package that is imported; empty for the package root."""
        return self.module.removeprefix(PACKAGE).lstrip(".").partition(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def part_of(file: str) -> str:
    """The top-level part of the package that a file belongs to."""
    return file.partition("/")[0].removesuffix(".py")


def dotted(file: str) -> str:
    """`retry/policy.py` as `resilient_faces.retry.policy`."""
    return ".".join([PACKAGE, *file.removesuffix(".py").split("/")]).removesuffix(".__init__")


def imports_of(file: str, source: str, modules: frozenset[str]) -> Iterator[Import]:
    """Every import of one file; `from package import name` names the submodule if there is one."""

    def visit(node: ast.AST, late: bool, for_types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(file, child.lineno, alias.name, late, for_types)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    package = dotted(file) if file.endswith("__init__.py") else dotted(file).rpartition(".")[0]
                    parents = package.split(".")[: len(package.split(".")) - child.level + 1]
                    base = ".".join([*parents, *([child.module] if child.module else [])])
                for alias in child.names:
                    submodule = f"{base}.{alias.name}"
                    yield Import(file, child.lineno, submodule if submodule in modules else base, late, for_types)
            else:
                is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                    for inner in child.body:
                        yield from visit(ast.Module([inner], []), late, True)
                    for inner in child.orelse:
                        yield from visit(ast.Module([inner], []), late, for_types)
                else:
                    yield from visit(child, late or is_function, for_types)

    yield from visit(ast.parse(source), False, False)


def read_house(sources: Mapping[str, str]) -> list[Import]:
    modules = frozenset(dotted(file) for file in sources)
    return [found for file, source in sorted(sources.items()) for found in imports_of(file, source, modules)]


def is_ours(found: Import) -> bool:
    return found.root == PACKAGE


def floor_faults(house: list[Import]) -> Iterator[str]:
    """Imports upwards, from neighbours, or from the package root."""
    for found in house:
        here, there = part_of(found.file), found.part
        if not is_ours(found) or here == "__init__" or here == there:
            continue
        if not there or there == "__init__":
            yield f"{found}: the package root is for users; import from the module that has it"
        elif here not in FLOORS or there not in FLOORS:
            yield f"{found}: {here if here not in FLOORS else there} has no floor yet; give it one in FLOORS"
        elif FLOORS[there] > FLOORS[here]:
            yield f"{found}: floor {FLOORS[here]} may not import from floor {FLOORS[there]}"
        elif FLOORS[there] == FLOORS[here] and there not in NEIGHBOURS.get(here, frozenset()):
            yield f"{found}: {here} and {there} are neighbours on floor {FLOORS[here]}"


def adapter_faults(house: list[Import]) -> Iterator[str]:
    """Adapters that import a neighbour which their row does not name."""
    prefix = f"{PACKAGE}.adapters."
    for found in house:
        if not found.file.startswith("adapters/") or not found.module.startswith(prefix):
            continue
        here = found.file.split("/")[1].removesuffix(".py")
        there = found.module.removeprefix(prefix).partition(".")[0]
        if there == here or there.startswith("_") or there in ADAPTER_IMPORTS.get(here, frozenset()):
            continue
        yield f"{found}: ADAPTER_IMPORTS gives the adapter {here} no such neighbour"


def cycle_faults(house: list[Import], sources: Mapping[str, str]) -> Iterator[str]:
    """Modules of one package that import each other, directly or through others."""
    files = {dotted(file): file for file in sources}
    graph: dict[str, set[str]] = {name: set() for name in files}
    for found in house:
        here = dotted(found.file)
        if found.module in files and found.module != here and part_of(found.file) == found.part:
            graph[here].add(found.module)

    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> Iterator[str]:
        if name in path:
            yield " -> ".join([*path[path.index(name) :], name])
        elif name not in done:
            for target in sorted(graph[name]):
                yield from walk(target, (*path, name))
            done.add(name)

    for name in sorted(graph):
        yield from walk(name, ())


def third_party_faults(house: list[Import]) -> Iterator[str]:
    """Third-party modules away from home, and those that are imported too early."""
    for found in house:
        here = part_of(found.file)
        if is_ours(found) or found.for_types:
            continue
        is_core = here in FLOORS and FLOORS[here] <= FLOORS["saga"]
        if found.root in LATE:
            if is_core and not found.late and found.file not in LATE_EXCEPT.get(found.root, frozenset()):
                yield f"{found} at module level: sync users would pay for it; import it in the function that needs it"
        elif found.root in HOMES:
            if found.file not in HOMES[found.root]:
                yield f"{found}: its home is {', '.join(sorted(HOMES[found.root]))}"
        elif found.root in sys.stdlib_module_names or found.root in ANYWHERE:
            continue
        elif here not in EXTRAS_MAY_ENTER:
            yield f"{found}: only {', '.join(sorted(EXTRAS_MAY_ENTER))} may import what an extra installs"
        elif not found.late and found.root not in AT_MODULE_LEVEL.get(found.file, frozenset()):
            yield f"{found} at module level: import it on first use, with an error that names the extra"


def any_faults(sources: Mapping[str, str]) -> Iterator[str]:
    """`Any` on floors 0 to 3, away from its home."""
    for file, source in sorted(sources.items()):
        if FLOORS.get(part_of(file), 0) > ANY_IS_WATCHED_UP_TO_FLOOR or file == ANY_IS_AT_HOME_IN:
            continue
        for node in ast.walk(ast.parse(source)):
            named = isinstance(node, ast.ImportFrom) and node.module in {"typing", "typing_extensions"}
            if named and any(alias.name == "Any" for alias in node.names):
                yield f"{file}:{node.lineno} imports Any; its home is {ANY_IS_AT_HOME_IN}, which names users' values"
            elif isinstance(node, ast.Attribute) and node.attr == "Any" and ast.unparse(node.value) in {"typing", "t"}:
                yield f"{file}:{node.lineno} uses typing.Any; its home is {ANY_IS_AT_HOME_IN}"


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    found = {path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    assert "errors.py" in found
    return found


def test_imports_go_down(sources: dict[str, str]) -> None:
    """A package imports from floors below its own, never from a neighbour, never from the package root."""
    assert not list(floor_faults(read_house(sources)))


def test_adapters_import_only_the_neighbours_of_their_row(sources: dict[str, str]) -> None:
    """Single-service adapters know the factory they are built on, and no other service."""
    assert not list(adapter_faults(read_house(sources)))


def test_no_cycles_inside_a_package(sources: dict[str, str]) -> None:
    """Inside a package imports run one way, those inside functions and for types included."""
    assert not list(cycle_faults(read_house(sources), sources))


def test_third_party_modules_stay_at_home(sources: dict[str, str]) -> None:
    """tenacity, wrapt and opentelemetry have one home each; extras come on first use, async libraries not at import."""
    assert not list(third_party_faults(read_house(sources)))


def test_any_stays_at_home(sources: dict[str, str]) -> None:
    """On floors 0 to 3 users' values have one home and named types; `Any` elsewhere would hide mistakes."""
    assert not list(any_faults(sources))


def test_every_part_of_the_house_has_a_floor(sources: dict[str, str]) -> None:
    """A package without a floor would escape the rules."""
    assert {part_of(file) for file in sources} - {"__init__"} <= set(FLOORS)


BAD_HOUSES: Final[Mapping[str, tuple[dict[str, str], str]]] = {
    "upwards": ({"errors.py": "from resilient_faces.retry import policy"}, "floor 0 may not import from floor 3"),
    "upwards, late": ({"errors.py": "def f():\n  import resilient_faces.retry"}, "floor 0 may not import"),
    "upwards, relative": ({"_core/options.py": "from ..retry import policy"}, "floor 1 may not import"),
    "neighbour": ({"retry/policy.py": "from resilient_faces.breaker import x"}, "neighbours on floor 3"),
    "floor 0 backwards": (
        {"errors.py": "from resilient_faces import faults", "faults.py": ""},
        "neighbours on floor 0",
    ),
    "root": ({"retry/policy.py": "from resilient_faces import guard"}, "the package root is for users"),
    "no floor": ({"attic/x.py": "from resilient_faces import errors", "errors.py": ""}, "no floor yet"),
    "adapter": (
        {"adapters/aws.py": "from resilient_faces.adapters import s3", "adapters/s3.py": ""},
        "gives the adapter aws no such neighbour",
    ),
    "cycle": (
        {"_core/a.py": "from . import b", "_core/b.py": "def f():\n  from resilient_faces._core.a import x"},
        "resilient_faces._core.a -> resilient_faces._core.b -> resilient_faces._core.a",
    ),
    "away from home": ({"retry/policy.py": "def f():\n  import tenacity.stop"}, "its home is retry/_tenacity.py"),
    "async too early": ({"_core/drivers.py": "import asyncio"}, "sync users would pay"),
    "extra in the core": ({"retry/policy.py": "def f():\n  import boto3"}, "may import what an extra installs"),
    "extra too early": ({"adapters/aws.py": "from botocore.config import Config"}, "on first use"),
    "Any": ({"retry/policy.py": "from typing import Any"}, "imports Any"),
    "typing.Any": ({"retry/policy.py": "import typing\nx: typing.Any"}, "uses typing.Any"),
}


@pytest.mark.parametrize("name", BAD_HOUSES)
def test_a_bad_house_is_noticed(name: str) -> None:
    """Each rule can fail."""
    built, expected = BAD_HOUSES[name]
    house = read_house(built)
    found = [
        *floor_faults(house),
        *adapter_faults(house),
        *cycle_faults(house, built),
        *third_party_faults(house),
        *any_faults(built),
    ]
    assert [fault for fault in found if expected in fault], found


def test_a_good_house_is_left_alone() -> None:
    """What the rules allow: lower floors, types only, extras on first use, private helpers of adapters."""
    built = {
        "faults.py": "from resilient_faces.errors import Rejected",
        "errors.py": "",
        "adapters/aws.py": "from ._tables import x\ndef f():\n  import botocore.session",
        "adapters/_tables.py": "from typing import TYPE_CHECKING, Any\nif TYPE_CHECKING:\n  import boto3",
        "_core/drivers.py": "async def f():\n  import anyio",
        "retry/_tenacity.py": "import tenacity",
    }
    house = read_house(built)
    assert not [*floor_faults(house), *adapter_faults(house), *cycle_faults(house, built), *third_party_faults(house)]
    assert not list(any_faults(built))
