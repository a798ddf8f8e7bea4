"""Who meets whom in a row: for each key of the table, what is sampled and how."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from bench import footprint, ours, sampling, workloads
from bench.behaviour import MisbehavedError, check, runner, until_open
from bench.peers import PEERS, Makers
from bench.sampling import Sample, Subject
from bench.workloads import Down, Function, Refused

OURS: Final = "ours"
NOTHING: Final = "do-nothing wrapt"


@dataclass(slots=True)
class Contest:
    """The subjects of one timed row.

    Attributes:
        sample: How a sample is taken.
        baseline: What the ratios refer to.
        ours: Ours.
        others: Peers, by name.
        plain: For rows that ask what something adds: ours without it.
        fixed: Calls a sample; 0 chooses by a time budget.
        share: The share of the usual rounds that this row needs; its samples are long.
        peer_rounds: Samples of each peer.
    """

    sample: Sample
    baseline: Subject
    ours: Subject
    others: dict[str, Subject] = field(default_factory=dict)
    plain: Subject | None = None
    fixed: int = 0
    share: float = 1.0
    peer_rounds: int = 7


@dataclass(slots=True)
class Count:
    """The figures of one counted row: ours, and peers by name."""

    ours: float
    others: dict[str, float] = field(default_factory=dict)


class Absent(Exception):
    """Nobody of this name has the feature."""


class Hall:
    """Everybody who takes part, with their decorators checked before they are handed out."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, peers: bool) -> None:
        self.loop = loop
        self.run = runner(loop)
        self.makers: dict[str, Makers] = {OURS: ours.makers()}
        self.absent: dict[str, str] = {}
        self.faults: dict[str, dict[str, str]] = {}
        self.counted: dict[tuple[str, ...], footprint.Footprint] = {}
        self._checked: set[tuple[str, str]] = set()
        for peer in PEERS if peers else ():
            try:
                self.makers[peer.name] = peer.makers()
            except ImportError as error:
                self.absent[peer.name] = str(error)
            except Exception as error:
                self.faults[peer.name] = {"import": f"{type(error).__name__}: {error}"}

    def patience(self, name: str) -> float:
        """Seconds that their circuit may take to open."""
        return next((peer.patience for peer in PEERS if peer.name == name), 0.0)

    def count(self, key: tuple[str, ...], measure: Callable[[], footprint.Footprint]) -> footprint.Footprint:
        """Measure once; the rows for bytes and for objects read the same footprint."""
        if key not in self.counted:
            self.counted[key] = measure()
        return self.counted[key]

    @property
    def names(self) -> list[str]:
        """The peers that could be imported."""
        return [name for name in self.makers if name != OURS]

    def decorator(self, name: str, feature: str) -> Callable[[Any], Any]:
        """A checked decorator with a state of its own; an async one must be applied inside the loop.

        Raises:
            Absent: They have no such feature, or it failed its check.
        """
        maker = self.makers[name].get(feature)
        if maker is None or feature in self.faults.get(name, {}):
            raise Absent
        asynchronous = feature.endswith("-async")
        if (name, feature) not in self._checked:
            self._checked.add((name, feature))
            try:
                kind = "wrapper" if name == NOTHING else feature
                check(
                    kind,
                    lambda function: maker()(function),  # noqa: PLW0108  a circuit of its own for each function
                    asynchronous=asynchronous,
                    loop=self.loop,
                    patience=self.patience(name),
                )
            except Exception as error:
                if name == OURS:
                    raise
                reason = str(error) if isinstance(error, MisbehavedError) else f"{type(error).__name__}: {error}"
                self.faults.setdefault(name, {})[feature] = reason
                raise Absent from None
        if asynchronous:
            return lambda function: self.run_sync_in_loop(lambda: maker()(function))
        return lambda function: maker()(function)  # noqa: PLW0108

    def run_sync_in_loop(self, make: Callable[[], Any]) -> Any:
        """Build something inside the running loop, without awaiting it."""
        box: list[Any] = []

        async def inside() -> None:
            box.append(make())

        if self.loop.is_running():
            return make()
        self.loop.run_until_complete(inside())
        return box[0]

    def guarded(self, name: str, features: tuple[str, ...], function: Function) -> Any:
        """The function, guarded by the first of the features that they have."""
        for feature in features:
            try:
                return self.decorator(name, feature)(function)
            except Absent:
                continue
        raise Absent

    def others(
        self, features: tuple[str, ...], make: Callable[[], Function], *, wrapt: bool = False
    ) -> dict[str, Subject]:
        """Subjects of all peers that have one of the features; `wrapt`: the decorator that does nothing as well."""
        subjects: dict[str, Subject] = {}
        for name in self.names:
            if name == NOTHING and not wrapt:
                continue
            try:
                target = self.guarded(name, features, make())
            except Absent:
                continue
            except Exception as error:
                self.faults.setdefault(name, {})[features[0]] = f"{type(error).__name__}: {error}"
                continue
            subjects[name] = Subject(target)
        return subjects


