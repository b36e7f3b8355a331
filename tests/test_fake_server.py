"""The stand-in for a service: it records requests and answers as told."""

from eventrouter.errors import Retry
from eventrouter.fake_server import Answer, FakeServer
from eventrouter.http import HttpClient


async def test_it_records_what_it_gets_and_answers_as_told():
    client = HttpClient(5, allow_private=True)
    with FakeServer(Answer(202, '{"ok":1}', {"X-A": "b"})) as server:
        answer = await client.request("PATCH", server.url + "/p?q=1", json={"a": 1}, headers={"X-Key": "k"})
    await client.close()
    assert (answer.status, answer.json(), answer.headers["x-a"]) == (202, {"ok": 1}, "b")
    (request,) = server.received
    assert (request.method, request.path, request.json()) == ("PATCH", "/p?q=1", {"a": 1})
    assert request.headers["x-key"] == "k"


async def test_its_answer_may_depend_on_the_request():
    client = HttpClient(5, allow_private=True)
    with FakeServer(lambda request: Answer(404 if request.json() == 1 else 200)) as server:
        statuses = [(await client.post(server.url, json=n)).status for n in range(3)]
    await client.close()
    assert statuses == [200, 404, 200]


async def test_an_answer_without_a_body_leaves_the_connection_usable():
    client = HttpClient(5, allow_private=True)
    with FakeServer(Answer(204)) as server:
        statuses = [(await client.post(server.url, json=n)).status for n in range(3)]
    await client.close()
    assert statuses == [204, 204, 204]
    assert [request.json() for request in server.received] == [0, 1, 2]


async def test_a_delayed_answer_does_not_hold_up_the_end():
    client = HttpClient(0.1, allow_private=True)
    outcome = None
    with FakeServer(Answer(delay=60)) as server:
        try:
            await client.get(server.url)
        except Retry as error:
            outcome = error.reason
    await client.close()
    assert outcome is not None
    assert "no answer" in outcome
