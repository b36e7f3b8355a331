"""How often Python looks for garbage in cycles."""

from __future__ import annotations

import gc


def collect_garbage_rarely() -> None:
    """Lets a batch's events come and go without being looked through for cycles, which decoded JSON never has.

    By default Python looks after every 700 new objects; with a few thousand events in hand that took a third of a
    worker's time, and with fewer objects than two batches hold it still was a twentieth. What is loaded by now stays,
    so it needs no looking at all.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)
