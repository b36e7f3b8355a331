"""What the options of plugins are made of, beyond pydantic's own types."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, GetJsonSchemaHandler, PrivateAttr, ValidationInfo

from .durations import duration


class Options(BaseModel):
    """The base of every plugin's options."""

    _variables: tuple[str, ...] = PrivateAttr(default=())
    """What variables brought into them from the environment, and the addresses made with it: kept out of texts
    by `masking`."""

    def note_variables(self, values: Iterable[str]) -> None:
        """These came from variables."""
        self._variables = tuple(values)


def _resolved(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder", Path())
    return Path(folder, path.expanduser()).absolute()


OptionPath = Annotated[Path, AfterValidator(_resolved)]
"""The type of an option that names a file: an absolute path. A relative one begins at the folder of routes.yaml, and
`~` is the home of whoever runs eventrouter."""


def _seconds(value: Any) -> Any:
    return duration(str(value)) if isinstance(value, str | bool) else value


class _TextToo:
    """Tells in a JSON Schema that a number may be written as a duration."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), "type": ["string", "number"], "examples": ["250ms", "1s", "5m"]}


OptionDuration = Annotated[float, BeforeValidator(_seconds), _TextToo]
"""The type of an option that is a time, in seconds: `2s`, `5m` or a number, as elsewhere in routes.yaml."""
