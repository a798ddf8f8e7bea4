"""The page "Guard"; the tests run this file."""

from __future__ import annotations

import pickle
from contextlib import ExitStack

from resilient_faces.testing import ManualRuntime

rest = ExitStack()
rest.enter_context(ManualRuntime().installed())

# --8<-- [start:shortest]
import asyncio
import inspect

from resilient_faces import circuit_breaker, fallback, guard, retry
from resilient_faces.testing import script

database = script(ConnectionResetError, "a row").function()  # these two stand for your database
adatabase = script(ConnectionResetError, "a row").coroutine()

db = guard(fallback(value=None), retry(attempts=4), circuit_breaker("db"))


@db
def load(key: str) -> str:
    return database(key)


@db
async def aload(key: str) -> str:
    return await adatabase(key)


assert load("k1") == "a row"
assert asyncio.run(aload("k1")) == "a row"
assert inspect.iscoroutinefunction(aload)
# --8<-- [end:shortest]


# --8<-- [start:stacked]
@fallback(value=None)
@retry(attempts=4)
@circuit_breaker("db")
def load_too(key: str) -> str:
    return database(key)


# --8<-- [end:stacked]
assert load_too("k1") == "a row"

# --8<-- [start:call]
row = db.call(database, "k1")  # without decorating
arow = asyncio.run(db.acall(adatabase, "k1"))
assert row == arow == "a row"
# --8<-- [end:call]

# --8<-- [start:describe]
from resilient_faces import timeout

print(guard(fallback(value=None), retry(attempts=4), timeout(2.0), circuit_breaker("db")).describe())
# --8<-- [end:describe]
described = guard(fallback(value=None), retry(attempts=4), timeout(2.0), circuit_breaker("db")).describe()
shown = """\
guard of 4 policies, outermost first:
  1. Fallback(value=None)
  2. Retry(attempts=4)
  3. Timeout(seconds=2.0)
  4. Breaker(name='db', trips=(consecutive(failures=5),), recovery_timeout=30.0, growth=1.0, \
max_recovery_timeout=30.0, failures=<class 'Exception'>)
how a call runs, from outside in:
  - Fallback, Retry: on the direct path
  - around the call: Timeout
  - Breaker: on the direct path"""
assert described == shown, described


# --8<-- [start:methods]
class Store:
    @db
    def load(self, key: str) -> str:
        return database(key)

    @classmethod
    @db
    def shared(cls, key: str) -> str:
        return database(key)

    @db
    @staticmethod
    def plain(key: str) -> str:
        return database(key)


assert Store().load("k1") == Store.shared("k1") == Store.plain("k1") == "a row"
value, report = Store.load.call_with_report(Store(), "k1")  # of a method: asked on the class
assert report.attempts == 1
# --8<-- [end:methods]


# --8<-- [start:objects]
class Client:
    def __init__(self, region: str) -> None:
        self.region = region

    def __call__(self, key: str) -> str:
        return database(key)


client = db(Client("eu-central-1"))
assert client("k1") == "a row"
assert client.region == "eu-central-1"  # still the object that it was
# --8<-- [end:objects]
assert isinstance(client, Client)

# --8<-- [start:nested]
outer = guard(fallback(value=None), guard(retry(attempts=4), circuit_breaker("db")))
assert [type(policy).__name__ for policy in outer.policies] == ["Fallback", "Retry", "Breaker"]
# --8<-- [end:nested]

# --8<-- [start:rules]
import warnings

with warnings.catch_warnings(record=True) as given:
    warnings.simplefilter("always")
    guard(circuit_breaker("db"), retry())

assert str(given[0].message).startswith("RF001 a breaker outside a retry")

deliberate = guard(circuit_breaker("db"), retry(), accept=("RF001",))  # says: I mean it
# --8<-- [end:rules]
assert len(given) == 1
assert deliberate

# --8<-- [start:block]
from resilient_faces import bulkhead

entry = guard(circuit_breaker("ftp"), bulkhead(2))

with entry:
    moved = "moved"
# --8<-- [end:block]
assert moved


# --8<-- [start:ablock]
async def move() -> str:
    async with entry:
        return "moved"


# --8<-- [end:ablock]
assert asyncio.run(move()) == "moved"

# --8<-- [start:no_block]
from resilient_faces import DecorationError

try:
    with retry():
        pass
except DecorationError as error:
    assert "which runs exactly once" in str(error)
# --8<-- [end:no_block]

# --8<-- [start:generator]
from resilient_faces import DecorationError

try:

    @retry()
    def rows() -> object:
        yield "a row"

except DecorationError as error:
    assert "Guard the function that fetches one item or page" in str(error)
# --8<-- [end:generator]

# --8<-- [start:options]
from resilient_faces import OptionError, UnknownOptionError, retry

try:
    retry(attempts=0, jitter="full")
except OptionError as error:
    print(error)  # both are in the message, each with its cure

try:
    retry(atempts=3)
except UnknownOptionError as error:
    assert "Did you mean attempts?" in str(error)
# --8<-- [end:options]

again = pickle.loads(pickle.dumps(db))
assert again.describe() == db.describe()
rest.close()
