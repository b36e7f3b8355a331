"""How `eventrouter dead show` shows one dead letter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def print_letter(row: dict[str, Any], state: str) -> None:
    """A dead letter for a person, on stdout; nothing in it is taken for markup."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    name = " ".join(filter(None, [row["event_type"], row["event_name"]])) or "event"
    _line(console, f"{name} {row['message_id']} of {row['source']} to {row['destination']}", "bold")
    since = f" at {row['replayed_at']}" if row["replayed_at"] else ""
    answered = f"HTTP {row['status']}" if row["status"] else ""
    tried = f"{row['attempts']}, from {row['first_at']} to {row['last_at']}" if row["attempts"] else "none"
    facts = {
        "state": f"{state}{since}",
        "class": row["class"],
        "reason": row["reason"],
        "attempts": tried,
        "status": answered,
        "route": row["route"],
        "rules": row["rules"],
    }
    for fact, text in facts.items():
        if text:
            _line(console, f"  {fact:<9} {text}")
    for title, text in (("answer", row["response"]), ("traceback", row["traceback"]), ("payload", _payload(row))):
        if text:
            _line(console, f"  {title}")
            for line in str(text).splitlines():
                _line(console, f"    {line}")
    console.print()


def _line(console: Console, text: str, style: str = "") -> None:
    from rich.text import Text

    console.print(Text("".join(each if each.isprintable() else " " for each in text), style))


def _payload(row: dict[str, Any]) -> str:
    import json

    if row["payload"] is None:
        return "was not stored: it is made of the event when it is sent again"
    try:
        return json.dumps(json.loads(row["payload"]), indent=2, ensure_ascii=False)
    except ValueError:
        return str(row["payload"])
