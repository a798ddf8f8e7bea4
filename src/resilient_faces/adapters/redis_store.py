"""Circuits, limiters and idempotency records that processes share through Redis or Valkey.

Each step is one script on one key, so it is atomic, costs one request, and works on a cluster. Times are by the
server's clock, which the scripts read themselves: the clocks of the processes do not matter.
"""

from __future__ import annotations

import base64
import importlib
import inspect
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from resilient_faces._core.options import Checks
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.adapters._server_clock import ServerClock
from resilient_faces.breaker import Shared
from resilient_faces.errors import MissingExtraError, OptionError
from resilient_faces.idempotency import Record, Status
from resilient_faces.limits import Granted, Pace

__all__ = ["RedisStore"]

_DATABASE: Final = re.compile(r"/?[0-9]*")
LONGEST_TRIP: Final = 0.1  # seconds from a request to its answer that slots make room for
SAMPLES: Final = 5  # requests that tell the time before a limiter's first one, at most

_CLOCK: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local function whole(number) return string.format('%.0f', number) end
local function read(...)
  local values = redis.call('HMGET', KEYS[1], ...)
  for i = 1, #values do values[i] = values[i] or '' end
  return values
end
"""

# Times and spans are whole microseconds: Lua's numbers hold them exactly for 280 years.
_SCRIPTS: Final[Mapping[str, str]] = {
    "load": """
local record = read('version', 'state', 'until', 'reopenings', 'last', 'by', 'failures', 'counted', 'schema')
record[10] = whole(now)
return record
""",
    "save": """
local version, state, span, reopenings, last, by, schema, expected, keep = unpack(ARGV)
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= expected then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'version', version, 'state', state, 'until', whole(now + span), 'reopenings', reopenings,
  'by', by, 'schema', schema)
if last ~= '' then redis.call('HSET', KEYS[1], 'last', last) end
redis.call('PEXPIRE', KEYS[1], keep)
return 1
""",
    "count": """
local version, span, keep = unpack(ARGV)
if (redis.call('HGET', KEYS[1], 'version') or '0') == version then
  if now < tonumber(redis.call('HGET', KEYS[1], 'counted') or '0') then
    redis.call('HINCRBY', KEYS[1], 'failures', 1)
  else
    redis.call('HSET', KEYS[1], 'failures', 1, 'counted', whole(now + span))
  end
  redis.call('PEXPIRE', KEYS[1], keep)
end
local record = read('version', 'state', 'until', 'reopenings', 'last', 'by', 'failures', 'counted', 'schema')
record[10] = whole(now)
return record
""",
    "clear": """
if (redis.call('HGET', KEYS[1], 'version') or '0') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'failures', 'counted')
end
return 1
""",
    "reserve": """
local count, rate, recovery, longest, lead, keep = unpack(ARGV)
local pace = read('next', 'slowed_to', 'slowed_at')
rate = tonumber(rate)
if pace[2] ~= '' then
  rate = math.min(rate, tonumber(pace[2]) + math.max(0, now - tonumber(pace[3])) / 1000000 * recovery)
end
local interval = math.ceil(1000000 / rate)
local begins = math.max(tonumber(pace[1]) or 0, now + lead)
local delay = begins - now
if longest ~= '' and delay > tonumber(longest) then return {whole(delay), whole(interval), 0, whole(now)} end
local ends = begins + count * interval
redis.call('HSET', KEYS[1], 'next', whole(ends), 'schema', 1)
redis.call('PEXPIRE', KEYS[1], whole((ends - now) / 1000 + keep))
return {whole(delay), whole(interval), 1, whole(now)}
""",
    "time": "return whole(now)",
    "slow_down": """
local rate, recovery, decrease, floor, keep = unpack(ARGV)
local pace = read('next', 'slowed_to', 'slowed_at')
rate = tonumber(rate)
if pace[2] ~= '' then
  local since = math.max(0, now - tonumber(pace[3]))
  rate = math.min(rate, tonumber(pace[2]) + since / 1000000 * recovery)
  if since < 2000000 / rate then return string.format('%.17g', rate) end
end
rate = math.max(tonumber(floor), rate * decrease)
local begins = math.max(tonumber(pace[1]) or 0, now) + math.ceil(1000000 / rate)
redis.call('HSET', KEYS[1], 'next', whole(begins), 'slowed_to', string.format('%.17g', rate), 'slowed_at', whole(now),
  'schema', 1)
