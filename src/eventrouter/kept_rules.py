"""The rules in use, kept in the data directory: what starts while their file is broken goes on with them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

FORMAT = 1


class KeptRules:
    """The texts of a rules file and of what it includes, as they are written: variables are not filled in."""

    def __init__(self, data_dir: Path, config: Path) -> None:
        """`config` is the rules file: what was kept of another one is not used."""
        self.path = data_dir / "rules.json"
        self._config = str(config.absolute())

    def texts(self) -> list[tuple[str, str]]:
        """Absolute path and text of each file, the rules file first; empty when none are kept that can be read."""
        try:
            kept = json.loads(self.path.read_bytes())
            files = [(str(path), str(text)) for path, text in kept["files"]] if kept["format"] == FORMAT else []
        except (OSError, ValueError, LookupError, TypeError):
            return []
        return files if files and files[0][0] == self._config else []

    def keep(self, texts: Sequence[tuple[str, str]]) -> None:
        """Keeps path and text of each file, the rules file first. Raises `OSError`.

        Several processes may do so at once, and end in the midst of it: the file is whole at any time.
        """
        files = [(str(Path(path).absolute()), text) for path, text in texts]
        if not files or files == self.texts():
            return
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A temporary file is for its owner alone.
        with NamedTemporaryFile("w", prefix=".rules-", dir=folder, delete=False, encoding="utf-8") as file:
            try:
                json.dump({"format": FORMAT, "files": files}, file, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(self.path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
