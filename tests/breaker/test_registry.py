"""Circuits by name, key and instance: shared, told apart, bounded, and let go."""

from __future__ import annotations

import functools
import gc
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilient_faces import Breaker, CircuitOpenError, DuplicateNameError, circuit_breaker, circuits
from resilient_faces.breaker import Circuit, State, consecutive, failure_rate
from resilient_faces.testing import ManualRuntime, Mode, script


def boom(*_: object) -> None:
    raise ConnectionResetError


def fail(function: Callable[..., object], *args: object, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionResetError):
            function(*args)


# -- names ---------------------------------------------------------------------------------------------------------


def test_the_same_name_is_the_same_circuit(mode: Mode, clock: ManualRuntime) -> None:
    """Two functions, two modules: one dependency, one circuit."""
    one, other = Breaker("db", trips=consecutive(2)), Breaker("db", trips=consecutive(2))
    assert one.circuit is other.circuit is circuits["db"]
    for breaker in (one, other):
        with pytest.raises(ConnectionResetError):
            mode.run(breaker, script(ConnectionResetError()))
    assert circuits["db"].state is State.open


def test_other_options_are_an_error_that_names_both_places(resilience: None) -> None:
    """Two modules that disagree about a circuit find out at import, with both lines."""
    kept = Breaker("db")
    with pytest.raises(DuplicateNameError) as caught:
        Breaker("db", recovery_timeout=6.0)
    message = str(caught.value)
    assert message.startswith("circuit 'db' exists with other options: first given in ")
    lines = [int(part.split(":")[1].split(".")[0].split(",")[0]) for part in message.split(__file__)[1:]]
    assert len(lines) == 2
    assert lines[1] - lines[0] == 2  # the two lines above
    assert message.endswith("Use the same options in both places, another name, or replace=True to start afresh.")
    assert circuits["db"] is kept.circuit


@pytest.mark.parametrize(
    "options",
    [
        {"trips": consecutive(4)},
        {"growth": 3.0},
        {"probes": 2},
        {"failures": KeyError},
        {"ignore": KeyError},
        {"key": str},
        {"max_keys": 10},
        {"initial": "metrics_only"},
        {"on_result": bool},
    ],
)
def test_every_option_is_compared(resilience: None, options: dict[str, Any]) -> None:
    """A difference anywhere is a difference."""
    kept = Breaker("db")
    with pytest.raises(DuplicateNameError):
        Breaker("db", **options)
    assert kept == Breaker("db")


def test_the_preset_and_the_policy_share_names(resilience: None) -> None:
    """One name space, whichever way a breaker is made."""
    kept = circuit_breaker("db", failure_threshold=3)
    assert circuit_breaker("db", failure_threshold=3).circuit is kept.circuit
    with pytest.raises(DuplicateNameError):
        Breaker("db")


def test_replace_starts_afresh(clock: ManualRuntime) -> None:
    """The name means the new one; functions decorated before keep theirs."""
    old = Breaker("db", trips=consecutive(1))
    fail(old(boom))
    new = Breaker("db", trips=consecutive(2), replace=True)
    assert circuits["db"] is new.circuit
    assert new.circuit.state is State.closed
    assert old.circuit.state is State.open
    assert Breaker("db", trips=consecutive(2)).circuit is new.circuit


def test_a_module_with_lambdas_can_run_again(resilience: None) -> None:
    """A lambda that is written the same is the same option, though it is another object."""

    def cell() -> Breaker:
        return Breaker("db", key=lambda host, *_: host, failures=(KeyError, lambda error: "busy" in str(error)))

    assert cell().circuit_of("a") is cell().circuit_of("a")


def test_a_notebook_cell_can_run_again(resilience: None) -> None:
    """Compiled anew, it is the same all the same."""
    source = "from resilient_faces import Breaker\nb = Breaker('db', on_result=lambda v: v is None)"
    kept = []
    for number in range(2):
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(source, f"<cell {number}>", "exec"), names)
        kept.append(names["b"].circuit)
    assert kept[0] is kept[1]


def test_lambdas_that_differ_are_told_apart(resilience: None) -> None:
    """By their code, their defaults and what they close over."""
    kept = Breaker("code", on_result=lambda value: value is None)
    with pytest.raises(DuplicateNameError):
        Breaker("code", on_result=lambda value: value is True)
    kept2 = Breaker("defaults", on_result=lambda value, wanted=1: value == wanted)
    with pytest.raises(DuplicateNameError):
        Breaker("defaults", on_result=lambda value, wanted=2: value == wanted)

    def make(wanted: int) -> Breaker:
        return Breaker("closure", on_result=lambda value: value == wanted)

    kept3 = make(1)
    assert make(1).circuit is kept3.circuit
    with pytest.raises(DuplicateNameError):
        make(2)
    assert kept
    assert kept2