Scenario = Callable[[Hall], Contest | Count]


def _features(*features: str, asynchronous: bool) -> tuple[str, ...]:
    return tuple(f"{feature}-async" for feature in features) if asynchronous else features


def _success(*features: str, asynchronous: bool = False) -> Scenario:
    """Ours by the first feature; peers by the first that they have."""

    def scenario(hall: Hall) -> Contest:
        wanted = _features(*features, asynchronous=asynchronous)
        make = workloads.work_async if asynchronous else workloads.work
        wrap = workloads.wrapper_async if asynchronous else workloads.wrapper
        return Contest(
            sample=sampling.awaits if asynchronous else sampling.calls,
            baseline=Subject(wrap(make())),
            ours=Subject(hall.guarded(OURS, wanted[:1], make())),
            others=hall.others(wanted, make, wrapt=True),
        )

    return scenario


def _timeout(hall: Hall) -> Contest:
    make = workloads.work_async
    wanted = ("stack-timeout-async",)
    return Contest(
        sample=sampling.awaits,
        baseline=Subject(workloads.hand_timeout(30.0)(make())),
        ours=Subject(hall.guarded(OURS, wanted, make())),
        others=hall.others(wanted, make),
    )


def _added(feature: str, plain: str, *, asynchronous: bool) -> Scenario:
    def scenario(hall: Hall) -> Contest:
        contest = _success(feature, asynchronous=asynchronous)(hall)
        assert isinstance(contest, Contest)
        make = workloads.work_async if asynchronous else workloads.work
        wanted = _features(plain, asynchronous=asynchronous)
        contest.plain = Subject(hall.guarded(OURS, wanted, make()))
        contest.others = {}
        return contest

    return scenario


def _listener(*, asynchronous: bool) -> Scenario:
    def scenario(hall: Hall) -> Contest:
        contest = _added("stack", "stack", asynchronous=asynchronous)(hall)
        assert isinstance(contest, Contest)
        stops: list[Any] = []
        contest.ours.enter = lambda: stops.append(ours.listen())
        contest.ours.leave = lambda: stops.pop()()  # noqa: PLW0108
        return contest

    return scenario


def _two_failures(*features: str, asynchronous: bool = False) -> Scenario:
    def scenario(hall: Hall) -> Contest:
        wanted = _features(*features, asynchronous=asynchronous)
        make = workloads.flaky_async if asynchronous else workloads.flaky
        loop = workloads.minimal_loop_async if asynchronous else workloads.minimal_loop
        return Contest(
            sample=sampling.awaits if asynchronous else sampling.calls,
            baseline=Subject(loop(make())),
            ours=Subject(hall.guarded(OURS, wanted[:1], make())),
            others=hall.others(wanted, make),
        )

    return scenario


