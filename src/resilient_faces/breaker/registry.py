"""Circuits by name and key. The same name is the same circuit; the same name with other options is an error.

A family is what one name stands for: one circuit, or one for each key or instance, up to a bound. The registry counts
the breakers that use a family, so the last one that goes takes its circuit with it. If that circuit has something to
remember (failures that count, open, held open by hand), the registry keeps it until it has not.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import CodeType, FrameType, FunctionType
from typing import ClassVar, Final, TypeAlias

from resilient_faces._core.gates import know_states
from resilient_faces._core.runtime import on_fork
from resilient_faces._light import changed, dataclass
from resilient_faces.breaker.circuit import Circuit, Settings, Snapshot
from resilient_faces.breaker.machine import State
from resilient_faces.errors import DuplicateNameError, ResilienceError

__all__ = ["Circuits", "Family", "Switch", "Terms", "circuits"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a name stands for; a breaker of that name with others is an error.

    Attributes:
        settings: What the circuits follow.
        options: Further options that are not the defaults, by name.
        limit: Keys at most; beyond it circuits with nothing to remember go, oldest first.
    """

    settings: Settings
    options: tuple[tuple[str, object], ...]
    limit: int


_MAY_GO: Final[tuple[Callable[[Circuit], bool], ...]] = (
    lambda circuit: circuit.forgettable,
    lambda circuit: circuit.state is State.closed,
    lambda circuit: circuit.state in (State.open, State.half_open),
    lambda circuit: True,  # all are held by hand
)


Aside: TypeAlias = "tuple[dict[str, Family], frozenset[Family]]"


class Family:
    """The circuits of one name.

    Attributes:
        name: The name.
        terms: What they follow.
        users: Breakers of this name; counted by the registry.
    """

    __slots__ = ("__weakref__", "_code", "_line", "live", "name", "single", "terms", "users", "watched")

    _lock: ClassVar = threading.Lock()  # around the making of a circuit, which is quick and rare: one for all

    def __init__(self, name: str, terms: Terms, frame: FrameType | None = None) -> None:
        self.name = name
        self.terms = terms
        self.live: dict[Hashable, Circuit] | None = None
        self.single: Circuit | None = None
        self.watched: dict[Hashable, weakref.ref[object]] | None = None
        self.users = 0
        self._code = None if frame is None else frame.f_code
        self._line = 0 if frame is None else frame.f_lineno
        if frame is None:
            on_fork(self)  # the others are found through the registry

    @property
    def place(self) -> str:
        """Where the name was first given, as `file:line`."""
        return "" if self._code is None else f"{self._code.co_filename}:{self._line}"

    @property
    def keyed(self) -> bool:
        """Whether there is a circuit for each key, and none for the name alone."""
        return any(option == "key" for option, _ in self.terms.options)

    def one(self) -> Circuit:
        """The circuit of a name without keys."""
        circuit = self.single
        if circuit is None:
            with self._lock:
                circuit = self.single
                if circuit is None:
                    circuit = self.single = Circuit(self.name, self.terms.settings)
        return circuit

    def of(self, key: Hashable) -> Circuit:
        """The circuit of a key, made if need be."""
        with self._lock:
            if self.live is None:
                self.live = {}
            circuit = self.live.get(key)
            if circuit is None:
                if len(self.live) >= self.terms.limit:
                    self._evict(self.live)
                circuit = self.live[key] = Circuit(self.name, self.terms.settings, key)
            return circuit

    def _evict(self, live: dict[Hashable, Circuit]) -> None:
        """Let one circuit go: the oldest that has nothing to remember, else the oldest that is closed, and so on."""
        keys = list(live)  # while we look, the garbage collector may take some: see `watch`
        for may_go in _MAY_GO:
            for key in keys:
                circuit = live.get(key)
                if circuit is None or may_go(circuit):
                    live.pop(key, None)
                    return

    def watch(self, key: Hashable, instance: object) -> None:
        """Drop the key's circuit when the instance that it stands for is gone.

        Raises:
            TypeError: The instance takes no weak references.
        """
        if self.watched is None:
            self.watched = {}
        watched = self.watched

        def gone(_: object) -> None:  # run by the garbage collector, anywhere: no lock, only atomic steps
            watched.pop(key, None)
            if self.live is not None:
                self.live.pop(key, None)

        watched[key] = weakref.ref(instance, gone)

    def all(self) -> list[Circuit]:
        """The circuits that exist now."""
        keyed = [] if self.live is None else list(self.live.values())
        return keyed if self.single is None else [self.single, *keyed]

    def begin_anew(self) -> None:
        """For tests: the one circuit as at first, and none for any key."""
        self.live = None
        if self.single is not None:
            self.single.begin_anew()

    def after_fork(self) -> None:
        Family._lock = threading.Lock()
        for circuit in self.all():
            circuit.after_fork()

    @property
    def forgettable(self) -> bool:
        """Whether nothing is lost if the family goes."""
        single = self.single
        if single is not None and not single.forgettable:
            return False
        return self.live is None or all(circuit.forgettable for circuit in list(self.live.values()))


