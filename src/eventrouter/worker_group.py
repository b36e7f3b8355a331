"""Names of worker groups: destinations with `worker_group:` have workers of their own."""

from __future__ import annotations

import re

DEFAULT_GROUP = "default"
"""What the group without a name is called: it serves whatever no other group does."""
GROUP_HINT = "1 to 32 small letters, digits, _ and -, with a letter first"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def is_group_name(text: str) -> bool:
    """Whether a group may be called so."""
    return _NAME.fullmatch(text) is not None


def start_hint(group: str) -> str:
    """What to do when a group has no worker."""
    return f"start one by `eventrouter work{f' --group {group}' if group else ''}`; `eventrouter up` does so by itself"
