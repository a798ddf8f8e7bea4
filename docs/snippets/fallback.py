"""The pages "Fallback", "Chain" and "Last good answer"; the tests run this file."""

from __future__ import annotations

from contextlib import ExitStack

from resilient_faces.testing import ManualRuntime

rest = ExitStack()
rest.enter_context(ManualRuntime().installed())

# --8<-- [start:shortest]
from resilient_faces import fallback, last_outcome


@fallback(value=0)
def faces_in(photo: str) -> int:
    raise ConnectionRefusedError("the service is down")


assert faces_in("p1") == 0
outcome = last_outcome()
assert outcome is not None
assert outcome.degraded
# --8<-- [end:shortest]

# --8<-- [start:function]
cache = {"k1": "an old row"}


def from_cache(key: str) -> str:
    return cache[key]


@fallback(function=from_cache, name="cache")  # called with the call's own arguments
def load(key: str) -> str:
    raise ConnectionResetError("reset")


row, report = load.call_with_report("k1")
assert (row, report.degraded, report.source) == ("an old row", True, "cache")
# --8<-- [end:function]

# --8<-- [start:choice]
from resilient_faces import Kind
from resilient_faces.testing import script

choosy = fallback(
    by_error={ConnectionRefusedError: "they are closed", OSError: "something with the network"},
    by_kind={Kind.throttled: "they are busy", Kind.rejected: "we leave them alone"},
    value="no answer",
)
assert choosy.call(script(ConnectionRefusedError).function()) == "they are closed"  # the nearest class
assert choosy.call(script(ConnectionResetError).function()) == "something with the network"
assert choosy.call(script(ArithmeticError).function()) == "no answer"
# --8<-- [end:choice]

# --8<-- [start:business]
missing = script(FileNotFoundError("no such photo")).function()
try:
    fallback(value=None).call(missing)
except FileNotFoundError:
    pass  # that there is no such photo is an answer, and comes out
else:
    raise AssertionError

assert fallback(value=None, on=FileNotFoundError).call(missing) is None
# --8<-- [end:business]

# --8<-- [start:result]
guess = fallback(value="nobody", on_result=lambda name: name == "")
assert guess.call(lambda: "") == "nobody"
# --8<-- [end:result]

# --8<-- [start:asynchronous]
import asyncio


async def from_other_region(key: str) -> str:
    return f"{key} from afar"


@fallback(function=from_other_region)
async def aload(key: str) -> str:
    raise ConnectionResetError("reset")


assert asyncio.run(aload("k1")) == "k1 from afar"
# --8<-- [end:asynchronous]


# --8<-- [start:with_fallback]
from resilient_faces import with_fallback


@with_fallback(fallback_value=False)  # for every Exception, business answers included
def is_limited(user: str) -> bool:
    raise KeyError(user)


assert is_limited("u1") is False
# --8<-- [end:with_fallback]


# --8<-- [start:chain]
from resilient_faces import Answer, chain


def ask_second_region(photo: str) -> int:
    raise ConnectionRefusedError("down as well")


def local_detector(photo: str) -> int:
    return 2


@chain(ask_second_region, ("local", local_detector))
def detect(photo: str) -> int:
    raise ConnectionRefusedError("the service is down")


assert detect("p1") == Answer(2, source="local", degraded=True)
# --8<-- [end:chain]

# --8<-- [start:chain_typed]
answer = detect("p1")
if answer.degraded:
    print(f"{answer.value} faces, says {answer.source}")
# --8<-- [end:chain_typed]

# --8<-- [start:last_good]
from resilient_faces import last_good, last_outcome
from resilient_faces.testing import ManualRuntime, script

fetch_rates = script({"EUR": 1.08}, ConnectionRefusedError("down")).function()  # stands for a service


@last_good(max_age=600.0)
def exchange_rates(day: str) -> dict[str, float]:
    return fetch_rates(day)


with ManualRuntime().installed() as clock:  # a clock that is moved by hand
    assert exchange_rates("monday") == {"EUR": 1.08}
    clock.advance(599.0)
    assert exchange_rates("monday") == {"EUR": 1.08}  # they are down: the answer of ten minutes ago
    assert last_outcome().source == "last_good"

    clock.advance(2.0)
    try:
        exchange_rates("monday")
    except ConnectionRefusedError:
        pass  # too old now
# --8<-- [end:last_good]


class Image:
    """Not hashable, like an array."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, id: str) -> None:
        self.id = id


# --8<-- [start:last_good_key]
boxes = last_good(60.0, key=lambda image: image.id, max_entries=1000)
# --8<-- [end:last_good_key]
find = boxes(script("a box", ConnectionResetError).function())
assert find(Image("i1")) == "a box"
assert find(Image("i1")) == "a box"
try:
    last_good(60.0)(lambda image: "a box")(Image("i1"))
except TypeError as error:
    assert "LastGood.key" in str(error)
else:
    raise AssertionError
rest.close()
