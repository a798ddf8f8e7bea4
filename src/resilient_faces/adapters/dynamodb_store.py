"""Circuits, limiters and idempotency records that processes share through a DynamoDB table.

Each step is one conditional write that answers with what is there if its condition fails, so it is mostly one request.
DynamoDB has no clock to ask. Its answers carry the date, though, in whole seconds: a process that sees enough of them
knows how far its own wall clock is off.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Final

from resilient_faces._core.options import Checks
from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces.adapters._aws_clients import refuse_coroutines
from resilient_faces.adapters._aws_requests import check_client
from resilient_faces.adapters._server_clock import ServerClock
from resilient_faces.adapters.aws import LocalEndpoint, connect
from resilient_faces.breaker import Shared
from resilient_faces.errors import ResilienceError
from resilient_faces.idempotency import Record, Status
from resilient_faces.limits import Granted, Pace
from resilient_faces.limits.store import rate_at

__all__ = ["ClockUnknownError", "DynamoDbStore"]

ROUNDS: Final = 25  # of one step against others who write the same record
PRECISE: Final = 0.01  # seconds to which the clock should be known before slots are given
ROOM: Final = 0.1  # seconds that clocks may be apart for which slots make room, if those are known as well as can be
MOST_ROOM: Final = 1.5  # while a clock is learnt anew; one answer alone tells the time to a second and its trip
STEP: Final = 0.03  # seconds between requests that wait for the server's next second


class ClockUnknownError(ResilienceError):
    """How far this machine's clock is off is not known well enough yet, and another thread is about to learn it."""


