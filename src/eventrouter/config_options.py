"""Reads the options of a plugin: its own pydantic model checks them, and what it refuses is told at its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from .config_reader import Reader, did_you_mean
from .masking import Mask, secrets_of
from .options import Options
from .yaml_file import ListNode, MapNode, Node, Scalar, data, scalars

_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
"""What pydantic calls a number that is too small or too large."""


class OptionsReader:
    """Reads the options of one use of a plugin."""

    def __init__(self, reader: Reader, model: type[BaseModel], *, plugin: str, user: str, what: str) -> None:
        """`plugin` and `user` (what is configured) are how problems name them, with their kind; `what` the options."""
        self._reader = reader
        self._model = model
        self._plugin = plugin
        self._user = user
        self._what = what

    def read(self, node: Node | None, key: Node | None) -> BaseModel | None:
        """The options in `node`, by default none; `key` is where it is told that one is missing.

        None when they are wrong: that is told. In their context, the model's validators find the `folder` of
        routes.yaml, and whether they are to `check_files`.
        """
        if isinstance(node, Scalar) and node.value is None:
            node = None
        if node is not None and not isinstance(node, MapNode):
            self._reader.mapping(node, self._what)
            return None
        if node is not None:
            self._note_secrets(self._model, node)
        broken = [scalar for scalar in scalars(node) if scalar.broken] if node else []
        try:
            context = {"folder": Path(self._reader.path).absolute().parent, "check_files": self._reader.check_files}
            options = self._model.model_validate(data(node) if node else {}, context=context)
        except ValidationError as error:
            for each in error.errors(include_url=False, include_context=False, include_input=False):
                self._problem(node, key, each, broken)
        except Exception as error:
            name = type(error).__name__
            self._reader.problem(node or key, f"{self._plugin} failed on its options with {name}")
        else:
            if isinstance(options, Options):
                options.note_variables(from_variables(node))
            return options
        return None

    def _problem(self, node: MapNode | None, key: Node | None, error: Any, broken: list[Scalar]) -> None:
        place: Node | None = node or key
        path: list[str] = []
        for step in error["loc"]:
            if isinstance(place, MapNode) and str(step) in place.values:
                last = place.keys[str(step)]
                extra = error["type"] == "extra_forbidden" and step == error["loc"][-1]
                place = last if extra else place.values[str(step)]
            elif isinstance(place, ListNode) and isinstance(step, int) and step < len(place.items):
                place = place.items[step]
            elif error["type"] != "missing":
                continue
            path.append(str(step))
        if place in broken or (
            broken and (not path or (isinstance(place, (MapNode, ListNode)) and error["type"] != "missing"))
        ):
            return  # the missing variable has been told
        option = ".".join(path)
        message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
        fields = {field.alias or field_name: field for field_name, field in self._model.model_fields.items()}
        if error["type"] == "extra_forbidden":
            known = list(fields) if len(path) == 1 else []
            hint = did_you_mean(path[-1], known)
            self._reader.problem(place, f"{self._plugin} has no option `{option}`", hint)
        elif error["type"] == "missing":
            described = fields[path[0]].description if len(path) == 1 and path[0] in fields else None
            where = key if node is None else place
            self._reader.problem(where, f"{self._user} needs the option `{option}`", described or "")
        else:
            text = isinstance(place, Scalar) and error["type"] == "string_type" and place.value is not None
            what = f"the option `{option}` is not valid: " if option else "the options are not valid: "
            message, _, advice = message.partition("\n")
            if error["type"] in _BOUNDS and path and path[0] in fields:
                advice = fields[path[0]].description or ""  # 120 of what
            hint = "put quotes around it" if text else advice
            self._reader.problem(place, what + message[:1].lower() + message[1:], hint)

    def _note_secrets(self, model: type[BaseModel], node: MapNode) -> None:
        for name, field in model.model_fields.items():
            inner = node.values.get(field.alias or name)
            if inner is None:
                continue
            kinds = _kinds(field.annotation)
            if kinds & {SecretStr, SecretBytes}:
                self._reader.secret(inner)
            for kind in kinds:
                if isinstance(inner, MapNode) and isinstance(kind, type) and issubclass(kind, BaseModel):
                    self._note_secrets(kind, inner)


def from_variables(node: Node | None) -> set[str]:
    """What variables brought into `node`, and the texts that are made with it."""
    made = [scalar for scalar in scalars(node) if scalar.interpolated.values] if node else []
    return {
        value
        for scalar in made
        for value in (*scalar.interpolated.values, *([scalar.text] if "://" in scalar.text else []))
    }


def mask_of(*nodes: Node) -> Mask:
    """Takes out of texts what variables brought into these files."""
    variables = Options()
    variables.note_variables(value for node in nodes for value in from_variables(node))
    return Mask(secrets_of(variables))


def _kinds(annotation: Any) -> set[Any]:
    """All types that an annotation names: of `dict[str, SecretStr] | None` dict, str, SecretStr and None."""
    args = get_args(annotation)
    return {annotation} if not args else set().union(*(_kinds(arg) for arg in args))
