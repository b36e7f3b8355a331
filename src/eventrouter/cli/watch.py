"""`eventrouter status --watch`: the status again and again, on one screen or as lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from ..errors import ConfigError, EventRouterError
from .common import CONNECT_SECONDS, check_data_dir, counted, last_good_app, load_app
from .common import short_duration as duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ..app import EventRouter
    from ..rates import Sample
    from ..settings import Settings

LOOK_SECONDS = 5.0
"""How long one look may take; then the server counts as away."""
COLORS = {
    "ok": "green",
    "backing off": "yellow",
    "paused": "yellow",
    "on hold": "bold red",
    "failing": "bold red",
    "no worker": "bold red",
}
SHORT = {"not in routes.yaml": "no rules"}
"""What a column has no room for is told below the row."""
COLUMNS = (("state", 12), ("sent/s", 9), ("failed/s", 8), ("waiting", 9), ("oldest", 7), ("dead", 6))
"""The columns beside the destination, with their widths."""
LONGEST_NAME = 40


class Looks:
    """Looks at the status, whatever happens meanwhile: Redis goes and comes back, the rules change, or break."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._router: EventRouter | None = None
        self._changes: Any = None
        self._earlier: Sample | None = None
        self._note = ""
        """What is wrong with the rules file."""

    async def look(self) -> dict[str, Any]:
        """The status, with what is wrong under `problem`; nothing else is there while Redis is away."""
        from redis.exceptions import RedisError

        from ..disk import is_full
        from ..logs import mask

        settings = self._settings
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return {**await self._read(), "problem": self._note}
        except EventRouterError as error:
            problem = f"{error}; {error.hint}" if error.hint else str(error)
        except TimeoutError:
            problem = "Redis does not answer"
        except (RedisError, OSError) as error:
            problem = f"Redis is away: {error}"
        if settings.embedded and is_full(settings.data_dir):
            problem = f"the disk of the data directory {settings.data_dir} is full: free some space ({problem})"
        return {"at": datetime.now().astimezone().isoformat(timespec="milliseconds"), "problem": mask(problem)}

    async def _read(self) -> dict[str, Any]:
        from ..counters import read_snapshot
        from ..rates import read_sample, sample_of
        from ..status import status_of

        router, shards = await self._open(), self._settings.shards
        snapshot = await read_snapshot(router.lanes, shards, router.config.destinations)
        earlier, self._earlier = self._earlier or await read_sample(router.redis), sample_of(snapshot)
        return status_of(router.config, shards, snapshot, earlier)

    async def _open(self) -> EventRouter:
        """The router, connected; made anew when the rules have changed."""
        from ..file_changes import FileChanges

        if self._changes is not None and self._changes.changed():
            await self.close()
        if self._router is not None:
            return self._router
        check_data_dir(self._settings, needed=self._settings.embedded)
        files: Sequence[str] = ()
        try:
            router, self._note = load_app(self._settings), ""
            files = router.config.files
        except ConfigError as error:
            router, self._note = (
                last_good_app(self._settings),
                f"the rules file can't be used: {str(error.problems[0]).splitlines()[0]}",
            )
            files = error.files
        self._changes = FileChanges([self._settings.config, *files])
        try:
            await router.connect(CONNECT_SECONDS)
        except BaseException:
            await router.close()
            raise
        self._router = router
        return router

    async def close(self) -> None:
        """Closes what is open."""
        router, self._router = self._router, None
        if router is not None:
            await router.close()


