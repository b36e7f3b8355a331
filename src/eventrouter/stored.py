"""Stored forms: bytes that carry the version of their form, read by this version, its neighbours, and nobody else."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import msgspec


class UnreadableError(msgspec.ValidationError):
    """Bytes that no version reads: `data`, with source and message id of the event where they tell."""

    def __init__(self, reason: str, data: bytes, *, source: str = "", message_id: str | None = None) -> None:
        super().__init__(reason)
        self.data = data
        self.source = source
        self.message_id = message_id


class NewerFormatError(msgspec.ValidationError):
    """Bytes that a newer version has written: they have to wait for one."""


FAULTS = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding foreign bytes raises."""


class Versioned(Protocol):
    """A form that carries its version."""

    @property
    def v(self) -> int: ...


class _Version(msgspec.Struct):
    v: int


class _VersionInFront(msgspec.Struct, array_like=True):
    v: int


_versions = msgspec.json.Decoder(_Version), msgspec.json.Decoder(_VersionInFront)

T = TypeVar("T", bound=Versioned)


class Form(Generic[T]):
    """Reads one form: JSON of the struct `kind`, whose versions from `version` - 1 to `version` + 1 it knows."""

    def __init__(self, what: str, kind: type[T], version: int) -> None:
        """`what` names it in errors."""
        self._what = what
        self._version = version
        self._decoder = msgspec.json.Decoder(kind)

    def read(self, data: bytes) -> T:
        """What `data` holds; numbers keep their exact value. Raises `UnreadableError` and `NewerFormatError`."""
        try:
            found = self._decoder.decode(data)
        except FAULTS as error:
            version = _version_of(data)
            if version is not None and version > self._version:
                raise NewerFormatError(self._told(version)) from error
            raise UnreadableError(f"{self._what} that can't be read: {error}", data) from error
        if found.v > self._version + 1:
            raise NewerFormatError(self._told(found.v))
        if found.v < self._version - 1:
            raise UnreadableError(self._told(found.v), data)
        return found

    def _told(self, version: int) -> str:
        return f"{self._what} of format {version}: this version reads {self._version - 1} to {self._version + 1}"


def _version_of(data: bytes) -> int | None:
    for decoder in _versions:
        try:
            return decoder.decode(data).v
        except FAULTS:
            continue
    return None
