"""Blocks of bytes become lines of text. A None among them says that a moment has passed, and is handed on."""

import errno
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain

# What is longer is cut: no event may have as much.
MAX_LINE_BYTES = 1024 * 1024

# How gzip begins.
GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


def unpacked(blocks: Iterable[bytes | None]) -> Iterator[bytes | None]:
    """The blocks, uncompressed when they begin as gzip does. Raises OSError for gzip that is broken or cut off."""
    source = iter(blocks)
    head = b""
    for block in source:
        head += block or b""
        if len(head) >= len(GZIP):
            break
    whole = chain([head], source)
    return _unzipped(whole) if head.startswith(GZIP) else whole


def text_only(blocks: Iterable[bytes | None]) -> Iterator[bytes | None]:
    """The blocks. Raises OSError when the first one holds a NUL byte, as text in UTF-8 never does."""
    source = iter(blocks)
    for block in source:
        if block and b"\x00" in block:
            raise OSError(errno.EILSEQ, "binary data (NUL bytes); expected lines of text in UTF-8, plain or gzip")
        yield block
        if block:
            break
    yield from source


def split(blocks: Iterable[bytes | None]) -> Iterator[str | None]:
    """Each line without its end; bytes that are no UTF-8 are replaced."""
    rest = b""
    for block in blocks:
        if block is None:
            yield None
            continue
        *whole, rest = (rest + block).split(b"\n")
        yield from map(_text, whole)
        rest = rest[:MAX_LINE_BYTES]
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    text = line[:MAX_LINE_BYTES].decode("utf-8", "replace")
    return text.removeprefix("\ufeff").rstrip("\r").replace("\x00", "")


def _unzipped(blocks: Iterable[bytes | None]) -> Iterator[bytes | None]:
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    for block in blocks:
        if block is None:
            yield None
            continue
        while block:
            if unpacker.eof:
                unpacker = zlib.decompressobj(_GZIP_WINDOW)
            yield _unzip(unpacker, block)
            # Files that were joined are members one after another, perhaps with zeros after the last.
            block = unpacker.unused_data.lstrip(b"\x00")  # noqa: PLW2901 - what is left of it
    if not unpacker.eof:
        raise OSError(errno.EIO, "gzip data that is cut off")


def _unzip(unpacker: "zlib._Decompress", data: bytes) -> bytes:
    try:
        return unpacker.decompress(data)
    except zlib.error as error:
        raise OSError(errno.EIO, f"broken gzip data: {error}") from None
