"""`${VAR}`, `${VAR:-default}`, `${VAR:?message}` and `$$` in the texts of routes.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

MAX_FILLED = 4_194_304
"""Characters. A text that is longer is not filled in to its end: it is longer than any that may be used."""

_PART = re.compile(r"\$\$|\$\{([^}]*)\}|\$\{")
_INNER = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(:-|:\?)(.*))?\Z", re.DOTALL)


@dataclass(slots=True)
class Interpolated:
    """A text with its variables filled in. `faults` are (offset in the written text, message, hint)."""

    text: str
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    """What came from the environment, never to be shown."""
    variables: bool = False
    """Whether the written text had a variable in it."""
    pieces: list[tuple[int, int, bool]] = field(default_factory=list)
    """Where each piece begins in the text, where in the written text, and whether it is a variable's."""

    def written(self, offset: int) -> int:
        """The offset in the written text of an offset in the text: of a variable, its `$`."""
        for begins, written, variable in reversed(self.pieces):
            if begins <= offset:
                return written if variable else written + offset - begins
        return offset


def interpolate(text: str, environ: Mapping[str, str]) -> Interpolated:
    """Fills in the variables of `text`. An empty variable takes the default, too, as in a shell."""
    result = Interpolated(text)
    if "$" not in text:
        return result
    out: list[str] = []
    length = position = 0

    def add(piece: str, written: int, variable: bool) -> None:
        nonlocal length
        result.pieces.append((length, written, variable))
        out.append(piece)
        length += len(piece)

    for match in _PART.finditer(text):
        if length > MAX_FILLED:
            break
        add(text[position : match.start()], position, False)
        position = match.end()
        if match[0] == "$$":
            add("$", match.start(), True)
            continue
        result.variables = True
        add(_value(match, environ, result), match.start(), True)
    add(text[position:], position, False)
    result.text = "".join(out)
    return result


def _value(match: re.Match[str], environ: Mapping[str, str], result: Interpolated) -> str:
    inner = _INNER.match(match[1] or "")
    if inner is None:
        hint = "write ${NAME}, ${NAME:-default} or ${NAME:?message}; $$ for a dollar sign"
        result.faults.append((match.start(), "`${` does not begin a variable", hint))
        return ""
    name, operator, rest = inner.groups()
    value = environ.get(name)
    if value is not None and not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        hint = f"set {name} to text in UTF-8"
        result.faults.append((match.start(), f"the value of the variable {name} is not UTF-8", hint))
        return ""
    if value is not None and (value or operator is None):
        result.values.append(value)
        return value
    if operator == ":-":
        return str(rest)
    if operator == ":?":
        result.faults.append((match.start(), f"the variable {name} is not set: {rest}", f"export {name}=…"))
        return ""
    near = get_close_matches(name, list(environ), 1, 0.8)
    hint = f"export {name}=…, or give a default: ${{{name}:-default}}"
    if near:
        hint = f"did you mean {near[0]}? Else {hint}"
    result.faults.append((match.start(), f"the variable {name} is not set", hint))
    return ""