def _zero_delay(hall: Hall) -> Contest:
    """Ours with the real sleeps against ours with sleeps that do nothing; peers with the real ones."""
    import time

    from bench.quiet import REAL_SLEEP, no_sleep
    from resilient_faces._core.runtime import RUNTIME, Runtime

    real = Runtime().sleep

    def awake() -> None:
        RUNTIME.sleep = real
        setattr(time, "sleep", REAL_SLEEP)  # noqa: B010

    def asleep() -> None:
        RUNTIME.sleep = no_sleep
        setattr(time, "sleep", no_sleep)  # noqa: B010

    make = workloads.flaky
    others = hall.others(("retry",), make)
    # opnieuw has no zero delay; the others that bound the sleep when they were imported would not feel the real one.
    others = {name: subject for name, subject in others.items() if name in ("backoff", "tenacity", "pyresilience")}
    for subject in others.values():
        subject.enter, subject.leave = awake, asleep
    return Contest(
        sample=sampling.timed_calls,
        baseline=Subject(hall.guarded(OURS, ("retry-zero",), make())),
        ours=Subject(hall.guarded(OURS, ("retry-zero",), make()), enter=awake, leave=asleep),
        others=others,
    )


def _not_retryable(feature: str, peers: str, *, asynchronous: bool = False) -> Scenario:
    def scenario(hall: Hall) -> Contest:
        fail = workloads.failing_async if asynchronous else workloads.failing
        make = functools.partial(fail, Refused)
        return Contest(
            sample=sampling.raising_awaits if asynchronous else sampling.raising_calls,
            baseline=Subject(make()),
            ours=Subject(hall.guarded(OURS, _features(feature, asynchronous=asynchronous), make())),
            others=hall.others(_features(peers, asynchronous=asynchronous), make),
        )

    return scenario


def _opened(hall: Hall, name: str, features: tuple[str, ...], *, asynchronous: bool) -> Any:
    """A guarded function whose circuit is open."""
    calls = 0

    def load(x: int) -> int:
        nonlocal calls
        calls += 1
        raise Down("down")

    async def load_async(x: int) -> int:
        return load(x)

    guarded = hall.guarded(name, features, load_async if asynchronous else load)
    call = (lambda: hall.run(lambda: guarded(1))) if asynchronous else (lambda: guarded(1))
    if not until_open(call, lambda: calls, hall.patience(name)):
        raise MisbehavedError("the circuit did not open")
    return guarded


def _open(feature: str, *, asynchronous: bool = False) -> Scenario:
    def scenario(hall: Hall) -> Contest:
        wanted = _features(feature, asynchronous=asynchronous)
        fail = workloads.failing_async if asynchronous else workloads.failing
        others: dict[str, Subject] = {}
        for name in hall.names:
            if name == NOTHING:
                continue
            try:
                others[name] = Subject(_opened(hall, name, wanted, asynchronous=asynchronous))
            except Absent:
                continue
            except Exception as error:
                hall.faults.setdefault(name, {})[f"open {wanted[0]}"] = str(error)
        return Contest(
            sample=sampling.raising_awaits if asynchronous else sampling.raising_calls,
            baseline=Subject(fail(Down)),
            ours=Subject(_opened(hall, OURS, wanted, asynchronous=asynchronous)),
            others=others,
        )

    return scenario


def _threads(hall: Hall) -> Contest:
    contest = _success("breaker")(hall)
    assert isinstance(contest, Contest)
    contest.sample = sampling.threaded_calls
    contest.fixed = 3_000
    contest.share = 0.4
    contest.peer_rounds = 3
    return contest


def _threads_io(hall: Hall) -> Contest:
    make = workloads.blocking
    return Contest(
        sample=sampling.threaded_calls,
        baseline=Subject(make()),
        ours=Subject(hall.guarded(OURS, ("breaker",), make())),
        others={
            name: subject
            for name, subject in hall.others(("breaker",), make).items()
            if name in ("circuitbreaker", "pybreaker", "pyresilience", "interlock-cb")
        },
        fixed=8,
        share=0.4,
        peer_rounds=3,
    )


