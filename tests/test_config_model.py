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
