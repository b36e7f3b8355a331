from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest

from eventrouter.accept import accept
from eventrouter.acceptance import BodyError, Client, Limits
from eventrouter.address import Address
from eventrouter.config_model import CookieConfig
from eventrouter.cookie import Cookie
from eventrouter.decode import Decoded
from eventrouter.limiter import Limiter
from eventrouter.proxies import Proxies
from eventrouter.receive import Budget
from eventrouter.reception import Endpoint, Reception, Taken
from eventrouter.records import RejectedEvent
from eventrouter.scrub import Scrub
from eventrouter.source import RateLimitedError, Source

NOW = datetime(2026, 11, 24, 17, tzinfo=UTC)
TRACK = b'{"userId":"u","event":"A","properties":{"email":"a@example.com"}}'


class Hook:
    """A webhook that makes of every request what it is told."""

    def __init__(self, read: Any) -> None:
        self.read = read

    def take(self, *_: Any) -> Any:
        return self.read


def take(
    data: bytes = TRACK,
    endpoint: Endpoint = Endpoint("track"),  # noqa: B008
    source: Source = Source("website"),  # noqa: B008
    budget: Budget | None = None,
    query: bytes = b"",
    told: list[Any] | None = None,
    **headers: bytes,
) -> Taken:
    def spy(*args: Any, **kwargs: Any) -> Any:
        if told is not None:
            told.append(kwargs)
        return accept(*args, **kwargs)

    proxies = Proxies(["10.0.0.0/8"])
    reception = Reception(
        sources={"k": source},
        webhooks={},
        accept=spy,
        limits=Limits(),
        proxies=proxies,
        address=Address("", "", proxies),
        now=lambda: NOW,
    )
    pairs = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    pairs.setdefault(b"authorization", b"Basic " + b64encode(b"k:"))
    scope = {"client": ("10.1.1.1", 1), "scheme": "http", "headers": list(pairs.items()), "query_string": query}
    return reception.take(data, endpoint, scope, pairs, (budget or Budget(10_000)).hold())


def test_the_source_of_the_key_gets_the_events() -> None:
    taken = take()
    assert (taken.source, len(taken.acceptance.events), taken.headers, taken.ignored) == ("website", 1, (), False)


def test_accept_is_told_all_that_it_needs() -> None:
    told: list[Any] = []
    scrub = Scrub(remove=["properties.email"])
    taken = take(
        source=Source("website", scrub=scrub), told=told, user_agent=b"Mozilla/5.0", x_forwarded_for=b"1.2.3.4"
    )
    assert told == [
        {
            "endpoint": "track",
            "source": "website",
            "received_at": NOW,
            "limits": Limits(),
            "client": Client("1.2.3.4", "Mozilla/5.0"),
            "scrub": scrub,
        }
    ]
    assert b"example.com" not in taken.acceptance.events[0].data


def test_what_is_to_be_appended_stays_held() -> None:
    budget = Budget(10_000)
    assert budget.held == 0
    taken = take(budget=budget)
    assert budget.held == len(taken.acceptance.events[0].data)


@pytest.mark.parametrize(
    ("source", "code"), [(Source("old", enabled=False), "source_disabled"), (Source("website"), "unknown_write_key")]
)
def test_who_may_not_send_is_refused(source: Source, code: str) -> None:
    key = b"k:" if code == "source_disabled" else b"x:"
    with pytest.raises(BodyError) as caught:
        take(source=source, authorization=b"Basic " + b64encode(key))
    assert caught.value.code == code


SAME_SITE = {"sec_fetch_site": b"same-site", "sec_fetch_mode": b"no-cors"}
SHOP: dict[str, Any] = {"host": b"shop.example", "origin": b"https://shop.example"}
EVENT = b'{"event":"A","anonymousId":"a"}'


