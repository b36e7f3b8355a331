"""`--where`: which events are meant, and what becomes of those at which it fails."""

from __future__ import annotations

import pytest

from eventrouter.cli.common import UsageError
from eventrouter.cli.where import Where
from eventrouter.events import StoredEvent
from eventrouter.expressions import Expressions


def event(**properties):
    return StoredEvent("website", {"type": "track", "properties": properties})


def test_without_a_condition_every_event_is_meant():
    where = Where(None, Expressions())
    assert [where(event()), where(event()), where.looked] == [True, True, 2]


def test_events_that_meet_the_condition_are_meant():
    where = Where("properties.total > vars.limit", Expressions(variables={"limit": 10}))
    assert [where(event(total=11)), where(event(total=9)), where(event()), where.looked] == [True, False, False, 3]


def test_an_event_at_which_it_fails_is_left_out_and_counted():
    where = Where("properties.a ~ properties.a ~ properties.a ~ properties.a", Expressions())
    assert [where(event(a="x" * 100_000)), where(event(a="x"))] == [False, True]
    assert dict(where.failures) == {"makes a text of more than 262,144 characters": 1}


def test_all_that_is_wrong_with_the_condition_is_told_with_its_place_and_a_hint():
    with pytest.raises(UsageError) as caught:
        Where("tpe == 'page'\n  and evnt == 'x'", Expressions())
    assert (
        str(caught.value)
        == """\
--where:1:1: the condition uses the unknown name `tpe`
1| tpe == 'page'
 | ^
 = hint: did you mean `type`?
--where:2:7: the condition uses the unknown name `evnt`
2|   and evnt == 'x'
 |       ^
 = hint: did you mean `event`?"""
    )


def test_a_condition_that_is_too_long_is_not_shown_again():
    with pytest.raises(UsageError) as caught:
        Where("x" * 9_000, Expressions())
    assert str(caught.value) == "--where:1:1: the condition is longer than 8,000 characters\n  = hint: split it"
