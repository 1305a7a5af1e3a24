"""The lines of a log file or of standard input, gzip or not.

A None among lines or blocks is a tick: time has passed, and what has come so far is to be handled.
"""

import errno
import os
import re
import select
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO

# The path that means standard input.
STDIN = "-"
# How long an event from standard input may wait for lines that continue it.
STDIN_TICK_S = 1.0
# How much of a file's end is read to find out how old the file is.
MAX_TAIL_BYTES = 64 * 1024
# A longer line is cut: no event may be as long.
MAX_LINE_BYTES = 1024 * 1024
_BLOCK_BYTES = 64 * 1024

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS

# How the names of log files end: the type, and the number or date of rotation.
_ENDINGS = re.compile(
    r"(?:\.(?:log|txt|json|jsonl|ndjson|gz|\d{1,4})|[._-]\d{4}-?\d\d-?\d\d(?:[T_-]?\d\d(?::?\d\d){0,2})?)+\Z", re.ASCII
)
# Kubernetes names a container's log after pod, namespace, container and id.
_CONTAINER = re.compile(r"[^_]+_[^_]+_(.+)-[0-9a-f]{64}\.log")


def service_name_of(file_name: str) -> str:
    """Return the service that a log file is named after: "shop" for shop.log-20260101.gz."""
    if container := _CONTAINER.fullmatch(file_name):
        return container[1]
    return _ENDINGS.sub("", file_name) or file_name


def _never() -> bool:
    return False


class LogFile:
    """A log file or standard input ("-"), and how much of it was read."""

    def __init__(self, path: Path, *, is_stopped: Callable[[], bool] = _never) -> None:
        """Open the file; raises OSError. Reading ends when `is_stopped`."""
        self.is_stdin = str(path) == STDIN
        self.name = "stdin" if self.is_stdin else path.name
        self._stream: BinaryIO = sys.stdin.buffer if self.is_stdin else path.open("rb")
        self._is_stopped = is_stopped
        self.size = None if self.is_stdin else path.stat().st_size
        self.bytes_read = 0
        self.lines_read = 0
        self.blank_lines = 0
        # Why reading ended before the end of the file.
        self.error: OSError | None = None
        self.is_read_to_end = False

    def lines(self) -> Iterator[str | None]:
        """Return each line without its end; of standard input also ticks.

        Raises OSError when nothing can be read; when only the rest cannot be read, `error` holds the reason.
        """
        try:
            for line in split_lines(reject_binary(decompress(self._blocks()))):
                if line is not None:
                    self.lines_read += 1
                    self.blank_lines += not line.strip()
                yield line
        except OSError as error:
            if not self.lines_read:
                raise
            self.error = None if self._is_stopped() else error

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if not self.is_stdin:
            self._stream.close()

    def _blocks(self) -> Iterator[bytes | None]:
        for block in self._blocks_and_ticks() if self.is_stdin else iter(self._read_block, b""):
            self.bytes_read += len(block or b"")
            yield block
            if self._is_stopped():
                return
        self.is_read_to_end = not self._is_stopped()

    def _read_block(self) -> bytes:
        return os.read(self._stream.fileno(), _BLOCK_BYTES)

    def _blocks_and_ticks(self) -> Iterator[bytes | None]:
        next_tick = time.monotonic() + STDIN_TICK_S
        while not self._is_stopped():
            ready, _, _ = select.select([self._stream], [], [], max(0.0, next_tick - time.monotonic()))
            if ready:
                block = self._read_block()
                if not block:
                    return
                yield block
            if time.monotonic() >= next_tick:
                yield None
                next_tick = time.monotonic() + STDIN_TICK_S


def read_tail(path: Path) -> bytes:
    """Return the last lines of a file, gzip or not, as far as it can be read."""
    end = b""
    with suppress(OSError), path.open("rb") as stream:
        is_gzip = stream.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        stream.seek(0 if is_gzip else max(0, path.stat().st_size - MAX_TAIL_BYTES))
        for block in decompress(iter(lambda: stream.read(_BLOCK_BYTES), b"")):
            end = (end + (block or b""))[-MAX_TAIL_BYTES:]
    return end if len(end) < MAX_TAIL_BYTES else end.partition(b"\n")[2]


def split_lines(blocks: Iterable[bytes | None]) -> Iterator[str | None]:
    """Return each line without its end; invalid UTF-8 is replaced."""
    rest = b""
    for block in blocks:
        if block is None:
            yield None
            continue
        *whole, rest = (rest + block).split(b"\n")
        yield from map(_decode, whole)
        rest = rest[:MAX_LINE_BYTES]
    if rest:
        yield _decode(rest)


def reject_binary(blocks: Iterable[bytes | None]) -> Iterator[bytes | None]:
    """Return the blocks. Raises OSError when the first has a NUL byte, which text in UTF-8 never has."""
    source = iter(blocks)
    for block in source:
        if block and b"\x00" in block:
            raise OSError(errno.EILSEQ, "binary data (NUL bytes); expected lines of text in UTF-8, plain or gzip")
        yield block
        if block:
            break
    yield from source


def decompress(blocks: Iterable[bytes | None]) -> Iterator[bytes | None]:
    """Return the blocks, decompressed when they are gzip. Raises OSError when gzip data is broken or cut off."""
    source = iter(blocks)
    head = b""
    for block in source:
        head += block or b""
        if len(head) >= len(_GZIP_MAGIC):
            break
    whole = chain([head], source)
    return _gunzip(whole) if head.startswith(_GZIP_MAGIC) else whole


def _decode(line: bytes) -> str:
    text = line[:MAX_LINE_BYTES].decode("utf-8", "replace")
    return text.removeprefix("\ufeff").rstrip("\r").replace("\x00", "")


def _gunzip(blocks: Iterable[bytes | None]) -> Iterator[bytes | None]:
    decompressor = zlib.decompressobj(_GZIP_WINDOW_BITS)
    for block in blocks:
        if block is None:
            yield None
            continue
        while block:
            if decompressor.eof:
                decompressor = zlib.decompressobj(_GZIP_WINDOW_BITS)
            yield _gunzip_block(decompressor, block)
            # Concatenated files are members one after another, perhaps with zeros after the last.
            block = decompressor.unused_data.lstrip(b"\x00")  # noqa: PLW2901 - the rest of it
    if not decompressor.eof:
        raise OSError(errno.EIO, "gzip data that is cut off")


def _gunzip_block(decompressor: "zlib._Decompress", block: bytes) -> bytes:
    try:
        return decompressor.decompress(block)
    except zlib.error as error:
        raise OSError(errno.EIO, f"broken gzip data: {error}") from None
