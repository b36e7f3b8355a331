"""Identity merges, kept flattened: each row of `identity_merges` names the person of today."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from eventrouter.records import IdentityMerge

from .store import Store, chunks, placeholders
from .values import read_time

Edge = tuple[str, int]
"""Into whom a person was merged, and the `seq` of it."""


def root(person: str, edges: dict[str, Edge]) -> str:
    """The person that `person` is today, by following `edges`.

    In a ring the newest merges hold: the one with the lowest `seq` in it (the first by code points of equal ones) is
    taken as undone, so that the walk ends at the same person wherever it begins.
    """
    path: list[str] = []
    seen: set[str] = set()
    while person in edges and person not in seen:
        seen.add(person)
        path.append(person)
        person = edges[person][0]
    if person not in seen:
        return person
    ring = path[path.index(person) :]
    return min(ring, key=lambda member: (edges[member][1], member))


def load_merges(store: Store, merges: Iterable[IdentityMerge]) -> None:
    """Loads merges in any order and however often: of two for one person the higher `seq` holds.

    Runs in the open transaction of `store`, and keeps other loaders of merges out until it ends.
    """
    newest: dict[str, IdentityMerge] = {}
    for merge in merges:
        if merge.person_id == merge.into_person_id:
            continue
        known = newest.get(merge.person_id)
        if known is None or merge.seq > known.seq:
            newest[merge.person_id] = merge
    if not newest:
        return
    store.lock_merges()
    edges, roots = _read(store, "person_id", newest.keys() | {merge.into_person_id for merge in newest.values()})
    changed = {person: merge for person, merge in newest.items() if person not in edges or merge.seq > edges[person][1]}
    if not changed:
        return
    today = _short_cut(changed, roots)
    if today is not None:
        for person, now in today.items():
            store.execute("UPDATE identity_merges SET root_person_id = ? WHERE root_person_id = ?", (now, person))
    else:
        heads = set(edges) | changed.keys() | {edge[0] for edge in edges.values()} | set(roots.values())
        heads |= {merge.into_person_id for merge in changed.values()}
        below, roots_below = _read(store, "root_person_id", heads)
        edges.update(below)
        roots.update(roots_below)
        edges.update((person, (merge.into_person_id, merge.seq)) for person, merge in changed.items())
        today = {person: root(person, edges) for person in changed}
        _move(store, {person: root(person, edges) for person in roots}, roots)
    for person, merge in changed.items():
        _write(store, merge, today[person], exists=person in roots)


def _short_cut(changed: Mapping[str, IdentityMerge], roots: Mapping[str, str]) -> dict[str, str] | None:
    """Today's person of each in `changed`, without a look at everybody who was merged into them before.

    None where that would not do: somebody was merged before, or there is a ring.
    """
    if not roots.keys().isdisjoint(changed):
        return None
    today: dict[str, str] = {}
    for person in changed:
        at, seen = person, set[str]()
        while at in changed:
            if at in seen:
                return None
            seen.add(at)
            into = changed[at].into_person_id
            at = roots.get(into, into)
        today[person] = at
    return today


def _move(store: Store, today: Mapping[str, str], before: Mapping[str, str]) -> None:
    moved: dict[str, list[str]] = {}
    for person, now in today.items():
        if now != before[person]:
            moved.setdefault(now, []).append(person)
    for now, persons in moved.items():
        for some in chunks(persons, 500):
            marks = placeholders(len(some))
            store.execute(f"UPDATE identity_merges SET root_person_id = ? WHERE person_id IN ({marks})", (now, *some))


def _write(store: Store, merge: IdentityMerge, today: str, *, exists: bool) -> None:
    values = (merge.into_person_id, today, merge.seq, read_time(merge.merged_at), merge.reason, merge.person_id)
    if exists:
        sql = (
            "UPDATE identity_merges SET into_person_id = ?, root_person_id = ?, seq = ?, merged_at = ?, reason = ?"
            " WHERE person_id = ?"
        )
    else:
        sql = (
            "INSERT INTO identity_merges (into_person_id, root_person_id, seq, merged_at, reason, person_id)"
            " VALUES (?, ?, ?, ?, ?, ?)"
        )
    store.execute(sql, values)


def _read(store: Store, column: str, people: Collection[str]) -> tuple[dict[str, Edge], dict[str, str]]:
    """The merges whose `column` is one of `people`: the edges, and the persons of today as they were last known."""
    edges: dict[str, Edge] = {}
    roots: dict[str, str] = {}
    for some in chunks(people, 500):
        marks = placeholders(len(some))
        sql = f"SELECT person_id, into_person_id, seq, root_person_id FROM identity_merges WHERE {column} IN ({marks})"
        for person, into, seq, today in store.execute(sql, some):
            edges[person] = (into, seq)
            roots[person] = today
    return edges, roots
