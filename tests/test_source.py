import pytest

from eventrouter.acceptance import BodyError
from eventrouter.limiter import Limiter
from eventrouter.origins import Origins
from eventrouter.source import RateLimitedError, Source, find_source

SHOP = Source("website", origins=Origins(["https://shop.example"]))


def test_a_source_is_on_and_does_nothing_special_by_default() -> None:
    source = Source("website")
    assert source.enabled
    assert {source.origins, source.cookie, source.scrub, source.limiter, source.webhook} == {None}
    source.admit(b"https://any.example")


@pytest.mark.parametrize("origin", [None, b"https://shop.example"])
def test_pages_of_its_origins_and_servers_may_send(origin: bytes | None) -> None:
    SHOP.admit(origin)


@pytest.mark.parametrize(
    ("source", "origin", "code"),
    [
        (SHOP, b"https://other.example", "origin_not_allowed"),
        (SHOP, b"null", "origin_not_allowed"),
        (SHOP, b"", "origin_not_allowed"),
        (Source("old", enabled=False), None, "source_disabled"),
    ],
)
def test_others_may_not(source: Source, origin: bytes | None, code: str) -> None:
    with pytest.raises(BodyError) as caught:
        source.admit(origin)
    assert (caught.value.code, caught.value.status) == (code, 403)


def test_the_first_write_key_that_is_known_counts() -> None:
    assert find_source({"a": SHOP, "b": Source("app")}, iter(["x", "b", "a"])).name == "app"


@pytest.mark.parametrize(("keys", "code"), [([], "missing_write_key"), (["x"], "unknown_write_key")])
def test_without_one_there_is_no_source(keys: list[str], code: str) -> None:
    with pytest.raises(BodyError) as caught:
        find_source({"a": SHOP}, keys)
    assert (caught.value.code, caught.value.status) == (code, 401)


@pytest.mark.parametrize(
    ("body", "is_batch", "count"),
    [
        ({"batch": [1, 2, 3]}, True, 3),
        ({"batch": []}, True, 1),
        ({"batch": 1}, True, 1),
        ([1, 2], True, 1),
        ({"batch": []}, False, 1),
        ({"batch": [1, 2, 3]}, False, 1),
        ({}, False, 1),
        (None, False, 1),
    ],
)
def test_each_event_of_a_body_counts_for_the_rate_limit(body: object, is_batch: bool, count: int) -> None:
    source = Source("website", limiter=Limiter(count, now=lambda: 0.0))
    source.count(body, is_batch=is_batch)
    with pytest.raises(RateLimitedError) as caught:
        source.count({}, is_batch=False)
    assert caught.value.retry_after == pytest.approx(1 / count)
