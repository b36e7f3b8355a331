"""What the options of plugins are made of, beyond pydantic's own types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo


def _resolved(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder", Path())
    return Path(folder, path.expanduser()).absolute()


OptionPath = Annotated[Path, AfterValidator(_resolved)]
"""The type of an option that names a file: an absolute path. A relative one begins at the folder of routes.yaml, and
`~` is the home of whoever runs eventrouter."""
