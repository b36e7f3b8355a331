"""Bodies that a client compressed: undone within a bound."""

from __future__ import annotations

import zlib

from .acceptance import BodyError

MAX_MEMBERS = 64
"""How many gzip streams may follow one another in one body; clients send one."""

GZIP_MAGIC = b"\x1f\x8b"
_GZIP = 16 + zlib.MAX_WBITS


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """`body` without its compression, at most `limit` bytes.

    `encoding` is what Content-Encoding says, in lower case. Gzip is known by its first bytes, whatever the header says:
    some clients do not set it, and some proxies unpack a body without taking it away. Several encodings, one over the
    other, are refused. Raises `BodyError`.
    """
    if body[:2] == GZIP_MAGIC:
        data = _gunzip(body, limit)
        inner = encoding.rpartition(",")[0].replace("identity", "").strip(", ")
        if data[:2] == GZIP_MAGIC or (inner and data.lstrip()[:1] not in (b"{", b"[")):
            raise BodyError(
                "unsupported_encoding",
                "the body is compressed more than once: Content-Encoding has to be gzip or deflate, one of them alone",
                status=415,
            )
        return data
    if encoding in ("", "identity") or body[:1] in (b"{", b"[") or not body:
        return body
    if encoding == "deflate":
        # By the standard it has zlib's header; some clients leave that out.
        return _unpack(body, zlib.MAX_WBITS if body[0] & 15 == 8 else -zlib.MAX_WBITS, limit)[0]
    if encoding in ("gzip", "x-gzip"):
        raise BodyError("invalid_encoding", "the body is not gzip, as Content-Encoding says")
    raise BodyError("unsupported_encoding", "Content-Encoding has to be gzip, deflate or identity", status=415)


def _gunzip(body: bytes, limit: int) -> bytes:
    pieces = []
    size = 0
    for _ in range(MAX_MEMBERS):
        piece, body = _unpack(body, _GZIP, limit - size)
        pieces.append(piece)
        size += len(piece)
        if not body.strip(b"\0"):  # gzip files may be padded
            return b"".join(pieces)
    raise BodyError("invalid_encoding", f"the body consists of more than {MAX_MEMBERS} gzip streams")


def _unpack(body: bytes, wbits: int, limit: int) -> tuple[bytes, bytes]:
    """The first compressed stream of `body`, unpacked, and what follows it."""
    stream = zlib.decompressobj(wbits)
    try:
        data = stream.decompress(body, limit + 1)
    except zlib.error:
        raise BodyError("invalid_encoding", "the body's compression is broken") from None
    if len(data) > limit:
        raise BodyError("too_large", "the body is too large once it is decompressed", status=413)
    if not stream.eof:
        raise BodyError("invalid_encoding", "the body's compression is cut short")
    return data, stream.unused_data
