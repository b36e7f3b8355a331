"""Identity, seen in the warehouse: who did what, also before they said who they are."""

from typing import Any

from system import System, until


def persons(system: System, count: int, prefix: str, table: str = "events") -> dict[str, str]:
    """The person of each event whose id begins with `prefix`."""
    rows = system.rows(count, f"SELECT id, person_id FROM {table} WHERE id LIKE ?", f"{prefix}%")
    return {row["id"].removeprefix(prefix): row["person_id"] for row in rows}


def page(id: str, **ids: str) -> dict[str, Any]:  # noqa: A002 (the word of the warehouse)
    return {"type": "page", "name": "P", "messageId": id, **ids}


def test_an_identify_ties_what_was_anonymous_before(plain: System) -> None:
    plain.send(page("tie-phone", anonymousId="tie-p"), page("tie-laptop", anonymousId="tie-l"))
    before = persons(plain, 2, "tie-")
    assert before["phone"] != before["laptop"]
    plain.send({"type": "identify", "userId": "tie-u", "anonymousId": "tie-p", "messageId": "tie-login-p"})
    persons(plain, 3, "tie-")
    plain.send({"type": "identify", "userId": "tie-u", "anonymousId": "tie-l", "messageId": "tie-login-l"})
    plain.send(page("tie-after", anonymousId="tie-l"))
    persons(plain, 5, "tie-")
    until(lambda: len(set(persons(plain, 5, "tie-", "resolved_events").values())) == 1)
    resolved = persons(plain, 5, "tie-", "resolved_events")
    # What was known then stays as it was.
    assert persons(plain, 5, "tie-")["laptop"] == before["laptop"]
    assert resolved["after"] == resolved["phone"]
    rows = plain.rows(3, "SELECT type, value, person_id FROM identities WHERE value LIKE 'tie-%' ORDER BY value")
    assert [(row["type"], row["value"]) for row in rows] == [
        ("anonymous_id", "tie-l"),
        ("anonymous_id", "tie-p"),
        ("user_id", "tie-u"),
    ]
    [merge] = plain.rows(1, "SELECT * FROM identity_merges WHERE person_id = ?", before["laptop"])
    assert (merge["into_person_id"], merge["reason"]) == (resolved["phone"], "tie-login-l")


def test_two_known_users_are_never_merged(plain: System) -> None:
    plain.send(
        {"type": "identify", "userId": "two-a", "anonymousId": "two-shared", "messageId": "two-1"},
        {"type": "identify", "userId": "two-b", "anonymousId": "two-shared", "messageId": "two-2"},
        {"type": "alias", "userId": "two-a", "previousId": "two-b", "messageId": "two-3"},
        {"type": "track", "event": "T", "userId": "two-b", "anonymousId": "two-shared", "messageId": "two-4"},
    )
    persons(plain, 4, "two-")
    found = persons(plain, 4, "two-", "resolved_events")
    assert found["1"] != found["2"]
    assert found["2"] == found["4"]
    assert found["1"] == found["3"]


def test_placeholders_tie_nobody(plain: System) -> None:
    plain.send(
        {"type": "identify", "userId": "null", "anonymousId": "none-1", "messageId": "none-1"},
        {"type": "identify", "userId": "null", "anonymousId": "none-2", "messageId": "none-2"},
    )
    found = persons(plain, 2, "none-")
    assert found["1"] != found["2"]


def test_the_person_is_the_same_in_every_source(plain: System) -> None:
    plain.send({"type": "track", "event": "T", "userId": "both", "messageId": "both-1"})
    plain.send({"type": "track", "event": "T", "userId": "both", "messageId": "both-2"}, key="key-app")
    found = persons(plain, 2, "both-")
    assert found["1"] == found["2"]