def _tasks(hall: Hall) -> Contest:
    make = workloads.yielding_async
    wanted = ("retry+breaker-async",)
    return Contest(
        sample=sampling.tasks,
        baseline=Subject(workloads.wrapper_async(make())),
        ours=Subject(hall.guarded(OURS, wanted, make())),
        others={
            name: subject
            for name, subject in hall.others(wanted, make).items()
            if name in ("pyfailsafe", "hyx", "pyresilience", "opnieuw + circuitbreaker", "tenacity + circuitbreaker")
        },
        fixed=10_000,
        share=0.25,
        peer_rounds=3,
    )


def _tasks_bytes(hall: Hall) -> Count:
    """Bytes over the wrapper's; the peers' likewise."""
    wanted = "retry+breaker-async"
    wrapper = footprint.of_tasks(workloads.wrapper_async, hall.loop)
    count = Count(float(footprint.of_tasks(hall.decorator(OURS, wanted), hall.loop) - wrapper))
    for name in hall.names:
        try:
            count.others[name] = float(footprint.of_tasks(hall.decorator(name, wanted), hall.loop) - wrapper)
        except Absent:
            continue
    return count


class Holder:
    """Something with a `load`, for samples that look it up."""

    def __init__(self, load: Any) -> None:
        self.load = load


def _method(hall: Hall) -> Contest:
    def holder(decorate: Callable[[Any], Any]) -> Any:
        def load(self: Any, x: int) -> int:
            return x

        return type("Client", (), {"load": decorate(load)})()

    return _held(hall, holder, workloads.wrapper, NOTHING)


def _classmethod(hall: Hall) -> Contest:
    def holder(decorate: Callable[[Any], Any]) -> Any:
        def load(cls: Any, x: int) -> int:
            return x

        return type("Client", (), {"load": classmethod(decorate(load))})

    return _held(hall, holder, workloads.wrapper, NOTHING)


def _held(hall: Hall, holder: Callable[[Any], Any], baseline: Any, other: str = "") -> Contest:
    mine = holder(hall.decorator(OURS, "stack"))
    if mine.load(41) != 41:
        raise MisbehavedError("the guarded attribute does not answer")
    others: dict[str, Subject] = {}
    if other in hall.makers:
        try:
            others[other] = Subject(holder(hall.decorator(other, "retry")))
        except Absent:
            pass
    return Contest(sample=sampling.method_calls, baseline=Subject(holder(baseline)), ours=Subject(mine), others=others)


def _wrapt(kind: str) -> Scenario:
    def holder(decorate: Callable[[Any], Any]) -> Any:
        def on_class(cls: Any, x: int) -> int:
            return x

        def plain(x: int) -> int:
            return x

        class Callable_:
            def __call__(self, x: int) -> int:
                return x

        if kind == "classmethod":
            return type("Client", (), {"load": decorate(classmethod(on_class))})
        if kind == "staticmethod":
            return type("Client", (), {"load": decorate(staticmethod(plain))})
        if kind == "object":
            return Holder(decorate(Callable_()))
        if kind == "partial":
            return Holder(decorate(functools.partial(plain)))
        return Holder(decorate(abs))

    return lambda hall: _held(hall, holder, workloads.wrapt_wrapper)


_FOOTPRINT_FEATURES: Final = ("stack", "stack-async", "retry", "retry-async", "breaker", "breaker-async")


def _functions(*, asynchronous: bool) -> list[Function]:
    return [workloads.work_async() if asynchronous else workloads.work() for _ in range(footprint.COUNT)]


