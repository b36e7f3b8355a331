"""verdict.py: which failures are final, and what is told of a plugin's bug."""

from __future__ import annotations

import pytest

from eventrouter.errors import Reject, Retry
from eventrouter.verdict import MISCONFIGURED, Bug, OwnFault, Verdict, is_final


@pytest.mark.parametrize(
    ("failure", "final"),
    [
        (Reject("bad"), True),
        (Reject("bad", status=422), True),
        (Reject("moved", status=302), False),
        (Reject("private", everyone=True), False),
        (Retry("later"), False),
        (Bug(KeyError("x")), False),
        *((Reject("who?", status=status), False) for status in sorted(MISCONFIGURED)),
        *((OwnFault(Reject("who?", status=status)), True) for status in sorted(MISCONFIGURED)),
    ],
)
def test_only_a_refusal_for_the_deliverys_own_sake_is_final(failure, final):
    assert final == is_final(failure)


def test_a_bug_is_told_with_its_traceback():
    def plugin():
        raise KeyError("x")

    with pytest.raises(KeyError) as raised:
        plugin()
    bug = Bug(raised.value)
    assert ("KeyError: 'x'", True) == (str(bug), "in plugin" in bug.text)


def test_nothing_is_known_before_anything_was_tried():
    verdict = Verdict()
    assert ([], [], [], None) == (verdict.delivered, verdict.failed, verdict.untried, verdict.whole)