def test_without_a_name_each_has_its_own(clock: ManualRuntime) -> None:
    """And takes the function's name for its messages."""
    one, other = Breaker(trips=consecutive(1)), Breaker(trips=consecutive(1))
    fail(one(boom))
    other(boom)
    assert (one.circuit.state, other.circuit.state) == (State.open, State.closed)
    assert one.circuit.name == "boom"
    assert list(circuits) == []


def test_looking_at_them(clock: ManualRuntime) -> None:
    """By name, all of them, and a message that lists what there is."""
    kept = [Breaker("b"), Breaker("a"), Breaker("hosts", key=str)]
    kept[2].circuit_of("h2")
    kept[2].circuit_of("h1")
    kept[0].circuit.force_open()
    kept[1].circuit.reset()
    assert "a" in circuits
    assert "c" not in circuits
    assert [(one.name, one.key) for one in circuits.snapshots()] == [
        ("a", ""),
        ("b", ""),
        ("hosts", "h1"),
        ("hosts", "h2"),
    ]
    with pytest.raises(KeyError, match="no circuit is called 'c'; there are: a, b, hosts"):
        circuits["c"]
    with pytest.raises(KeyError, match="has keys"):
        circuits["hosts"]
    circuits.reset()
    assert {one.state for one in circuits} == {State.closed}


# -- let go --------------------------------------------------------------------------------------------------------


def _names() -> list[str]:
    gc.collect()
    return sorted({one.name for one in circuits} | {name for name in ("db", "x", "y") if name in circuits})


def test_nothing_is_left_of_a_dropped_function(clock: ManualRuntime) -> None:
    """Circuits of functions that are made and dropped do not gather."""

    def make(number: int) -> object:
        guarded = Breaker(f"n{number}")(lambda: number)
        return guarded()

    for number in range(50):
        make(number)
    assert _names() == []


@pytest.mark.parametrize("how", ["pending", "open", "half_open", "forced"])
def test_what_has_something_to_remember_is_kept(clock: ManualRuntime, how: str) -> None:
    """A breaker made for one call must find its circuit open the next time."""

    def once() -> Breaker:
        return Breaker("db", trips=consecutive(2), recovery_timeout=5.0)

    fail(once().call, boom)
    gc.collect()
    if how != "pending":
        fail(once().call, boom)
    if how == "half_open":
        clock.advance(5.0)
    if how == "forced":
        circuits["db"].reset()
        circuits["db"].force_open()
    gc.collect()
    assert _names() == ["db"]
    breaker = once()
    assert breaker.circuit.state is not State.closed or breaker.circuit.snapshot().figures["consecutive_failures"] == 1


def test_and_let_go_once_it_has_not(clock: ManualRuntime) -> None:
    """After the recovery it is like any other."""
    fail(Breaker("db", trips=consecutive(1), recovery_timeout=5.0).call, boom)
    clock.advance(5.0)
    assert Breaker("db", trips=consecutive(1), recovery_timeout=5.0).call(lambda: 1) == 1
    Breaker("x")
    assert _names() == []


def test_a_reset_is_something_to_forget(clock: ManualRuntime) -> None:
    """By hand as by time."""
    fail(Breaker("db").call, boom)
    gc.collect()
    circuits["db"].reset()
    Breaker("x")
    assert _names() == []


def test_an_old_failure_in_a_window_is_forgotten(clock: ManualRuntime) -> None:
    """A window that is clean again has nothing to remember."""
    fail(Breaker("db", trips=failure_rate(0.5, seconds=60.0)).call, boom)
    assert _names() == ["db"]
    clock.advance(61.0)
    Breaker("x")
    assert _names() == []


def test_what_nobody_can_find_again_is_not_kept(clock: ManualRuntime) -> None:
    """An open circuit without a name goes with its function."""
    gc.collect()
    before = _families()
    for _ in range(20):
        guarded = Breaker(trips=consecutive(1))(functools.partial(boom))
        fail(guarded)
        del guarded
    assert _families() == before


def _families() -> int:
    gc.collect()
    return sum(type(one).__name__ == "Family" for one in gc.get_objects())


# -- keys ----------------------------------------------------------------------------------------------------------


