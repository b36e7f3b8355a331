"""server_url.py: addresses of one server, of Sentinels and of Clusters."""

from __future__ import annotations

import pytest
from redis.asyncio.connection import parse_url

from eventrouter.server_url import ServerUrl


@pytest.mark.parametrize(
    "text",
    ["redis://localhost", "rediss://user:pass@example.com:6380/3?ssl_ca_certs=/ca.pem", "unix:///run/v.sock?db=1"],
)
def test_the_url_of_one_server_is_left_to_redis_py(text: str) -> None:
    url = ServerUrl.parse(text)
    assert ("one", (), "", text) == (url.kind, url.nodes, url.service, url.plain)


def test_sentinels_know_a_service() -> None:
    url = ServerUrl.parse("redis+sentinel://app:p%40ss@one:1,two,[::1]:3/main/5?socket_timeout=2")
    assert ("sentinel", (("one", 1), ("two", 26379), ("::1", 3)), "main") == (url.kind, url.nodes, url.service)
    assert {"username": "app", "password": "p@ss", "db": 5, "socket_timeout": 2.0} == {
        name: value for name, value in parse_url(url.plain).items() if name not in ("host", "port")
    }


def test_sentinels_may_have_a_password_of_their_own() -> None:
    url = ServerUrl.parse("redis+sentinel://:a@one/main?sentinel_username=watch&sentinel_password=b%26c")
    assert {"username": "watch", "password": "b&c"} == url.sentinel_options
    assert "redis://:a@one:26379/" == url.plain


def test_a_cluster_has_nodes() -> None:
    url = ServerUrl.parse("redis+cluster://:pass@one:7000,two:7001,three")
    assert ("cluster", (("one", 7000), ("two", 7001), ("three", 6379))) == (url.kind, url.nodes)
    assert "redis://:pass@one:7000/" == url.plain


@pytest.mark.parametrize("text", ["rediss+sentinel://a/main?ssl_ca_certs=/ca", "rediss+cluster://a?ssl_ca_certs=/ca"])
def test_tls_is_for_all_nodes(text: str) -> None:
    plain = ServerUrl.parse(text).plain
    assert (True, "/ca") == (plain.startswith("rediss://"), parse_url(plain)["ssl_ca_certs"])


def test_schemes_may_be_written_large() -> None:
    assert "sentinel" == ServerUrl.parse("REDIS+Sentinel://a/main").kind


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://user:hunter2@localhost", "is not the URL of a Redis or Valkey server"),
        ("localhost:6379", "is not the URL of a Redis or Valkey server"),
        ("redis+other://localhost", "is not the URL of a Redis or Valkey server"),
        ("redis+sentinel://:hunter2@one,two", "does not name the service"),
        ("redis+sentinel://:hunter2@one/main/x", "database's number"),
        ("redis+sentinel://:hunter2@one/main/1/2", "database's number"),
        ("redis+sentinel://:hunter2@one:port/main", "has a host that can't be read"),
        ("redis+sentinel://:hunter2@one:99999/main", "has a host that can't be read"),
        ("redis+sentinel://:hunter2@one,,two/main", "has a host that can't be read"),
        ("redis+cluster:///", "has a host that can't be read"),
        ("redis+cluster://:hunter2@one/1", "a Cluster has one"),
    ],
)
def test_what_is_wrong_is_told_without_the_password(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        ServerUrl.parse(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("redis://localhost", ()),
        ("redis://user@localhost", ()),
        ("redis://user:a%2Fb@localhost", ("a%2Fb", "a/b")),
        ("redis://localhost?password=abc", ("abc",)),
        ("unix:///run/v.sock?password=abc", ("abc",)),
        ("redis+sentinel://:abc@one,[::1]:2/main?sentinel_password=def", ("abc", "def")),
    ],
)
def test_it_knows_its_secrets_and_does_not_show_them(text: str, secrets: tuple[str, ...]) -> None:
    url = ServerUrl.parse(text)
    assert secrets == url.secrets
    assert [] == [secret for secret in secrets if secret in repr(url)]
