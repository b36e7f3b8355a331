import pytest

from eventrouter import quantities
from eventrouter.destination import RateLimit


@pytest.mark.parametrize(
    ("text", "count"), [("64KB", 65_536), ("256MB", 256 * 1024**2), ("1GiB", 1024**3), ("1.5kb", 1536), ("100", 100)]
)
def test_sizes_are_bytes(text, count):
    assert quantities.size(text) == count


@pytest.mark.parametrize("text", ["", "1TB2", "-1MB", "many"])
def test_what_is_no_size_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="64KB, 256MB, 1GB"):
        quantities.size(text)


@pytest.mark.parametrize(
    ("text", "part"), [("10%", 0.1), ("0.1", 0.1), ("0%", 0), ("100%", 1), ("1", 1), ("0.5%", 0.005)]
)
def test_shares_are_from_0_to_1(text, part):
    assert quantities.share(text) == pytest.approx(part)


@pytest.mark.parametrize("text", ["10", "101%", "-1%", "half", ""])
def test_what_is_no_share_is_refused_with_examples(text):
    with pytest.raises(ValueError, match=r"10% or 0\.1"):
        quantities.share(text)


@pytest.mark.parametrize(
    ("text", "limit"), [("10/s", RateLimit(10, 1)), ("600/m", RateLimit(600, 60)), ("100 / 10s", RateLimit(100, 10))]
)
def test_rates_are_a_count_in_a_time(text, limit):
    assert quantities.rate(text) == limit


@pytest.mark.parametrize("text", ["10", "0/s", "10/0s", "x/s", "10/w"])
def test_what_is_no_rate_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="10/s, 600/m"):
        quantities.rate(text)