redis.call('PEXPIRE', KEYS[1], whole((begins - now) / 1000 + keep))
return string.format('%.17g', rate)
""",
    "join": """
local member, span = unpack(ARGV)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', whole(now - span))
redis.call('ZADD', KEYS[1], whole(now), member)
redis.call('PEXPIRE', KEYS[1], whole(span / 1000 + 1))
return redis.call('ZCARD', KEYS[1])
""",
    "claim": """
local owner, fingerprint, lease, keep = unpack(ARGV)
keep = math.max(keep, lease)
local record = read('status', 'owner', 'lease', 'kept', 'fingerprint', 'data', 'schema')
if record[1] ~= '' and now < tonumber(record[4]) then
  local free = record[1] == 'in_progress' and (record[2] == owner or now >= tonumber(record[3]))
  if not free then
    record[8] = whole(now)
    return record
  end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'status', 'in_progress', 'owner', owner, 'lease', whole(now + lease),
  'kept', whole(now + keep), 'fingerprint', fingerprint, 'schema', 1)
redis.call('PEXPIRE', KEYS[1], whole(math.ceil(keep / 1000)))
return {}
""",
    "finish": """
local owner, status, data, keep = unpack(ARGV)
local record = read('status', 'owner', 'data')
if record[2] ~= owner then return 0 end
if record[1] ~= 'in_progress' then
  if record[1] == status and record[3] == data then return 1 end
  return 0
end
redis.call('HSET', KEYS[1], 'status', status, 'data', data, 'kept', whole(now + keep))
redis.call('HDEL', KEYS[1], 'lease')
redis.call('PEXPIRE', KEYS[1], whole(math.ceil(keep / 1000)))
return 1
""",
    "extend": """
local record = read('status', 'owner', 'kept')
if record[1] ~= 'in_progress' or record[2] ~= ARGV[1] then return 0 end
local ends = now + ARGV[2]
local kept = math.max(tonumber(record[3]), ends)
redis.call('HSET', KEYS[1], 'lease', whole(ends), 'kept', whole(kept))
redis.call('PEXPIRE', KEYS[1], whole(math.ceil((kept - now) / 1000)))
return 1
""",
    "release": """
local record = read('status', 'owner')
if record[1] ~= 'in_progress' or record[2] ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""",
    "find": """
