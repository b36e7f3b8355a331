"""The destination `stdout`: lines, streams, and streams that do not take any more."""

import asyncio
import contextlib
import json
import os
import sys

import pytest

from eventrouter.builtin.stdout import Stdout, register_destinations
from eventrouter.errors import Reject, Retry
from eventrouter.testing import attempt, make_message


@pytest.fixture
async def stdout():
    made = []

    def make(**options):
        made.append(Stdout(Stdout.Options(**options)))
        return made[-1]

    yield make
    for destination in made:
        await destination.close()


@contextlib.contextmanager
def piped():
    """Standard output as a pipe: its reading end."""
    before = sys.stdout
    reader, writer = os.pipe()
    sys.stdout = os.fdopen(writer, "w")
    try:
        yield reader
    finally:
        if not sys.stdout.closed:
            sys.stdout.close()
        sys.stdout = before
        with contextlib.suppress(OSError):
            os.close(reader)


def messages(count, payload=None):
    return [make_message(payload or {"n": n, "big": 2**70}, message_id=f"m{n}") for n in range(count)]


async def test_each_event_is_one_line_of_json(stdout, capfd):
    assert set((await attempt(stdout(), messages(3))).values()) == {None}
    assert [json.loads(line) for line in capfd.readouterr().out.splitlines()] == [
        {"n": n, "big": 2**70} for n in range(3)
    ]


async def test_lines_may_be_indented_and_go_to_standard_error(stdout, capfd):
    await attempt(stdout(pretty=True, stream="stderr"), messages(1))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == '{\n  "n": 0,\n  "big": 1180591620717411303424\n}\n'


async def test_a_payload_that_is_not_json_is_refused_alone(stdout, capfd):
    bad, good = make_message({"a": "\ud800"}, message_id="bad"), make_message({"a": 1}, message_id="good")
    outcomes = await attempt(stdout(), [bad, good])
    assert (type(outcomes[bad.id]), outcomes[good.id]) == (Reject, None)
    assert capfd.readouterr().out == '{"a":1}\n'


async def test_a_closed_reader_is_a_retry_that_says_so(stdout):
    with piped() as pipe:
        os.close(pipe)
        (outcome,) = (await attempt(stdout(), messages(1))).values()
    assert isinstance(outcome, Retry)
    assert (outcome.everyone, outcome.reason) == (True, "cannot write to standard output: Broken pipe")


async def test_a_closed_stream_is_a_retry(stdout):
    with piped():
        sys.stdout.close()
        (outcome,) = (await attempt(stdout(), messages(1))).values()
    assert (type(outcome), outcome.reason) == (Retry, "cannot write to standard output: it is closed")


def read_line(pipe: int) -> bytes:
    got = b""
    while not got.endswith(b"\n"):
        got += os.read(pipe, 65536)
    return got


async def test_a_reader_that_stops_blocks_no_one_else_and_later_gets_whole_lines(stdout):
    destination = stdout()
    big = messages(1, {"text": "x" * 200_000})
    with piped() as pipe:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(destination.deliver(big), 0.2)
        with pytest.raises(Retry, match="standard output is not being read"):
            await asyncio.wait_for(destination.deliver(messages(1)), 0.2)
        assert json.loads(await asyncio.to_thread(read_line, pipe)) == big[0].payload
        async with asyncio.timeout(5):
            while list((await attempt(destination, messages(1))).values()) != [None]:
                await asyncio.sleep(0.01)
        assert read_line(pipe) == b'{"n":0,"big":1180591620717411303424}\n'


async def test_it_can_be_closed_before_it_wrote_anything(stdout):
    await stdout().close()


def test_the_plugin_registers_itself():
    assert register_destinations() == [Stdout]
    assert Stdout.batch_size == 100
