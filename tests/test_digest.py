import hashlib
import hmac

import pytest

from eventrouter.digest import digest_with

digest = digest_with("pepper")


def of(text: bytes) -> str:
    return hmac.new(b"pepper", text, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Ada@x.org", b"Ada@x.org"),
        (" ada ", b" ada "),
        ("", b""),
        ("ä", "ä".encode()),
        ("\ud800", b"\xed\xa0\x80"),
        (5, b"5"),
        (2**70, b"1180591620717411303424"),
        (9.5, b"9.5"),
        (True, b"true"),
        ({"b": 1, "a": 2}, b'{"a":2,"b":1}'),
        ([1, None], b"[1,null]"),
    ],
)
def test_a_digest_is_that_of_the_values_text(value: object, text: bytes) -> None:
    assert digest(value) == of(text)


def test_null_stays_null() -> None:
    assert digest(None) is None


def test_other_secrets_make_other_digests() -> None:
    assert digest_with("salt")("a") != digest("a")