def _memory(*, objects: bool) -> Scenario:
    def scenario(hall: Hall) -> Count:
        def measure(name: str, feature: str) -> float:
            functions = _functions(asynchronous=feature.endswith("-async"))
            decorate = hall.decorator(name, feature)

            def all_of_them() -> footprint.Footprint:
                # Inside the loop as a whole, so that the loop's own objects are not counted.
                return cast(
                    footprint.Footprint, hall.run_sync_in_loop(lambda: footprint.of_decorated(decorate, functions))
                )

            taken = hall.count(("memory", name, feature), all_of_them)
            return float(taken.objects if objects else taken.bytes)

        count = Count(measure(OURS, "stack"))
        for name in hall.names:
            for feature in ("stack", "stack-async"):
                try:
                    count.others[name] = measure(name, feature)
                    break
                except Absent:
                    continue
        return count

    return scenario


def _shared(*, objects: bool) -> Scenario:
    def scenario(hall: Hall) -> Count:
        hall.decorator(OURS, "stack")
        shared = ours.stack()
        taken = hall.count(("shared",), lambda: footprint.of_decorated(shared, _functions(asynchronous=False)))
        return Count(float(taken.objects if objects else taken.bytes))

    return scenario


def _left(*, objects: bool) -> Scenario:
    def scenario(hall: Hall) -> Count:
        def measure(name: str, feature: str) -> float:
            decorate = hall.decorator(name, feature)
            make = workloads.work_async if feature.endswith("-async") else workloads.work

            def all_of_them() -> footprint.Footprint:
                return cast(footprint.Footprint, hall.run_sync_in_loop(lambda: footprint.left_behind(decorate, make)))

            taken = hall.count(("left", name, feature), all_of_them)
            return float(taken.objects if objects else taken.bytes)

        count = Count(measure(OURS, "stack"))
        for name in hall.names:
            for feature in _FOOTPRINT_FEATURES:
                try:
                    count.others[name] = measure(name, feature)
                    break
                except Absent:
                    continue
        return count

    return scenario


def _decorate(hall: Hall) -> Contest:
    functions = _functions(asynchronous=False)
    functions_async = _functions(asynchronous=True)
    size = len(functions)

    def anew(maker: Callable[[], Callable[[Any], Any]], pool: list[Function]) -> Subject:
        return Subject(lambda index: maker()(pool[index % size]))

    def subject(name: str) -> Subject:
        for feature in ("stack", "stack-async"):
            try:
                hall.decorator(name, feature)  # checks it
            except Absent:
                continue
            return anew(hall.makers[name][feature], functions_async if feature.endswith("-async") else functions)
        raise Absent

    others: dict[str, Subject] = {}
    for name in hall.names:
        try:
            others[name] = subject(name)
        except Absent:
            continue
    return Contest(
        sample=sampling.decorations,
        baseline=Subject(lambda index: workloads.wrapper(functions[index % size])),
        ours=subject(OURS),
        others=others,
        fixed=100,
    )


def _decorate_shared(hall: Hall) -> Contest:
    functions = _functions(asynchronous=False)
    size = len(functions)
    hall.decorator(OURS, "stack")
    shared = ours.stack()
    return Contest(
        sample=sampling.decorations,
        baseline=Subject(lambda index: workloads.wrapper(functions[index % size])),
        ours=Subject(lambda index: shared(functions[index % size])),
        fixed=100,
    )


# path -> (feature, workload by colour); `open` and `fallback` begin with an open circuit.
_PATHS: Final[Mapping[str, tuple[str, Callable[[], Function] | None, Callable[[], Function] | None]]] = {
    "success": ("stack", workloads.work, workloads.work_async),
    "retry": ("stack", workloads.flaky, workloads.flaky_async),
    "exhausted": ("retry", workloads.failing, workloads.failing_async),
    "not-retryable": (
        "retry",
        functools.partial(workloads.failing, Refused),
        functools.partial(workloads.failing_async, Refused),
    ),
    "open": ("breaker", None, None),
    "fallback": ("stack", None, None),
}


