import dataclasses

import pytest

from eventrouter.config_model import HashConfig, StateConfig, WarehouseConfig
from routes_kit import HEAD, load


def test_what_was_read_does_not_change():
    config = load(HEAD + "- { to: [crm, alerts] }")
    for frozen in (config, config.sources["website"], config.destinations["crm"], config.routes[0], config.dedup):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(frozen, dataclasses.fields(frozen)[0].name, "x")


def test_secrets_are_in_no_representation():
    for value in (WarehouseConfig("secret"), StateConfig("secret"), HashConfig("secret", ("a",))):
        assert "secret" not in repr(value)


def test_a_lane_is_served_by_the_group_of_its_destination():
    text = HEAD.replace("crm: {", "crm: { worker_group: slow,", 1) + "- { to: [crm, alerts] }"
    config = load(text)
    assert [config.group_of(lane) for lane in ("crm", "alerts", "log", "warehouse", "gone")] == ["slow", "", "", "", ""]
    assert config.worker_groups == ["slow"]


def test_what_is_switched_off_needs_no_group():
    text = HEAD.replace("crm: {", "crm: { worker_group: slow, enabled: false,", 1) + "- { to: [crm, alerts] }"
    config = load(text)
    assert (config.group_of("crm"), config.worker_groups) == ("", [])
