"""A third-party plugin for tests: a package with an entry point, laid where `PYTHONPATH` finds it."""

from __future__ import annotations

from pathlib import Path

TROUBLE = '''
"""A plugin that fails in every way that a plugin can fail."""
from eventrouter import Destination, Enrichment, Reject, Retry, check_response, hookimpl
from pydantic import Field


class Moody(Destination):
    """Does what each event asks for, and tells the sink what it took."""

    name = "moody"
    batch_size = 20

    class Options(Destination.Options):
        url: str = Field(description="Where to tell.")

    async def deliver(self, messages):
        wishes = [message.payload["properties"].get("do") for message in messages]
        if "bug" in wishes:
            raise ZeroDivisionError("a bug of the plugin")
        refused = {}
        for message, wish in zip(messages, wishes):
            if wish == "refuse":
                refused[message.id] = Reject("it did not like this one")
            elif wish == "later" and message.attempt < 3:
                refused[message.id] = Retry("not yet")
        taken = [message.payload["messageId"] for message in messages if message.id not in refused]
        if taken:
            check_response(await self.http.post(self.options.url, json=taken))
        return refused


class Faulty(Enrichment):
    """Adds to most events, and fails for one."""

    name = "faulty"

    async def enrich(self, shard, events):
        for stored in events:
            if stored.event.get("event") == "Enrichment Fails":
                raise KeyError("a bug of the enrichment")
            stored.event["context"]["enriched"] = True
        return []


class Unready(Enrichment):
    """Never starts."""

    name = "unready"

    async def start(self):
        raise OSError("its database is away")

    async def enrich(self, shard, events):
        raise AssertionError("it was never started")


@hookimpl
def register_destinations():
    return [Moody]


@hookimpl
def register_enrichments():
    return [Faulty, Unready]


@hookimpl
def register_template_filters():
    return {"shout": lambda text: str(text).upper() + "!"}


@hookimpl
def register_commands(app):
    @app.command()
    def greet() -> None:
        """Says hello."""
        print("hello from a plugin")


@hookimpl
def attempt_finished(destination):
    if destination == "hooked":
        raise RuntimeError("a bug of the hook attempt_finished")


@hookimpl
def event_dropped(destination):
    raise RuntimeError("a bug of the hook event_dropped")
'''


def install(directory: Path, name: str, source: str) -> str:
    """Writes the package; returns what `PYTHONPATH` has to be."""
    information = directory / f"{name}-1.0.dist-info"
    information.mkdir(parents=True)
    (directory / f"{name}.py").write_text(source, encoding="utf-8")
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (information / "entry_points.txt").write_text(f"[eventrouter]\n{name} = {name}\n", encoding="utf-8")
    return str(directory)
