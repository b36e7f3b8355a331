"""Reads the routes of routes.yaml, compiles each expression for its faults, and finds routes that can never match."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import paths, quantities
from .config_model import HashConfig, RouteConfig
from .config_reader import Reader, did_you_mean
from .expressions import Condition
from .unreachable import Never, Place, Unreachable
from .yaml_file import ListNode, MapNode, Node, Scalar, data

KEYS = (
    "name", "to", "from", "when", "consent", "sample", "skip", "set", "map", "rename", "hash", "keep", "drop",
)  # fmt: skip
MAX_REASON = 100
CHANGES = ("set", "rename", "hash", "keep", "drop")


class RoutesReader:
    """Reads `routes:` of one file after the other. `destinations` and `sources` are the names that routes may use."""

    reader: Reader
    """Of the file at hand."""

    def __init__(self, sources: Sequence[str], destinations: Sequence[str], *, incomplete: bool = False) -> None:
        """`incomplete`: there may be more of both, in a file that can't be read."""
        self.sources = sources
        self.destinations = destinations
        self.doubtful = False
        """Whether it isn't known of each route where it leads."""
        self.fed: set[str] = set()
        """The destinations that some route leads to."""
        self._count = 0
        self._names: dict[str, tuple[str, int]] = {}
        self._unreachable = Unreachable(None if incomplete else sources)

    def read(self, reader: Reader, node: Node | None) -> list[RouteConfig]:
        """All routes of a file that can be read; they come behind those of the files before."""
        self.reader = reader
        if node is None or (isinstance(node, Scalar) and node.value is None):
            return []
        if not isinstance(node, ListNode):
            self.doubtful = True
            self.reader.problem(node, "`routes` must be a list", "begin each route with `- `")
            return []
        first = self._count + 1
        self._count += len(node.items)
        return [self._route(item, number) for number, item in enumerate(node.items, first)]

    def _place(self, path: str, line: int) -> str:
        return f"line {line}" if path == self.reader.path else f"{path}:{line}"

    def _route(self, node: Node, number: int) -> RouteConfig:
        reader = self.reader
        settings = reader.mapping(node, "a route", KEYS, needed=True)
        to = self._names_of(settings.get("to"), "to", self.destinations, "destination")
        self.doubtful |= len(to) < max(1, len(reader.items(settings.get("to"))))
        if isinstance(node, MapNode) and "to" not in settings:
            reader.problem(node, "the route has no `to`", "add `to:` with the name of a destination")
        self.fed.update(to)
        sources = settings.get("from")
        name = self._name(settings.get("name"), number, to)
        when, condition = self._when(settings.get("when"))
        sample = settings.get("sample")
        self._check_combinations(settings)
        route = RouteConfig(
            name=name,
            to=to,
            from_=None if sources is None else self._names_of(sources, "from", self.sources, "source"),
            when=when,
            consent=reader.texts(settings.get("consent"), "`consent`"),
            sample=None if sample is None else reader.quantity(sample, "`sample`", 1.0, quantities.share),
            skip=self._skip(settings.get("skip")),
            set=self._set(settings.get("set")),
            map=self._templates(settings.get("map"), "map"),
            rename=self._rename(settings.get("rename")),
            hash=self._hash(settings.get("hash")),
            keep=self._paths(settings["keep"], "keep") if "keep" in settings else None,
            drop=self._paths(settings.get("drop"), "drop"),
            line=node.line,
            path=reader.path,
        )
        switched_off = condition is not None and condition.constant is False
        if (when is None or condition is not None) and to and route.from_ != () and not switched_off:
            self._check_reachable(number, route, condition, node, settings.get("when"))
        return route

    def _name(self, node: Node | None, number: int, to: tuple[str, ...]) -> str:
        name = (self.reader.text(node, "`name`") if node else None) or f"route {number} to {', '.join(to)}"
        if name in self._names:
            hint = f"{self._place(*self._names[name])} has it, too; reports and samples go by the name"
            self.reader.problem(node, "the name of the route is not its own", hint)
        elif node is not None:
            self._names[name] = self.reader.path, node.line
        return name

    def _names_of(self, node: Node | None, key: str, known: Sequence[str], what: str) -> tuple[str, ...]:
        names: list[str] = []
        items = self.reader.items(node)
        if isinstance(node, ListNode) and not items:
            self.reader.problem(node, f"`{key}` must not be an empty list")
        for item in items:
            name = self.reader.text(item, f"`{key}`")
            if name is None or (isinstance(item, Scalar) and item.broken):
                continue
            if name not in known:
                hint = did_you_mean(name, known, f"the {what}s are")
                if name == "warehouse" and key == "to":
                    hint = "the warehouse gets every event without a route"
                shown = "of this name" if isinstance(item, Scalar) and item.variables else f"`{name}`"
                self.reader.unknown(item, f"there is no {what} {shown}", hint)
            elif name in names:
                self.reader.problem(item, f"`{key}` names `{name}` twice")
            else:
                names.append(name)
        return tuple(names)

    def _when(self, node: Node | None) -> tuple[str | None, Condition | None]:
        if node is None or (isinstance(node, Scalar) and node.broken):
            return None, None
        if not isinstance(node, Scalar) or not isinstance(node.value, (str, bool)) or node.text == "":
            hint = "put quotes around the whole, such as \"type == 'track'\""
            self.reader.problem(node, "`when` must be an expression in a text", hint)
            return "false", None
        condition = self.reader.expression(node, "when", self.reader.expressions.condition)
        return node.text, condition

    def _skip(self, node: Node | None) -> str | None:
        reason = self.reader.text(node, "`skip`")
        if reason is not None and len(reason) > MAX_REASON:
            self.reader.problem(node, f"`skip` is longer than {MAX_REASON} characters", "give a short reason")
        return reason

    def _check_combinations(self, settings: dict[str, Node]) -> None:
        for key in CHANGES:
            if key in settings and "map" in settings:
                hint = "`map` replaces the payload: leave one of them out"
                self.reader.problem(settings[key], f"`{key}` has no effect beside `map`", hint)
        for key in (*CHANGES, "map", "sample", "consent"):
            if key in settings and "skip" in settings:
                hint = "a route with `skip` sends nothing: leave one of them out"
                self.reader.problem(settings[key], f"`{key}` has no effect beside `skip`", hint)

    def _templates(self, node: Node | None, what: str) -> Any:
        """A value whose texts are templates, each of them compiled for its faults."""
        if node is None:
            return None
        if isinstance(node, Scalar) and node.value is None and what == "map":
            self.reader.problem(node, "`map` is empty", "write the payload under it, or leave it out")
            return None
        self.reader.templates(node, what, self.reader.expressions)
        return data(node)

    def _set(self, node: Node | None) -> dict[str, Any]:
        settings = self.reader.mapping(node, "`set`")
        keys = node.keys if isinstance(node, MapNode) else {}
        self._tree("set", list(settings), [keys[name] for name in settings])
        return {path: self._templates(value, "set") for path, value in settings.items()}

    def _rename(self, node: Node | None) -> dict[str, str]:
        renamed: dict[str, str] = {}
        for old, value in self.reader.mapping(node, "`rename`").items():
            new = self.reader.text(value, "`rename`")
            if new is None:
                continue
            key = node.keys[old] if isinstance(node, MapNode) else value
            both = [self._path(old, "rename", key), self._path(new, "rename", value)]
            if both[0] and both[1]:
                short, long = sorted(both, key=lambda path: len(path or ()))
                if short and long and long[: len(short)] == short:
                    self.reader.problem(value, f"`rename` moves `{old}` into itself")
                else:
                    renamed[old] = new
        return renamed

    def _hash(self, node: Node | None) -> HashConfig | None:
        if node is None:
            return None
        settings = self.reader.mapping(node, "`hash`", ("salt", "fields"), needed=True)
        salt_node = settings.get("salt")
        if salt_node is not None:
            self.reader.secret(salt_node)
        elif isinstance(node, MapNode):
            hint = 'add `salt: "${SALT}"`: without a secret, addresses can be found again by trying'
            self.reader.problem(node, "`hash` has no `salt`", hint)
        if isinstance(node, MapNode) and "fields" not in settings:
            self.reader.problem(node, "`hash` has no `fields`", "add `fields: [userId, traits.email]`")
        salt = self.reader.text(salt_node, "`hash.salt`")
        return HashConfig(salt or "", self._paths(settings.get("fields"), "hash.fields"))

    def _paths(self, node: Node | None, what: str) -> tuple[str, ...]:
        items = self.reader.items(node)
        if isinstance(node, ListNode) and not items:
            hint = "name what is kept: nothing would be left" if what == "keep" else "name a path, or leave it out"
            self.reader.problem(node, f"`{what}` must not be an empty list", hint)
        texts = [(item, self.reader.text(item, f"`{what}`")) for item in items]
        found = [(item, text) for item, text in texts if text is not None]
        self._tree(what, [text for _, text in found], [item for item, _ in found])
        return tuple(text for _, text in found)

    def _tree(self, what: str, texts: list[str], nodes: Sequence[Node]) -> None:
        """Notes what is wrong with paths by themselves and beside one another."""
        good: list[paths.Path] = []
        for text, node in zip(texts, nodes, strict=True):
            path = self._path(text, what, node)
            if path is None:
                continue
            try:
                paths.tree_of([*good, path])
                good.append(path)
            except ValueError as error:
                self.reader.problem(node, f"`{what}`: {error}", "keep one of them")

    def _path(self, text: str, what: str, node: Node) -> paths.Path | None:
        try:
            return paths.parse(text)
        except paths.PathError as error:
            self.reader.problem(node, f"`{what}`: {_shown(node, text)} {error}", error.hint)
            return None

    def _check_reachable(
        self, number: int, route: RouteConfig, condition: Condition | None, node: Node, when: Node | None
    ) -> None:
        tree, same = (None, "") if condition is None or condition.constant else (condition.tree, condition.same)
        place = Place(number, route.name, route.path, route.line)
        why = self._unreachable.look(place, route.to, route.from_, tree, same)
        if isinstance(why, Never) and isinstance(when, Scalar):
            self._never(why, when)
        elif isinstance(why, list):
            told = [f"`{one.name}` in {self._place(one.path, one.line)}" for one in why]
            takes = "takes" if len(told) == 1 else "take"
            message = f"the route can never match: {', '.join(told)} {takes} all its events"
            self.reader.problem(node, message, "for each destination the first matching route wins: change the order")

    def _never(self, why: Never, when: Scalar) -> None:
        hint = "check the variables"
        if not when.variables:
            hint = f"`{why.subject}` can't be what is asked of it" if why.subject else "its parts exclude each other"
            if why.unknown:
                hint = did_you_mean(why.unknown[0], self.sources, "the sources are")
        self.reader.problem_at(when, why.offset, "the route can never match: `when` is never true", hint)


def _shown(node: Node, text: str) -> str:
    return "the path" if isinstance(node, Scalar) and node.variables else f"`{text}`"