class Circuits:
    """All named circuits of this process, for looking at them and for switching them by hand.

    `circuits["db"]` is the circuit of that name; iterating gives every circuit, keyed ones included.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families: dict[str, Family] = {}
        self._left: deque[Family] = deque()  # one entry for each breaker that is gone and not yet counted off
        self._kept: set[Family] = set()  # without a breaker, but with something to remember
        self._outer: frozenset[Family] = frozenset()  # what a test found, and may take the names of
        on_fork(self)

    def bind(self, name: str, terms: Terms, replace: bool) -> Family:
        """The family of this name, with one user more.

        Raises:
            DuplicateNameError: The name is taken by one with other options.
        """
        place = frame_of_caller(4)  # above `bind` are two of `Breaker`'s
        with self._lock:
            if self._left or self._kept:
                self._count_off()
            family = self._families.get(name)
            if family in self._outer and family is not None and not _equal(family.terms, terms):
                family = None  # its users keep it, and it comes back after the test
            if family is not None and not replace and family.terms is not terms and not _equal(family.terms, terms):
                raise DuplicateNameError(
                    f"circuit {name!r} exists with other options: first given in {family.place}, now in "
                    f"{place.f_code.co_filename}:{place.f_lineno}. "
                    "Use the same options in both places, another name, or replace=True to start afresh."
                )
            if family is not None and replace:
                self._detach(family)
                family = None
            if family is None:
                family = self._families[name] = Family(name, terms, place)
            family.users += 1
            return family

    def leave(self, family: Family) -> None:
        """A user of this family is gone. Run by the garbage collector, anywhere: it waits for no lock."""
        self._left.append(family)
        if self._lock.acquire(blocking=False):  # else whoever is inside, or comes next, counts it off
            try:
                self._count_off()
            finally:
                self._lock.release()

    def _count_off(self) -> None:
        """Let go what nobody uses and what has nothing to remember. Lock held."""
        while self._left:
            family = self._left.popleft()
            family.users -= 1
            if not family.users and self._families.get(family.name) is family:
                if family.forgettable:
                    del self._families[family.name]
                else:
                    self._kept.add(family)
        for family in list(self._kept) if self._kept else ():
            if family.users:
                self._kept.discard(family)
            elif family.forgettable:
                self._kept.discard(family)
                if self._families.get(family.name) is family:
                    del self._families[family.name]

    def _detach(self, family: Family) -> None:
        """Its users keep it, nobody else finds it. Lock held."""
        self._kept.discard(family)
        on_fork(family)

    def _now(self) -> dict[str, Family]:
        """The families that are there now."""
        with self._lock:
            self._count_off()
            return dict(self._families)

    def __getitem__(self, name: str) -> Circuit:
        families = self._now()
        family = families.get(name)
        if family is None:
            known = ", ".join(sorted(families)) or "none"
            raise KeyError(f"no circuit is called {name!r}; there are: {known}")
        if family.keyed:
            raise KeyError(f"circuit {name!r} has keys; use circuits.of({name!r}, key)")
        return family.one()

    def __contains__(self, name: object) -> bool:
        return name in self._now()

    def __iter__(self) -> Iterator[Circuit]:
        for family in self._now().values():
            yield from family.all()

    def of(self, name: str, key: Hashable) -> Circuit:
        """The circuit of a key, for example a host or a camera."""
        family = self._now().get(name)
        if family is None:
            raise KeyError(f"no circuit is called {name!r}")
        return family.of(key)

    def named(self, name: str) -> list[Circuit]:
        """Every circuit of this name: one, or one a key."""
        family = self._now().get(name)
        if family is None:
            return []
        return family.all() or ([] if family.keyed else [family.one()])

    def snapshots(self) -> list[Snapshot]:
        """How all circuits stand now, by name and key."""
        return sorted((circuit.snapshot() for circuit in self), key=lambda one: (one.name, one.key))

    def reset(self) -> None:
        """Close all circuits and forget what they counted."""
        for circuit in self:
            circuit.reset()

    def set_aside(self) -> Aside:
        """For tests: what is bound from now on stands beside what there is, whatever its options, until `put_back`."""
        with self._lock:
            self._count_off()
            aside = (dict(self._families), self._outer)
            self._outer = frozenset(self._families.values())
        return aside

    def put_back(self, aside: Aside) -> None:
        """For tests: only those names again. Functions decorated since keep circuits that nobody else can find."""
        families, outer = aside
        with self._lock:
            for family in self._families.values():
                if families.get(family.name) is not family:
                    self._detach(family)
            self._families = {name: family for name, family in families.items() if family.users}
            self._outer = outer

    def forget(self) -> None:
        """For tests: no names at all."""
        self.put_back(({}, frozenset()))

    def begin_anew(self) -> None:
        """For tests: every circuit as it was at first."""
        for family in list(self._families.values()):
            family.begin_anew()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        for family in self._families.values():
            family.after_fork()


circuits: Final = Circuits()


class Switch:
    """One switch that holds several circuits open, for maintenance.

    Used as a `with` block, or by `open` and `release`. A circuit that several switches hold stays open until the last
    one lets go.

    Args:
        names: Names of circuits; keyed ones are held for every key that exists.
    """

    def __init__(self, *names: str) -> None:
        if not names:
            raise ResilienceError("Switch.names must be at least one name; got none.")
        self._names = names

    def _circuits(self) -> Iterable[Circuit]:
        for name in self._names:
            if name not in circuits:
                raise KeyError(f"no circuit is called {name!r}")
            yield from circuits.named(name)

    def open(self, seconds: float | None = None) -> None:
        """Hold them open, without an end or for so many seconds."""
        for circuit in list(self._circuits()):
            circuit.force_open(seconds, by=self)

    def release(self) -> None:
        """Let go; each circuit admits a probe first."""
        for circuit in list(self._circuits()):
            circuit.release(by=self)

    def __enter__(self) -> Switch:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def same(a: object, b: object) -> bool:
    """Whether two options mean the same; functions do if their code does, so that a module or cell can run again."""
    if isinstance(a, FunctionType) and isinstance(b, FunctionType):
        return (
            _code(a.__code__) == _code(b.__code__)
            and a.__defaults__ == b.__defaults__
            and a.__kwdefaults__ == b.__kwdefaults__
            and same(_captured(a), _captured(b))
        )
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _captured(function: FunctionType) -> tuple[object, ...]:
    """What a closure holds."""
    return tuple(cell.cell_contents for cell in function.__closure__ or ())


def _code(code: CodeType) -> tuple[object, ...]:
    constants = tuple(_code(one) if isinstance(one, CodeType) else one for one in code.co_consts)
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars


def _equal(these: Terms, those: Terms) -> bool:
    """Whether both mean the same, though they are not the same objects."""
    mine, other = changed(these.settings), changed(those.settings)
    if mine.keys() != other.keys() or not all(same(one, other[name]) for name, one in mine.items()):
        return False
    return same(these.options, those.options)


def frame_of_caller(above: int = 1) -> FrameType:
    """The nearest frame outside of this library, from so many frames above this one on."""
    frame = sys._getframe(above)  # noqa: SLF001  # the cheap way to the caller's frame
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith("resilient_faces.") and module != "dataclasses":
            break
        frame = frame.f_back
    return frame


def state_of(name: str) -> State | None:
    """The worst state among the circuits of a name; None if there is none."""
    order = (State.forced_open, State.open, State.half_open, State.metrics_only, State.disabled, State.closed)
    states = [circuit.state for circuit in circuits.named(name)]
    return min(states, key=order.index, default=None)


know_states(state_of)