@pytest.mark.parametrize(
    ("endpoint", "data", "headers", "id_"),
    [
        (Endpoint("track"), EVENT, SHOP, b"a"),
        (Endpoint("track"), EVENT, SAME_SITE, b"a"),
        (Endpoint("track"), EVENT, {}, b""),
        (Endpoint("track"), EVENT, {"origin": b"https://evil.example", "host": b"shop.example"}, b""),
        (Endpoint("track"), EVENT, SHOP | {"sec_gpc": b"1"}, b""),
        (Endpoint("track", "pixel"), b"event=A&anonymousId=a", SAME_SITE, b"a"),
        (Endpoint("track", "pixel"), b"event=A&anonymousId=a", {}, b""),
        (Endpoint("batch"), b'{"anonymousId":"b","batch":[%b,{"type":"x"}]}' % EVENT, SHOP, b"a"),
        (Endpoint("track"), b'{"event":"A","anonymousId":"a","batch":[]}', SHOP, b"a"),
        (Endpoint("track"), b'{"event":"A","anonymousId":"a","batch":[{"anonymousId":"b"}]}', SHOP, b"a"),
    ],
)
def test_pages_of_the_site_get_the_cookie(endpoint: Endpoint, data: bytes, headers: Any, id_: bytes) -> None:
    query = b"writeKey=k"
    if endpoint.form == "pixel":
        query, data = data, b""
    taken = take(data, endpoint, Source("website", cookie=Cookie(CookieConfig())), query=query, **headers)
    assert [value.partition(b";")[0] for _, value in taken.headers] == [b"er_anonymous_id=" + id_] * bool(id_)


def test_a_webhook_gets_no_cookie() -> None:
    source = Source("hook", cookie=Cookie(CookieConfig()), webhook=Hook(Decoded({"batch": [{}]}, {})))  # type: ignore[arg-type]
    assert take(b"", Endpoint("batch", "webhook", source), cookie=b"er_anonymous_id=a", **SHOP).headers == ()


def test_a_pixel_is_read_from_its_query() -> None:
    assert b'"event":"A"' in take(b"", Endpoint("track", "pixel"), query=b"userId=u&event=A").acceptance.events[0].data


def test_a_pixel_without_an_event_is_one_that_was_refused() -> None:
    budget = Budget(10_000)
    taken = take(b"", Endpoint("track", "pixel"), budget=budget, query=b"data=!")
    [record] = taken.acceptance.rejected
    assert (record.code, taken.acceptance.events, budget.held) == ("invalid_pixel", [], len(record.payload))


def hook(read: Any) -> Endpoint:
    return Endpoint("batch", "webhook", Source("hook", webhook=Hook(read)))  # type: ignore[arg-type]


def test_a_webhooks_event_is_no_visitors() -> None:
    told: list[Any] = []
    body = Decoded({"batch": [{"type": "track", "event": "A", "userId": "u"}]}, {})
    taken = take(b"", hook(body), told=told)
    assert (taken.source, len(taken.acceptance.events), told[0]["client"]) == ("hook", 1, None)


def test_a_webhook_may_drop_or_refuse_what_comes() -> None:
    record = RejectedEvent(id="1", source="hook", received_at="", code="mapping_failed", message="")
    assert take(b"", hook(None)).ignored
    assert take(b"", hook(record)).acceptance.rejected == [record]


def test_a_webhook_of_a_source_that_is_off_is_refused() -> None:
    endpoint = Endpoint("batch", "webhook", Source("hook", enabled=False, webhook=Hook(None)))  # type: ignore[arg-type]
    with pytest.raises(BodyError) as caught:
        take(b"", endpoint)
    assert caught.value.code == "source_disabled"


def test_what_cannot_be_read_or_mapped_counts_for_the_rate_limit() -> None:
    record = RejectedEvent(id="1", source="hook", received_at="", code="mapping_failed", message="")
    limited = Source("website", limiter=Limiter(2, now=lambda: 0.0), webhook=Hook(record))  # type: ignore[arg-type]
    take(b"", Endpoint("track", form="pixel"), limited, query=b"data=!")
    take(b"{}", Endpoint("batch", form="webhook", source=limited))
    with pytest.raises(RateLimitedError):
        take(b"{}", Endpoint("batch", form="webhook", source=limited))


def test_a_batch_of_a_single_event_is_a_field_like_others_for_the_rate_limit() -> None:
    limited = Source("website", limiter=Limiter(2, now=lambda: 0.0))
    for batch in (b"[]", b"[1,2,3,4,5]"):
        take(b'{"userId":"u","event":"A","batch":%b}' % batch, source=limited)
    with pytest.raises(RateLimitedError):
        take(source=limited)