local record = read('status', 'owner', 'lease', 'kept', 'fingerprint', 'data', 'schema')
record[8] = whole(now)
return record
""",
}


class RedisStore:
    """Where processes share circuits (`Breaker(store=...)`), limiters (`RateLimiter(store=...)`) and operations.

    Args:
        client: A synchronous client of the `redis` package. It should neither retry by itself nor wait for long:
            policies leave a store out that does not answer. `from_url` makes one.
        prefix: What all keys begin with: one server can serve several systems.
        keep: Seconds after which records of circuits and limiters that nobody has touched are forgotten.

    Raises:
        OptionError: Options are wrong.
    """

    inline: Final = False

    def __init__(self, client: Any, *, prefix: str = "resilient-faces:", keep: float = 86_400.0) -> None:
        checks = Checks("RedisStore")
        checks.function("client", getattr(client, "register_script", None), "Give it a redis.Redis, not a URL.")
        one = f"{type(client).__module__}.{type(client).__qualname__}"
        cure = "Give it a redis.Redis: policies of async code ask it in a thread."
        waits = inspect.iscoroutinefunction(getattr(client, "execute_command", None))
        checks.that(not waits, "client", "a client whose commands are no coroutines", one, cure)
        checks.that(isinstance(prefix, str), "prefix", "a string", prefix)
        checks.seconds("keep", keep)
        checks.done()
        self.prefix = prefix
        self._keep = math.ceil(keep * 1000.0)
        self._clocks: dict[str, ServerClock] = {}
        self._scripts = {name: client.register_script(_CLOCK + script) for name, script in _SCRIPTS.items()}

    @classmethod
    def from_url(
        cls, url: str, *, prefix: str = "resilient-faces:", keep: float = 86_400.0, timeout: float = 1.0, **options: Any
    ) -> RedisStore:
        """A store with a client of its own, that tries once and waits `timeout` seconds at most.

        Args:
            url: `redis://`, `rediss://` or `unix://`; it may hold a password, and is not kept.
            prefix: As above.
            keep: As above.
            timeout: Seconds to connect in, and to wait for an answer.
            options: Further options of `redis.Redis.from_url`.

        Raises:
            MissingExtraError: redis is not installed (extra `redis`).
            OptionError: The URL is none of Redis, or has options that are none; the message shows only their names.
        """
        checks = Checks("RedisStore.from_url")
        checks.that(isinstance(url, str), "url", "a string", type(url).__name__)
        checks.seconds("timeout", timeout)
        checks.done()
        once = _load("redis.retry").Retry(_load("redis.backoff").NoBackoff(), 0)
        own = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": once}
        client = _client(url, {**own, **options})
        if client is None:
            raise OptionError(_what_is_wrong(url, own, options))
        if not _DATABASE.fullmatch(urlsplit(url).path) and not url.startswith("unix:"):
            raise OptionError(
                "RedisStore.from_url.url must name its database by a number, as in redis://host:6379/0; it is not "
                "shown, since it may hold a password."
            )
        return cls(client, prefix=prefix, keep=keep)

    def __repr__(self) -> str:
        return f"RedisStore(prefix={self.prefix!r})"

    def _run(self, script: str, kind: str, key: str, *arguments: object) -> Any:
        return self._scripts[script](keys=[f"{self.prefix}{kind}:{key}"], args=arguments)

    # -- circuits --------------------------------------------------------------------------------------------------

    def load(self, key: str) -> Shared | None:
        """The record of a circuit; None if none was ever saved."""
        found = _shared(self._run("load", "circuit", key))
        return found if found is not None and found.version else None

    def save(self, key: str, shared: Shared, expected: int) -> bool:
        """Write the record if the stored version is `expected`; False if it is not."""
        span = _micros(shared.seconds)
        keep = self._keep + max(0, span) // 1000
        members = (shared.version, shared.state, span, shared.reopenings, shared.last or "", shared.by, shared.schema)
        return bool(self._run("save", "circuit", key, *members, expected, keep))

    def count(self, key: str, version: int, within: float) -> Shared | None:
        """Count one failure if the stored version is `version`, and answer what is stored now."""
        return _shared(self._run("count", "circuit", key, version, _micros(within), self._keep))

    def clear(self, key: str, version: int) -> None:
        """Forget the failures counted under this version."""
        self._run("clear", "circuit", key, version)

    # -- limiters --------------------------------------------------------------------------------------------------

    def reserve(self, key: str, count: int, pace: Pace, longest: float | None, lead: float) -> Granted:
        """Take the next `count` slots; see `LimiterStore`."""
        clock = self._clock(key)
        trip = min(clock.trip, LONGEST_TRIP)  # a slot cannot begin before the answer is there
        most = "" if longest is None else _micros(max(longest, trip))
        arguments = (count, repr(pace.rate), repr(pace.recovery), most, _micros(max(lead, trip)), self._keep)
        sent = RUNTIME.monotonic()
        delay, interval, taken, now = map(int, self._run("reserve", "limiter", key, *arguments))
        clock.hear(now / 1e6, now / 1e6, sent, RUNTIME.monotonic())
        # The delay counts from when the script ran, however long its answer was on its way.
        return Granted(delay / 1e6, interval / 1e6, bool(taken), now / 1e6 - clock.offset)

    def _clock(self, key: str) -> ServerClock:
        """The clock of the server that has this limiter; in a cluster each has its own."""
        clock = self._clocks.get(key)
        if clock is None:
            clock = ServerClock()
            # The first answer waits for a connection, and any may wait for a busy machine, and says little of the time
            # then. So until one is not much quicker than the best before.
            for _ in range(SAMPLES):
                before = clock.trip
                sent = RUNTIME.monotonic()
                now = int(self._run("time", "limiter", key))
                clock.hear(now / 1e6, now / 1e6, sent, RUNTIME.monotonic())
                if clock.trip > before / 2.0:
                    break
            self._clocks[key] = clock
        return clock

    def slow_down(self, key: str, pace: Pace) -> float:
        """Lower the rate for everybody; the rate from now on."""
        members = (repr(pace.rate), repr(pace.recovery), repr(pace.decrease), repr(pace.floor))
        return float(self._run("slow_down", "limiter", key, *members, self._keep))

    def join(self, key: str, member: str, within: float) -> int:
        """Say that this process is there; how many are."""
        return int(self._run("join", "members", key, member, _micros(within)))

    # -- operations ------------------------------------------------------------------------------------------------

    def claim(self, key: str, owner: str, fingerprint: str, lease: float, keep: float) -> Record | None:
        """Claim an operation; None if it was claimed, else the record that is in the way."""
        return _record(
            self._run("claim", "operation", key, owner, fingerprint, _micros(lease), _micros(keep)), in_the_way=True
        )

    def finish(self, key: str, owner: str, status: Status, data: bytes, keep: float) -> bool:
        """Write what it came to; False if this owner has it no more."""
        # As text: a client may be set to decode what it receives.
        text = base64.b64encode(data).decode("ascii")
        return bool(self._run("finish", "operation", key, owner, status.value, text, _micros(keep)))

    def extend(self, key: str, owner: str, lease: float) -> bool:
        """Begin the lease anew; False if this owner has it no more."""
        return bool(self._run("extend", "operation", key, owner, _micros(lease)))

    def release(self, key: str, owner: str) -> bool:
        """Give it up; False if this owner has it no more."""
        return bool(self._run("release", "operation", key, owner))

    def find(self, key: str) -> Record | None:
        """The record of an operation; None if there is none, or it is forgotten."""
        return _record(self._run("find", "operation", key), in_the_way=False)


def _micros(seconds: float) -> int:
    """Whole microseconds, rounded up; at most ten years, which is for ever here."""
    return math.ceil(min(seconds, 315_360_000.0) * 1e6)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _shared(answer: Sequence[Any]) -> Shared | None:
    version, state, until, reopenings, last, by, failures, counted, schema, now = map(_text, answer)
    failed = int(failures or 0) if int(now) < int(counted or 0) else 0
    if version:
        left = (int(until) - int(now)) / 1e6
        return Shared(int(version), state, left, int(reopenings), last or None, by, failed, int(schema))
    return Shared(0, "closed", 0.0, failures=failed) if counted else None


def _record(answer: Sequence[Any], *, in_the_way: bool) -> Record | None:
    if not answer:
        return None
    status, owner, lease, kept, fingerprint, data, schema, now = map(_text, answer)
    if not status or (int(kept) <= int(now) and not in_the_way):
        return None
    return Record(
        Status(status),
        owner,
        (int(lease) - int(now)) / 1e6 if lease else 0.0,
        (int(kept) - int(now)) / 1e6,
        fingerprint,
        base64.b64decode(data),
        int(schema),
    )


def _client(url: str, options: Mapping[str, Any]) -> Any:
    """A client; None if it does not take URL or options. Its own errors may show a part of the URL: the password."""
    redis = _load("redis")
    try:
        client = redis.Redis.from_url(url, **options)
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # connects to nothing yet, but knows its options
        pool.get_encoder().encode("")
    except (TypeError, ValueError, LookupError, redis.RedisError):
        return None
    return client


def _what_is_wrong(url: str, own: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Which options of URL or call the client does not take, each tried by itself; else, that it is the URL."""
    import difflib

    base, _, query = url.partition("?")
    if _client(base, own) is not None:
        pairs = parse_qsl(query.partition("#")[0], keep_blank_values=True)
        known = [name for name, _ in pairs]
        # Behind a password that was not encoded all may be a part of it.
        known = [] if "@" in query else known[: known.index("password")] if "password" in known else known
        wrong = [
            name for name, text in pairs if name in known and _client(f"{base}?{urlencode({name: text})}", own) is None
        ]
        if wrong:
            return (
                "RedisStore.from_url.url has options that redis.Redis.from_url does not take, or not with that value: "
                f"{', '.join(wrong)}. The rest of the URL is not shown, since it may hold a password."
            )
        wrong = [name for name, value in options.items() if _client(base, {**own, name: value}) is None]
        if wrong:
            near = difflib.get_close_matches(wrong[0], ("prefix", "keep", "timeout"), n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            return (
                f"RedisStore.from_url.options must be options of redis.Redis.from_url; got {', '.join(wrong)}.{meant} "
                "It is misspelt, has a wrong value, or is none of this kind of URL."
            )
    return (
        "RedisStore.from_url.url must be of the form redis://user:password@host:port/0; "
        "it is not shown, since it may hold a password. Percent-encode what a password has of :/?#[]@."
    )


def _load(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(extra="redis", missing=module.partition(".")[0]) from error
