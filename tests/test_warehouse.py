"""warehouse.py: the base of warehouse back ends."""

from __future__ import annotations

import pytest

from eventrouter.warehouse import Warehouse


class Empty(Warehouse):
    name = "empty"
    schemes = ("empty",)


async def test_a_back_end_has_to_define_what_the_base_promises() -> None:
    empty = Empty(Empty.Options(url="empty://"))
    asked = (empty.scan_ids(), empty.find_stored("m1"), empty.find_rejected(), empty.count_dead_letters())
    for call in (
        empty.deliver([]),
        empty.find_events([]),
        empty.scan_events(),
        empty.count_events(),
        empty.find_dead_letters(),
        *asked,
    ):
        with pytest.raises(TypeError, match="Empty does not define"):
            await call


def test_a_warehouse_takes_large_batches_one_at_a_time() -> None:
    assert (Empty.batch_size, Empty.concurrency) == (1000, 1)
