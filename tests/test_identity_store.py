"""What is the same for every state database."""

from __future__ import annotations

import time

from eventrouter.builtin.identity.store import next_seq


def test_seq_grows_from_the_last_one_even_when_the_clock_is_behind() -> None:
    ahead = time.time_ns() // 1000 + 10**12
    assert next_seq(ahead) == ahead + 1


def test_seq_is_never_behind_the_clock_so_that_a_new_database_wins_over_an_old_one() -> None:
    before = time.time_ns() // 1000
    assert next_seq(0) >= before


def test_seq_is_an_exact_number_in_json() -> None:
    assert next_seq(0) < 2**53
