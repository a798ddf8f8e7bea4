"""Circuits by name and key. The same name is the same circuit; the same name with other options is an error.

A family is what one name stands for: one circuit, or one for each key or instance, up to a bound. The registry holds
families weakly, so the last function that goes takes its circuit with it. If that circuit has something to remember
(failures that count, open, held open by hand), the registry keeps it until it has not.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import CodeType, FunctionType
from typing import Final

from resilient_faces._core.runtime import on_fork
from resilient_faces.breaker.circuit import Circuit, Settings, Snapshot
from resilient_faces.breaker.machine import State
from resilient_faces.errors import DuplicateNameError, ResilienceError

__all__ = ["Circuits", "Family", "Switch", "circuits", "place_of_caller"]

class Family:
    """The circuits of one name.

    Attributes:
        name: The name.
        settings: What they follow.
        options: What must be equal for the name to be shared, settings included.
        place: Where the name was first given, as `file:line`.
        limit: Keys at most; beyond it calm circuits go, oldest first.
    """

    __slots__ = ("__weakref__", "_lock", "era", "limit", "live", "name", "options", "place", "settings", "single", "watched")

    def __init__(self, name: str, settings: Settings, options: tuple[object, ...], place: str, limit: int) -> None:
        self.name = name
        self.settings = settings
        self.options = options
        self.place = place
        self.limit = limit
        self.live: dict[Hashable, Circuit] | None = None
        self.single: Circuit | None = None
        self.era: object = None
        self.watched: dict[Hashable, weakref.ref[object]] | None = None
        self._lock = threading.Lock()
        on_fork(self)

    def one(self) -> Circuit:
        """The circuit of a name without keys."""
        circuit = self.single
        if circuit is None:
            with self._lock:
                circuit = self.single
                if circuit is None:
                    circuit = self.single = Circuit(self.name, self.settings)
        return circuit

    def of(self, key: Hashable) -> Circuit:
        """The circuit of a key, made if need be."""
        with self._lock:
            if self.live is None:
                self.live = {}
            circuit = self.live.get(key)
            if circuit is None:
                if len(self.live) >= self.limit:
                    calm = next((k for k, one in self.live.items() if one.calm is not None), None)
                    self.live.pop(next(iter(self.live)) if calm is None else calm)
                circuit = self.live[key] = Circuit(self.name, self.settings, key)
            return circuit

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

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    @property
    def forgettable(self) -> bool:
        """Whether nothing is lost if the family goes."""
        return all(circuit.forgettable for circuit in self.all())


class Circuits:
    """All named circuits of this process, for looking at them and for switching them by hand.

    `circuits["db"]` is the circuit of that name; iterating gives every circuit, keyed ones included.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families: weakref.WeakValueDictionary[str, Family] = weakref.WeakValueDictionary()
        self._kept: set[Family] = set()
        self._era = object()  # another one after `forget`: what was forgotten does not come back
        on_fork(self)

    def bind(
        self,
        name: str,
        settings: Settings,
        options: tuple[object, ...],
        limit: int,
        replace: bool,
        place: Callable[[], str],
    ) -> Family:
        """The family of this name.

        Raises:
            DuplicateNameError: The name is taken by one with other options.
        """
        self._let_go()
        with self._lock:
            found = self._families.get(name)
            if found is not None and not replace:
                if same(found.options, options):
                    return found
                raise DuplicateNameError(
                    f"circuit {name!r} exists with other options: first given in {found.place}, now in {place()}. "
                    "Use the same options in both places, another name, or replace=True to start afresh."
                )
            if found is not None:
                self._kept.discard(found)
            family = Family(name, settings, options, place(), limit)
            family.era = self._era
            self._families[name] = family
            return family

    def keep(self, family: Family) -> None:
        """A user of this family is gone; if it has something to remember, hold on to it. Takes no lock: called by GC."""
        if family.era is not self._era or family.forgettable or self._families.get(family.name, family) is not family:
            return
        self._families[family.name] = family  # the collector may have cleared the weak reference already
        self._kept.add(family)

    def _let_go(self) -> None:
        for family in list(self._kept):
            if family.forgettable:
                self._kept.discard(family)

    def __getitem__(self, name: str) -> Circuit:
        family = self._families.get(name)
        if family is None:
            known = ", ".join(sorted(self._families)) or "none"
            raise KeyError(f"no circuit is called {name!r}; there are: {known}")
        if family.live is not None:
            raise KeyError(f"circuit {name!r} has keys; use circuits.of({name!r}, key)")
        return family.one()

    def __contains__(self, name: object) -> bool:
        return name in self._families

    def __iter__(self) -> Iterator[Circuit]:
        for family in list(self._families.values()):
            yield from family.all()

    def of(self, name: str, key: Hashable) -> Circuit:
        """The circuit of a key, for example a host or a camera."""
        family = self._families.get(name)
        if family is None:
            raise KeyError(f"no circuit is called {name!r}")
        return family.of(key)

    def named(self, name: str) -> list[Circuit]:
        """Every circuit of this name: one, or one a key."""
        family = self._families.get(name)
        return [] if family is None else family.all() or [family.one()]

    def snapshots(self) -> list[Snapshot]:
        """How all circuits stand now, by name and key."""
        return sorted((circuit.snapshot() for circuit in self), key=lambda one: (one.name, one.key))

    def reset(self) -> None:
        """Close all circuits and forget what they counted."""
        for circuit in self:
            circuit.reset()

    def forget(self) -> None:
        """For tests: forget all names; functions decorated before keep circuits that nobody else can find."""
        with self._lock:
            self._families = weakref.WeakValueDictionary()
            self._kept.clear()
            self._era = object()

    def after_fork(self) -> None:
        self._lock = threading.Lock()


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


def place_of_caller() -> str:
    """`file:line` of the nearest frame outside of this library."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith("resilient_faces.") and module != "dataclasses" and frame.f_code.co_filename != "<string>":
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def state_of(name: str) -> State | None:
    """The worst state among the circuits of a name; None if there is none."""
    order = (State.forced_open, State.open, State.half_open, State.metrics_only, State.disabled, State.closed)
    states = [circuit.state for circuit in circuits.named(name)]
    return min(states, key=order.index, default=None)
