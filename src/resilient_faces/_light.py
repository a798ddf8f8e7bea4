"""Frozen values without generated code: `dataclass` and `field` as in the standard library, at a tenth of the time.

`dataclasses` writes and compiles six methods for each class; for the values of this library that was most of what
`import resilient_faces` took. Here all classes share the same methods, which go by the plan of the class. To type
checkers this *is* `dataclasses`. At run time `fields`, `replace`, `asdict`, `is_dataclass`, `match` statements, `copy`,
`pickle` and `inspect.signature` work as with the real one; what they need is made when they first ask.

A program that guards a thousand functions says the same options a thousand times. A frozen class that sets `__own__`
keeps and checks them once: `__own__ = ()` makes objects with the same options the same object, as long as somebody
holds it; a class that names options there keeps these in each object, and all others in a record that such objects
share. *The same* is meant strictly: equal numbers of one type, and of everything else the very object.
"""

from __future__ import annotations

import weakref
from operator import attrgetter
from typing import TYPE_CHECKING, Final

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


class Option:
    """One field, as declared."""

    __slots__ = ("compare", "default", "default_factory", "init", "kw_only", "name", "repr", "type")

    def __init__(
        self,
        name: str,
        type: str,
        default: object,
        default_factory: object,
        init: bool,
        repr: bool,
        compare: bool,
        kw_only: bool,
    ) -> None:
        self.name = name
        self.type = type
        self.default = default
        self.default_factory = default_factory
        self.init = init
        self.repr = repr
        self.compare = compare
        self.kw_only = kw_only


class Plan:
    """What the shared methods know of one class; made when they first ask.

    Attributes:
        options: All fields, inherited ones first.
    """

    __slots__ = ("compared", "defaults", "factories", "options", "own", "positional", "puts", "required")

    def __init__(self, cls: type) -> None:
        options = tuple([Option(*one) for one in cls.__options__.values()])  # type: ignore[attr-defined]
        made = [one for one in options if one.init]
        self.own: Final[tuple[str, ...]] = getattr(cls, "__own__", ())
        compared = [one.name for one in options if one.compare]
        self.options = options
        self.compared: Callable[[object], object] = attrgetter(*compared) if compared else type
        self.defaults: Final = {one.name: one.default for one in made}
        self.factories = [(one.name, one.default_factory) for one in made if one.default_factory is not MISSING]
        self.positional = tuple([one.name for one in made if not one.kw_only])
        self.puts = [getattr(cls, one.name).__set__ for one in made if not self.own or one.name in self.own]
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


def _name(self: Made, plan: Plan, args: tuple[object, ...], given: dict[str, object]) -> None:
    """Add the positional options to the named ones."""
    if len(args) > len(plan.positional):
        raise _wrong_call(self, plan, args, given)
    for name, value in zip(plan.positional, args):  # noqa: B905  # fewer is fine
        if name in given:
            raise TypeError(f"{type(self).__name__}.__init__() got multiple values for argument {name!r}")
        given[name] = value


def _complete(self: Made, plan: Plan, args: tuple[object, ...], given: dict[str, object]) -> dict[str, object]:
    """The values of all options, in their order."""
    values = plan.defaults | given
    if len(values) != len(plan.defaults) or (plan.required and not given.keys() >= plan.required):
        raise _wrong_call(self, plan, args, given)
    for name, factory in plan.factories:
        if name not in given:
            values[name] = factory()  # type: ignore[operator]
    return values


def _init(self: Made, /, *args: object, **given: object) -> None:
    plan: Plan = getattr(self, "__plan__")  # noqa: B009  # faster here: many classes share this line
    if args:
        _name(self, plan, args, given)
    values = _complete(self, plan, args, given)
    for put, value in zip(plan.puts, values.values()):  # noqa: B905  # as many as there are, see above
        put(self, value)


def _init_checked(self: Made, /, *args: object, **given: object) -> None:
    _init(self, *args, **given)
    self.__post_init__()


# -- options that are kept once --------------------------------------------------------------------------------------


class Record:
    """The options that objects made with the same ones share.

    Attributes:
        values: By name.
        memo: What the class made of them once they were found good.
    """

    __slots__ = ("__weakref__", "memo", "values")

    def __init__(self, values: dict[str, object]) -> None:
        self.values = values
        self.memo: object = None


