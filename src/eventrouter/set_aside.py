"""Setting aside: items that nobody can read leave their lane for `rejected_events`, so that what follows can go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from .lane import Append, Claim, Item, Removal
from .lanes import Turn
from .records import pack
from .stored import UnreadableError
from .unreadable import CODE, refusal

log = structlog.get_logger("eventrouter.set_aside")


async def set_aside(
    turn: Turn,
    items: Sequence[tuple[Item, UnreadableError]],
    enqueue: Callable[[Sequence[Claim]], Awaitable[None]],
) -> None:
    """Takes `items` out of the lane of `turn` and keeps them, as they are, for the warehouse: in one atomic step.

    They count as dead of the class `unreadable`.
    """
    place = f"{turn.lane.shard}:{turn.lane.name}"
    records = [("", 1, pack([refusal(error, place, item.id)])) for item, error in items]
    claims, _ = await turn.settle(
        [Removal(item, f"dead:{turn.lane.name}:{CODE}") for item, _ in items],
        appends=[Append("warehouse", records, "to:warehouse")],
    )
    log.error(
        "items that can't be read were taken out of a lane; they are in rejected_events",
        lane=turn.lane.name,
        shard=turn.lane.shard,
        number=len(items),
        reason=str(items[0][1]),
    )
    if claims:
        await enqueue(claims)
