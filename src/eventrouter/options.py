"""What the options of plugins are made of, beyond pydantic's own types."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, PrivateAttr, ValidationInfo


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