_made: Final[weakref.WeakValueDictionary[tuple[object, ...], object]] = weakref.WeakValueDictionary()
_lasting: Final[dict[int, object]] = {}  # by identity: what holds nothing of the user's, and may be kept for the next
_MOST_LASTING: Final = 256
_BY_VALUE: Final = frozenset({int, float, str, bool, type(None)})


def _same(cls: type, given: dict[str, object], own: tuple[str, ...]) -> tuple[object, ...]:
    """What must be the same for these options to be the same: numbers and texts by type and value, all else by itself.

    An identity counts only as long as its object lives: see who calls this.
    """
    parts: list[object] = [cls]
    for name, value in given.items():
        if name not in own:
            kind = type(value)
            if kind in _BY_VALUE and value != 0.0:
                parts += (name, kind, value)
            else:  # of zeros there are two that are equal
                parts += (name, id(value) if kind is not float else repr(value))
    return tuple(parts)


def _keep(key: tuple[object, ...], made: object, given: dict[str, object]) -> None:
    """Have it found under its key: as long as somebody holds it, or for long if nothing but plain values is in it."""
    _made[key] = made
    if all(type(value) in _BY_VALUE or id(value) in _lasting for value in given.values()):
        if len(_lasting) >= _MOST_LASTING:
            _lasting.clear()
        _lasting[id(made)] = made


def _init_apart(self: Made, /, *args: object, **given: object) -> None:
    plan: Plan = getattr(self, "__plan__")  # noqa: B009  # as above
    if args:
        _name(self, plan, args, given)
    key = _same(type(self), given, plan.own)
    record = _made.get(key)
    if record is None:
        values = _complete(self, plan, args, given)
        record = Record(values)  # which holds all that the key tells apart
        _keep(key, record, {name: value for name, value in given.items() if name not in plan.own})
    for name, put in zip(plan.own, plan.puts):  # noqa: B905  # made together
        put(self, given[name] if name in given else plan.defaults[name])
    object.__setattr__(self, "_record", record)
    self.__post_init__()


def _reduce(self: Made) -> tuple[object, ...]:
    given = changed(self)
    for one in self.__plan__.options:
        if not one.compare:  # it says how to make the original, not what that is
            given.pop(one.name, None)
    return _again, (type(self), given)


def _again(cls: type, given: dict[str, object]) -> object:
    """What unpickling and copying a shared object call."""
    return cls(**given)


class _OneOfEach(type):
    """Makes objects with the same options one object. A subclass that `dataclass` did not make is as it is written."""

    def __call__(cls, /, *args: object, **given: object) -> object:
        plan: Plan = cls.__plan__  # type: ignore[attr-defined]
        named = {**dict(zip(plan.positional, args)), **given} if args else given  # noqa: B905  # fewer is fine
        if "__one__" not in cls.__dict__ or len(named) != len(args) + len(given):  # the latter is a mistake
            return super().__call__(*args, **given)
        key = _same(cls, named, ())
        found = _made.get(key)
        if found is None:
            found = super().__call__(*args, **given)
            # An option that the object keeps in another form may be gone any time, and its identity with it.
            if all(type(value) in _BY_VALUE or getattr(found, name) is value for name, value in named.items()):
                _keep(key, found, named)
        return found


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
        given = {name: getattr(one, name) for name in Option.__slots__}
        options = {name: option for name, option in given.items() if option is not MISSING}
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
            own = getattr(cls, "__own__", None)
            space.setdefault("__repr__", _repr)
            if frozen:
                space.setdefault("__getstate__", _getstate)
                space.setdefault("__setstate__", _setstate)
            space.update(_FROZEN if frozen else _LATER)
            space["__slots__"] = names
            space["__options__"] = options
            space["__init__"] = _init_checked if hasattr(cls, "__post_init__") else _init
            if own is None:
                return type(cls)(cls.__name__, cls.__bases__, space)
            space.setdefault("__reduce__", _reduce)
            if not own:
                space["__slots__"] = [*names, "__weakref__"]
                space["__one__"] = True
                return _OneOfEach(cls.__name__, cls.__bases__, space)
            shared = [name for name in names if options[name][4] and name not in own]
            space["__slots__"] = [*[name for name in names if name not in shared], "_record"]
            space["__init__"] = _init_apart
            space.update({name: property(lambda self, name=name: self._record.values[name]) for name in shared})
            return type(cls)(cls.__name__, cls.__bases__, space)

        return make
