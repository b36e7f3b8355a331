"""`eventrouter dead`: deliveries that were given up: looking at them, sending them again, discarding them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..records import DEAD_LETTER_CLASSES
from .common import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    counted,
    opened,
    print_json,
    print_table,
    read_settings,
    read_window,
)
from .feeding import Bar, held_up, print_held_up

if TYPE_CHECKING:
    from ..app import EventRouter
    from ..dead_letters import DeadLetters

APART = timedelta(seconds=2)
"""How far a worker's clock may be from the server's."""

DestinationOption = Annotated[str | None, typer.Option("--destination", help="Only for this destination.")]
ClassOption = Annotated[
    str | None,
    typer.Option("--class", help=f"Only of this class: {', '.join(DEAD_LETTER_CLASSES)}."),
]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Only with this text in the reason.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="Last tried at or after: 2h (ago), 2026-11-24, 2026-11-24T17:00 (UTC).")
]
UntilOption = Annotated[str | None, typer.Option("--until", help="Last tried before.")]
EventOption = Annotated[str | None, typer.Option("--event", help="Only for events of this name.")]
IdOption = Annotated[str | None, typer.Option("--id", help="Only of the event with this messageId.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many. [default: all]")]


def register(app: typer.Typer) -> None:
    """Adds `dead list`, `dead show`, `dead replay` and `dead discard`."""
    dead = typer.Typer(no_args_is_help=True, help="Deliveries that are not tried again by themselves (dead letters).")
    app.add_typer(dead, name="dead")

    @dead.command("list")
    def list_(
        destination: DestinationOption = None,
        class_: ClassOption = None,
        reason: ReasonOption = None,
        since: SinceOption = None,
        until: UntilOption = None,
        event: EventOption = None,
        message_id: IdOption = None,
        all_: Annotated[bool, typer.Option("--all", help="Those too that were sent again or discarded.")] = False,
        limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 100,
        as_json: JsonOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """List dead letters, the oldest first, with the reason of each."""
        filters = _filters(destination, class_, reason, since, until, event, message_id) | {"replayed": all_}
        settings = read_settings(config=config, data_dir=data_dir)

        async def ask() -> list[dict[str, Any]]:
            async with opened(settings, connect=False) as router:
                await _check_destination(router, destination)
                letters = await router.dead_letters()
                return [row async for page in letters.pages(limit, **filters) for row in page]

        rows = asyncio.run(ask())
        if as_json:
            print_json([{"state": state(row), **row} for row in rows])
        elif not rows:
            typer.echo("There are no such dead letters.")
        else:
            columns = ["last_at", "destination", "class", "event", "attempts", "message_id", "reason"]
            columns += ["state"] if all_ else []
            print_table(columns, [[_cell(row, column) for column in columns] for row in rows])
            if len(rows) == limit:
                typer.echo(f"There may be more: these are the first {limit} (--limit).")

    @dead.command()
    def show(
        message_id: Annotated[str, typer.Argument(metavar="MESSAGE_ID", help="The messageId of its event.")],
        destination: DestinationOption = None,
        as_json: JsonOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Show all that is kept of an event's dead letters: why, what was answered, and the payload."""
        from .dead_letter import print_letter

        settings = read_settings(config=config, data_dir=data_dir)

        async def ask() -> list[dict[str, Any]]:
            async with opened(settings, connect=False) as router:
                await _check_destination(router, destination)
                warehouse = await router.warehouse()
                found = await warehouse.find_dead_letters(message_id=message_id, destination=destination, replayed=True)
                rows: list[dict[str, Any]] = router.config.mask.inside(found)
                return rows

        rows = asyncio.run(ask())
        if as_json:
            print_json([{"state": state(row), **row} for row in rows])
        elif not rows:
            typer.echo(f"There is no dead letter of {message_id}; `eventrouter trace` tells what became of an event.")
            raise typer.Exit(1)
        else:
            for row in rows:
                print_letter(row, state(row))

    @dead.command()
    def replay(
        destination: DestinationOption = None,
        class_: ClassOption = None,
        reason: ReasonOption = None,
        since: SinceOption = None,
        until: UntilOption = None,
        event: EventOption = None,
        message_id: IdOption = None,
        limit: LimitOption = None,
        as_was: Annotated[
            bool, typer.Option("--as-was", help="With the payload of then, not by today's rules.")
        ] = False,
        again: Annotated[
            bool, typer.Option("--again", help="Those too that were sent again, filtered or discarded before.")
        ] = False,
        yes: YesOption = False,
        as_json: JsonOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Send dead letters again, by today's rules, behind what waits. Their idempotency keys stay the same.

        What today's rules send nowhere is filtered, with the reason. May be broken off, and given again: none is sent
        twice. The order of replays is not kept.
        """
        filters = _filters(destination, class_, reason, since, until, event, message_id) | {"replayed": again}
        settings = read_settings(config=config, data_dir=data_dir)
        sent = 0
        held: dict[str, str] = {}
        filtered: list[tuple[str, str]] = []
        skipped: list[tuple[str, str]] = []

        async def main() -> None:
            nonlocal sent, held
            names: dict[str, None] = {}
            chosen = partial(_chosen, filters=filters, limit=limit, yes=yes, what="Send {} again")
            async with opened(settings) as router, chosen(router) as (until, pages):
                async for letters, page in pages:
                    done = await letters.replay(page, as_was=as_was, until=until)
                    sent += done.sent
                    filtered.extend(done.filtered)
                    skipped.extend(done.skipped)
                    left = {message_id for message_id, _ in (*done.filtered, *done.skipped)}
                    names.update((row["destination"], None) for row in page if row["message_id"] not in left)
                held = await held_up(router, names)

        asyncio.run(main())
        if as_json:
            print_json({"sent": sent, "filtered": _told(filtered), "skipped": _told(skipped), "held_up": held})
            return
        told = f", filtered {len(filtered)} by today's rules" if filtered else ""
        typer.echo(f"Queued {counted(sent, 'dead letter')}{told}, skipped {len(skipped)}.")
        for found in (filtered, skipped):
            for why, number in Counter(why for _, why in found).most_common():
                typer.echo(f"  {number}: {why}")
        print_held_up(held)

    @dead.command()
    def discard(
        destination: DestinationOption = None,
        class_: ClassOption = None,
        reason: ReasonOption = None,
        since: SinceOption = None,
        until: UntilOption = None,
        event: EventOption = None,
        message_id: IdOption = None,
        limit: LimitOption = None,
        yes: YesOption = False,
        as_json: JsonOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Give dead letters up for good. They are counted as discarded; `dead list --all` still shows them."""
        filters = _filters(destination, class_, reason, since, until, event, message_id)
        settings = read_settings(config=config, data_dir=data_dir)

        async def main() -> int:
            number = 0
            chosen = partial(_chosen, filters=filters, limit=limit, yes=yes, what="Discard {}")
            async with opened(settings) as router, chosen(router) as (_, pages):
                async for letters, page in pages:
                    number += await letters.discard(page)
            return number

        number = asyncio.run(main())
        if as_json:
            print_json({"discarded": number})
        else:
            typer.echo(f"Discarded {counted(number, 'dead letter')}.")


def state(row: dict[str, Any]) -> str:
    """What became of a dead letter: `dead` as long as nothing did, else `sent`, `discarded` or `filtered: REASON`."""
    return str(row["outcome"] or "sent") if row["replayed_at"] else "dead"


@asynccontextmanager
async def _chosen(
    router: EventRouter, filters: dict[str, Any], limit: int | None, yes: bool, what: str
) -> AsyncIterator[tuple[datetime, AsyncIterator[tuple[DeadLetters, list[dict[str, Any]]]]]]:
    """After a question, the pages of those that fit and that there are now, with a progress bar on stderr.

    Before them the time up to which they were last tried: what dies again is not met again.
    """
    await _check_destination(router, filters["destination"])
    seconds, micros = await router.redis.time()
    now = datetime.fromtimestamp(seconds + micros / 1e6, UTC) + APART
    until = min(filters["until"] or now, now)
    filters = filters | {"until": until}
    counts: Counter[str] = Counter()
    for (name, _), number in (await (await router.warehouse()).count_dead_letters(**filters)).items():
        counts[name] += number
    total = min(counts.total(), limit or counts.total())
    if total and not yes:
        by_name = ", ".join(f"{number} to {name}" for name, number in sorted(counts.items()))
        among = by_name if total == counts.total() else f"the oldest of {by_name}"
        typer.confirm(f"{what.format(counted(total, 'dead letter'))} ({among})?", abort=True, err=True)
    with Bar(router, "Dead letters", total) as bar:
        letters = await router.dead_letters(waiting=bar.waiting)

        async def pages() -> AsyncIterator[tuple[DeadLetters, list[dict[str, Any]]]]:
            async for page in letters.pages(limit, **filters):
                yield letters, page
                bar.advance(len(page))

        yield until, pages()


def _told(found: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"message_id": each, "reason": why} for each, why in found]


