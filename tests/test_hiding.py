import pytest
from pydantic import BaseModel, SecretStr

from eventrouter import logs
from eventrouter.config_model import Config, EnrichmentConfig
from eventrouter.enrichment import Enrichment
from eventrouter.hiding import hide_passwords, hide_secrets
from eventrouter.masking import Mask


@pytest.fixture(autouse=True)
def _restore():
    yield
    logs._hidden.clear()
    logs._mask_hidden = Mask()


def test_passwords_of_urls_are_hidden_as_written_and_as_meant():
    hide_passwords(["postgresql://user:pass%2Fword@host/db", "redis://host", "", "http://[broken"])
    assert logs.mask("pass%2Fword pass/word") == "********** **********"


def test_secrets_of_the_rules_are_hidden():
    class Options(BaseModel):
        key: SecretStr

    class Step(Enrichment):
        name = "step"

    secret = EnrichmentConfig("step", Options(key=SecretStr("s3cr3t-of-a-step")), Step)
    hide_secrets(Config("routes.yaml", "abc", {}, enrichments={"step": secret}))
    assert logs.mask("it is s3cr3t-of-a-step") == "it is **********"


def test_what_variables_brought_into_the_rules_is_hidden_wherever_it_stands_in_them():
    hide_secrets(Config("routes.yaml", "abc", {}, mask=Mask(["a-salt-from-outside"])))
    assert logs.mask("it is a-salt-from-outside") == "it is **********"
