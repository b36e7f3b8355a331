"""A destination as the lanes see it."""

from __future__ import annotations

import pytest

from deliver_kit import Sink
from eventrouter.attempts import Attempts
from eventrouter.delivery import in_hand
from eventrouter.errors import Reject, Retry
from eventrouter.health import Health
from eventrouter.target import Policy, Target


@pytest.fixture
async def target(lanes):
    async def enqueue(claims):
        pass

    sink = Sink()
    health = Health(lanes, "crm", initial=1, max_interval=60, timeout=5)
    yield Target("crm", Policy(), Attempts(sink, 5.0, secrets=("s3cr3t",)), health, in_hand, enqueue)
    await sink.close()


def test_a_failure_is_told_without_secrets_and_cut(target):
    assert "HTTP 401 for **********" == target.mask(Reject("HTTP 401 for s3cr3t"))
    assert 1000 == len(target.mask(Retry("x" * 5000)))


def test_a_failure_without_words_is_told_by_its_kind(target):
    assert ["Retry", "Reject"] == [target.mask(Retry()), target.mask(Reject())]


@pytest.mark.parametrize(("batch_size", "concurrency", "units"), [(1, 1, 100), (1000, 1, 2000), (100, 8, 1600)])
def test_what_a_turn_has_in_hand_is_bounded_and_keeps_its_attempts_busy(batch_size, concurrency, units):
    assert units == Policy(batch_size=batch_size, concurrency=concurrency).read_units