async def _check_destination(router: EventRouter, name: str | None) -> None:
    """A name that neither the rules nor a dead letter know is a mistake: nothing found would be taken for good news."""
    if name is None or name in router.config.destinations:
        return
    stored = {one for one, _ in await (await router.warehouse()).count_dead_letters(replayed=True)}
    if name not in stored:
        raise _unknown("destination", name, sorted({*router.config.destinations, *stored}))


def _unknown(what: str, name: str, known: Sequence[str]) -> typer.BadParameter:
    from ..config_reader import did_you_mean

    hint = did_you_mean(name, known, "there are") or f"there are no {what}s"
    return typer.BadParameter(f"there is no {what} {name}; {hint}", param_hint=f"--{what}")


def _filters(
    destination: str | None,
    class_: str | None,
    reason: str | None,
    since: str | None,
    until: str | None,
    event: str | None,
    message_id: str | None,
) -> dict[str, Any]:
    if class_ is not None and class_ not in DEAD_LETTER_CLASSES:
        raise _unknown("class", class_, DEAD_LETTER_CLASSES)
    begin, end = read_window(since, until)
    return {
        "destination": destination,
        "class_": class_,
        "reason": reason,
        "since": begin,
        "until": end,
        "event": event,
        "message_id": message_id,
    }


def _cell(row: dict[str, Any], column: str) -> Any:
    if column == "event":
        return row.get("event_name") or row.get("event_type")
    return state(row) if column == "state" else row.get(column)
