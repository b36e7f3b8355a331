"""Rules files made by chance over their language: what `check` takes, and much beside that is nearly so."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

VALUES: list[Any] = [
    None, True, False, 0, 1, 2.5, -3, "", "x", "${X}", "${Y:-5}", "${Y:-true}", "5", "true", [], ["x"], [None], [[]],
    {}, {"a": 1}, {"a": None}, "crm", "website", "10%", "5m", "1GB", "10/s", "type == 'track'", "{{ userId }}",
    "userId",
]  # fmt: skip
"""What may stand anywhere, and is right only in some places."""
_anything = st.sampled_from(VALUES)


def _either(*usual: Any) -> st.SearchStrategy[Any]:
    """One of the usual values, now and then anything."""
    return st.sampled_from(usual) if len(usual) > 8 else st.sampled_from([*usual] * 15 + [...]).flatmap(_filled)


def _filled(value: Any) -> st.SearchStrategy[Any]:
    return _anything if value is ... else st.just(value)


def _object(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[Any]:
    """An object, of which a few optional keys are there."""
    names = sorted(optional)
    keys = st.lists(st.sampled_from(names), max_size=3, unique=True) if names else st.just([])
    return keys.flatmap(
        lambda some: st.fixed_dictionaries({**required, **{name.rstrip("_"): optional[name] for name in some}})
    )


_path = _either("userId", "context.ip", "properties.total", ["traits.email"], ["userId", "properties.a"])
_time = _either("5m", "250ms", 30, 1.5, "${T:-1h}")
_texts = _either("a", ["a", "b"], "${X}")
_flag = _either(True, False, "${F:-true}")
_number = _either(1, 5, "${N:-5}")
_when = _either("type == 'track'", "event", True, "properties.n > 5", "event == '${X}'")

verify = _either("none") | _object(
    {"scheme": _either("github", "stripe", "token", "none", "${S:-github}")},
    secret=_either("abcdefgh", "${X}", ["abcdefgh"]),
    header=_either("X-Token"),
    query=_either("token"),
    tolerance=_time,
)
webhook = _object(
    {"verify": verify, "event": _either({"type": "track", "event": "A", "userId": "{{ body.id }}"}, {"type": "page"})},
    when=_either("body.x", True),
)
source = _object(
    {},
    write_key=_either("key-1", ["key-1", "key-2"], "${X}"),
    write_keys=_either("key-3", ["key-4"]),
    enabled=_flag,
    origins=_either(["https://a.example"], "https://*.b.example", "null"),
    rate_limit=_either("5/s", "10/m"),
    scrub=_object({}, remove=_path, hash=_path, query=_texts, salt=_either("a salt of some length")),
    cookie=_flag | _object({}, name=_either("er_id"), domain=_either(".a.example"), max_age=_either("30d", 1000)),
    webhook=webhook,
)
destination = _object(
    {"plugin": _either("acme", "${P:-acme}"), "options": _either({"api_key": "abcd"}, {"api_key": "${X}", "tries": 3})},
    consent=_texts,
    batch=_object({}, size=_number, wait=_time),
    retry=_object({}, initial=_time, max_interval=_time, max_age=_time, max_attempts=_number),
    concurrency=_number,
    rate_limit=_either("5/s") | _object({"count": _number}, per_seconds=_time),
    timeout=_either("5s", 10),
    backlog=_number,
    enabled=_flag,
)
route = _object(
    {"to": _either("crm", ["crm"])},
    name=_either("a", "b"),
    from_=_either("website", ["website"]),
    when=_when,
    consent=_texts,
    sample=_either("10%", 0.5, "${S:-1%}"),
    skip=_either("staff"),
    set=_either({"properties.a": "{{ userId }}"}, {"a": [1, None]}, {}),
    map=_either({"a": "{{ userId }}"}, "{{ properties }}", ["a"], 5),
    rename=_either({"a": "b"}, {}),
    hash=_object({"salt": _either("pepper"), "fields": _path}),
    keep=_path,
    drop=_path,
)
test = _object(
    {
        "given": _either(
            {"type": "page"},
            {"type": "track", "event": "A"},
            [{"type": "page"}],
            [],
            {"body": {}},
            {"body": 5, "query": {}},
        ),
        "expect": _either({"crm": {"a": 1}}, {}, {"crm": "consent"}, {"warehouse": {}}, None),
    },
    name=_either("t"),
    source=_either("website"),
    exact=_flag,
)
collect = _object(
    {},
    path_prefix=_either("/e", ""),
    public_url=_either("https://a.example", ""),
    trusted_proxies=_either(["10.0.0.0/8"], "::1"),
    spool=_object({}, max_bytes=_either("1GB", 0)),
)


def _several(part: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(part, max_size=2)


def _or_anything(part: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 15).flatmap(lambda chance: part if chance < 15 else _anything)


parts: dict[str, st.SearchStrategy[Any]] = {
    "vars": _either({"a": 1, "b": "{{ userId }}"}, {"a": [None]}),
    "routes": _or_anything(_several(_or_anything(route))),
    "tests": _or_anything(_several(_or_anything(test))),
}
rules: st.SearchStrategy[Any] = _object(
    {
        "version": _either(1),
        "sources": _or_anything(st.fixed_dictionaries({"website": _or_anything(source)})),
        "destinations": _or_anything(st.fixed_dictionaries({"crm": _or_anything(destination)})),
    },
    include=_either([]),
    collect=_or_anything(collect),
    warehouse=_either({"url": "sqlite:////a.sqlite3"}, {"url": ""}, {"url": "${W:-}"}, {}),
    state=_either({"url": None}, {}),
    dedup=_object({}, window=_time, max_bytes=_either("64MB", 100_000)),
    enrichments=_either(
        {"user_agent": True}, {"bots": {}}, {"campaign": "${F:-false}"}, {"identity": True}, {"bots": None}
    ),
    **parts,
)
included: st.SearchStrategy[Any] = _object({}, version=_either(1), **parts)
"""For rules that have the source `website` and the destination `crm`."""
tests: st.SearchStrategy[Any] = st.fixed_dictionaries({"tests": parts["tests"]})