def test_each_key_has_its_circuit(mode: Mode, clock: ManualRuntime) -> None:
    """One camera that is down leaves the others alone."""
    breaker = Breaker("camera", trips=consecutive(1), key=lambda camera: camera)
    with pytest.raises(ConnectionResetError):
        mode.run(breaker, script(ConnectionResetError()), "cam-1")
    assert mode.run(breaker, script("frame"), "cam-2") == "frame"
    assert circuits.of("camera", "cam-1").state is State.open
    assert circuits.of("camera", "cam-2").state is State.closed
    assert len(circuits.named("camera")) == 2


def test_keys_are_bounded_and_the_oldest_calm_one_goes(clock: ManualRuntime) -> None:
    """A flood of keys neither fills the memory nor forgets an open circuit."""
    guarded = Breaker("host", trips=consecutive(1), key=lambda host, *_: host, max_keys=3)(
        lambda host, bad=False: boom() if bad else host
    )
    fail(guarded, "down", True)
    for number in range(100):
        assert guarded(f"h{number}") == f"h{number}"
        assert len(circuits.named("host")) <= 3
    assert {one.key for one in circuits} == {"down", "h98", "h99"}
    assert circuits.of("host", "down").state is State.open


def test_what_has_something_to_remember_goes_last(clock: ManualRuntime) -> None:
    """A key that is held by hand, and one whose calls fail, outlast those that are quiet."""
    breaker = Breaker("host", trips=failure_rate(0.9, calls=10), key=lambda host, *_: host, max_keys=3)
    guarded = breaker(lambda host, bad=False: boom() if bad else host)
    breaker.circuit_of("held").disable()
    guarded("failing")
    fail(guarded, "failing", True)
    for number in range(20):
        guarded(f"h{number}")
    assert {one.key for one in circuits} == {"held", "failing", "h19"}
    assert circuits.of("host", "held").state is State.disabled


def test_looking_at_a_name_with_keys_makes_no_circuit(clock: ManualRuntime) -> None:
    """Before the first key there is none."""
    breaker = Breaker("host", key=lambda host: host)
    assert circuits.named("host") == []
    assert list(circuits) == []
    with pytest.raises(KeyError, match="has keys"):
        circuits["host"]
    assert breaker.circuit_of("a") is circuits.named("host")[0]


def test_an_evicted_key_begins_anew(clock: ManualRuntime) -> None:
    """Its function does not go on with the circuit that nobody can see any more."""
    guarded = Breaker("host", trips=consecutive(2), key=lambda host, *_: host, max_keys=1)(
        lambda host, bad=False: boom() if bad else host
    )
    guarded("a")
    guarded("b")
    fail(guarded, "a", True, times=2)
    assert circuits.of("host", "a").state is State.open


def test_threads_bring_new_keys(clock: ManualRuntime) -> None:
    """None of them disturbs another's call."""
    guarded = Breaker("host", key=lambda host: host)(lambda host: host)
    failed: list[BaseException] = []

    def ask(thread: int) -> None:
        try:
            for number in range(600):
                assert guarded((thread, number)) == (thread, number)
        except BaseException as error:
            failed.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert failed == []


def test_instances_go_while_another_looks_for_a_place(clock: ManualRuntime) -> None:
    """The collector may take a circuit at any moment."""

    class Instance:
        pass

    class Watched(Circuit):
        """A circuit that takes the next instance with it when it is looked at."""

        @property
        def calm(self) -> None:  # type: ignore[override]
            instances.pop()

        @calm.setter
        def calm(self, _: object) -> None:
            pass

    instances = [Instance() for _ in range(4)]
    family = Breaker(max_keys=4)._family
    for number, instance in enumerate(instances):
        family.watch(number, instance)
        family.of(number).force_open()
    assert family.live is not None
    family.live[0] = Watched("", family.terms.settings)
    del instance
    assert family.of("new") is family.live["new"]
    assert 3 not in family.live


def test_nothing_is_kept_of_keys_whose_circuits_are_gone(clock: ManualRuntime) -> None:
    """A function remembers about as many as there are."""
    guarded = Breaker("host", key=lambda host: host, max_keys=50)(lambda host: host)
    for number in range(1000):
        guarded(number)
    gc.collect()
    assert sum(isinstance(one, Circuit) and one.name == "host" for one in gc.get_objects()) <= 2 * 50


