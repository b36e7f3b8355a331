from eventrouter.collecting import make_source, make_sources
from eventrouter.config_model import Config, CookieConfig, ScrubConfig, SourceConfig


def test_a_source_without_options_has_nothing_switched_on() -> None:
    source = make_source(SourceConfig("website", ("k",), enabled=False))
    assert (source.name, source.enabled) == ("website", False)
    assert {source.origins, source.cookie, source.scrub, source.limiter} == {None}


def test_each_option_becomes_its_part() -> None:
    config = SourceConfig(
        "website",
        ("k",),
        origins=("https://shop.example",),
        rate_limit=2.0,
        scrub=ScrubConfig(remove=("context.ip",), hash=("traits.email",), query=("token",), salt="salt"),
        cookie=CookieConfig(domain=".shop.example"),
    )
    source = make_source(config)
    assert source.origins is not None
    assert source.origins.allow(b"https://shop.example")
    assert not source.origins.allow(b"https://other.example")
    assert source.limiter is not None
    assert [source.limiter.take(1) > 0 for _ in range(3)] == [False, False, True]
    assert source.scrub is not None
    event = {"context": {"ip": "1.2.3.4", "page": {"url": "/?token=1"}}, "traits": {"email": "a@example.com"}}
    scrubbed = source.scrub(event)
    assert scrubbed["context"] == {"page": {"url": "/"}} or "1" not in str(scrubbed["context"])
    assert "a@example.com" not in str(scrubbed)
    assert source.cookie is not None
    header = source.cookie.write("a-1", secure=False)
    assert header is not None
    assert b"Domain=.shop.example" in header[1]


def test_the_keys_of_a_source_share_its_rate_limit() -> None:
    config = Config("routes.yaml", "", {"website": SourceConfig("website", ("old", "new"), rate_limit=1.0)})
    sources = make_sources(config)
    assert sources["old"] is sources["new"]
