"""step_arguments.py: the sections that several steps share."""

from __future__ import annotations

import msgspec

from eventrouter.lane import SHORT_LEASE_MS, Append, Claim, Item, Lane, Removal
from eventrouter.step_arguments import (
    new_token,
    pack,
    read_claims,
    read_parts,
    write_appends,
    write_counts,
    write_parts,
    write_removals,
)


def test_appends_name_their_lanes_by_number_and_leave_their_data_to_the_blobs() -> None:
    keys, blobs = ["er:{1}:lane:log"], [b"before"]
    args = write_appends(
        keys,
        blobs,
        1,
        [Append("crm", [("k", 1, b"x"), ("", 2, b"y")], "to:crm"), Append("none", []), Append("ads", [("q", 1, b"z")])],
    )
    assert ["er:{1}:lane:log", "er:{1}:lane:crm", "er:{1}:lane:ads"] == keys
    assert [b"before", b"x", b"y", b"z"] == blobs
    tokens = [args.pop(3), args.pop(11 - 1)]
    assert [SHORT_LEASE_MS, 2, 2, "to:crm", 2, "k", 1, "", 2, 3, "", 1, "q", 1] == args
    assert 2 == len(set(tokens))


def test_removals_that_are_alike_go_together() -> None:
    def removal(name: str, count: str, key: str = "", units: int = 1) -> Removal:
        return Removal(Item(name, bool(key), key, units, b"12345"), count)

    args = write_removals([removal("1", "a"), removal("2", "b"), removal("3", "a"), removal("4", "a", "k", 2)])
    assert [3, "", 1, "a", 10, 2, "1", "3", "", 1, "b", 5, 1, "2", "k", 2, "a", 5, 1, "4"] == args


def test_counts_are_pairs() -> None:
    assert [2, "a", 1, "b", 2] == write_counts({"a": 1, "b": 2})


def test_the_parts_of_a_pin_are_read_as_they_were_written() -> None:
    parts = [["1-0", "2-0"], ["3-0"]]
    assert parts == read_parts(write_parts(parts))


def test_claims_are_keys_and_tokens_by_turns() -> None:
    assert [Claim(Lane(3, "crm"), "t1"), Claim(Lane(3, "a:b"), "t2")] == read_claims(
        [b"er:{3}:lane:crm", b"t1", b"er:{3}:lane:a:b", b"t2"]
    )


def test_no_two_tokens_are_the_same() -> None:
    assert 1000 == len({new_token() for _ in range(1000)})


def test_arguments_are_packed_as_one() -> None:
    assert ["a", 1] == msgspec.msgpack.decode(pack(["a", 1]))