def test_an_instance_given_by_name(clock: ManualRuntime) -> None:
    """`Camera.frame(self=camera)` is a call on that camera; without one it is the usual TypeError."""

    class Camera:
        @Breaker(trips=consecutive(1))
        def frame(self, bad: bool = False) -> str:
            return boom() if bad else "frame"

    one, other = Camera(), Camera()
    with pytest.raises(ConnectionResetError):
        Camera.frame(self=one, bad=True)
    with pytest.raises(CircuitOpenError):
        one.frame()
    assert Camera.frame(self=other) == other.frame() == "frame"
    with pytest.raises(TypeError, match="self"):
        Camera.frame()  # type: ignore[call-arg]


def test_threads_make_one_circuit_for_one_key(clock: ManualRuntime) -> None:
    """However many arrive first."""
    breaker = Breaker("host", key=lambda host: host)
    together = threading.Barrier(8)
    found: list[object] = []

    def ask() -> None:
        together.wait()
        found.extend(breaker.circuit_of(number) for number in range(50))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 50


# -- instances -----------------------------------------------------------------------------------------------------


class Camera:
    def __init__(self, bad: bool) -> None:
        self.bad = bad

    @Breaker(trips=consecutive(1))
    def read(self) -> str:
        return boom() if self.bad else "frame"  # type: ignore[return-value]


class Unhashable(Camera):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True


class Slotted:
    __slots__ = ("__weakref__", "bad")

    def __init__(self, bad: bool) -> None:
        self.bad = bad

    @Breaker(trips=consecutive(1))
    def read(self) -> str:
        return boom() if self.bad else "frame"  # type: ignore[return-value]


@pytest.mark.parametrize("cls", [Camera, Unhashable, Slotted])
def test_each_instance_has_its_circuit(clock: ManualRuntime, cls: type[Camera]) -> None:
    """Two cameras of one class do not share a fate, equal, unhashable or slotted as they may be."""
    good, bad = cls(False), cls(True)
    fail(bad.read)
    assert good.read() == "frame"
    from resilient_faces import CircuitOpenError

    with pytest.raises(CircuitOpenError):
        bad.read()


@pytest.mark.parametrize("cls", [Camera, Unhashable, Slotted])
def test_instances_are_held_weakly(clock: ManualRuntime, cls: type[Camera]) -> None:
    """A thousand cameras that come and go leave nothing, and a new one never inherits an old one's circuit."""
    from resilient_faces.breaker import Circuit

    gc.collect()
    before = sum(isinstance(one, Circuit) for one in gc.get_objects())
    for _ in range(200):
        camera = cls(True)
        fail(camera.read)  # not CircuitOpenError: ids are used again, circuits are not
        del camera
    gc.collect()
    assert sum(isinstance(one, Circuit) for one in gc.get_objects()) <= before + 1


def test_a_report_does_not_unlearn_an_instance(clock: ManualRuntime) -> None:
    """`call_with_report` goes by the instance's circuit, and lets go of it as the call does."""
    for _ in range(50):
        camera = Camera(True)
        with pytest.raises(ConnectionResetError):
            Camera.read.call_with_report(camera)
        gc.collect()
        del camera


def test_instances_that_take_no_weak_references(clock: ManualRuntime) -> None:
    """Told at the first call, with the cure."""

    class Closed:
        __slots__ = ()

        @Breaker()
        def read(self) -> None: ...

    with pytest.raises(TypeError, match=r"Closed objects take no weak references.*name or a key.*__weakref__"):
        Closed().read()


def test_a_named_method_shares(clock: ManualRuntime) -> None:
    """A name is one circuit, for all instances."""

    class Client:
        @Breaker("api", trips=consecutive(1))
        def get(self) -> None:
            boom()

    fail(Client().get)
    assert circuits["api"].state is State.open


def test_async_methods_too(clock: ManualRuntime) -> None:
    """One circuit an instance under asyncio as well."""
    import asyncio

    class Client:
        def __init__(self, bad: bool) -> None:
            self.bad = bad

        @Breaker(trips=consecutive(1))
        async def get(self) -> str:
            return boom() if self.bad else "page"  # type: ignore[return-value]

    good, bad = Client(False), Client(True)
    with pytest.raises(ConnectionResetError):
        asyncio.run(bad.get())
    assert asyncio.run(good.get()) == "page"


def test_garbage_collection_inside_the_registry(clock: ManualRuntime) -> None:
    """An instance in a cycle may be collected at any allocation, also while the registry makes a circuit."""
    done = threading.Event()

    def churn() -> None:
        for _ in range(300):
            camera = Camera(False)
            camera.me = camera  # type: ignore[attr-defined]
            camera.read()
        done.set()

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        threading.Thread(target=churn, daemon=True).start()
        assert done.wait(20.0)
    finally:
        gc.set_threshold(*threshold)