class DynamoDbStore:
    """Where processes share circuits (`Breaker(store=...)`), limiters (`RateLimiter(store=...)`) and operations.

    Args:
        client: A boto3 client for dynamodb that tries once and does not wait for long: policies leave a store out that
            does not answer. `connected` makes one.
        table: Name of the table; its key is the string `id`. `ensure_table` makes it.
        prefix: What all keys begin with: one table can serve several systems.
        keep: Seconds after which records of circuits and limiters that nobody has touched may be deleted.

    Raises:
        OptionError: Options are wrong.
        DecorationError: The client's operations are coroutines.
    """

    inline: Final = False

    def __init__(
        self,
        client: Any,
        *,
        table: str = "resilient-faces",
        prefix: str = "",
        keep: float = 86_400.0,
    ) -> None:
        checks = Checks("DynamoDbStore")
        if check_client(checks, client, "dynamodb"):
            checks.function("client", getattr(client, "update_item", None), 'Give it a boto3 client for "dynamodb".')
        good = isinstance(table, str) and len(table) >= 3
        checks.that(good, "table", "a name of 3 characters or more", table)
        checks.that(isinstance(prefix, str), "prefix", "a string", prefix)
        checks.seconds("keep", keep)
        checks.done()
        refuse_coroutines(client)
        self.table = table
        self.prefix = prefix
        self.clock = ServerClock()  # from the wall clock: a frozen machine's monotonic one stands still
        self._client = client
        self._keep = keep
        self.after_fork()
        on_fork(self)
        self._learnt = 0.0  # seconds to which the clock was known when it was last learnt
        self._latency = 0.0
        self._lines: dict[str, _Line] = {}

    def after_fork(self) -> None:
        """The thread that learnt the clock is the parent's."""
        self._learning = threading.Lock()

    @classmethod
    def connected(
        cls,
        *,
        region: str,
        endpoint: LocalEndpoint | None = None,
        timeout: float = 1.0,
        table: str = "resilient-faces",
        prefix: str = "",
        keep: float = 86_400.0,
    ) -> DynamoDbStore:
        """A store with a client of its own, that tries once and waits `timeout` seconds at most.

        Raises:
            MissingExtraError: boto3 is not installed (extra `aws`).
            OptionError: Options are wrong.
        """
        checks = Checks("DynamoDbStore.connected")
        checks.seconds("timeout", timeout)
        checks.done()
        client = connect("dynamodb", region=region, endpoint=endpoint, connect_timeout=timeout, read_timeout=timeout)
        return cls(client, table=table, prefix=prefix, keep=keep)

    def __repr__(self) -> str:
        return f"DynamoDbStore(table={self.table!r}, prefix={self.prefix!r})"

    # -- the table -------------------------------------------------------------------------------------------------

    def ensure_table(self, *, within: float = 60.0) -> None:
        """Make the table unless it is there, and have it delete what has expired.

        Args:
            within: Seconds to wait for it.

        Raises:
            TimeoutError: It is not ready by then.
        """
        ends = RUNTIME.monotonic() + within
        while (status := self._table_status()) != "ACTIVE":
            if status is None:
                self._create_table()
            if RUNTIME.monotonic() >= ends:
                raise TimeoutError(f"table {self.table!r} is not ready within {within:g} s")
            RUNTIME.sleep(0.1)
        self._expire()

    def _table_status(self) -> str | None:
        try:
            return str(self._client.describe_table(TableName=self.table)["Table"]["TableStatus"])
        except Exception as error:
            if _code(error) != "ResourceNotFoundException":
                raise
            return None

    def _create_table(self) -> None:
        try:
            self._client.create_table(
                TableName=self.table,
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                BillingMode="PAY_PER_REQUEST",
            )
        except Exception as error:
            if _code(error) != "ResourceInUseException":  # somebody else was first
                raise

    def _expire(self) -> None:
        found = self._client.describe_time_to_live(TableName=self.table).get("TimeToLiveDescription", {})
        if found.get("TimeToLiveStatus") in ("ENABLED", "ENABLING"):
            return
        try:
            self._client.update_time_to_live(
                TableName=self.table, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"}
            )
        except Exception as error:
            if _code(error) != "ValidationException":  # somebody else was first
                raise

    def learn_clock(self, *, precision: float = PRECISE) -> float:
        """Learn how far the local clock is off, from the dates of answers. Takes up to 3 s and some 40 requests.

        A limiter does it at its first use, and goes by its share of the rate meanwhile. After a pause of some minutes,
        in which the clocks have drifted apart, it is done in the background: until then its slots are wider.

        Args:
            precision: Seconds to which it should be known. What answers take to come is a limit to that.

        Returns:
            Seconds to which it is known now.
        """
        ends = RUNTIME.monotonic() + 3.2
        self._load("clock", "")
        while self.clock.width > precision and RUNTIME.monotonic() < ends and not RUNTIME.stopped:
            # Near the server's next second one answer halves what is not known; before that is known, seek it.
            RUNTIME.sleep(STEP if self.clock.width > 2.0 * STEP else self.clock.until_second(RUNTIME.wall()))
            self._load("clock", "")
        self._learnt = self.clock.width
        return self._learnt

    # -- requests --------------------------------------------------------------------------------------------------

    def _request(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """One request, whose answer or error tells the time."""
        sent, began = RUNTIME.wall(), RUNTIME.monotonic()
        answer: Mapping[str, Any] = {}
        try:
            answer = getattr(self._client, operation)(TableName=self.table, **parameters)
            return dict(answer)
        except Exception as error:
            answer = getattr(error, "response", None) or {}
            raise
        finally:
            second = _second((answer.get("ResponseMetadata") or {}).get("HTTPHeaders", {}).get("date"))
            if second is not None:
                self.clock.hear(second, second + 1.0, sent, RUNTIME.wall())
                took = RUNTIME.monotonic() - began
                self._latency = max(took, 0.9 * self._latency + 0.1 * took)

    def _load(self, kind: str, key: str) -> dict[str, Any] | None:
        found = self._request("get_item", Key=self._key(kind, key), ConsistentRead=True).get("Item")
        return None if found is None else _plain(found)

    def _update(
        self, kind: str, key: str, change: str, condition: str, **values: Any
    ) -> tuple[bool, dict[str, Any] | None]:
        """Change a record if the condition holds: whether it did, and what is there now."""
        try:
            answer = self._request(
                "update_item",
                Key=self._key(kind, key),
                UpdateExpression=change,
                ReturnValues="ALL_NEW",
                **_conditional(condition, f"{change} {condition}", values),
            )
            return True, _plain(answer["Attributes"])
        except Exception as error:
            return False, _in_the_way(error)

    def _key(self, kind: str, key: str) -> dict[str, Any]:
        return {"id": {"S": f"{self.prefix}{kind}:{key}"}}

    def _now(self) -> int:
        """The server's time in whole microseconds, as well as it is known."""
        if math.isinf(self.clock.width):
            self._load("clock", "")
        return math.floor(self.clock.at(RUNTIME.wall()) * 1e6)

    def _expires(self, until: int) -> int:
        """Second from which on DynamoDB may delete a record that nobody has touched."""
        return math.ceil(until / 1e6 + self._keep)

    # -- circuits --------------------------------------------------------------------------------------------------

    def load(self, key: str) -> Shared | None:
        """The record of a circuit; None if none was ever saved."""
        found = self._load("circuit", key)
        return None if found is None or "version" not in found else self._shared(found)

    def save(self, key: str, shared: Shared, expected: int) -> bool:
        """Write the record if the stored version is `expected`; False if it is not."""
        now = self._now()
        until = now + _micros(shared.seconds)
        item: dict[str, Any] = {
            "version": shared.version,
            "state": shared.state,
            "until": until,
            "reopenings": shared.reopenings,
            "by": shared.by,
            "schema": shared.schema,
            "expires": self._expires(max(now, until)),
        }
        if shared.last is not None:
            item["last"] = shared.last
        condition = _AT_VERSION if expected else "attribute_not_exists(#version)"
        values = {"version": expected} if expected else {}
        try:
            self._request(
                "put_item",
                Item={**self._key("circuit", key), **_typed(item)},
                **_conditional(condition, condition, values),
            )
        except Exception as error:
            _in_the_way(error)
            return False
        return True

    def count(self, key: str, version: int, within: float) -> Shared | None:
        """Count one failure if the stored version is `version`, and answer what is stored now."""
        at_version = _AT_VERSION if version else "attribute_not_exists(#version)"
        known: dict[str, Any] = {"version": version} if version else {}
        for _ in range(ROUNDS):
            now = self._now()
            done, found = self._update(
                "circuit",
                key,
                "SET #failures = #failures + :one",
                f"{at_version} AND #counted > :now",
                now=now,
                one=1,
                **known,
            )
            if not done and (found or {}).get("version", 0) == version:  # the count is over, or has not begun
                done, found = self._update(
                    "circuit",
                    key,
                    "SET #failures = :one, #counted = :ends, #expires = :expires",
                    f"{at_version} AND (attribute_not_exists(#counted) OR #counted <= :now)",
                    now=now,
                    one=1,
                    ends=now + _micros(within),
                    expires=self._expires(now + _micros(within)),
                    **known,
                )
            if done or (found or {}).get("version", 0) != version:
                return None if found is None else self._shared(found)
        raise _Contended(self.table)

    def clear(self, key: str, version: int) -> None:
        """Forget the failures counted under this version."""
        at_version = _AT_VERSION if version else "attribute_not_exists(#version)"
        known: dict[str, Any] = {"version": version} if version else {}
        condition = f"{at_version} AND attribute_exists(#counted)"
        self._update("circuit", key, "REMOVE #failures, #counted", condition, **known)

    def _shared(self, found: Mapping[str, Any]) -> Shared:
        now = self._now()
        return Shared(
            found.get("version", 0),
            found.get("state", "closed"),
            (found.get("until", now) - now) / 1e6,
            found.get("reopenings", 0),
            found.get("last"),
            found.get("by", ""),
            found.get("failures", 0) if now < found.get("counted", 0) else 0,
            found.get("schema", 1),
        )

    # -- limiters --------------------------------------------------------------------------------------------------

    def reserve(self, key: str, count: int, pace: Pace, longest: float | None, lead: float) -> Granted:
        """Take the next `count` slots; see `LimiterStore`."""
        self._need_clock()
        line = self._line(key)
        for _ in range(ROUNDS):
            now = self._now()
            interval = math.ceil(1e6 * self._interval(line.rate(pace, now)))
            # A slot cannot begin before the answer is there.
            earliest = now + _micros(max(lead, min(self._latency, 0.1)))
            latest = None if longest is None else max(earliest, now + _micros(longest))
            if lead > (math.inf if longest is None else longest):
                return Granted(lead, interval / 1e6, taken=False)
            done, begins = self._push(key, line, earliest, latest, count * interval)
            if done:
                return Granted((begins - self._now()) / 1e6, interval / 1e6)
            if latest is not None and line.next > latest:
                return Granted((line.next - self._now()) / 1e6, interval / 1e6, taken=False)
        raise _Contended(self.table)

    def slow_down(self, key: str, pace: Pace) -> float:
        """Lower the rate for everybody; the rate from now on."""
        line = self._line(key)
        line.learn(self._load("limiter", key))
        for _ in range(ROUNDS):
            now = self._now()
            rate = line.rate(pace, now)
            if line.slowed_at is not None and (now - line.slowed_at) / 1e6 < 2.0 / rate:
                return rate
            slower = max(pace.floor, rate * pace.decrease)
            pause = math.ceil(1e6 / slower)
            also = {"slowed_to": Decimal(repr(slower)), "slowed_at": now}
            if self._push(key, line, now, None, pause, also)[0]:
                return slower
        raise _Contended(self.table)

    def join(self, key: str, member: str, within: float) -> int:
        """Say that this process is there; how many are."""
        now = self._now()
        ends = now - _micros(within)
        name = hashlib.sha256(member.encode()).hexdigest()[:16]
        _, found = self._update(
            "members",
            key,
            f"SET #m_{name} = :now, #expires = :expires",
            "attribute_not_exists(#nothing)",
            now=now,
            expires=self._expires(now),
        )
        members = {name: seen for name, seen in (found or {}).items() if name.startswith("m_")}
        gone = [name for name, seen in members.items() if seen <= ends]
        if gone:  # one that comes back this very moment joins again soon
            removed = ", ".join(f"#{name}" for name in gone[:50])
            self._update("members", key, f"REMOVE {removed}", "attribute_exists(#id)")
        return len(members) - len(gone)

    def _interval(self, rate: float) -> float:
        """Seconds between slots. Clocks that differ move starts together: the slots make room for that.

        Starts are up to half an interval late, and up to the clock's width apart from where they should be. With this
        interval any second holds at most `rate + 1` of them all the same.
        """
        width = self.clock.width_at(RUNTIME.wall())
        room = min(width, ROOM if width <= self._usual else MOST_ROOM)
        return max(1.0 / rate, (1.0 + 0.5 / rate + room) / (rate + 1.0))

    def _line(self, key: str) -> _Line:
        return self._lines.setdefault(key, _Line())

    def _push(
        self,
        key: str,
        line: _Line,
        earliest: int,
        latest: int | None,
        advance: int,
        also: Mapping[str, Any] | None = None,
    ) -> tuple[bool, int]:
        """Move the next free slot on; whether that was done, and where it was. If not, `line` knows what is there.

        There are two ways, and what was there last says which one is the likelier: behind the queue, or from
        `earliest` on if there is none. Neither needs to know the queue's end, so those who reserve do not disturb each
        other.
        """
        sets = "".join(f", #{name} = :{name}" for name in also or {})
        same = "#slowed_at = :was" if line.slowed_at is not None else "attribute_not_exists(#slowed_at)"
        values: dict[str, Any] = {"earliest": earliest, **(also or {}), "schema": 1}
        if line.slowed_at is not None:
            values["was"] = line.slowed_at
        values["expires"] = self._expires(max(earliest, line.next) + advance)
        sets += ", #expires = :expires, #schema = :schema"
        if line.next >= earliest:
            behind = f"{same} AND #next >= :earliest" + ("" if latest is None else " AND #next <= :latest")
            values |= {"advance": advance} if latest is None else {"advance": advance, "latest": latest}
            change = f"SET #next = #next + :advance{sets}"
        else:
            behind = f"{same} AND (attribute_not_exists(#next) OR #next < :earliest)"
            values["ends"] = earliest + advance
            change = f"SET #next = :ends{sets}"
        done, found = self._update("limiter", key, change, behind, **values)
        line.learn(found)
        return done, line.next - advance

    def _need_clock(self) -> None:
        """Slots of several processes fit together only if all know the time well; as well as the line allows."""
        width = self.clock.width_at(RUNTIME.wall())
        if width <= self._usual:
            return
        if self._learnt and width > MOST_ROOM:
            self._load("clock", "")
        learning = self._learning
        if not learning.acquire(blocking=False):
            if self._learnt:
                return
            raise ClockUnknownError(self.table)
        if not self._learnt:
            self._learn(learning)
            return
        # No call waits for it, and none's deadline holds for it.
        work = (partial(self._learn_quietly, learning),)
        try:
            threading.Thread(target=Context().run, args=work, name="resilient_faces-clock", daemon=True).start()
        except RuntimeError:  # no more threads, or the process ends
            learning.release()

    @property
    def _usual(self) -> float:
        """Seconds to which the clock is known when nothing is amiss."""
        return 2.0 * max(PRECISE, self._learnt)

    def _learn(self, learning: threading.Lock) -> None:
        """Learn the clock and let go of the lock."""
        try:
            self.learn_clock()
        finally:
            learning.release()

    def _learn_quietly(self, learning: threading.Lock) -> None:
        with suppress(Exception):  # the next slot begins it again
            self._learn(learning)

    # -- operations ------------------------------------------------------------------------------------------------

    def claim(self, key: str, owner: str, fingerprint: str, lease: float, keep: float) -> Record | None:
        """Claim an operation; None if it was claimed, else the record that is in the way."""
        now = self._now()
        keep = max(keep, lease)
        item = {
            "status": Status.in_progress.value,
            "owner": owner,
            "lease": now + _micros(lease),
            "kept": now + _micros(keep),
            "fingerprint": fingerprint,
            "schema": 1,
            "expires": math.ceil(now / 1e6 + keep),
        }
        condition = (
            "attribute_not_exists(#id) OR #kept <= :now OR (#status = :working AND (#owner = :owner OR #lease <= :now))"
        )
        values = {"now": now, "working": Status.in_progress.value, "owner": owner}
        try:
            self._request(
                "put_item",
                Item={**self._key("operation", key), **_typed(item)},
                **_conditional(condition, condition, values),
            )
        except Exception as error:
            found = _in_the_way(error)
            # Gone between the condition and the answer: whoever asks again may have it.
            return Record(Status.in_progress, "", 0.0, 0.0) if found is None else self._record(found)
        return None

    def finish(self, key: str, owner: str, status: Status, data: bytes, keep: float) -> bool:
        """Write what it came to; False if this owner has it no more. DynamoDB takes 400 KB at most."""
        now = self._now()
        done, found = self._update(
            "operation",
            key,
            "SET #status = :status, #data = :data, #kept = :until, #expires = :expires REMOVE #lease",
            _OWNED,
            **self._owned(owner, now),
            status=status.value,
            data=data,
            until=now + _micros(keep),
            expires=math.ceil(now / 1e6 + keep),
        )
        if done or found is None:
            return done
        finished = (found.get("owner"), found.get("status"), found.get("data"))
        return finished == (owner, status.value, data) and bool(found["kept"] > now)  # the first answer was lost

    def extend(self, key: str, owner: str, lease: float) -> bool:
        """Begin the lease anew; False if this owner has it no more."""
        now = self._now()
        values = {**self._owned(owner, now), "until": now + _micros(lease)}
        done, found = self._update("operation", key, "SET #lease = :until", f"{_OWNED} AND #kept >= :until", **values)
        if done or found is None or not now < found["kept"] < values["until"]:
            return done
        # It would be forgotten before.
        change = "SET #lease = :until, #kept = :until, #expires = :expires"
        return self._update("operation", key, change, _OWNED, **values, expires=math.ceil(now / 1e6 + lease))[0]

    def release(self, key: str, owner: str) -> bool:
        """Give it up; False if this owner has it no more."""
        values = self._owned(owner, self._now())
        try:
            self._request("delete_item", Key=self._key("operation", key), **_conditional(_OWNED, _OWNED, values))
        except Exception as error:
            _in_the_way(error)
            return False
        return True

    def find(self, key: str) -> Record | None:
        """The record of an operation; None if there is none, or it is forgotten."""
        found = self._load("operation", key)
        return None if found is None or found["kept"] <= self._now() else self._record(found)

    @staticmethod
    def _owned(owner: str, now: int) -> dict[str, Any]:
        return {"owner": owner, "working": Status.in_progress.value, "now": now}

    def _record(self, found: Mapping[str, Any]) -> Record:
        now = self._now()
        return Record(
            Status(found["status"]),
            found["owner"],
            (found["lease"] - now) / 1e6 if "lease" in found else 0.0,
            (found["kept"] - now) / 1e6,
            found["fingerprint"],
            found.get("data", b""),
            found.get("schema", 1),
        )


class _Line:
    """What was seen last of a limiter's record; times in microseconds."""

    __slots__ = ("next", "slowed_at", "slowed_to")

    def __init__(self) -> None:
        self.learn(None)

    def learn(self, found: Mapping[str, Any] | None) -> None:
        known = found or {}
        self.next = int(known.get("next", 0))
        self.slowed_at: int | None = known.get("slowed_at")
        self.slowed_to = float(known.get("slowed_to", 0.0))

    def rate(self, pace: Pace, now: int) -> float:
        """Starts per second at this time."""
        if self.slowed_at is None:
            return pace.rate
        return rate_at(pace, self.slowed_to, (now - self.slowed_at) / 1e6)


class _Contended(ResilienceError):
    """Others wrote the same record again and again."""

    def __init__(self, table: str) -> None:
        super().__init__(f"a record of table {table!r} is written by too many at once")


_AT_VERSION: Final = "#version = :version"
_OWNED: Final = "#owner = :owner AND #status = :working AND #kept > :now"
_NAMES: Final = re.compile(r"#(\w+)")


def _second(date: str | None) -> float | None:
    """The second that an answer was written in, from its `Date` header."""
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return None


def _conditional(condition: str, expressions: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a conditional request. All names get placeholders: many are reserved words."""
    parameters: dict[str, Any] = {
        "ConditionExpression": condition,
        "ExpressionAttributeNames": {f"#{name}": name for name in _NAMES.findall(expressions)},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    if values:
        parameters["ExpressionAttributeValues"] = {f":{name}": value for name, value in _typed(values).items()}
    return parameters


def _code(error: BaseException) -> str:
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return str((response.get("Error") or {}).get("Code", ""))


def _in_the_way(error: Exception) -> dict[str, Any] | None:
    """What was there when a condition failed; any other error is raised."""
    if _code(error) != "ConditionalCheckFailedException":
        raise error
    response: Mapping[str, Any] = getattr(error, "response", {})
    found = response.get("Item")
    return _plain(found) if found else None


def _typed(members: Mapping[str, Any]) -> dict[str, Any]:
    """Members in DynamoDB's own notation."""
    return {name: _one_typed(value) for name, value in members.items()}


def _one_typed(value: object) -> dict[str, Any]:
    if isinstance(value, bytes):
        return {"B": value}
    return {"S": value} if isinstance(value, str) else {"N": str(value)}


def _plain(item: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """An item's members. All numbers but a rate are whole; an emulator may write them with an exponent."""
    plain: dict[str, Any] = {}
    for name, typed in item.items():
        kind, value = next(iter(typed.items()))
        if kind == "N":
            number = Decimal(value)
            value = float(number) if name == "slowed_to" else int(number)
        plain[name] = bytes(value) if kind == "B" else value
    return plain


def _micros(seconds: float) -> int:
    """Whole microseconds, rounded up; at most ten years, which is for ever here."""
    return math.ceil(min(seconds, 315_360_000.0) * 1e6)
