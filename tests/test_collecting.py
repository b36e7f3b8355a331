from collections.abc import Sequence

from eventrouter.acceptance import AcceptedEvent
from eventrouter.collecting import Sources, make_collector, make_source
from eventrouter.config_model import (
    Config,
    CookieConfig,
    ScrubConfig,
    SourceConfig,
    VerifyConfig,
    WebhookSourceConfig,
)
from eventrouter.records import RejectedEvent
from eventrouter.settings import Settings


def test_a_source_without_options_has_nothing_switched_on() -> None:
    source = make_source(SourceConfig("website", ("k",), enabled=False), {}, {})
    assert (source.name, source.enabled) == ("website", False)
    assert {source.origins, source.cookie, source.scrub, source.limiter, source.webhook} == {None}


def test_each_option_becomes_its_part() -> None:
    config = SourceConfig(
        "website",
        ("k",),
        origins=("https://shop.example",),
        rate_limit=2.0,
        scrub=ScrubConfig(remove=("context.ip",), hash=("traits.email",), query=("token",), salt="salt"),
        cookie=CookieConfig(domain=".shop.example"),
    )
    source = make_source(config, {}, {})
    assert source.origins is not None
    assert source.origins.allow(b"https://shop.example")
    assert not source.origins.allow(b"https://other.example")
    assert source.limiter is not None
    assert [source.limiter.take(1) > 0 for _ in range(3)] == [False, False, True]
    assert source.scrub is not None
    event = {"context": {"ip": "1.2.3.4", "page": {"url": "/?token=1"}}, "traits": {"email": "a@example.com"}}
    scrubbed = source.scrub(event)
    assert "token=1" not in str(scrubbed["context"])
    assert "ip" not in scrubbed["context"]
    assert "a@example.com" not in str(scrubbed)
    assert source.cookie is not None
    header = source.cookie.write("a-1", secure=False)
    assert header is not None
    assert b"Domain=.shop.example" in header[1]


def test_the_keys_of_a_source_share_its_rate_limit() -> None:
    config = Config("routes.yaml", "", {"website": SourceConfig("website", ("old", "new"), rate_limit=1.0)})
    sources = Sources(config, {}).by_key
    assert sources["old"] is sources["new"]


def test_a_source_with_a_webhook_is_found_by_its_name_and_may_have_no_key() -> None:
    webhook = WebhookSourceConfig(VerifyConfig("none"), {"type": "track", "event": "{{ vars.name | shout }}"})
    config = Config("routes.yaml", "", {"hook": SourceConfig("hook", (), webhook=webhook)}, vars={"name": "n"})
    sources = Sources(config, {"shout": str.upper})
    assert (sources.by_key, list(sources.webhooks)) == ({}, ["hook"])
    assert sources.webhooks["hook"].webhook is not None


async def test_a_collector_has_the_sources_limits_and_options_of_the_rules() -> None:
    taken: list[str] = []

    async def append(events: Sequence[AcceptedEvent], rejected: Sequence[RejectedEvent]) -> None:
        taken.extend(one.order_key for one in events)

    async def ready() -> dict[str, bool]:
        return {"ready": True}

    async def metrics() -> bytes:
        return b""

    config = Config("routes.yaml", "v", {"website": SourceConfig("website", ("k",))})
    settings = Settings(max_event_bytes=1024, max_batch_bytes=4096, max_batch_events=7)
    collector = make_collector(config, settings, {}, append=append, ready=ready, metrics=metrics)
    limits = collector.reception.limits
    assert (limits.max_event_bytes, limits.max_batch_bytes, limits.max_batch_events) == (1024, 4096, 7)
    assert list(collector.reception.sources) == ["k"]
    await collector._append([AcceptedEvent("u", b"")], [])
    assert taken == ["u"]
