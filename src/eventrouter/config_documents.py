"""The files that rules are made of: routes.yaml, and those that it includes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from .config_reader import Reader
from .errors import ConfigError, Problem
from .plugins import Plugins
from .yaml_file import MAX_BYTES, MapNode, Node, parse

INCLUDED_KEYS = ("version", "sources", "vars", "destinations", "routes", "tests")
"""What a file that is included may hold; the rest is about the whole, and stands in the file that includes."""

MAX_FILES = 200

BEGIN = (
    "name yours with --config or EVENTROUTER_CONFIG; the first `eventrouter up` writes a routes.yaml if there is none"
)


@dataclass(frozen=True, slots=True)
class Document:
    """A file that could be parsed, and its reader, which collects what is wrong with it."""

    reader: Reader
    root: Node
    settings: dict[str, Node]
    text: str


def _opened(path: str, flags: int) -> int:
    """Opens a file without waiting for who may write to it, where it is a pipe: a process that runs looks at it."""
    opened = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(opened, True)
    return opened


def read_text(path: Path) -> str:
    """The text of a rules file. Raises `ConfigError` that says why it can't be had."""
    name = str(path)
    try:
        with open(path, "rb", opener=_opened) as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        near = get_close_matches(path.name, [one.name for one in path.parent.glob("*.y*ml")], 1)
        hint = f"did you mean {path.with_name(near[0])}?" if near else BEGIN
        raise ConfigError([Problem(name, 0, 0, "there is no such file", hint)]) from None
    except IsADirectoryError:
        raise ConfigError([Problem(name, 0, 0, "is a directory", f"give a file, such as {name}/routes.yaml")]) from None
    except PermissionError:
        hint = "change its owner or its permissions (chmod)"
        raise ConfigError([Problem(name, 0, 0, "this user may not read the file", hint)]) from None
    except OSError as error:
        raise ConfigError([Problem(name, 0, 0, f"can't be read: {error.strerror}", "give another file")]) from None
    if len(content) > MAX_BYTES:
        raise ConfigError([Problem(name, 0, 0, f"is larger than {MAX_BYTES:,} bytes", "make it smaller")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        problem = Problem(name, line, column, "this is not UTF-8", "save the file in the encoding UTF-8")
        raise ConfigError([problem]) from None


class Documents:
    """Reads the text of a rules file, and the files that it includes, in their order."""

    def __init__(self, plugins: Plugins, environ: Mapping[str, str], *, check_files: bool = False) -> None:
        self._plugins = plugins
        self._environ = environ
        self._check_files = check_files
        self._incomplete = False
        self.problems: list[Problem] = []
        """What is wrong with files that can't be read, and so have no document."""
        self.files: list[str] = []
        """The files and folders that were looked at, also for what is not there."""

    def read(
        self, text: str, path: str, keys: tuple[str, ...], included: Sequence[tuple[str, str]] | None = None
    ) -> list[Document]:
        """The file itself, which may have these keys, then the included ones: those given, else those that it names.

        None at all where the file itself can't be read. Where an included one can't, the readers know that they don't
        see everything.
        """
        self.files.append(path)
        main = self._parsed(text, path, "the file", "begin with `version: 1`", keys)
        if main is None:
            return []
        found = [main]
        for one, text in self._included(main) if included is None else included:
            hint = "write what it adds, such as `routes:`, or take it out of `include`"
            document = self._parsed(text, one, "an included file", hint, INCLUDED_KEYS)
            if document is not None:
                found.append(document)
        for document in found:
            document.reader.incomplete = self._incomplete
        return found

    def _parsed(self, text: str, path: str, what: str, empty: str, keys: tuple[str, ...]) -> Document | None:
        """`empty` is what to do about a file in which there is nothing."""
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        root, faults = parse(text, self._environ)
        reader = Reader(path, text, self._plugins, check_files=self._check_files)
        for fault in faults:
            reader.fault(fault)
        if root is None:
            if not faults:
                reader.problem(None, "the file is empty", empty)
            self._incomplete |= bool(faults)
            self.problems += reader.problems(readable=False)
            return None
        reader.variables(root)
        return Document(reader, root, reader.mapping(root, what, keys, needed=True), text)

    def _included(self, main: Document) -> Iterator[tuple[str, str]]:
        """Path and text of the files that `include` names, each once; those of one pattern in order of their names."""
        folder = Path(main.reader.path).parent
        seen = {Path(main.reader.path).resolve()}
        for node in main.reader.items(main.settings.get("include")):
            pattern = main.reader.text(node, "`include`")
            if pattern is None:
                self._incomplete = True
                continue
            try:
                found = self._matches(folder, pattern)
            except (ValueError, OSError) as error:
                main.reader.problem(node, "`include` is not a path or a pattern of paths", str(error))
                self._incomplete = True
                continue
            if not found:
                self._incomplete = True
                near = get_close_matches(pattern, [one.name for one in folder.glob("*.y*ml")], 1)
                hint = f"did you mean `{near[0]}`?" if near else f"its path begins at {folder.resolve()}"
                main.reader.problem(node, f"there is no file `{pattern}`", hint)
            fresh = [one for one in found if one.resolve() not in seen]
            if len(seen) + len(fresh) > MAX_FILES:
                main.reader.problem(node, f"`include` names more than {MAX_FILES} files", "put some of them together")
                self._incomplete = True
                return
            seen.update(one.resolve() for one in fresh)
            for one in fresh:
                try:
                    yield str(one), read_text(one)
                except ConfigError as error:
                    self._incomplete = True
                    self.problems += error.problems

    def _matches(self, folder: Path, pattern: str) -> list[Path]:
        if not any(character in pattern for character in "*?["):
            path = folder / pattern
            self.files.append(str(path))
            return [path] if path.is_file() else []
        base = Path(pattern)
        if base.is_absolute():
            folder, base = Path(base.anchor), base.relative_to(base.anchor)
        # New files come to the folders that match what stands before their names.
        for length in range(len(base.parts)):
            some = folder.glob(str(Path(*base.parts[:length]))) if length else [folder]
            self.files += [str(path) for path in some if path.is_dir()][:MAX_FILES]
        found = sorted(path for path in folder.glob(str(base)) if path.is_file())
        self.files += [str(path) for path in found[:MAX_FILES]]
        return found


def check_names(documents: Sequence[Document], section: str, what: str) -> None:
    """Notes names that stand in several files."""
    owners: dict[str, str] = {}
    for document in documents:
        node = document.settings.get(section)
        for name, key in node.keys.items() if isinstance(node, MapNode) else ():
            if name in owners:
                document.reader.problem(key, f"there is another {what} `{name}`", f"it stands in {owners[name]}")
            owners.setdefault(name, f"{document.reader.path}:{key.line}")
