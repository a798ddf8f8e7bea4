"""Delays and jitters: their numbers, their bounds for every combination, and what they refuse."""

from __future__ import annotations

import math
import pickle
from itertools import chain, pairwise, repeat
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilient_faces import (
    Fault,
    Guard,
    Kind,
    OptionError,
    Retry,
    RetryableError,
    UnknownOptionError,
    deadline,
    first_match,
    guard,
    retry,
)
from resilient_faces.retry import (
    Backoff,
    Jitter,
    additive,
    decorrelated,
    equal,
    exponential,
    fibonacci,
    fixed,
    full,
    linear,
    none,
    proportional,
    sequence,
    upward,
)
from resilient_faces.retry.backoff import CAP, as_backoff
from resilient_faces.testing import ManualRuntime, script

SECONDS = st.floats(0.0, 1e6)
CAPS = st.floats(1e-3, 1e6)
CHANCES = st.floats(0.0, 1.0, exclude_max=True)
NUMBERS = st.integers(1, 20_000)
DELAYS = st.one_of(
    st.builds(fixed, SECONDS, cap=CAPS),
    st.builds(linear, SECONDS, step=SECONDS, cap=CAPS),
    st.builds(exponential, SECONDS, factor=st.floats(1.0, 100.0), cap=CAPS),
    st.builds(exponential, st.integers(0, 100), factor=st.integers(1, 10), cap=CAPS),
    st.builds(sequence, st.lists(SECONDS, min_size=1, max_size=6).map(tuple), cap=CAPS),
    st.builds(fibonacci, SECONDS, cap=CAPS),
)
FRACTIONS = st.floats(0.0, 1.0)
BELOW_CAP = st.one_of(
    st.just(none()),
    st.just(full()),
    st.just(equal()),
    st.builds(proportional, FRACTIONS),
    st.builds(additive, SECONDS),
    st.just(decorrelated()),
)


def waited(policy: Retry | Guard[Any], error: Exception, chances: list[float]) -> list[float]:
    """What this policy waits between calls that all fail, drawing these chances; no wait is not listed."""
    with ManualRuntime(chance=chain(chances, repeat(0.5)).__next__).installed() as clock:
        with pytest.raises(type(error)):
            policy(script(error).function())()
        return clock.slept


def at_most(value: float, bound: float) -> bool:
    """Not above the bound, but for the last bit of a float."""
    return value <= bound * (1.0 + 1e-12)


# -- laws ----------------------------------------------------------------------------------------------------------


@given(DELAYS, NUMBERS)
def test_a_delay_is_never_above_its_cap(delay: Backoff, number: int) -> None:
    """Whatever the options and however late the retry: from zero to the cap, and a finite number."""
    assert 0.0 <= delay.delay(number) <= delay.cap


@given(DELAYS, st.integers(1, 200))
def test_a_delay_does_not_shrink_unless_it_is_a_list(delay: Backoff, number: int) -> None:
    """Later retries wait as long as earlier ones or longer."""
    if not isinstance(delay, sequence):
        assert delay.delay(number) <= delay.delay(number + 1) * (1.0 + 1e-12)


@example(fixed(10.0, cap=10.0), proportional(0.5), 1, 0.9, 0.0)
@given(DELAYS, BELOW_CAP, NUMBERS, CHANCES, SECONDS)
def test_every_delay_with_every_jitter_stays_below_the_cap(
    delay: Backoff, jitter: Jitter, number: int, chance: float, previous: float
) -> None:
    """The cap is applied before the jitter, and no jitter leads above it."""
    waited = jitter.spread(delay.delay(number), min(previous, delay.cap), delay, chance)
    assert waited >= 0.0
    assert at_most(waited, delay.cap)


@given(DELAYS, BELOW_CAP, st.lists(CHANCES, min_size=1, max_size=12))
def test_a_retry_waits_what_delay_and_jitter_say(delay: Backoff, jitter: Jitter, chances: list[float]) -> None:
    """`Retry` adds nothing of its own, and hands each wait on as the next one's `previous`."""
    waits: list[float] = []
    for number, chance in enumerate(chances, 1):
        waits.append(jitter.spread(delay.delay(number), waits[-1] if waits else 0.0, delay, chance))
    policy = retry(attempts=len(chances) + 1, backoff=delay, jitter=jitter)
    assert waited(policy, RetryableError(), chances) == [one for one in waits if one]


