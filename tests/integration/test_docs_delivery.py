"""docs/delivery.md: every command does what the page says, in the order of the page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from http_sink import Sink
from system import System

from eventrouter.cli.replay import RATE
from eventrouter.config_model import DEFAULT_BACKLOG, RetryConfig
from eventrouter.limits import NEAR, TELL_SECONDS
from eventrouter.once import REMEMBERED, WINDOW_MS
from eventrouter.replay import KEPT_SECONDS, PATIENCE_SECONDS
from eventrouter.testing import Answer

PAGE = (Path(__file__).parents[2] / "docs" / "delivery.md").read_text("utf-8")
BLOCKS = [(match[1], match[2]) for match in re.finditer(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]
[RULES] = [text for language, text in BLOCKS if language == "yaml"]


def section(title: str) -> list[tuple[str, str]]:
    """The commands of a section, each with what it is said to print ("" where the page doesn't say)."""
    [text] = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    found = re.findall(r"^```sh\n(.*?)^```\n(?:```\n(.*?)^```$)?", text, re.MULTILINE | re.DOTALL)
    assert found
    return found


def shell(system: System, command: str) -> str:
    """Runs an example as it stands; no example needs more of a shell than to find its words."""
    name, *arguments = shlex.split(command, comments=True)
    assert (name, [one for one in arguments if set(one) & set("|&;<>$`*?\n")]) == ("eventrouter", [])
    done = system.run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def plain(text: str) -> str:
    """A line without what differs from run to run, and without its columns' widths."""
    text = re.sub(r"20\d\d-[-\d]+T[\d:.]+Z?", "TIME", text)
    return " ".join(re.sub(r"(rules +)[0-9a-f]{12}", r"\1RULES", text).split())


def lines(text: str) -> list[str]:
    """What is printed, line by line, as far as it is the same in each run."""
    return [plain(line) for line in text.splitlines() if line.strip() and "──" not in line]


def start(directory: Path, sink: Sink, path: str = "/crm") -> System:
    return System(directory, RULES, {"CRM_URL": f"{sink.url}{path}", "WEBSITE_WRITE_KEY": "key-website"})


def test_a_pause_is_as_the_page_says(tmp_path: Path, sink: Sink) -> None:
    (pause, said), (resume, said_then) = section("Pause a destination")
    with start(tmp_path, sink) as system:
        assert said == shell(system, pause)
        [shown] = [text for _, text in BLOCKS if text.startswith("destination ")]
        status = lines(system.run("status").stdout)
        assert [] == [line for line in lines(shown) if line not in status], status
        assert said_then == shell(system, resume)


def test_the_limits_are_those_of_the_code() -> None:
    assert f"`retry.max_age` ({RetryConfig().max_age / 3600:.0f} hours)" in PAGE
    assert f"`backlog` ({DEFAULT_BACKLOG:,})" in PAGE
    assert f"from {NEAR:.0%}".replace("%", " %") in PAGE
    assert TELL_SECONDS == 600.0
    assert "every ten minutes" in PAGE


def test_dead_letters_are_handled_as_the_page_says(tmp_path: Path, sink: Sink) -> None:
    list_, show, replay, discard = section("Dead letters")
    sink.always("/crm", Answer(422, body="an order needs an id"))
    with start(tmp_path, sink) as system:
        system.track("Order Completed", "a", messageId="order-1", properties={"total": 12.5})
        system.rows(1, "SELECT * FROM dead_letters")
        for command, said in (list_, show):
            assert lines(said) == lines(shell(system, command))
        sink.always("/crm", None)
        assert replay[1] == shell(system, replay[0])
        sink.wait("/crm", 1)
        system.rows(1, "SELECT * FROM dead_letters WHERE outcome = 'sent'")
        assert discard[1] == shell(system, discard[0])
        shell(system, "eventrouter audit")


def test_history_is_sent_again_as_the_page_says(tmp_path: Path, sink: Sink) -> None:
    dry, earnest = section("Send history again")
    with start(tmp_path, sink, "/history") as system:
        system.track("Order Completed", "a", messageId="order-1", properties={"total": 12.5})
        system.track("Other", "a")
        system.rows(2, "SELECT * FROM events")
        [first] = sink.wait("/history", 1)
        assert lines(dry[1]) == lines(shell(system, dry[0]))
        assert lines(earnest[1]) == lines(shell(system, earnest[0]))
        assert first.id == sink.wait("/history", 2)[1].id
        shell(system, "eventrouter audit")


def test_what_is_remembered_of_it_is_what_the_code_remembers() -> None:
    assert f"{REMEMBERED:,} dead letters (and events of replays) in each shard, for a day at most" in PAGE
    assert 86_400_000 == WINDOW_MS


def test_the_rate_is_that_of_the_code() -> None:
    assert f"{RATE:g} a second unless" in PAGE
    assert (KEPT_SECONDS, PATIENCE_SECONDS) == (30 * 86_400, 120.0)
