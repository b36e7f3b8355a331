"""What is taken out of a source's events before anything is stored."""

from __future__ import annotations

from . import paths

NEEDED = (
    "type", "event", "messageId", "timestamp", "originalTimestamp", "sentAt", "receivedAt",
)  # fmt: skip
"""What no event is understood without."""
IDS = ("userId", "anonymousId", "previousId", "groupId")
OBJECTS = ("context", "properties", "traits", "integrations")


def check_path(text: str, what: str) -> paths.Path:
    """The keys of a path of `scrub.remove` or `scrub.hash` (`what`); raises `ValueError` that says what is wrong.

    `*` stands for any one key. Without their ids, times and name events could not be kept, told apart or joined.
    """
    path = paths.parse(text)
    if path[0] == "*":
        raise ValueError("would change what the event is understood by: name the first key")
    if len(path) == 1:
        if path[0] in NEEDED:
            raise ValueError("is what the event is understood by: it has to stay as it is")
        if path[0] in IDS and what == "remove":
            raise ValueError("is what the event is kept by: hash it instead")
        if path[0] in OBJECTS:
            raise ValueError(f"is a whole: write `{path[0]}.*` for all that is in it")
    return path