def _garbage(path: str, *, asynchronous: bool, objects: bool) -> Scenario:
    feature, make_sync, make_async = _PATHS[path]
    make = make_async if asynchronous else make_sync

    def scenario(hall: Hall) -> Count:
        def measure(name: str, features: tuple[str, ...]) -> float:
            def all_of_them() -> footprint.Footprint:
                wanted = _features(*features, asynchronous=asynchronous)
                if make is None:
                    guarded = _opened(hall, name, wanted, asynchronous=asynchronous)
                else:
                    guarded = hall.guarded(name, wanted, make())
                return footprint.of_calls(guarded, loop=hall.loop if asynchronous else None)

            taken = hall.count(("calls", path, str(asynchronous), name), all_of_them)
            return float(taken.objects if objects else taken.bytes)

        count = Count(measure(OURS, (feature,)))
        # A peer without the stack is shown with what it has.
        instead = {"success": ("stack", "retry", "breaker"), "retry": ("stack", "retry")}.get(path, (feature,))
        for name in hall.names:
            if name == NOTHING:
                continue
            try:
                count.others[name] = measure(name, instead)
            except (Absent, MisbehavedError):
                continue
        return count

    return scenario


def _scenarios() -> dict[str, Scenario]:
    found: dict[str, Scenario] = {
        "stack-decorators-sync": _success("stack-decorators"),
        "stack-timeout-async": _timeout,
        "zero-delay": _zero_delay,
        "threads": _threads,
        "threads-io": _threads_io,
        "tasks": _tasks,
        "tasks-bytes": _tasks_bytes,
        "method": _method,
        "classmethod": _classmethod,
        "memory-stack": _memory(objects=False),
        "memory-stack-objects": _memory(objects=True),
        "memory-shared": _shared(objects=False),
        "memory-shared-objects": _shared(objects=True),
        "memory-left": _left(objects=False),
        "memory-left-objects": _left(objects=True),
        "decorate": _decorate,
        "decorate-shared": _decorate_shared,
    }
    for kind in ("classmethod", "staticmethod", "object", "partial", "builtin"):
        found[f"wrapt-{kind}"] = _wrapt(kind)
    for colour in ("sync", "async"):
        a = colour == "async"
        found |= {
            f"retry-{colour}": _success("retry", asynchronous=a),
            f"breaker-consecutive-{colour}": _success("breaker", asynchronous=a),
            f"breaker-count-{colour}": _success("breaker-count", "breaker", asynchronous=a),
            f"breaker-time-{colour}": _success("breaker-time", "breaker", asynchronous=a),
            f"breaker-slow-{colour}": _success("breaker-slow", "breaker", asynchronous=a),
            f"stack-{colour}": _success("stack", asynchronous=a),
            f"two-circuits-{colour}": _success("stack-two", asynchronous=a),
            f"limiter-{colour}": _success("stack-limiter", asynchronous=a),
            f"bulkhead-{colour}": _added("stack-bulkhead", "stack", asynchronous=a),
            f"listener-{colour}": _listener(asynchronous=a),
            f"two-failures-{colour}": _two_failures("retry", asynchronous=a),
            f"two-tenacity-{colour}": _two_failures("retry-tenacity", "retry", asynchronous=a),
            f"two-stack-{colour}": _two_failures("stack", asynchronous=a),
            f"not-retryable-{colour}": _not_retryable("retry", "retry", asynchronous=a),
            f"not-retryable-stack-{colour}": _not_retryable("stack", "retry+breaker", asynchronous=a),
            f"open-{colour}": _open("breaker", asynchronous=a),
            f"open-retry-{colour}": _open("retry+breaker", asynchronous=a),
            f"open-answered-{colour}": _open("stack", asynchronous=a),
        }
        for path in _PATHS:
            found[f"garbage-{path}-{colour}"] = _garbage(path, asynchronous=a, objects=True)
            found[f"held-{path}-{colour}"] = _garbage(path, asynchronous=a, objects=False)
    return found


SCENARIOS: Final[Mapping[str, Scenario]] = _scenarios()