@given(DELAYS, st.lists(CHANCES, min_size=1, max_size=5), st.floats(0.0, 1e7))
def test_a_hint_is_a_floor_below_the_cap(delay: Backoff, chances: list[float], hint: float) -> None:
    """A server's hint lengthens a wait, never shortens it, and never leads above the cap."""
    told = first_match(lambda error: Fault(Kind.throttled, "x", retry_after=hint))
    bare = [full().spread(delay.delay(number), 0.0, delay, chance) for number, chance in enumerate(chances, 1)]
    hinted = waited(retry(attempts=len(chances) + 1, backoff=delay, classify=told), RetryableError(), chances)
    assert hinted == [one for one in (max(one, min(hint, delay.cap)) for one in bare) if one]


@given(DELAYS, BELOW_CAP, st.lists(CHANCES, min_size=12, max_size=12), st.floats(1e-3, 1e5))
def test_no_wait_ends_after_the_deadline(delay: Backoff, jitter: Jitter, chances: list[float], seconds: float) -> None:
    """Waits are begun as long as they end before it, and the first that would not is the end of the call."""
    policy = retry(attempts=len(chances) + 1, backoff=delay, jitter=jitter)
    free = waited(policy, RetryableError(), chances)
    bounded = waited(guard(deadline(seconds), policy), RetryableError(), chances)
    fitting = 0
    now = ManualRuntime().now
    end = now + seconds
    while fitting < len(free) and now + free[fitting] < end:
        now += free[fitting]
        fitting += 1
    assert bounded == free[:fitting]


@given(DELAYS, st.integers(1, 100), CHANCES)
def test_full_jitter_is_from_zero_to_the_delay(delay: Backoff, number: int, chance: float) -> None:
    """`U(0, delay)`."""
    assert full().spread(delay.delay(number), 0.0, delay, chance) == delay.delay(number) * chance


@given(DELAYS, st.integers(1, 100), CHANCES)
def test_equal_jitter_keeps_half(delay: Backoff, number: int, chance: float) -> None:
    """`delay / 2 + U(0, delay / 2)`."""
    raw = delay.delay(number)
    assert raw / 2 - 1e-300 <= equal().spread(raw, 0.0, delay, chance) <= raw * (1.0 + 1e-12) + 1e-300


@given(DELAYS, FRACTIONS, st.integers(1, 100), CHANCES)
def test_proportional_jitter_is_around_the_delay(delay: Backoff, fraction: float, number: int, chance: float) -> None:
    """`delay * (1 - fraction)` to `delay * (1 + fraction)`."""
    raw = delay.delay(number)
    waited = proportional(fraction).spread(raw, 0.0, delay, chance)
    assert raw * (1.0 - fraction) <= waited * (1.0 + 1e-12)
    assert at_most(waited, raw * (1.0 + fraction))


@given(SECONDS, SECONDS, CHANCES)
def test_additive_jitter_is_on_top_while_there_is_room(raw: float, width: float, chance: float) -> None:
    """`delay + U(0, seconds)`."""
    delay = fixed(raw, cap=1e7)
    assert additive(width).spread(raw, 0.0, delay, chance) == pytest.approx(raw + width * chance)


@given(SECONDS, CAPS, CHANCES)
def test_additive_jitter_still_spreads_at_the_cap(width: float, cap: float, chance: float) -> None:
    """At saturation the whole span lies below the cap instead of being cut to a point."""
    delay = fixed(1e7, cap=cap)
    waited = additive(width).spread(delay.delay(1), 0.0, delay, chance)
    room = min(width, cap)
    assert waited == pytest.approx(cap - room + room * chance)


@given(st.lists(CHANCES, min_size=1, max_size=30), st.floats(0.01, 10.0), st.floats(10.0, 1000.0))
def test_decorrelated_jitter_is_the_formula_of_aws(chances: list[float], base: float, cap: float) -> None:
    """`min(cap, U(base, 3 x previous))`, beginning at the base."""
    delay = exponential(base, cap=cap)
    previous = 0.0
    for chance in chances:
        waited = decorrelated().spread(delay.delay(1), previous, delay, chance)
        top = 3.0 * (previous or base)
        assert waited == min(cap, base + (top - base) * chance)
        assert base <= waited <= cap
        previous = waited


