"""What is shown while something is sent again: how far it is, and what it waits for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..app import EventRouter


class Bar:
    """A progress bar on stderr, in a terminal only; what is waited for is told in any case, once a change."""

    def __init__(self, router: EventRouter, what: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(what, total=total)
        self._router = router
        self._told = ""

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, total: int, done: int) -> None:
        """So much there is in all, and so much of it is done."""
        self._bar.update(self._task, total=total, completed=done)

    def advance(self, number: int) -> None:
        """So many more are done."""
        self._bar.advance(self._task, number)

    def tell(self, line: str) -> None:
        """A line above the bar, in a terminal or not; not the same one again."""
        if line != self._told:
            self._told = line
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    async def waiting(self, destination: str) -> None:
        """Tells why the lanes of a destination have no room."""
        why = (await held_up(self._router, [destination])).get(destination)
        self.tell(f"Waiting for {destination}: {f'it {why}' if why else 'what lies in its lanes goes first'}")


async def held_up(router: EventRouter, names: Iterable[str]) -> dict[str, str]:
    """Those of these destinations that get nothing for now, and why (see `obstacle`).

    None while Redis is away: what was sent stays sent, and its command must not fail for want of this.
    """
    from redis.exceptions import RedisError

    from ..status import obstacle, row_of

    try:
        snapshot = await router.snapshot()
    except (RedisError, OSError, TimeoutError):
        return {}
    found = {name: obstacle(row_of(router.config, snapshot, name)) for name in names}
    return {name: why for name, why in found.items() if why}


def print_held_up(held: Mapping[str, str]) -> None:
    """Says for which destinations what lies in their lanes waits."""
    for name, why in held.items():
        typer.echo(f"What is queued waits, since {name} {why}.")
