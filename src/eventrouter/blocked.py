"""Values that SDKs send as an id when they have none; taken for ids, they would make one person of thousands."""

from __future__ import annotations

import re

ANY_CASE = frozenset(
    {"anonymous", "guest", "distinctid", "distinct_id", "id", "not_authenticated", "email"}
    | {"undefined", "true", "false", "null", "none", "-1"}
)
"""Blocked in any case. From PostHog's list of ids that it never merges and from the defaults of Segment Unify."""

EXACT = frozenset({"[object Object]", "NaN"})
"""Blocked as they stand only, as at PostHog: `nan` may well be somebody's user name."""

ZEROS = re.compile(r"[0-]*")
"""Segment Unify's `^[0-]*$`: empty, `0`, `000000`, `00000000-0000-0000-0000-000000000000`."""

LONGEST = 64
"""No blocked value is longer (blanks and zeros apart), so that a long id costs no more than its length check."""


def is_blocked(value: str) -> bool:
    """True for a value that identifies nobody: blank, zeros, or a known stand-in for a missing id, also in quotes."""
    bare = value.strip()
    if len(bare) >= 2 and bare[0] == bare[-1] and bare[0] in "\"'":
        bare = bare[1:-1].strip()
    if ZEROS.fullmatch(bare):
        return True
    return len(bare) <= LONGEST and (bare in EXACT or bare.lower() in ANY_CASE)
