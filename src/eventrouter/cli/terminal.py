"""What commands show of events: in a terminal, where a text of somebody else's may not be taken for a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def harmless(text: str) -> str:
    """`text` in one line, without what a terminal would take for a command."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def terminal() -> Console:
    """A console for lines as they are, without highlights; all that is printed there is harmless."""
    from rich.console import Console, ConsoleRenderable, RenderHook
    from rich.text import Text

    class Harmless(RenderHook):
        def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
            for one in renderables:
                if isinstance(one, Text):
                    one.plain = "\n".join(map(harmless, one.plain.split("\n")))
            return renderables

    console = Console(soft_wrap=True, highlight=False)
    console.push_render_hook(Harmless())
    return console
