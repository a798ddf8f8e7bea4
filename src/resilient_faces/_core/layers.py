"""From policies to layers: what goes around a function, planned once for each row of policies that are alike.

Policies that decide after the fact (retry, breaker, fallback) form *segments*, which run on the direct path as long as
calls succeed. Policies that must stand around a call (timeout, deadline, bulkhead, limiter) are *joints* between
segments: `guard(a, T, b)(f)` is `guard(a)(T.around(guard(b)(f)))`. A segment has one circuit at most, so a second
circuit starts another segment.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from resilient_faces._core.direct import close
from resilient_faces._core.effects import Policy, Target
from resilient_faces._core.outcome import mark_target, name_of
from resilient_faces._core.repeating import Segment, Shape
from resilient_faces.errors import DecorationError
from resilient_faces.faults import Classification

if TYPE_CHECKING:
    from typing import TypeGuard

    from resilient_faces._core.outcome import Gate

__all__ = ["Circuited", "Joint", "Keyed", "Layer", "Traits", "found_traits", "layers", "traits_of"]


# -- what policies may offer beside `flow` -------------------------------------------------------------------------


class Joint(Protocol):
    """A policy that stands around the call instead of deciding after it. It passes values on as they are."""

    def around(self, function: Target, asynchronous: bool) -> Target:
        """The function with this policy around it."""


if TYPE_CHECKING:

    class Heeding(Protocol):
        """A joint that wants to know what errors mean: one with a true `heeds`."""

        def around(self, function: Target, asynchronous: bool, classify: Classification) -> Target:
            """The function with this policy around it, which reads errors as the rest of the guard does."""

    class Circuited(Protocol):
        """A policy with a circuit for the direct path to read."""

        timed: bool

        def gate(self, function: Target) -> Gate:
            """The one circuit, which takes this function's name if it has none yet."""

        def keyed(self, function: Target) -> Keyed | None:
            """How circuits are chosen for this function; None if there is one for all calls."""

    class Keyed(Protocol):
        """Chooses the circuit of a call."""

        def key_of(self, args: tuple[object, ...], kwargs: dict[str, object]) -> object: ...

        def live(self, key: object) -> Gate | None:
            """The key's circuit, if it is there already."""

        def gate_of(self, key: object, args: tuple[object, ...], kwargs: dict[str, object]) -> Gate:
            """The key's circuit, made if need be."""

    class Layer(Protocol):
        """What goes around a function, and the layer within."""

        within: Layer | None

        def around(self, target: Target, asynchronous: bool) -> Target: ...
        def describe(self) -> str: ...


class Traits:
    """What planning must know of a policy. Policies that are alike have the same object.

    Attributes:
        role: What it is, for the order rules; empty for users' own.
        joint: It stands around the call.
        circuit: It has a circuit.
        answers: It may turn a rejection into an answer.
        awaits: The option of it that holds a coroutine function, which a synchronous call cannot await; or nothing.
        quiet: Calls that simply succeed may pass it by.
        looks: It looks at returned values.
        limit: Seconds of a deadline that it brings; None if it brings none.
        repeats: It is a retry that the direct path can carry: nothing of the user's runs between attempts.
        counts: It is a breaker that the direct path can count for: it needs no clock, no store, no look at results.
        settles: It answers with a value that is there already.
        everything: It repeats every `Exception`.
        classifies: It brings a classification of its own.
        decides: It has a flow.
    """

    __slots__ = (
        "answers",
        "awaits",
        "circuit",
        "classifies",
        "counts",
        "decides",
        "everything",
        "joint",
        "limit",
        "looks",
        "quiet",
        "repeats",
        "role",
        "settles",
    )

    def __init__(self, policy: object) -> None:
        steady = bool(getattr(policy, "steady", False))
        self.role: Final[str] = getattr(policy, "role", "")
        # By look-ups: `isinstance` with a protocol costs 20 us, more than all the rest of decorating.
        self.joint: Final = hasattr(policy, "around")
        self.circuit: Final = hasattr(policy, "gate")
        self.answers: Final = bool(getattr(policy, "answers", False))
        self.awaits: Final[str] = getattr(policy, "awaits", "")
        self.quiet: Final = bool(getattr(policy, "quiet", False))  # one that does not say so must know of every call
        self.looks: Final = bool(getattr(policy, "looks_at_results", False))
        self.limit: Final[float | None] = getattr(policy, "time_limit", None)
        self.repeats: Final = steady and hasattr(policy, "weighed")
        self.counts: Final = steady and hasattr(policy, "account")
        self.settles: Final = steady and hasattr(policy, "answered")
        self.classifies: Final = getattr(policy, "classify", None) is not None
        self.decides: Final = hasattr(policy, "flow")
        self.everything: Final = self.role == "retry" and getattr(policy, "on", None) in (Exception, BaseException)


_alike: Final[dict[tuple[object, ...], Traits]] = {}