@given(SECONDS, FRACTIONS, CHANCES)
def test_upward_jitter_may_exceed_the_cap_by_its_fraction(raw: float, fraction: float, chance: float) -> None:
    """What the preset promises: the delay plus 0 to 10 % of it, above the cap if need be."""
    waited = upward(fraction).spread(raw, 0.0, fixed(raw, cap=max(raw, 1e-9)), chance)
    assert raw <= waited
    assert at_most(waited, raw * (1.0 + fraction))


# -- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        (fixed(2.0), [2, 2, 2, 2]),
        (fixed(0.0), [0, 0, 0, 0]),
        (fixed(5.0, cap=3.0), [3, 3, 3, 3]),
        (linear(1.0), [1, 2, 3, 4]),
        (linear(1.0, step=0.5), [1, 1.5, 2, 2.5]),
        (linear(1.0, step=0.0), [1, 1, 1, 1]),
        (linear(10.0, cap=25.0), [10, 20, 25, 25]),
        (exponential(1.0), [1, 2, 4, 8]),
        (exponential(1.0, factor=3.0), [1, 3, 9, 27]),
        (exponential(1.0, factor=1.5), [1, 1.5, 2.25, 3.375]),
        (exponential(1.0, factor=1.0), [1, 1, 1, 1]),
        (exponential(1.0, cap=3.0), [1, 2, 3, 3]),
        (exponential(50.0, cap=3.0), [3, 3, 3, 3]),
        (sequence((1.0, 5.0, 2.0)), [1, 5, 2, 2]),
        (sequence((1.0, 5.0), cap=4.0), [1, 4, 4, 4]),
        (fibonacci(1.0), [1, 1, 2, 3, 5, 8, 13, 21, 30]),
        (fibonacci(0.5, cap=1.2), [0.5, 0.5, 1, 1.2]),
    ],
    ids=str,
)
def test_delays_by_number(delay: Backoff, seconds: list[float]) -> None:
    """The n-th retry waits this long before jitter."""
    assert [delay(number) for number in range(1, len(seconds) + 1)] == seconds


def test_defaults_are_those_of_the_documentation() -> None:
    """0.1 s, doubled, up to 30 s."""
    assert exponential() == exponential(0.1, factor=2.0, cap=30.0)
    assert CAP == 30.0
    assert fixed(90.0).cap == 90.0
    assert fixed(1.0).cap == 30.0
    assert sequence((1.0, 45.0)).cap == 45.0


@pytest.mark.parametrize("number", [1_025, 2_000, 100_000])
@pytest.mark.parametrize(
    "delay",
    [
        exponential(1.0, factor=2.0, cap=7.0),
        exponential(1e300, factor=1e10, cap=7.0),
        exponential(1, factor=2, cap=7.0),
        fibonacci(1e300, cap=7.0),
        linear(1e300, cap=7.0),
    ],
    ids=str,
)
def test_an_overflow_yields_the_cap(delay: Backoff, number: int) -> None:
    """However late the retry, the wait is the cap and not an error."""
    assert delay.delay(number) == 7.0


@pytest.mark.parametrize("jitter", [none(), full(), equal(), proportional(), additive(), decorrelated()], ids=str)
def test_an_overflow_can_be_jittered(jitter: Jitter) -> None:
    """Whole numbers grow beyond floats; what comes out is still a number of seconds."""
    delay = exponential(1, factor=2, cap=1e300)
    assert 0.0 < jitter.spread(delay.delay(5_000), 1.0, delay, 0.5) <= 1e300


@pytest.mark.parametrize("delay", [fixed, linear, exponential, fibonacci])
def test_a_delay_without_end_is_refused(delay: Any) -> None:
    """What grows without end would one day wait for ever; a day is a cap too."""
    with pytest.raises(OptionError, match=rf"{delay.__name__}\.cap must be .*; got inf"):
        delay(1.0, cap=math.inf)
    assert delay(1.0, cap=86_400.0).cap == 86_400.0


def test_plain_numbers_and_functions_are_delays(clock: ManualRuntime) -> None:
    """`backoff=2` and `backoff=lambda n: n * n` work; what a function says is held between zero and the cap."""
    assert as_backoff(2.0) == fixed(2.0)
    assert [as_backoff(lambda n: n * n).delay(n) for n in (1, 2, 3)] == [1, 4, 9]
    assert as_backoff(lambda n: 1e9).delay(1) == CAP
    assert as_backoff(lambda n: -5.0).delay(1) == 0.0
    assert as_backoff(lambda n: math.nan).delay(1) == CAP
    assert as_backoff(exponential(1.0)) == exponential(1.0)


