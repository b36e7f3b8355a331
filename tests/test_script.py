import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.config_model import CookieConfig
from eventrouter.script import Script

TEXT = b"window.eventrouter = {};" * 20
SCRIPT = Script(TEXT)


def test_any_page_may_load_it_and_any_cache_may_keep_it_for_an_hour() -> None:
    answer = SCRIPT.answer({})
    headers = dict(answer.headers)
    assert (answer.status, answer.body) == (200, TEXT)
    assert headers.pop(b"etag").startswith(b'"')
    assert headers == {
        b"content-type": b"text/javascript; charset=utf-8",
        b"cache-control": b"public, max-age=3600",
        b"access-control-allow-origin": b"*",
        b"cross-origin-resource-policy": b"cross-origin",
        b"x-content-type-options": b"nosniff",
        b"vary": b"accept-encoding",
    }


@pytest.mark.parametrize("accepted", [b"gzip", b"br, gzip", b"deflate, GZIP;q=0.5", b"*", b"gzip;q=1.0, *;q=0"])
def test_it_is_compressed_for_those_who_take_that(accepted: bytes) -> None:
    answer = SCRIPT.answer({b"accept-encoding": accepted})
    assert dict(answer.headers)[b"content-encoding"] == b"gzip"
    assert gzip.decompress(answer.body) == TEXT


@pytest.mark.parametrize("accepted", [b"", b"br", b"gzip;q=0", b"gzip; q=0.000", b"identity, *;q=0", b"xgzip", b"\xff"])
def test_it_is_not_compressed_for_others(accepted: bytes) -> None:
    answer = SCRIPT.answer({b"accept-encoding": accepted})
    assert b"content-encoding" not in dict(answer.headers)
    assert answer.body == TEXT


@pytest.mark.parametrize("accepted", [b"", b"gzip"])
def test_who_has_it_does_not_get_it_again(accepted: bytes) -> None:
    tag = dict(SCRIPT.answer({b"accept-encoding": accepted}).headers)[b"etag"]
    for known in (tag, b'"other", W/' + tag, b"*"):
        answer = SCRIPT.answer({b"accept-encoding": accepted, b"if-none-match": known})
        assert (answer.status, answer.body) == (304, b"")
        assert dict(answer.headers)[b"etag"] == tag
        assert b"content-encoding" not in dict(answer.headers)


def test_another_version_has_another_tag() -> None:
    tag = dict(SCRIPT.answer({}).headers)[b"etag"]
    assert Script(TEXT + b" ").answer({b"if-none-match": tag}).status == 200


def test_its_two_forms_have_different_tags() -> None:
    plain = dict(SCRIPT.answer({}).headers)[b"etag"]
    assert dict(SCRIPT.answer({b"accept-encoding": b"gzip"}).headers)[b"etag"] != plain


@given(st.dictionaries(st.sampled_from([b"accept-encoding", b"if-none-match"]), st.binary()))
def test_no_header_at_all_is_an_error(headers: dict[bytes, bytes]) -> None:
    assert SCRIPT.answer(headers).status in (200, 304)


def test_the_packaged_one_reads_the_cookie_that_the_collector_sets() -> None:
    script = Script.packaged()
    assert script is not None
    assert f'"{CookieConfig().name}"'.encode() in script.answer({}).body