def found_traits(policy: object) -> Traits:
    """The traits of a policy, by looking at it."""
    found = Traits(policy)
    return _alike.setdefault(tuple([getattr(found, name) for name in Traits.__slots__]), found)


def traits_of(policy: object) -> Traits:
    """The traits of a policy: those that it carries with it, or else what is found."""
    carried = getattr(policy, "traits", None)
    return carried if type(carried) is Traits else found_traits(policy)


# -- layers --------------------------------------------------------------------------------------------------------


class _JointLayer:
    """A policy that stands around the call."""

    __slots__ = ("classify", "policy", "within")

    def __init__(self, policy: Joint | Heeding, classify: Classification, within: Layer | None) -> None:
        self.policy = policy
        self.classify = classify
        self.within = within

    def around(self, target: Target, asynchronous: bool) -> Target:
        inner = target if self.within is None else self.within.around(target, asynchronous)
        if getattr(self.policy, "heeds", False):
            return self.policy.around(inner, asynchronous, self.classify)  # type: ignore[call-arg]  # of both kinds
        return self.policy.around(inner, asynchronous)  # type: ignore[call-arg]

    def describe(self) -> str:
        return f"around the call: {type(self.policy).__name__}"


class _DeadlineLayer:
    """The deadline that a retry with `max_elapsed` brings."""

    __slots__ = ("seconds", "within")

    def __init__(self, seconds: float, within: Layer | None) -> None:
        self.seconds = seconds
        self.within = within

    def around(self, target: Target, asynchronous: bool) -> Target:
        from resilient_faces._core.deadline import under_deadline  # few guards have one

        inner = target if self.within is None else self.within.around(target, asynchronous)
        return under_deadline(inner, self.seconds, asynchronous)

    def describe(self) -> str:
        return f"around the call: a deadline of {self.seconds:g} s"


class _SegmentLayer(Segment):
    """Policies that share a chain of flows and one circuit at most."""

    __slots__ = ("within",)

    def __init__(
        self,
        policies: tuple[Policy, ...],
        classify: Classification,
        examine: Callable[[object], bool] | None,
        shape: Shape,
        within: Layer | None,
    ) -> None:
        super().__init__(policies, classify, examine, shape)
        self.within = within

    def around(self, target: Target, asynchronous: bool) -> Target:
        if self.shape.awaits and not asynchronous:
            raise self._never_awaited(target)
        function = target
        if self.within is not None:
            function = self.within.around(target, asynchronous)
            mark_target(function, target)
        if self.shape.circuit is None:
            return close(function, self, None, False, asynchronous)
        policy = self.policies[self.shape.circuit]
        assert _has_circuit(policy)
        keyed = policy.keyed(target)
        if keyed is None:
            return close(function, self, policy.gate(target), policy.timed, asynchronous)
        return _by_key(function, self, keyed, policy.timed, asynchronous)

    def _never_awaited(self, target: Target) -> DecorationError:
        policy = next(one for one in self.policies if traits_of(one).awaits)
        return DecorationError(
            f"{type(policy).__name__}.{traits_of(policy).awaits} is a coroutine function, and {name_of(target)} is "
            "none: a synchronous call cannot await it. Give a plain function, or guard a coroutine function."
        )

    def describe(self) -> str:
        names = ", ".join(type(policy).__name__ for policy in self.policies)
        loud = [type(policy).__name__ for policy in self.policies if not traits_of(policy).quiet]
        how = "on the direct path"
        if loud:
            how = f"as a flow, because {', '.join(loud)} must know of every call"
        elif not self.shape.quiet:
            how = "as a flow, so that answers of policies further in are known as such further out"
        return f"{names}: {how}"


def _has_circuit(policy: object) -> TypeGuard[Circuited]:
    return hasattr(policy, "gate")


def _examiner(looking: list[Callable[[object], bool]]) -> Callable[[object], bool] | None:
    """True for a returned value that some policy takes for a fault, or chokes on; None if nobody looks."""
    if not looking:
        return None
    first, others = looking[0], looking[1:]

    def examine(value: object) -> bool:
        try:
            return first(value) or any(look(value) for look in others)
        except Exception:  # the flow asks again, where its error meets the right policies
            return True

    return examine


_FEW_KEYS: Final = 2


