"""`eventrouter pause` and `eventrouter resume`: a destination that is to get nothing for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError
from .common import ConfigOption, DataDirOption, JsonOption, counted, opened, print_json, read_settings

if TYPE_CHECKING:
    from ..app import EventRouter
    from ..settings import Settings

NameArgument = Annotated[str, typer.Argument(metavar="DESTINATION", help="A destination's name.")]


def register(app: typer.Typer) -> None:
    """Adds `pause` and `resume`."""

    @app.command()
    def pause(
        destination: NameArgument,
        reason: Annotated[str, typer.Option("--reason", help="Why; `status` shows it.")] = "",
        as_json: JsonOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Send nothing to a destination until it is resumed; what comes for it waits. Nothing else is touched.

        It holds for all workers, and over restarts. Attempts under way end. As ever, deliveries older than
        `retry.max_age` and those beyond `backlog` become dead letters.
        """
        from ..pausing import pause as pause_it

        settings = read_settings(config=config, data_dir=data_dir)
        row = _do(settings, destination, lambda router: pause_it(router.lanes, destination, reason))
        if as_json:
            print_json({"destination": destination, **row})
        else:
            typer.echo(f"{destination} is paused; {counted(row['waiting'], 'delivery', 'deliveries')} waiting.")

    @app.command()
    def resume(
        destination: NameArgument,
        as_json: JsonOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Send to a destination again, beginning with what waits, at once and in order."""
        from ..pausing import resume as resume_it
        from ..status import obstacle

        settings = read_settings(config=config, data_dir=data_dir)
        row = _do(settings, destination, lambda router: resume_it(router.lanes, destination, router.settings.shards))
        if as_json:
            print_json({"destination": destination, **row})
        else:
            waiting, why = counted(row["waiting"], "delivery", "deliveries"), obstacle(row)
            told = f"is paused no longer, but it {why}" if why else "gets deliveries again"
            typer.echo(f"{destination} {told}; {waiting} waiting.")


def _do(settings: Settings, destination: str, step: Callable[[EventRouter], Awaitable[None]]) -> dict[str, Any]:
    """Does it, and returns what the destination's row of the status then says of it.

    Works with a rules file that can't be used, too: that may be why.
    """
    from ..counters import read_snapshot
    from ..status import row_of

    async def main(*, broken: bool = False) -> dict[str, Any]:
        async with opened(settings, broken=broken) as router:
            _check(destination, {*(await router.snapshot()).lanes} - {"log"})
            await step(router)
            snapshot = await read_snapshot(router.lanes, router.settings.shards, [destination])
            row = row_of(router.config, snapshot, destination)
            return {name: row.get(name) for name in ("state", "paused_at", "reason", "waiting")}

    try:
        return asyncio.run(main())
    except ConfigError as error:
        typer.echo(f"The rules file can't be used: {error.problems[0]}\n", err=True)
        return asyncio.run(main(broken=True))


def _check(name: str, known: set[str]) -> None:
    from ..config_reader import did_you_mean
    from ..targets import WAREHOUSE

    if name == WAREHOUSE:
        raise typer.BadParameter(
            "the warehouse can't be paused: every event has to reach it, and the event log waits for it;"
            " while its database is away, its records wait by themselves"
        )
    if name not in known:
        hint = did_you_mean(name, sorted(known - {WAREHOUSE}), "there are") or "there are none"
        raise typer.BadParameter(f"there is no destination {name}; {hint}")
