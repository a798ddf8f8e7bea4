"""Policies put together: `guard(a, b, c)`, first named outermost, and the decorator that every policy is by itself.

A guard is planned once. Policies that decide after the fact (retry, breaker, fallback) form *segments*, which run on
the direct path as long as calls succeed. Policies that must stand around a call (timeout, deadline, bulkhead, limiter)
are *joints* between segments: `guard(a, T, b)(f)` is `guard(a)(T.around(guard(b)(f)))`. A segment has one circuit at
most, so a second circuit starts another segment.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextvars import ContextVar
from types import BuiltinFunctionType, CodeType, CoroutineType, FunctionType, MethodType, TracebackType
from typing import TYPE_CHECKING, Final, Generic, NoReturn, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from resilient_faces._core.context import RECORDER, Recorder, Report, attach, report
from resilient_faces._core.direct import GUARDED_CODES
from resilient_faces._core.effects import Policy, Target, Value
from resilient_faces._core.layers import Joint, Traits, layers, traits_of
from resilient_faces._core.options import Checks
from resilient_faces._core.outcome import name_of
from resilient_faces._core.runtime import RUNTIME
from resilient_faces._light import changed, dataclass
from resilient_faces.errors import DecorationError, OptionError, ResilienceWarning, UnknownOptionError
from resilient_faces.faults import Classification, Fault, classify

__all__ = [
    "RULES",
    "Admission",
    "AsyncGuarded",
    "Decorator",
    "Guard",
    "Guarded",
    "Joint",
    "OrderRule",
    "guard",
]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
R_co = TypeVar("R_co", covariant=True)
T_co = TypeVar("T_co", covariant=True)
S_contra = TypeVar("S_contra", contravariant=True)
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")


# -- what a guarded function looks like ----------------------------------------------------------------------------


if TYPE_CHECKING:

    class _Takes(Protocol[S_contra, P, R_co]):
        """What takes a first argument of this type; checkers find out by it whether a guarded function is bound."""

        def __call__(self, first: S_contra, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class Guarded(Protocol[P, R_co]):
    """A guarded function: called like the one inside, with two more ways to call it."""

    __name__: str
    __qualname__: str
    __wrapped__: Target

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    # A class method is bound to its owner, a method to its instance, a static method to nothing.
    @overload
    def __get__(self: _Takes[S, Q, R], instance: object, owner: S, /) -> Callable[Q, R]: ...
    @overload
    def __get__(self: _Takes[S, Q, R], instance: S, owner: type | None = None, /) -> Callable[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None, /) -> Guarded[P, R_co]: ...

    def call_with_report(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R_co, Report]:
        """The value and how the call went; an error that comes out carries its report, see `report`.

        Of a method it is asked on the class: `Store.load.call_with_report(store, 1)`.
        """

    def with_options(self, **options: object) -> Guarded[P, R_co]:
        """The same function with other options for its `Retry`, for one call or many."""


class AsyncGuarded(Protocol[P, R_co]):
    """As `Guarded`, for a coroutine function."""

    __name__: str
    __qualname__: str
    __wrapped__: Target

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Value, Value, R_co]: ...

    # A class method is bound to its owner, a method to its instance, a static method to nothing.
    @overload
    def __get__(
        self: _Takes[S, Q, Coroutine[Value, Value, R]], instance: object, owner: S, /
    ) -> Callable[Q, Coroutine[Value, Value, R]]: ...
    @overload
    def __get__(
        self: _Takes[S, Q, Coroutine[Value, Value, R]], instance: S, owner: type | None = None, /
    ) -> Callable[Q, Coroutine[Value, Value, R]]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None, /) -> AsyncGuarded[P, R_co]: ...

    def call_with_report(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Value, Value, tuple[R_co, Report]]:
        """The value and how the call went; an error that comes out carries its report, see `report`."""

    def with_options(self, **options: object) -> AsyncGuarded[P, R_co]:
        """The same function with other options for its `Retry`, for one call or many."""


# -- what policies may offer beside `flow` -------------------------------------------------------------------------


if TYPE_CHECKING:

    class Admission(Protocol):
        """A policy that lets a block of code in or not, so that it works in a `with` statement."""

        def enter(self) -> object:
            """Let in, or raise; the answer goes to `leave`."""

        async def aenter(self) -> object:
            """As `enter`, waiting without blocking the event loop."""

        def leave(self, entry: object, error: BaseException | None, fault: Fault | None) -> None:
            """The block has ended: well, with an error and what it means, or (`fault` is None) without evidence."""


# -- the decorator -------------------------------------------------------------------------------------------------


class Decorator(Generic[T_co]):
    """What a policy and a guard can do: decorate, call, be a `with` block.

    The type parameter is what else a guarded function may return: nothing for most policies, the fallback's value for
    a fallback.
    """

    __slots__ = ("_guard",)

    _guard: Guard[T_co]

    def as_guard(self) -> Guard[T_co]:
        """This policy as a guard of its own."""
        try:
            found = self._guard
        except AttributeError:
            found = Guard((self,))  # type: ignore[arg-type]
            object.__setattr__(self, "_guard", found)
        return found

    @overload
    def __call__(self, function: classmethod[S, P, R], /) -> classmethod[S, P, R | T_co]: ...
    @overload
    def __call__(self, function: staticmethod[P, R], /) -> staticmethod[P, R | T_co]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, function: Callable[P, Coroutine[Value, Value, R]], /) -> AsyncGuarded[P, R | T_co]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, function: Callable[P, R], /) -> Guarded[P, R | T_co]: ...
    def __call__(self, function: object, /) -> Value:
        """Guard a function, coroutine function, method, classmethod, staticmethod or callable object."""
        return self.as_guard().decorate(function)

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R | T_co:
        """Call a function under this policy, without decorating it."""
        target, asynchronous = _checked_target(function)
        if asynchronous:
            raise DecorationError(f"{name_of(function)} is a coroutine function. Use `await policy.acall(...)`.")
        closure = self.as_guard().closure(target, asynchronous=False)
        result: R = closure(*args, **kwargs)
        return result

    async def acall(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R | T_co:
        """Call a coroutine function under this policy, without decorating it."""
        target, _ = _checked_target(function)
        closure = self.as_guard().closure(target, asynchronous=True)
        result: R = await closure(*args, **kwargs)
        return result

    def describe(self) -> str:
        """The policies, outermost first, with the options that differ from their defaults, and how a call runs."""
        return self.as_guard().description()

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (type(self), _given(self))

    def __enter__(self) -> None:
        guarding = self.as_guard()
        entries: _Entries = []
        try:
            for policy in guarding.admissions():
                entries.append((policy, policy.enter()))  # what got in must be known if the next does not
        except BaseException as error:
            _leave(entries, error, None)
            raise
        guarding.note_block(entries)

    async def __aenter__(self) -> None:
        guarding = self.as_guard()
        entries: _Entries = []
        try:
            for policy in guarding.admissions():
                entries.append((policy, await policy.aenter()))  # as in `__enter__`
        except BaseException as error:
            _leave(entries, error, None)
            raise
        guarding.note_block(entries)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        guarding = self.as_guard()
        entries = guarding.take_block()
        fault: Fault | None = None
        try:
            if isinstance(error, Exception):
                fault = (guarding.classification or classify)(error)
        finally:
            _leave(entries, error, fault)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def _given(policy: object) -> dict[str, object]:
    """The options that a policy was made with and that are not its defaults."""
    if not hasattr(type(policy), "__dataclass_fields__"):
        raise TypeError(
            f"{type(policy).__name__} has state that cannot leave its process; pickle what makes it instead."
        )
    return changed(policy)


def _rebuilt(cls: Callable[..., object], options: dict[str, object]) -> object:
    """What unpickling a policy calls: it is made anew, so a named circuit is the one of that name here."""
    return cls(**options)


_Entries: TypeAlias = "list[tuple[Admission, object]]"


class _Block:
    """A block that is under way: who let it in, outermost first, with what each is told when it ends."""

    __slots__ = ("entries", "guard")

    def __init__(self, guarding: Guard[object], entries: _Entries) -> None:
        self.guard = guarding
        self.entries = entries


_ENTERED: Final[ContextVar[tuple[_Block, ...]]] = ContextVar("resilient_faces.entered", default=())
"""The blocks that this context is in, innermost last."""
_BLOCKS: Final[dict[_Block, None]] = {}
"""All blocks that are under way, newest last. Each step on it is one that no thread can come between."""


def _leave(entries: _Entries, error: BaseException | None, fault: Fault | None) -> None:
    if entries:
        policy, entry = entries.pop()
        try:
            policy.leave(entry, error, fault)
        finally:  # whatever the user's code in it did, the ones further out must be left too
            _leave(entries, error, fault)


class _Bound:
    """What a guarded function remembers: the function inside and the guard around it. It is its `call_with_report`."""

    __slots__ = ("guard", "target")

    def __init__(self, target: Target, guarding: Guard[object]) -> None:
        self.target = target
        self.guard = guarding

    def __call__(self, /, *args: object, **kwargs: object) -> Value:
        """The value and how the call went, or a coroutine of both."""
        closure = self.guard.decorate(self.target)
        return (_reported_async if is_async(self.target) else _reported_sync)(self.target, closure, args, kwargs)

    def with_options(self, **options: object) -> Value:
        """The same function under a guard whose `Retry` has other options."""
        return self.guard.with_options(**options).decorate(self.target)


class _WithOptions:
    """The `with_options` of a guarded function: a bound method that takes less room."""

    __slots__ = ("_bound",)

    def __init__(self, bound: _Bound) -> None:
        self._bound = bound

    def __call__(self, **options: object) -> Value:
        return self._bound.with_options(**options)


def _reported_sync(
    target: Target, closure: Target, args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[object, Report]:
    recorder = Recorder(target)
    token = RECORDER.set(recorder)
    began = RUNTIME.monotonic()
    try:
        value = closure(*args, **kwargs)
    except Exception as error:
        _report_on(error, recorder, began)
        raise
    finally:
        RECORDER.reset(token)
    return value, _report_of(recorder, began)


async def _reported_async(
    target: Target, closure: Target, args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[object, Report]:
    recorder = Recorder(target)
    token = RECORDER.set(recorder)
    began = RUNTIME.monotonic()
    try:
        value = await closure(*args, **kwargs)
    except Exception as error:
        _report_on(error, recorder, began)
        raise
    finally:
        RECORDER.reset(token)
    return value, _report_of(recorder, began)


def _report_of(recorder: Recorder, began: float) -> Report:
    outcome = "degraded" if recorder.source is not None else "first_try" if recorder.attempts == 1 else "after_retry"
    return Report(
        recorder.attempts,
        RUNTIME.monotonic() - began,
        tuple(recorder.faults),
        tuple(recorder.delays),
        outcome,
        recorder.source,
        recorder.stopped,
    )


def _report_on(error: Exception, recorder: Recorder, began: float) -> None:
    faults = recorder.faults or report(error).faults or (classify(error),)
    made = _report_of(recorder, began)
    attach(error, Report(made.attempts, made.elapsed, tuple(faults), made.delays, "failed", made.source, made.stopped))


# -- the guard -----------------------------------------------------------------------------------------------------


class Guard(Decorator[T_co]):
    """Several policies as one, first named outermost. Made by `guard(...)`.

    Attributes:
        policies: The policies, outermost first.
    """

    __slots__ = ("_outermost", "accepted", "classification", "policies")

    def __init__(
        self,
        policies: Sequence[Policy],
        classification: Classification | None = None,
        traits: tuple[Traits, ...] | None = None,
        accepted: tuple[str, ...] = (),
    ) -> None:
        self.policies = tuple(policies)
        self.accepted = accepted
        known = tuple([traits_of(policy) for policy in self.policies]) if traits is None else traits
        found = classification
        for one in known:
            if one.classifies or found is not None:
                found = _one_classification(self.policies, classification)
                break
        self.classification = found
        self._outermost = layers(self.policies, known, classify if found is None else found)

    def as_guard(self) -> Guard[T_co]:
        return self

    # An object that many tasks share is entered by many at once. Whose block ends is known by the context, as long as
    # it ends where it began; a generator may be begun in one task and ended in another, and it ends when it likes.

    def note_block(self, entries: _Entries) -> None:
        """Remember who let a block in."""
        block = _Block(self, entries)
        _BLOCKS[block] = None
        _ENTERED.set((*_ENTERED.get(), block))

    def take_block(self) -> _Entries:
        """Who let in the block that ends: the newest of this context, or else the newest of all, under this guard."""
        here = _ENTERED.get()
        for block in reversed(here):
            if block.guard is self and _BLOCKS.pop(block, block) is None:
                _ENTERED.set(tuple([one for one in here if one is not block]))
                return block.entries
        for block in reversed(list(_BLOCKS)):
            if block.guard is self and _BLOCKS.pop(block, block) is None:  # else somebody else has just ended it
                return block.entries
        raise DecorationError(f"a block under {self!r} ended that was never entered.")

    def admissions(self) -> list[Admission]:
        """The policies as admissions to a block.

        Raises:
            DecorationError: One of them must be able to run the block again, or to answer in its place.
        """
        for policy in self.policies:
            if not hasattr(policy, "enter"):
                raise DecorationError(
                    f"{type(policy).__name__} cannot guard a `with` block, which runs exactly once. "
                    "Put the block into a function and decorate that, or use call(function)."
                )
        return list(self.policies)  # type: ignore[arg-type]

    def decorate(self, function: object) -> Value:
        """The guarded form of whatever `function` is; see `Decorator.__call__`."""
        if isinstance(function, (classmethod, staticmethod)):
            return type(function)(self.decorate(function.__func__))
        bound = _bound(function)
        if bound is not None:
            # Decorated before: one wrapper over the function inside, not a wrapper over a wrapper.
            inner = bound.guard
            whole: Guard[object] = Guard(
                (*self.policies, *inner.policies),
                _agreed(self.classification, inner.classification),
                accepted=(*self.accepted, *inner.accepted),
            )
            return whole.decorate(bound.target)
        target, asynchronous = _checked_target(function)
        closure = self.closure(target, asynchronous)
        remember = _Bound(target, self)
        if not isinstance(target, _WRAPPABLE):
            return _proxy_class()(target, closure, remember)
        if not isinstance(closure, FunctionType):
            raise DecorationError(f"{type(self.policies[0]).__name__}.around must return a function; got {closure!r}.")
        _CODES[id(closure.__code__)] = closure.__code__
        marks = closure.__dict__
        marks["call_with_report"] = remember
        marks["with_options"] = _WithOptions(remember)
        return closure

    def closure(self, target: Target, asynchronous: bool) -> Target:
        """The function with all layers around it, innermost first.

        Raises:
            DecorationError: A policy must await something of its own, and the call is synchronous.
        """
        layer = self._outermost
        return target if layer is None else layer.around(target, asynchronous)

    def with_options(self, **options: object) -> Guard[T_co]:
        """This guard with other options for its `Retry`.

        Raises:
            UnknownOptionError: No policy here is a retry, or it has no such option.
        """
        from dataclasses import replace

        replaced = tuple(
            replace(policy, **options) if getattr(policy, "role", "") == "retry" else policy  # type: ignore[type-var]
            for policy in self.policies
        )
        if replaced == self.policies and not any(getattr(p, "role", "") == "retry" for p in self.policies):
            raise UnknownOptionError(
                f"with_options sets options of Retry, and this guard has none; got {', '.join(options)}. "
                "Add a retry(...) to the guard."
            )
        return Guard(replaced, self.classification, accepted=self.accepted)

    def description(self) -> str:
        lines = [f"guard of {len(self.policies)} policies, outermost first:"]
        lines += [f"  {number}. {_described(policy)}" for number, policy in enumerate(self.policies, 1)]
        lines.append("how a call runs, from outside in:")
        layer = self._outermost
        while layer is not None:
            lines.append(f"  - {layer.describe()}")
            layer = layer.within
        broken = broken_rules(self.policies)
        lines += [f"questionable: {rule.id} {rule.says}" for rule in broken]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"guard({', '.join(repr(policy) for policy in self.policies)})"

    def __reduce__(self) -> tuple[object, ...]:
        return Guard, (self.policies, self.classification, None, self.accepted)


_CODES: Final[dict[int, CodeType]] = {id(code): code for code in GUARDED_CODES}
"""Code objects of the closures that carry our record, by identity, since hashing one looks at all that is in it.
`functools.wraps` copies the record to foreign wrappers, so it counts only on a function that runs one of these."""


def _bound(function: object) -> _Bound | None:
    """What a guarded function remembers; None for any other."""
    if isinstance(function, FunctionType):
        found = function.__dict__.get("call_with_report") if id(function.__code__) in _CODES else None
        return found if isinstance(found, _Bound) else None
    ask = getattr(type(function), "_resilient_faces_bound", None)
    return None if ask is None else ask(function)


_WRAPPABLE: Final = (FunctionType, MethodType, BuiltinFunctionType)
"""What a closure stands for. Other callable objects keep their attributes and their type, under a layer of wrapt."""

_COROUTINE: Final = 0x80  # the flags of code objects, as in `inspect`
_GENERATOR: Final = 0x20
_ASYNC_GENERATOR: Final = 0x200


def _flags(function: object) -> int:
    """The flags of the code that calling this runs; 0 if it is not written in Python."""
    while isinstance(function, (MethodType, functools.partial)):
        function = function.__func__ if isinstance(function, MethodType) else function.func
    if not isinstance(function, (FunctionType, type)):
        function = getattr(type(function), "__call__", None)  # noqa: B004  # what calling the object runs
    if isinstance(function, FunctionType):
        marked = getattr(function, "_is_coroutine_mark", None) is not None  # `inspect.markcoroutinefunction`
        return function.__code__.co_flags | (_COROUTINE if marked else 0)
    return 0


def is_async(function: object) -> bool:
    """Whether calling this gives a coroutine to await."""
    flags = _flags(function)
    if flags or isinstance(function, BuiltinFunctionType):
        return bool(flags & _COROUTINE)
    import inspect

    call = getattr(type(function), "__call__", None)  # noqa: B004  # its kind is asked for, not whether it is there
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _checked_target(function: object) -> tuple[Target, bool]:
    """The function, which can be guarded, and whether calling it gives a coroutine."""
    flags = _flags(function)
    if flags & (_GENERATOR | _ASYNC_GENERATOR):
        kind = "an async generator" if flags & _ASYNC_GENERATOR else "a generator"
        raise DecorationError(
            f"{name_of(function)} is {kind}: what fails in it fails between the items, where no guard can see it, and "
            "starting it again would repeat items. Guard the function that fetches one item or page, and call that "
            "from the generator."
        )
    if flags:
        return function, bool(flags & _COROUTINE)  # type: ignore[return-value]
    if isinstance(function, property):
        raise DecorationError("a property cannot be guarded. Guard its getter: put @property above the guard.")
    if isinstance(function, type):
        raise DecorationError(
            f"{function.__qualname__} is a class: guard its methods, or a function that makes the object."
        )
    if isinstance(function, CoroutineType):
        function.close()
        raise DecorationError("got a coroutine, which can be awaited only once. Guard the coroutine function itself.")
    if not callable(function):
        raise DecorationError(f"only what can be called can be guarded; got {type(function).__name__}.")
    return function, is_async(function)


def _one_classification(policies: tuple[Policy, ...], given: Classification | None) -> Classification | None:
    """The classification of the whole guard: every policy must read the same one."""
    own = [getattr(policy, "classify", None) for policy in policies]
    found: list[Classification] = [given] if given is not None else []
    for one in own:
        if one is not None and one not in found:
            found.append(one)
    if not found:
        return None
    if len(found) > 1:
        raise _at_odds(len(found))
    return found[0] if isinstance(found[0], Classification) else Classification(found[0])


def _agreed(a: Classification | None, b: Classification | None) -> Classification | None:
    """The one classification of two guards that become one."""
    if a is not None and b is not None and a is not b:
        raise _at_odds(2)
    return b if a is None else a


def _at_odds(number: int) -> OptionError:
    return OptionError(
        "guard.classify must be one classification for all policies, so that retry, breaker and fallback agree; "
        f"got {number} different ones. Join them with first_match(a, b) and give that to guard(classify=...)."
    )


# -- callable objects ----------------------------------------------------------------------------------------------


@functools.cache
def _proxy_class() -> type:
    """The one layer of wrapt, made when first needed: an object that looks like the callable inside and is guarded."""
    import wrapt

    class GuardedObject(wrapt.ObjectProxy):  # type: ignore[type-arg]  # generic in its stubs only
        """A callable object under a guard."""

        def __init__(self, target: Target, closure: Target, bound: _Bound) -> None:
            super().__init__(target)
            self._self_closure = closure
            self._self_bound = bound

        def __call__(self, /, *args: object, **kwargs: object) -> object:
            return self._self_closure(*args, **kwargs)

        def __get__(self, instance: object, owner: type | None = None) -> Value:
            # What binds to an instance by itself, as `functools.lru_cache` and decorators that are classes do.
            binds = instance is not None and hasattr(type(self.__wrapped__), "__get__")
            return MethodType(self, instance) if binds else self

        def call_with_report(self, /, *args: object, **kwargs: object) -> Value:
            return self._self_bound(*args, **kwargs)

        def with_options(self, **options: object) -> Value:
            return self._self_bound.with_options(**options)

        def _resilient_faces_bound(self) -> _Bound:
            bound: _Bound = self._self_bound
            return bound

        def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
            return _guarded_again, (self._self_bound.guard, self.__wrapped__)

    return GuardedObject


def _guarded_again(guarding: Guard[object], target: Target) -> Value:
    """What unpickling a guarded object calls."""
    return guarding.decorate(target)


# -- orders worth a second look ------------------------------------------------------------------------------------


def _certainly(policies: Sequence[Policy]) -> bool:
    """Their traits say it all."""
    return True


@dataclass(frozen=True, slots=True)
class OrderRule:
    """One questionable order of policies.

    Attributes:
        id: Stable, for silencing and for dashboards.
        says: What happens in this order, and what to do.
        possible: Whether policies with these traits, outermost first, can break it; asked once for each row of them.
        broken: Whether these policies, which can, do.
    """

    id: str
    says: str
    possible: Callable[[Sequence[Traits]], bool]
    broken: Callable[[Sequence[Policy]], bool] = _certainly


def _inside(outer: str, traits: Sequence[Traits]) -> Sequence[Traits]:
    """What is inside the first policy of this role."""
    at = next((at for at, one in enumerate(traits) if one.role == outer), len(traits))
    return traits[at + 1 :]


def _before(outer: str, inner: str) -> Callable[[Sequence[Traits]], bool]:
    return lambda traits: any(one.role == inner for one in _inside(outer, traits))


def _retries_in_time(traits: Sequence[Traits]) -> bool:
    return {"retry", "timeout"} <= {one.role for one in traits}


def _attempts_outlast_deadline(policies: Sequence[Policy]) -> bool:
    for i, outer in enumerate(policies):
        limit = getattr(outer, "time_limit", None) or getattr(outer, "seconds", None)
        if not isinstance(limit, (int, float)) or getattr(outer, "role", "") not in ("deadline", "timeout", "retry"):
            continue
        start = i if getattr(outer, "role", "") == "retry" else i + 1
        for j in range(start, len(policies)):
            if getattr(policies[j], "role", "") != "retry":
                continue
            attempts = getattr(policies[j], "attempts", 1)
            each = [getattr(p, "seconds", None) for p in policies[j + 1 :] if getattr(p, "role", "") == "timeout"]
            if any(
                isinstance(one, (int, float)) and attempts != float("inf") and attempts * one > limit for one in each
            ):
                return True
    return False


RULES: Final = (
    OrderRule(
        "RF001",
        "a breaker outside a retry sees one failure for all attempts together and does not stop them half-way; "
        "name the retry first: guard(retry(...), circuit_breaker(...)).",
        _before("breaker", "retry"),
    ),
    OrderRule(
        "RF002",
        "a fallback inside a retry answers before the retry sees the error, so nothing is ever retried; "
        "name the fallback first.",
        lambda traits: any(one.answers for one in _inside("retry", traits)),
    ),
    OrderRule(
        "RF003",
        "attempts x timeout is longer than the deadline around them, so the last attempts never get their time; "
        "make fewer attempts, shorter timeouts or a longer deadline.",
        _retries_in_time,
        _attempts_outlast_deadline,
    ),
    OrderRule(
        "RF004",
        "a retry on every Exception repeats answers of the business, such as a declined card or a missing row; "
        "leave `on` out, or name what may pass.",
        lambda traits: any(one.everything for one in traits),
    ),
    OrderRule(
        "RF005",
        "two retries multiply: the inner one makes all its attempts for each attempt of the outer; keep one.",
        _before("retry", "retry"),
    ),
    OrderRule(
        "RF006",
        "a retry inside a bulkhead holds its place while it waits; name the retry first.",
        _before("bulkhead", "retry"),
    ),
    OrderRule(
        "RF007",
        "a limiter outside a retry paces first attempts only, and every further one goes unpaced; "
        "name the retry first.",
        _before("limiter", "retry"),
    ),
)
"""The questionable orders, as data: `guard` warns of them, and `docs/reference/rules.md` is made from them."""


_suspects: Final[dict[tuple[Traits, ...], tuple[OrderRule, ...]]] = {}
_MOST_SUSPECTS: Final = 256


def _worth_a_look(traits: tuple[Traits, ...]) -> tuple[OrderRule, ...]:
    """The rules that policies with these traits might break."""
    found = _suspects.get(traits)
    if found is None:
        if len(_suspects) >= _MOST_SUSPECTS:
            _suspects.clear()
        found = _suspects[traits] = tuple([rule for rule in RULES if rule.possible(traits)])
    return found


def broken_rules(policies: Sequence[Policy]) -> list[OrderRule]:
    """The rules that this order of policies breaks."""
    traits = tuple([traits_of(policy) for policy in policies])
    return [rule for rule in _worth_a_look(traits) if rule.broken(policies)]


def same(a: object, b: object) -> bool:
    """Whether two options are equal; False of what cannot be compared, such as an array."""
    try:
        return bool(a == b)
    except Exception:
        return False


def _described(policy: Policy) -> str:
    """The policy with the options that differ from their defaults."""
    from dataclasses import MISSING, fields

    shown: list[str] = []
    if hasattr(type(policy), "__dataclass_fields__"):
        usual = {one.name: one for one in fields(policy)}  # type: ignore[arg-type]
        for name, value in changed(policy).items():
            factory = usual[name].default_factory
            if not same(value, usual[name].default if factory is MISSING else factory()):
                shown.append(f"{name}={name_of(value) if isinstance(value, FunctionType) else repr(value)}")
    return f"{type(policy).__name__}({', '.join(shown)})"


@overload
def guard(
    *policies: Decorator[NoReturn], classify: Classification | None = ..., accept: Sequence[str] = ...
) -> Guard[NoReturn]: ...
@overload
def guard(a: Decorator[A], /, *, classify: Classification | None = ..., accept: Sequence[str] = ...) -> Guard[A]: ...
@overload
def guard(
    a: Decorator[A], b: Decorator[B], /, *, classify: Classification | None = ..., accept: Sequence[str] = ...
) -> Guard[A | B]: ...
@overload
def guard(
    a: Decorator[A],
    b: Decorator[B],
    c: Decorator[C],
    /,
    *,
    classify: Classification | None = ...,
    accept: Sequence[str] = ...,
) -> Guard[A | B | C]: ...
@overload
def guard(
    a: Decorator[A],
    b: Decorator[B],
    c: Decorator[C],
    d: Decorator[D],
    /,
    *,
    classify: Classification | None = ...,
    accept: Sequence[str] = ...,
) -> Guard[A | B | C | D]: ...
@overload
def guard(
    a: Decorator[A],
    b: Decorator[B],
    c: Decorator[C],
    d: Decorator[D],
    e: Decorator[E],
    /,
    *more: Decorator[F],
    classify: Classification | None = ...,
    accept: Sequence[str] = ...,
) -> Guard[A | B | C | D | E | F]: ...
@overload
def guard(
    *policies: Decorator[A] | Policy, classify: Classification | None = ..., accept: Sequence[str] = ...
) -> Guard[A]: ...
def guard(
    *policies: Decorator[Value] | Policy, classify: Classification | None = None, accept: Sequence[str] = ()
) -> Guard[Value]:
    """Several policies as one, first named outermost.

    Args:
        policies: Policies, and guards, whose policies are taken in their place.
        classify: The one classification that all of them read; needed only if it is not the default.
        accept: Ids of order rules to keep quiet about, such as `RF001`.

    Raises:
        OptionError: No policies, or something that is none.

    Warns:
        ResilienceWarning: The order is questionable; the message starts with the rule's id.
    """
    flat: list[Policy] = []
    whole = classify
    accepted: tuple[str, ...] = ()
    good = True
    for policy in policies:
        if isinstance(policy, Guard):
            flat.extend(policy.policies)
            whole = _agreed(whole, policy.classification)
            accepted = (*accepted, *policy.accepted)
        else:
            flat.append(policy)  # type: ignore[arg-type]
            good = good and not isinstance(policy, type)
    traits = tuple([traits_of(policy) for policy in flat])
    for one in traits:
        good = good and (one.decides or one.joint)
    if not good or not flat or accept != () or (classify is not None and not callable(classify)):
        _check_guard(policies, classify, accept)
    suspects = _worth_a_look(traits)
    if suspects:
        for rule in suspects:
            if rule.id not in accept and rule.id not in accepted and rule.broken(flat):
                warnings.warn(f"{rule.id} {rule.says}", ResilienceWarning, stacklevel=2)
    return Guard(flat, whole, traits, (*accept, *accepted))


def _check_guard(policies: Sequence[object], classify: object, accept: object) -> None:
    """Say what is wrong with what `guard` was given."""
    checks = Checks("guard")
    if not policies:
        checks.that(False, "policies", "at least one policy", (), "For example guard(retry(), circuit_breaker('db')).")
    for number, policy in enumerate(policies):
        if isinstance(policy, type) or not (
            hasattr(policy, "flow") or hasattr(policy, "around") or isinstance(policy, Guard)
        ):
            cure = "Mind the brackets." if isinstance(policy, type) or callable(policy) else ""
            checks.that(False, f"policies[{number}]", "a policy", policy, cure)
    if classify is not None:
        checks.function("classify", classify)
    known = {rule.id for rule in RULES}
    said = f"ids of rules ({', '.join(sorted(known))})"
    if checks.that(isinstance(accept, Iterable) and not isinstance(accept, str), "accept", f"a list of {said}", accept):
        for one in accept:  # type: ignore[attr-defined]  # see the line above
            checks.that(one in known, "accept", said, one)
    checks.done()
