import pytest

from eventrouter.durations import duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("1s", 1), ("5m", 300), ("72h", 259_200), ("2d", 172_800), ("1.5", 1.5), ("0", 0), (" 3 s", 3)],
)
def test_durations_are_seconds(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "3 weeks", "-1s", "1h30m", "s", "1e3", "٣s" * 2])
def test_what_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="250ms, 1s, 5m, 72h"):
        duration(text)
