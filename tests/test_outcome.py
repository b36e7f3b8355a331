import pytest

from eventrouter.events import StoredEvent
from eventrouter.outcome import Outcome, outcome_of
from eventrouter.route import Router
from eventrouter.values import MISSING
from routes_kit import HEAD, load

ROUTES = """\
  - { name: pages, to: [crm, alerts], when: type == "page", map: { n: "{{ name }}" } }
  - { name: sums, to: crm, when: type == "track", set: { n: "{{ properties.n + 1 }}" } }
  - { name: nobody, to: crm, when: type == "group", skip: no groups }
"""


@pytest.mark.parametrize(
    ("event", "destination", "expected"),
    [
        ({"type": "page", "name": "Home"}, "crm", Outcome({"n": "Home"}, route="pages")),
        ({"type": "page", "name": "Home"}, "alerts", Outcome(MISSING, "consent")),
        ({"type": "alias"}, "crm", Outcome(MISSING, "no_route")),
        ({"type": "group"}, "crm", Outcome(MISSING, "no groups")),
        ({"type": "alias"}, "off", Outcome(MISSING, "disabled")),
    ],
)
def test_an_event_has_one_outcome_at_each_destination(event, destination, expected):
    router = Router(load(HEAD + ROUTES))
    assert outcome_of(router, StoredEvent("website", event), destination) == expected


def test_a_template_that_fails_is_told_apart():
    event = StoredEvent("website", {"type": "track", "properties": {"n": "x"}})
    outcome = outcome_of(Router(load(HEAD + ROUTES)), event, "crm")
    assert (outcome.payload, outcome.route, outcome.failed) == (MISSING, "sums", True)
    assert outcome.reason.startswith("`set n` ")
