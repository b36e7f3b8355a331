"""`eventrouter replay`: history from the warehouse to one destination."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import ConfigOption, DataDirOption, JsonOption, opened, print_json, print_table, read_settings, read_window
from .feeding import Bar, held_up, print_held_up
from .where import Where

if TYPE_CHECKING:
    from ..app import EventRouter
    from ..replay import Progress, Replay

RATE = 100.0
EXAMPLES = 2
"""Payloads that a dry run shows of each route."""


def register(app: typer.Typer) -> None:
    """Adds `replay`."""

    @app.command()
    def replay(
        destination: Annotated[str, typer.Argument(metavar="DESTINATION", help="Who gets them.")],
        since: Annotated[
            str, typer.Option("--since", help="Received at or after: 2h (ago), 2026-11-24, 2026-11-24T17:00 (UTC).")
        ],
        until: Annotated[str | None, typer.Option("--until", help="Received before. [default: now]")] = None,
        where: Annotated[
            str | None, typer.Option("--where", help="Of these, only events that meet this condition, as in `when`.")
        ] = None,
        person: Annotated[
            str | None, typer.Option("--person", help="Only events of today's person of this id.")
        ] = None,
        rate: Annotated[float, typer.Option("--rate", min=0.1, help="Deliveries a second, at most.")] = RATE,
        new_keys: Annotated[
            bool, typer.Option("--new-keys", help="With new idempotency keys: sent as if they were new.")
        ] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; tell what would be sent.")] = False,
        anew: Annotated[
            bool, typer.Option("--anew", help="Begin anew instead of going on where it was broken off.")
        ] = False,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
        as_json: JsonOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Send history from the warehouse to one destination, by today's rules, behind live deliveries.

        Consent is checked again, samples stay the same, and so do idempotency keys. When it is broken off, the same
        command goes on where it was, and sends nothing twice.
        """
        from ..masking import Mask

        settings = read_settings(config=config, data_dir=data_dir)
        window = read_window(since, until)
        command = [since, until or "", where or "", person or "", "new keys" if new_keys else ""]

        async def main() -> tuple[dict[str, Any], Mask]:
            async with opened(settings) as router:
                _check(router, destination)
                chosen = Where(where, router.router.expressions)
                bar = Bar(router, f"Replay to {destination}", 0)
                replays = await router.replay(
                    destination,
                    rate=rate,
                    waiting=bar.waiting,
                    command=command,
                    holds=chosen,
                    person=person,
                    new_keys=new_keys,
                    away=lambda why: bar.tell(f"Waiting: {why}"),
                )
                progress = None if anew or dry_run else await replays.resume()
                if progress is not None:
                    typer.echo(f"Goes on with the replay begun at {progress.began_at}: {_far(progress)}.", err=True)
                else:
                    seconds, micros = await router.redis.time()
                    now = datetime.fromtimestamp(seconds + micros / 1e6, UTC)
                    progress = await replays.begin(window[0], min(window[1] or now, now))
                if dry_run:
                    return await _dry(replays, progress, bar), router.config.mask
                if not yes:
                    left = progress.total - progress.looked
                    what = f"Send {destination} what today's rules make of {left:,} events"
                    typer.confirm(f"{what}, {rate:g} a second at most?", abort=True, err=True)
                found = await _send(replays, progress, bar, chosen)
                held = await held_up(router, [destination] if progress.sent else [])
                return found | {"held_up": held}, router.config.mask

        try:
            found, mask = asyncio.run(main())
        except KeyboardInterrupt:
            typer.echo("Broken off; the same command goes on from there.", err=True)
            raise typer.Exit(130) from None
        if as_json:
            print_json(mask.inside(found))
        elif dry_run:
            _print_dry(found, mask)
        else:
            _print(found, mask)


def _check(router: EventRouter, name: str) -> None:
    from ..config_reader import did_you_mean
    from ..targets import WAREHOUSE

    if name == WAREHOUSE:
        raise typer.BadParameter("the warehouse has all events already")
    if name not in router.config.destinations:
        hint = did_you_mean(name, sorted(router.config.destinations), "there are") or "there are none"
        raise typer.BadParameter(f"there is no destination {name}; {hint}")
    if not router.config.destinations[name].enabled:
        raise typer.BadParameter(f"the destination {name} is switched off in the rules")


def _far(progress: Progress) -> str:
    return f"{progress.looked:,} of {progress.total:,} events are done"


async def _send(replays: Replay, progress: Progress, bar: Bar, chosen: Where) -> dict[str, Any]:
    from redis.exceptions import RedisError

    from ..errors import DeliveryError, UnavailableError

    with bar:
        bar.begin(progress.total, progress.looked)
        try:
            async for number in replays.run(progress):
                bar.advance(number)
        except (DeliveryError, UnavailableError, RedisError, OSError) as error:
            raise UnavailableError(
                f"the replay was broken off: {error}; {_far(progress)}", hint="the same command goes on from there"
            ) from None
    return _report(progress) | {"where_failed": dict(chosen.failures)}


async def _dry(replays: Replay, progress: Progress, bar: Bar) -> dict[str, Any]:
    import msgspec

    examples: dict[str, list[Any]] = {}
    with bar:
        bar.begin(progress.total, 0)
        async for page in replays.pages(progress):
            progress.add(page)
            for one in page.routed.deliveries:
                if len(kept := examples.setdefault(one.route, [])) < EXAMPLES:
                    payload = msgspec.json.decode(one.data)
                    kept.append({"messageId": page.events[one.index].message_id, "payload": payload})
            bar.advance(page.looked)
    return _report(progress) | {"examples": examples}


def _report(progress: Progress) -> dict[str, Any]:
    return {
        "events": progress.looked,
        "sent": progress.sent,
        "filtered": progress.filtered,
        "failed": progress.failed,
    }


def _print(found: dict[str, Any], mask: Any, verb: str = "Queued") -> None:
    number = sum(found["sent"].values())
    deliveries = "delivery" if number == 1 else "deliveries"
    typer.echo(f"{verb} {number:,} {deliveries} of {found['events']:,} events.")
    rows = [("sent by", route, count) for route, count in found["sent"].items()]
    rows += [("filtered", reason, count) for reason, count in found["filtered"].items()]
    rows += [("failed", why, count) for why, count in found["failed"].items()]
    if rows:
        print_table(
            ["what", "route or reason", "events"], [(what, mask(why), f"{count:,}") for what, why, count in rows]
        )
    for why, count in found.get("where_failed", {}).items():
        typer.echo(f"--where failed at {count:,} events: {mask(why)}")
    print_held_up(found.get("held_up", {}))


def _print_dry(found: dict[str, Any], mask: Any) -> None:
    import json

    _print(found, mask, "Would send")
    for route, examples in found["examples"].items():
        for one in examples:
            typer.echo(f"{route}: {one['messageId']}")
            text = json.dumps(mask.inside(one["payload"]), indent=2, ensure_ascii=False)
            typer.echo("\n".join(f"  {line}" for line in text.splitlines()))
