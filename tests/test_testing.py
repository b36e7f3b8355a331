"""The kit itself: the contract passes a good destination and catches each kind of bad one."""

import asyncio

import pytest
from pydantic import Field, SecretStr

from eventrouter.destination import Destination, Request, check_response
from eventrouter.errors import Reject, Retry
from eventrouter.testing import DestinationContract, attempt, make_message


class Good(Destination):
    """Posts each batch of events."""

    name = "good"
    batch_size = 10

    class Options(Destination.Options):
        url: str = Field(description="Where to.")
        api_key: SecretStr = Field(description="The key.")

    async def deliver(self, messages):
        response = await self.http.post(
            self.options.url,
            headers={"Authorization": self.options.api_key.get_secret_value()},
            json=[message.payload for message in messages],
        )
        check_response(response)
        return {messages[int(i)].id: Reject(why) for i, why in response.json().get("refused", {}).items()}


class GoodContract(DestinationContract):
    destination = Good

    def options(self, url):
        return {"url": url, "api_key": "s3cr3t-key"}


class TestGood(GoodContract):
    """A destination as the guide writes it passes."""


def broken(base=Good, **members):
    class Broken(GoodContract):
        destination = type("Broken", (base,), {"__doc__": "Broken.", **members})

    return Broken()


class Undescribed(Destination):
    """Options without words."""

    name = "undescribed"

    class Options(Destination.Options):
        url: str
        api_key: SecretStr = Field(description="The key.")


class Plain(Destination):
    """A secret as plain text."""

    name = "plain"

    class Options(Destination.Options):
        url: str = Field(description="Where to.")
        api_key: str = Field(description="The key.")


@pytest.mark.parametrize("base", [Undescribed, Plain])
def test_options_without_description_or_with_open_secrets_are_caught(base):
    with pytest.raises(AssertionError, match="option `"):
        broken(base).test_each_option_has_a_description_and_secrets_are_secret()


async def ignores_the_answer(self, messages):
    await self.http.post(self.options.url, json=[])


def test_a_destination_that_ignores_the_answer_is_caught():
    contract = broken(deliver=ignores_the_answer)
    for check in (
        contract.test_a_rate_limit_is_a_retry_at_the_named_time,
        contract.test_a_failing_service_is_a_retry,
        contract.test_a_refusal_is_a_reject_with_a_reason,
        contract.test_a_redirect_is_a_reject,
    ):
        with pytest.raises(AssertionError):
            check()


async def sends_nothing(self, messages):
    return None


def test_a_destination_that_sends_nothing_is_caught():
    with pytest.raises(AssertionError, match="nothing was sent"):
        broken(deliver=sends_nothing).test_what_the_service_accepts_is_delivered()


async def answers_by_position(self, messages):
    return {"0": Reject("no")}


def test_results_by_position_are_caught():
    with pytest.raises(ValueError, match="no id of its messages"):
        broken(deliver=answers_by_position).test_what_the_service_accepts_is_delivered()


async def tells_the_secret(self, messages):
    raise Retry(f"wrong key {self.options.api_key.get_secret_value()}")


def test_a_secret_in_an_error_is_caught():
    with pytest.raises(AssertionError, match="can be read"):
        broken(deliver=tells_the_secret).test_secrets_stay_out_of_errors_and_representations()


async def tells_a_part_of_the_secret(self, messages):
    raise Reject(f"wrong key {self.options.api_key.get_secret_value()[:8]}…")


def test_a_part_of_a_secret_in_an_error_is_caught():
    with pytest.raises(AssertionError, match="can be read"):
        broken(deliver=tells_a_part_of_the_secret).test_secrets_stay_out_of_errors_and_representations()


async def tells_what_came_back_cut(self, messages):
    key = self.options.api_key.get_secret_value()
    response = await self.http.post(f"{self.options.url}/{key}", json=[])
    raise Reject(response.text[:16])  # "POST: /" and most of the key


def test_a_cut_that_leaves_a_part_of_what_came_back_is_caught():
    with pytest.raises(AssertionError, match="can be read"):
        broken(deliver=tells_what_came_back_cut).test_secrets_that_the_service_sends_back_stay_out_of_dead_letters()


async def forgets_the_status(self, messages):
    response = await self.http.post(self.options.url, json=[])
    raise Reject(f"HTTP {response.status}")


def test_a_refusal_that_does_not_tell_its_status_is_caught():
    with pytest.raises(AssertionError, match="status="):
        broken(deliver=forgets_the_status).test_a_refusal_is_a_reject_with_a_reason()


async def gives_a_status_as_text(self, messages):
    response = await self.http.post(self.options.url, json=[])
    raise Reject(f"HTTP {response.status}", status=str(response.status))


def test_a_status_as_text_does_no_harm():
    broken(deliver=gives_a_status_as_text).test_a_refusal_is_a_reject_with_a_reason()


async def never_ends(self, messages):
    while True:
        try:
            await self.http.post(self.options.url, json=[])
        except asyncio.CancelledError:
            return


def test_one_that_keeps_a_cancellation_to_itself_is_caught():
    with pytest.raises(AssertionError, match="CancelledError"):
        broken(deliver=never_ends).test_an_attempt_that_is_cancelled_ends()


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(3)])
async def test_what_would_end_the_worker_is_a_bug_too(error):
    async def deliver(self, messages):
        raise error

    with pytest.raises(AssertionError, match=type(error).__name__):
        await attempt(broken(deliver=deliver).make("http://127.0.0.1:1"), [make_message()])


async def test_an_error_of_the_network_is_a_retry_as_in_the_router():
    async def deliver(self, messages):
        raise ConnectionResetError

    (outcome,) = (await attempt(broken(deliver=deliver).make("http://127.0.0.1:1"), [make_message()])).values()
    assert (Retry, True) == (type(outcome), outcome.everyone)


def shows_the_secret(self, messages):
    return [Request("POST", self.options.url, {"Authorization": self.options.api_key.get_secret_value()}, "[]")]


def test_a_secret_in_a_shown_request_is_caught():
    with pytest.raises(AssertionError, match="can be read"):
        broken(requests=shows_the_secret).test_secrets_stay_out_of_errors_and_representations()


def test_a_shown_request_that_is_not_the_one_sent_is_caught():
    with pytest.raises(AssertionError):
        broken(requests=shows_the_secret).test_requests_shows_what_deliver_sends()


def test_a_client_of_its_own_that_reaches_private_addresses_is_caught():
    async def deliver(self, messages):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.options.url.rsplit(":", 1)[1]))
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        await reader.read(1)
        writer.close()

    with pytest.raises(AssertionError):
        broken(deliver=deliver).test_a_private_address_is_refused_unless_allowed()


async def test_a_bug_of_the_plugin_is_passed_on():
    async def deliver(self, messages):
        raise KeyError("x")

    destination = broken(deliver=deliver).make("http://127.0.0.1:1")
    with pytest.raises(KeyError):
        await attempt(destination, [make_message()])


def test_a_made_message_looks_like_a_real_one():
    message = make_message(type="page", message_id="m1", properties={"url": "https://a.example/"})
    assert message.payload["properties"] == {"url": "https://a.example/"}
    assert (message.type, message.payload["type"], message.message_id) == ("page", "page", "m1")
    assert message.id.startswith("msg_")
    assert message.id != make_message(message_id="m2").id


def test_a_made_message_carries_the_payload_of_a_map():
    assert make_message({"text": "hello"}).payload == {"text": "hello"}