def test_delays_and_jitters_are_values() -> None:
    """Equal options make equal values that hash, show and travel alike."""
    assert exponential(1.0) == exponential(1.0) != exponential(2.0)
    assert {full(), full(), proportional(0.2), proportional(0.3)} == {full(), proportional(), proportional(0.3)}
    for value in (exponential(1.0), sequence((1.0, 2.0)), fixed(3.0), linear(1.0), fibonacci(), additive(2.0)):
        assert pickle.loads(pickle.dumps(value)) == value
        assert eval(repr(value)) == value


def test_a_jitter_draws_by_itself(clock: ManualRuntime) -> None:
    """Outside of any retry a jitter spreads a number of seconds by the runtime's chance."""
    clock.chance = 0.25
    assert full()(8.0) == 2.0
    assert equal()(8.0) == 5.0
    assert none()(8.0) == 8.0


def test_chances_spread_the_whole_span(clock: ManualRuntime) -> None:
    """Low chances give low waits, high ones high waits."""
    chances = [0.0, 0.25, 0.5, 0.75, 0.999]
    for jitter in (full(), equal(), proportional(0.2), additive(1.0), upward(0.1), decorrelated()):
        delay = fixed(4.0)
        waits = [jitter.spread(4.0, 0.0, delay, chance) for chance in chances]
        assert all(low < high for low, high in pairwise(waits)), jitter


# -- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fixed(-1.0), "fixed.seconds must be 0 or more seconds; got -1.0."),
        (lambda: fixed("1"), "fixed.seconds must be 0 or more seconds; got '1'."),
        (lambda: fixed(math.nan), "fixed.seconds must be 0 or more seconds; got nan."),
        (lambda: fixed(1.0, cap=-1.0), "fixed.cap must be 0 or more seconds; got -1.0."),
        (lambda: linear(-1.0, step=0.0), "linear.base must be 0 or more seconds; got -1.0."),
        (lambda: linear(1.0, step=-1.0), "linear.step must be 0 or more seconds; got -1.0."),
        (
            lambda: linear(1.0, cap=0.0),
            "linear.cap must be more than 0 seconds; got 0.0. A delay without a cap grows without end; 86400 is a day.",
        ),
        (lambda: exponential(-1.0), "exponential.base must be 0 or more seconds; got -1.0."),
        (
            lambda: exponential(factor=0.5),
            "exponential.factor must be 1 or more; got 0.5. For the same delay each time use fixed(seconds).",
        ),
        (lambda: exponential(True), "exponential.base must be 0 or more seconds; got True."),
        (lambda: sequence(()), "sequence.seconds must be at least one delay; got ()."),
        (lambda: sequence(5.0), "sequence.seconds must be a list of numbers of seconds; got 5.0."),
        (lambda: sequence((1.0, -1.0)), "sequence.seconds[1] must be 0 or more seconds; got -1.0."),
        (lambda: fibonacci(math.inf), "fibonacci.base must be 0 or more seconds; got inf."),
        (lambda: proportional(1.5), "proportional.fraction must be 0 or more and 1 or less; got 1.5."),
        (lambda: additive(-1.0), "additive.seconds must be 0 or more seconds; got -1.0."),
        (lambda: upward(2.0), "upward.fraction must be 0 or more and 1 or less; got 2.0."),
    ],
)
def test_wrong_options_are_refused(make: object, said: str) -> None:
    """Class, option, rule, value."""
    with pytest.raises(OptionError) as caught:
        make()  # type: ignore[operator]
    assert str(caught.value) == said


def test_all_wrong_options_come_in_one_message() -> None:
    """Nobody mends them one by one."""
    with pytest.raises(OptionError) as caught:
        exponential(-1.0, factor=0.0, cap=0.0)
    assert len(str(caught.value).splitlines()) == 3


def test_a_mistyped_option_is_named() -> None:
    """With the nearest one that exists."""
    with pytest.raises(UnknownOptionError, match=r"exponential has no option 'facter'\. Did you mean factor\?"):
        exponential(1.0, facter=2.0)
