import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.limiter import Limiter


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_of_one_second_passes_and_more_have_to_wait() -> None:
    limiter = Limiter(10.0, Clock())
    assert [limiter.take(1) for _ in range(10)] == [0.0] * 10
    assert limiter.take(1) == pytest.approx(0.1)


def test_what_flows_in_may_be_taken() -> None:
    clock = Clock()
    limiter = Limiter(10.0, clock)
    limiter.take(10)
    clock.now += 0.1001
    assert limiter.take(1) == 0.0
    assert limiter.take(1) > 0


def test_the_wait_that_is_told_is_enough_and_no_less_is() -> None:
    clock = Clock()
    limiter = Limiter(4.0, clock)
    limiter.take(9)
    wait = limiter.take(1)
    assert wait == pytest.approx(1.5)
    clock.now += wait - 0.01
    assert limiter.take(1) == pytest.approx(0.01)
    clock.now += 0.011
    assert limiter.take(1) == 0.0


def test_a_batch_larger_than_the_bucket_passes_and_those_after_it_wait() -> None:
    clock = Clock()
    limiter = Limiter(100.0, clock)
    assert limiter.take(2500) == 0.0
    assert limiter.take(1) == pytest.approx(24.01)
    clock.now += 24.02
    assert limiter.take(2500) == 0.0


def test_a_large_batch_passes_beside_small_requests_that_use_the_whole_rate() -> None:
    clock = Clock()
    limiter = Limiter(10.0, clock)
    passed = 0
    for _ in range(1000):
        passed += limiter.take(50) == 0.0
        for _ in range(5):
            limiter.take(1)
        clock.now += 0.1
    assert passed >= 10


def test_a_slow_rate_lets_one_event_pass() -> None:
    clock = Clock()
    limiter = Limiter(1 / 60, clock)
    assert limiter.take(1) == 0.0
    assert limiter.take(1) == pytest.approx(60.0)


def test_no_more_than_a_burst_is_saved_up() -> None:
    clock = Clock()
    limiter = Limiter(2.0, clock)
    clock.now += 3600
    assert [limiter.take(1) for _ in range(3)][:2] == [0.0, 0.0]
    assert limiter.take(1) > 0


@given(
    st.floats(0.1, 1000),
    st.lists(st.tuples(st.integers(1, 300), st.floats(0, 2)), min_size=1, max_size=60),
)
def test_in_any_time_no_more_passes_than_the_rate_a_burst_and_one_batch(
    rate: float, requests: list[tuple[int, float]]
) -> None:
    clock = Clock()
    limiter = Limiter(rate, clock)
    taken, largest, start = 0, 0, clock.now
    for count, wait in requests:
        clock.now += wait
        if limiter.take(count) == 0.0:
            taken += count
            largest = max(largest, count)
    assert taken <= rate * (clock.now - start) + max(rate, 1.0) + largest