def watch(settings: Settings, every: float, *, as_json: bool) -> None:
    """Looks every so many seconds until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch(settings, every, as_json=as_json))


async def _watch(settings: Settings, every: float, *, as_json: bool) -> None:
    looks, loop = Looks(settings), asyncio.get_running_loop()
    try:
        with _shown(every, as_json=as_json) as show:
            while True:
                due = loop.time() + every
                show(await looks.look())
                await asyncio.sleep(max(due - loop.time(), 0.0))
    finally:
        await looks.close()


@contextlib.contextmanager
def _shown(every: float, *, as_json: bool) -> Iterator[Any]:
    """What shows a status: as a line of JSON, on a screen of its own, or below the last one."""
    from rich.console import Console
    from rich.live import Live

    from .common import is_unicode

    if as_json:
        yield lambda found: typer.echo(json.dumps(found, ensure_ascii=not is_unicode(), default=str))
        return
    console, seen = Console(highlight=False), dict[str, Any]()

    def lines(found: dict[str, Any]) -> Text:
        if "rules" in found:
            seen.clear()
            seen.update(found)
        return screen(found, seen, every, console)

    if not console.is_terminal:
        console.width = max(console.width, 100)
        yield lambda found: console.print(lines(found), end="\n\n")
        return
    last: Text | None = None
    with Live(console=console, screen=True, auto_refresh=False) as live:

        def show(found: dict[str, Any]) -> None:
            nonlocal last
            last = lines(found)
            live.update(last, refresh=True)

        try:
            yield show
        finally:
            live.stop()
            if last is not None:  # what was seen last stays when the screen is gone
                console.print(last)


def screen(found: Mapping[str, Any], seen: Mapping[str, Any], every: float, console: Console) -> Text:
    """The status for a person at night: what is wrong first. `seen` is the last one that was there."""
    from rich.text import Text

    at = datetime.fromisoformat(found["at"]).astimezone()
    lines = [Text.assemble(("eventrouter", "bold"), f"  {at:%H:%M:%S}  ", (f"every {every:g} s, Ctrl-C ends", "dim"))]
    if found["problem"]:
        lines.append(Text(found["problem"], style="bold red"))
    if found is not seen and "rules" not in found and seen:
        since = datetime.fromisoformat(seen["at"]).astimezone()
        lines.append(Text(f"What follows is of {since:%H:%M:%S}.", style="yellow"))
    if seen:
        lines += [*_head(seen), *_table(seen, console.width)]
    return Text("\n").join(lines)


def _head(found: Mapping[str, Any]) -> Iterator[Text]:
    from rich.text import Text

    from .status import memory_line, process_lines, rate, rules_in_use

    events, rates, router = found["events"], found["per_second"], found["router"]
    over = found["rates_over_seconds"]
    parts = [f"{name} {rate(rates[name])}/s" for name in rates]
    told = ", ".join(parts) + f"  (over {duration(over)})" if over else "rates: from the next look on"
    yield Text.assemble("events  ", (told, "bold"))
    in_log, oldest = events["in_log"], router["oldest_seconds"]
    waits = f"{in_log:,} wait in the log{f', the oldest for {duration(oldest)}' if oldest is not None else ''}"
    yield Text(f"        {waits}; {events['accepted']:,} accepted so far")
    there = Counter(one["kind"] for one in found["processes"])
    here = ", ".join(counted(there[kind], kind) for kind in ("collector", "worker") if there[kind])
    yield Text(f"rules   {rules_in_use(dict(found))}, {found['shards']} shards, {here or 'no process'}")
    if not there["worker"]:
        yield Text("No worker is there: nothing is routed or delivered.", style="bold red")
    if router["reason"]:
        yield Text(f"Routing is failing: {router['reason']}", style="bold red")
    if memory := memory_line(dict(found)):
        yield Text(memory, style="bold red" if found["memory"]["budget_used"] >= 1 else "yellow")
    for line in process_lines(dict(found)):
        yield Text(line, style="yellow")


def _table(found: Mapping[str, Any], width: int) -> Iterator[Text]:
    """The destinations, those in trouble first; why is told below each."""
    from rich.text import Text

    from .status import rate, reason, total

    rows: list[tuple[str, dict[str, Any]]] = sorted(
        found["destinations"].items(), key=lambda row: (row[1]["state"] == "ok" and not reason(row[1]), row[0])
    )
    room = width - sum(1 + size for _, size in COLUMNS)
    longest = max((len(name) for name, _ in rows), default=0)
    names = max(min(longest, LONGEST_NAME, room), 12)
    yield Text()
    yield _line("destination", [name for name, _ in COLUMNS], names, "bold")
    for name, row in rows:
        state = str(row["state"])
        cells = [
            SHORT.get(state, state.split(",")[0]),
            rate(row["per_second"]["delivered"]),
            rate(row["per_second"]["failed"]),
            f"{row['waiting']:,}",
            duration(row["oldest_seconds"]),
            f"{total(row['dead']) or ''}",
        ]
        yield _line(name, cells, names, COLORS.get(state, "yellow"))
        told = [state] if state in SHORT or "," in state else []
        if why := "; ".join(filter(None, [*told, reason(row)])):
            yield Text(f"  {why}")


def _line(name: str, cells: Sequence[str], names: int, style: str) -> Text:
    from rich.text import Text

    line = Text(no_wrap=True, overflow="ellipsis")
    cut = name if len(name) <= names else f"{name[: names - 1]}…"
    line.append(f"{cut:<{names}}", "bold" if style == "bold" else "")
    for number, (cell, (_, size)) in enumerate(zip(cells, COLUMNS, strict=True)):
        line.append(f" {cell:<{size}}" if number == 0 else f" {cell:>{size}}", style if number == 0 else "")
    return line
