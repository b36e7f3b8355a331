from eventrouter.source import Source


def test_a_source_is_on_and_does_nothing_special_by_default() -> None:
    source = Source("website")
    assert source.enabled
    assert {source.origins, source.cookie, source.scrub, source.limiter, source.webhook} == {None}
