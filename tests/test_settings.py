"""Settings come from options, else the environment, else defaults; what is wrong is named and secrets stay unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventrouter.errors import ConfigError
from eventrouter.settings import Settings, mask_url, socket_path


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    import os

    for name in [name for name in os.environ if name.startswith("EVENTROUTER_")]:
        monkeypatch.delenv(name)


def test_defaults_are_those_of_the_documentation():
    settings = Settings.read()
    assert (Path("routes.yaml"), Path(".eventrouter"), "127.0.0.1", 8000) == (
        settings.config,
        settings.data_dir,
        settings.host,
        settings.port,
    )
    assert (4, 1, 2**30) == (settings.shards, settings.workers, settings.maxmemory)
    assert (32 * 1024, 500 * 1024, 2500) == (
        settings.max_event_bytes,
        settings.max_batch_bytes,
        settings.max_batch_events,
    )


def test_an_option_wins_over_the_environment_which_wins_over_the_default(monkeypatch):
    monkeypatch.setenv("EVENTROUTER_PORT", "8100")
    monkeypatch.setenv("EVENTROUTER_HOST", "0.0.0.0")
    assert (8100, "0.0.0.0") == (Settings.read().port, Settings.read(port=None).host)
    assert 8200 == Settings.read(port=8200).port


def test_an_empty_variable_counts_as_absent(monkeypatch):
    monkeypatch.setenv("EVENTROUTER_REDIS_URL", "")
    assert Settings.read().embedded


@pytest.mark.parametrize(
    ("text", "expected"), [("512MB", 512 * 10**6), ("1GiB", 2**30), ("0.5 gib", 2**29), ("100000000", 10**8)]
)
def test_sizes_are_read_with_their_units(monkeypatch, text, expected):
    monkeypatch.setenv("EVENTROUTER_MAXMEMORY", text)
    assert expected == Settings.read().maxmemory


def test_all_wrong_values_are_told_at_once_by_their_own_name(monkeypatch):
    monkeypatch.setenv("EVENTROUTER_PORT", "http")
    monkeypatch.setenv("EVENTROUTER_MAXMEMORY", "lots")
    with pytest.raises(ConfigError) as caught:
        Settings.read(workers=0)
    text = str(caught.value)
    assert ["EVENTROUTER_PORT", "--workers", "EVENTROUTER_MAXMEMORY"] == [p.path for p in caught.value.problems]
    assert "EVENTROUTER_PORT: 'http' is not a whole number" in text
    assert "--workers: '0' is too small" in text
    assert "hint: such as 512MB or 1GiB" in text


def test_an_unreadable_redis_url_is_told_without_its_password(monkeypatch):
    monkeypatch.setenv("EVENTROUTER_REDIS_URL", "http://user:hunter2@localhost")
    with pytest.raises(ConfigError) as caught:
        Settings.read()
    assert "EVENTROUTER_REDIS_URL: is not the URL of a Redis or Valkey server" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_queue_is_on_the_same_server_unless_it_has_its_own(monkeypatch):
    monkeypatch.setenv("EVENTROUTER_REDIS_URL", "redis://one")
    assert "redis://one" == Settings.read().queue_server_url
    monkeypatch.setenv("EVENTROUTER_QUEUE_URL", "redis+sentinel://:hunter2@two/main")
    settings = Settings.read()
    assert "redis+sentinel://:hunter2@two/main" == settings.queue_server_url
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"REDIS_URL": "redis+cluster://:hunter2@a,b"}, "EVENTROUTER_QUEUE_URL: is needed where"),
        ({"REDIS_URL": "redis://a", "QUEUE_URL": "redis+cluster://:hunter2@a"}, "is that of a Cluster"),
        ({"REDIS_URL": "redis://a", "QUEUE_URL": "http://:hunter2@a"}, "EVENTROUTER_QUEUE_URL: is not the URL"),
        ({"REDIS_URL": "redis+sentinel://:hunter2@a"}, "EVENTROUTER_REDIS_URL: does not name the service"),
        ({"REPLICAS": "1"}, "EVENTROUTER_REPLICAS: '1' is not possible with the embedded server"),
        ({"REPLICAS": "9", "REDIS_URL": "redis://a"}, "EVENTROUTER_REPLICAS: '9' is too large"),
    ],
)
def test_servers_that_do_not_go_together_are_told_without_passwords(monkeypatch, variables, told):
    for name, value in variables.items():
        monkeypatch.setenv(f"EVENTROUTER_{name}", value)
    with pytest.raises(ConfigError) as caught:
        Settings.read()
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_wrong_server_is_the_only_problem_of_it(monkeypatch):
    monkeypatch.setenv("EVENTROUTER_REDIS_URL", "nonsense")
    monkeypatch.setenv("EVENTROUTER_REPLICAS", "1")
    with pytest.raises(ConfigError) as caught:
        Settings.read()
    assert ["EVENTROUTER_REDIS_URL"] == [problem.path for problem in caught.value.problems]


def test_a_cluster_has_a_queue_beside_it(monkeypatch):
    monkeypatch.setenv("EVENTROUTER_REDIS_URL", "redis+cluster://:a%2Fb@one,two")
    monkeypatch.setenv("EVENTROUTER_QUEUE_URL", "redis://:c@three")
    monkeypatch.setenv("EVENTROUTER_REPLICAS", "2")
    settings = Settings.read()
    assert (2, ["a%2Fb", "a/b", "c"]) == (settings.replicas, settings.server_secrets)


def test_secrets_do_not_show(monkeypatch):
    monkeypatch.setenv("EVENTROUTER_REDIS_URL", "redis://user:hunter2@localhost/0")
    monkeypatch.setenv("EVENTROUTER_ADMIN_TOKEN", "hunter3")
    settings = Settings.read()
    assert "hunter" not in repr(settings) + str(settings) + settings.shown_server_url
    assert "redis://user:hunter2@localhost/0" == settings.server_url
    assert "redis://**********@localhost/0" == settings.shown_server_url
    assert "hunter3" == settings.admin_token.get_secret_value()


def test_the_embedded_server_is_found_by_its_data_directory_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings.read(data_dir=Path("data"))
    assert settings.embedded
    assert f"unix://{socket_path(tmp_path / 'data')}" == settings.server_url
    assert socket_path(tmp_path / "a") != socket_path(tmp_path / "b")


def test_the_socket_path_is_short_however_deep_the_data_directory_lies(tmp_path):
    assert len(bytes(socket_path(tmp_path / ("deep" * 50)))) < 104


def test_a_url_without_user_is_not_masked():
    assert "redis://localhost:6379/0" == mask_url("redis://localhost:6379/0")


def test_passwords_are_masked_wherever_a_url_has_them():
    url = "redis+sentinel://app:a@one,[::1]:2/main?sentinel_password=b&socket_timeout=2"
    assert "redis+sentinel://**********@one,[::1]:2/main?sentinel_password=**********&socket_timeout=2" == mask_url(url)
    assert "unix:///run/v.sock?db=1&password=**********" == mask_url("unix:///run/v.sock?db=1&password=abc")