def _by_key(function: Target, segment: Segment, keyed: Keyed, timed: bool, asynchronous: bool) -> Target:
    """Chooses the circuit of each call and goes on with the closure for that circuit."""
    variants: dict[object, tuple[Gate, Target]] = {}
    tidy = _FEW_KEYS  # when there are as many as this, those whose circuits are gone go too

    def renew(key: object, args: tuple[object, ...], kwargs: dict[str, object]) -> Target:
        nonlocal tidy
        gate = keyed.gate_of(key, args, kwargs)
        variant = close(function, segment, gate, timed, asynchronous)
        variants[key] = (gate, variant)
        if len(variants) >= tidy:
            for old, (known, _) in variants.copy().items():  # other threads go on adding to the original
                if keyed.live(old) is not known:
                    variants.pop(old, None)
            tidy = max(_FEW_KEYS, 2 * len(variants))  # so that a new key costs the same however many there are
        return variant

    def variant_of(args: tuple[object, ...], kwargs: dict[str, object]) -> Target:
        key = keyed.key_of(args, kwargs)
        found = variants.get(key)
        return found[1] if found is not None and keyed.live(key) is found[0] else renew(key, args, kwargs)

    if asynchronous:

        @functools.wraps(function)
        async def guarded_async(*args: object, **kwargs: object) -> object:
            return await variant_of(args, kwargs)(*args, **kwargs)

        return guarded_async

    @functools.wraps(function)
    def guarded(*args: object, **kwargs: object) -> object:
        return variant_of(args, kwargs)(*args, **kwargs)

    return guarded


# -- planning ------------------------------------------------------------------------------------------------------


class _JointStep:
    """A joint, by its place among the policies."""

    __slots__ = ("at",)

    def __init__(self, at: int) -> None:
        self.at = at


class _DeadlineStep:
    """A deadline that a policy brings."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class _SegmentStep:
    """Policies next to each other, from `start` on and before `stop`; those of them that look at values."""

    __slots__ = ("looking", "shape", "start", "stop")

    def __init__(self, start: int, stop: int, shape: Shape, looking: tuple[int, ...]) -> None:
        self.start = start
        self.stop = stop
        self.shape = shape
        self.looking = looking


_Step: TypeAlias = "_JointStep | _DeadlineStep | _SegmentStep"
_plans: Final[dict[tuple[Traits, ...], tuple[_Step, ...]]] = {}
_MOST_PLANS: Final = 256


def layers(policies: tuple[Policy, ...], traits: tuple[Traits, ...], classify: Classification) -> Layer | None:
    """The layers of a guard; the answer is the outermost one."""
    plan = _plans.get(traits)
    if plan is None:
        if len(_plans) >= _MOST_PLANS:  # deadlines of many lengths make plans of their own
            _plans.clear()
        plan = _plans[traits] = _plan(traits)
    layer: Layer | None = None
    for step in plan:
        if type(step) is _SegmentStep:
            mine = policies if step.stop - step.start == len(policies) else policies[step.start : step.stop]
            examine = _examiner([policies[at].examine for at in step.looking]) if step.looking else None  # type: ignore[attr-defined]
            layer = _SegmentLayer(mine, classify, examine, step.shape, layer)
        elif type(step) is _JointStep:
            layer = _JointLayer(policies[step.at], classify, layer)  # type: ignore[arg-type]
        else:
            layer = _DeadlineLayer(step.seconds, layer)  # type: ignore[union-attr]
    return layer


def _plan(traits: Sequence[Traits]) -> tuple[_Step, ...]:
    """The steps to the layers of policies with these traits, innermost first."""
    steps: list[_Step] = []
    stop = len(traits)  # where the segment that is being gathered ends

    def cut(start: int) -> None:
        if start < stop:
            steps.append(_segment(traits, start, stop))

    for at in reversed(range(len(traits))):
        one = traits[at]
        if one.joint:
            cut(at + 1)
            steps.append(_JointStep(at))
            stop = at
            continue
        if one.circuit and any(inner.circuit for inner in traits[at + 1 : stop]):
            cut(at + 1)
            stop = at + 1
        if one.limit is not None:
            cut(at)
            steps.append(_DeadlineStep(one.limit))
            stop = at
    cut(0)
    return tuple(steps)


def _segment(traits: Sequence[Traits], start: int, stop: int) -> _SegmentStep:
    mine = traits[start:stop]
    circuit = next((at for at, one in enumerate(mine) if one.circuit), None)
    looking = tuple([start + at for at, one in enumerate(mine) if one.looks])
    # What passes a joint is a plain value, so an answer of a policy's is passed marked where others must know.
    reads = any(one.answers for one in traits[stop:])
    marks = any(one.decides for one in traits[:start]) and (reads or any(one.answers for one in mine))
    quiet = all(one.quiet for one in mine) and not reads and not marks
    shape = Shape(
        answered=any(one.answers for one in mine[:circuit]),
        quiet=quiet,
        circuit=circuit,
        reads=reads,
        marks=marks,
        awaits=any(one.awaits for one in mine),
    )
    if quiet and not looking:  # perhaps a retry, or a retry and a breaker, at the end: the direct path repeats for them
        counts = mine[-1].counts
        at = len(mine) - (2 if counts else 1)
        # A circuit further out wants the one outcome of all attempts, and the time they took: a flow gives it both.
        if at >= 0 and mine[at].repeats and (counts or circuit is None):
            shape.repeat(counts=counts, beyond=at > 0, settles=at == 1 and mine[0].settles)
    return _SegmentStep(start, stop, shape, looking)
