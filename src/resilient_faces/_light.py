"""Frozen values without generated code: `dataclass` and `field` as in the standard library, at a tenth of the time.

`dataclasses` writes and compiles six methods for each class; for the values of this library that was most of what
`import resilient_faces` took. Here all classes share the same methods, which go by the plan of the class. To type
checkers this *is* `dataclasses`. At run time `fields`, `replace`, `asdict`, `is_dataclass`, `match` statements, `copy`,
`pickle` and `inspect.signature` work as with the real one; what they need is made when they first ask.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass, field
    from inspect import Signature
    from typing import Protocol

    class Made(Protocol):
        """An object of a class that `dataclass` made."""

        __plan__: Plan

        def __post_init__(self) -> None: ...


__all__ = ["Plan", "changed", "dataclass", "field", "plan_of"]


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


class Option(NamedTuple):
    """One field, as declared."""

    name: str
    type: str
    default: object = MISSING
    default_factory: object = MISSING
    init: bool = True
    repr: bool = True
    compare: bool = True
    kw_only: bool = False


class Plan:
    """What the shared methods know of one class; made when they first ask.

    Attributes:
        options: All fields, inherited ones first.
    """

    __slots__ = ("compared", "defaults", "factories", "options", "positional", "puts", "required")

    def __init__(self, cls: type) -> None:
        options = tuple([Option(*one) for one in cls.__options__.values()])  # type: ignore[attr-defined]
        made = [one for one in options if one.init]
        compared = [one.name for one in options if one.compare]
        self.options = options
        self.compared: Callable[[object], object] = attrgetter(*compared) if compared else type
        self.defaults: Final = {one.name: one.default for one in made}
        self.factories = [(one.name, one.default_factory) for one in made if one.default_factory is not MISSING]
        self.positional = tuple([one.name for one in made if not one.kw_only])
        self.puts = [getattr(cls, one.name).__set__ for one in made]
        self.required = frozenset(
            [one.name for one in made if one.default is MISSING and one.default_factory is MISSING]
        )


def plan_of(cls: type) -> Plan | None:
    """The plan of a class that `dataclass` made here, or of one built on it; None for others."""
    found: Plan | None = getattr(cls, "__plan__", None)
    return found


def changed(value: object) -> dict[str, object]:
    """The options of a value, or of a dataclass of the standard library, that are not the defaults."""
    plan = plan_of(type(value))
    if plan is None:
        from dataclasses import fields

        given = [(one.name, one.default) for one in fields(value) if one.init]  # type: ignore[arg-type]
    else:
        given = list(plan.defaults.items())
    found = [(name, getattr(value, name), default) for name, default in given]
    return {name: now for name, now, default in found if now is not default}


# -- the methods that all values share -----------------------------------------------------------------------------


def _init(self: Made, /, *args: object, **given: object) -> None:
    plan: Plan = getattr(self, "__plan__")  # noqa: B009  # faster here: many classes share this line
    if args:
        if len(args) > len(plan.positional):
            raise _wrong_call(self, plan, args, given)
        for name, value in zip(plan.positional, args):  # noqa: B905  # fewer is fine
            if name in given:
                raise TypeError(f"{type(self).__name__}.__init__() got multiple values for argument {name!r}")
            given[name] = value
    values = plan.defaults | given
    if len(values) != len(plan.puts) or (plan.required and not given.keys() >= plan.required):
        raise _wrong_call(self, plan, args, given)
    for name, factory in plan.factories:
        if name not in given:
            values[name] = factory()  # type: ignore[operator]
    for put, value in zip(plan.puts, values.values()):  # noqa: B905  # as many as there are, see above
        put(self, value)


def _init_checked(self: Made, /, *args: object, **given: object) -> None:
    _init(self, *args, **given)
    self.__post_init__()


def _wrong_call(self: object, plan: Plan, args: tuple[object, ...], given: dict[str, object]) -> Exception:
    unknown = [name for name in given if name not in plan.defaults]
    better = getattr(self, "__better__", None)  # raises an error that says more than a TypeError, if it knows one
    if better is not None:
        better(args, unknown)
    label = f"{type(self).__name__}.__init__()"
    if len(args) > len(plan.positional):
        return TypeError(f"{label} takes {len(plan.positional)} positional arguments but {len(args)} were given")
    if unknown:
        return TypeError(f"{label} got an unexpected keyword argument {unknown[0]!r}")
    absent = [name for name in plan.defaults if name in plan.required and name not in given]
    return TypeError(f"{label} missing required arguments: {', '.join(map(repr, absent))}")


def _repr(self: Made) -> str:
    shown = [f"{one.name}={getattr(self, one.name)!r}" for one in self.__plan__.options if one.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: Made, other: object) -> bool:
    if other.__class__ is not self.__class__:
        return NotImplemented  # type: ignore[no-any-return]
    compared = self.__plan__.compared
    return bool(compared(self) == compared(other))


def _hash(self: Made) -> int:
    return hash(self.__plan__.compared(self))


def _replace(self: Made, /, **changes: object) -> object:
    from dataclasses import replace

    return replace(self, **changes)  # type: ignore[type-var]


def _frozen_set(self: object, name: str, value: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _frozen_del(self: object, name: str) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: Made) -> list[object]:
    return [getattr(self, one.name) for one in self.__plan__.options]


def _setstate(self: Made, state: list[object]) -> None:
    for one, value in zip(self.__plan__.options, state):  # noqa: B905  # written by `_getstate`
        object.__setattr__(self, one.name, value)


# -- what the standard library asks for ----------------------------------------------------------------------------


class _Later:
    """A class attribute made when somebody asks: most programs never do."""

    __slots__ = ("_make", "_name")

    def __init__(self, name: str, make: Callable[[type], object]) -> None:
        self._name = name
        self._make = make

    def __get__(self, instance: object, owner: type) -> object:
        if self._name == "__signature__" and instance is not None:
            raise AttributeError(self._name)  # the class's is not that of its instances, which may be callable too
        made = self._make(owner)
        if self._name != "__signature__":
            setattr(owner, self._name, made)
        return made


def _standard(cls: type) -> type:
    """The class as the standard library would have made it, for its tables."""
    import dataclasses

    fields = []
    for one in cls.__plan__.options:  # type: ignore[attr-defined]
        options = {name: option for name, option in one._asdict().items() if option is not MISSING}
        if type(one.default).__hash__ is None:  # a mapping that nobody can write to
            shared = options.pop("default")
            options["default_factory"] = lambda kept=shared: kept
        fields.append((options.pop("name"), options.pop("type"), dataclasses.field(**options)))
    return dataclasses.make_dataclass(
        cls.__name__, fields, init=False, repr=False, eq=False, frozen="__delattr__" in vars(cls)
    )


def _signature(cls: type) -> Signature:
    from inspect import Parameter, Signature

    parameters = []
    for one in sorted(cls.__plan__.options, key=lambda one: one.kw_only):  # type: ignore[attr-defined]
        if one.init:
            kind = Parameter.KEYWORD_ONLY if one.kw_only else Parameter.POSITIONAL_OR_KEYWORD
            default = one.default if one.default_factory is MISSING else "<made>"
            default = Parameter.empty if default is MISSING else default
            parameters.append(Parameter(one.name, kind, default=default, annotation=one.type))
    return Signature(parameters)


if not TYPE_CHECKING:

    def field(
        *,
        default: object = MISSING,
        default_factory: object = MISSING,
        init: bool = True,
        repr: bool = True,
        compare: bool = True,
        kw_only: bool = False,
    ) -> tuple[object, ...]:
        """As `dataclasses.field`."""
        return _Field((default, default_factory, init, repr, compare, kw_only))

    class _Field(tuple):
        __slots__ = ()

    _LATER: Final = {
        "__plan__": _Later("__plan__", Plan),
        "__dataclass_fields__": _Later("__dataclass_fields__", lambda cls: _standard(cls).__dataclass_fields__),
        "__dataclass_params__": _Later("__dataclass_params__", lambda cls: _standard(cls).__dataclass_params__),
        "__signature__": _Later("__signature__", _signature),
        "__match_args__": _Later("__match_args__", lambda cls: cls.__plan__.positional),
        "__replace__": _replace,
        "__eq__": _eq,
    }
    _FROZEN: Final = {
        **_LATER,
        "__hash__": _hash,
        "__setattr__": _frozen_set,
        "__delattr__": _frozen_del,
    }

    def dataclass(*, frozen: bool = False, slots: bool = True, kw_only: bool = False) -> Callable[[type], type]:
        """As `dataclasses.dataclass`, always with slots."""
        assert slots

        def make(cls: type) -> type:
            space = dict(cls.__dict__)
            options = dict(getattr(cls, "__options__", ()))
            names = []
            for name, type_ in cls.__annotations__.items():
                if not type_.startswith("ClassVar"):
                    given = space.pop(name, MISSING)
                    if type(given) is _Field:
                        options[name] = (name, type_, *given[:-1], kw_only or given[-1])
                    else:
                        options[name] = (name, type_, given, MISSING, True, True, True, kw_only)
                    names.append(name)
            space.pop("__dict__", None)
            space.pop("__weakref__", None)
            space.setdefault("__repr__", _repr)
            if frozen:
                space.setdefault("__getstate__", _getstate)
                space.setdefault("__setstate__", _setstate)
            space.update(_FROZEN if frozen else _LATER)
            space["__slots__"] = names
            space["__options__"] = options
            space["__init__"] = _init_checked if hasattr(cls, "__post_init__") else _init
            return type(cls)(cls.__name__, cls.__bases__, space)

        return make
